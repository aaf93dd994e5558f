"""Backbones (`resnet.py`, `vgg.py`, ...), the pair of encoders made of them (`dual.py`), weights."""
