"""Zero-shot category retrieval, as on Sketchy-Extended: a ResNet-50 pair from scratch on one GPU.

    python -m data_prep sketchy_ext --raw=SKETCHY --protocol=sketchy_ext_split2_yelamarthi
    python launch.py train --config=configs/zero_shot.py --workdir=runs/split2
    python launch.py evaluate --workdir=runs/split2 --protocol=sketchy_ext_split2_yelamarthi

For another protocol, --config.data.name=NAME, as the dataset is called. Not yet run by us: the
archives were not at hand, and published rows start from weights trained on ImageNet or more. The
best checkpoint is that of seen classes held out for validation; unseen ones are only tested.
"""

from sbir_jax.config import default_config


def get_config():
    config = default_config()
    config.data.name = "sketchy_ext_split2_yelamarthi"
    config.data.image_size = 224
    config.data.load_size = 256
    config.data.sampler = "classes"
    config.data.batch_size = 128
    config.data.per_class = 4
    config.model.backbone = "resnet50"
    config.model.embed_dim = 512
    config.model.dtype = "bfloat16"
    config.loss.infonce.temperature = 0.07
    config.train.duration = "20 epochs"
    config.train.eval_every = "1 epochs"
    config.eval.metric = "category/mAP@all"
    return config
