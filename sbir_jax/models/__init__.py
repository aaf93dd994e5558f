"""Backbones (`resnet.py`) and the pair of encoders built from them (`dual.py`)."""
