"""PACS sketches and photos, five classes, from scratch on two CPU cores.

python -m data_prep pacs --raw=../shared/data/pacs --data_dir=data
python launch.py train --config=configs/pacs_cpu.py --workdir=runs/pacs
python launch.py evaluate --workdir=runs/pacs

The data: 961 photos and 2,426 sketches of dog, elephant, guitar, horse and person, split by photo
with seed 0. Measured on 2 cores (AMD EPYC), Python 3.11, JAX 0.10.2: training takes 7 minutes. Test
split, 500 sketches against 192 photos, chance in brackets: category mAP@all 0.645 (0.191), P@1
0.778 (0.170), P@10 0.692; instance acc@1 0.047 (0.005), acc@10 0.258 (0.052) over the 360
sketches whose photo is there. Over five versions that differ in rounding it had mAP@all 0.623 to
0.668, P@1 0.680 to 0.798, acc@10 0.233 to 0.308 with seeds 0 and 1: read the second digit with
care. The same network untrained: mAP@all 0.195. The validation split, which chooses the checkpoint,
is small (226 sketches). What follows is of earlier ones of these.

With class vectors beside InfoNCE (--config.loss.name='infonce + 0.5*category'), which wins short
runs (docs/recipes.md): mAP@all 0.636, P@1 0.694, instance acc@10 0.261.

With the triplet loss and semi-hard mining (--config.loss.name=triplet
--config.loss.triplet.margin=0.3): mAP@all 0.634, P@1 0.734, instance acc@10 0.286, in under 10
minutes on a machine not idle.
"""

from sbir_jax.config import default_config


def get_config():
    config = default_config()
    config.data.name = "pacs"
    config.data.sampler = "classes"
    config.data.batch_size = 65  # 5 classes x 13 of each side
    config.data.per_class = 13
    config.model.width = 32
    config.loss.pairs = "joint"
    config.optim.lr = 3e-3
    config.optim.weight_decay = 0.2
    config.train.duration = "2400 steps"
    config.train.log_every = "50 steps"
    config.train.eval_every = "300 steps"
    return config
