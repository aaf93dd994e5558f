"""Sketchy, instance level: two ResNet-50 from ImageNet weights. Not yet run with published weights.

    python -m data_prep sketchy --protocol=sketchy_original --raw=SKETCHY --data_dir=data
    python launch.py train --config=configs/resnet50_pair.py --workdir=runs/resnet50_pair
    python launch.py evaluate --workdir=runs/resnet50_pair --metrics=instance/acc@1,instance/acc@5

CDOTAD/SketchyDatabase's task: separate encoders for sketches and photos, triplets and a
classification of both sides, Adam at 1e-5, batches of 48. Its 46.04 % recall@1 (ResNet-50) is on a
random split of its own. The protocol here is the dataset's: 1,250 test photos, 6,312 sketches,
recall@1 of the photo each was drawn from. To beat: 62.38 % (Seddati 2023); 37.10 % is the paper's
own (Sangkloy 2016). Any ResNet-50 of timm's names will do: --config.model.weights=FILE.
"""

from sbir_jax.config import default_config


def get_config():
    config = default_config()
    config.data.name = "sketchy_original"
    config.data.image_size = 224
    config.data.load_size = 256
    config.data.sampler = "instances"
    config.data.batch_size = 48
    config.augment.flip = "paired"
    config.model.backbone = "resnet50"
    config.model.weights = "hf:timm/resnet50.tv_in1k"
    config.model.towers = "dual"
    config.model.embed_dim = 512
    config.model.batch_norm = "frozen"
    config.model.dtype = "bfloat16"
    config.loss.name = "triplet + category"
    config.loss.match = "instance"
    config.loss.triplet.margin = 0.3
    config.loss.triplet.miner = "all"
    config.optim.lr = 1e-5
    config.optim.lr_scale = "heads: 100, loss: 100"  # they start from random values
    config.train.duration = "60 epochs"
    config.train.eval_every = "2 epochs"
    config.eval.metric = "instance/acc@1"
    return config
