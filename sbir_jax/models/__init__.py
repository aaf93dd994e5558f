"""Backbones (`resnet.py`, `vgg.py`, ...), their weights, and the two encoders (`dual.py`)."""
