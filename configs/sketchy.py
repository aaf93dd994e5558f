"""Sketchy, instance level: a ResNet-50 pair from scratch on one GPU. Not yet run by us.

    python -m data_prep sketchy --raw=SKETCHY --data_dir=data --invalid=drop
    python launch.py train --config=configs/sketchy.py --workdir=runs/sketchy
    python launch.py evaluate --workdir=runs/sketchy

The protocol is the dataset's own: 1,250 test photos (`testset.txt`), every sketch a query, recall@K
of the photo it was drawn from. Published recall@1: 37.10 % for a GoogLeNet triplet network started
from ImageNet weights (Sangkloy et al., 2016). No number of ours stands here: the archive was not
at hand, and starting from published weights is to come.
"""

from sbir_jax.config import default_config


def get_config():
    config = default_config()
    config.data.name = "sketchy"
    config.data.image_size = 224
    config.data.load_size = 256
    config.data.sampler = "instances"
    config.data.batch_size = 128
    config.augment.flip = "paired"
    config.model.backbone = "resnet50"
    config.model.embed_dim = 512
    config.model.dtype = "bfloat16"
    config.loss.match = "instance"
    config.loss.infonce.temperature = 0.07
    config.train.duration = "60 epochs"
    config.train.eval_every = "2 epochs"
    config.eval.metric = "instance/acc@1"
    return config
