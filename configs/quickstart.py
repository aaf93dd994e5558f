"""Generated photos and sketches, 20 categories: the first run, a minute on two cores.

python launch.py train --config=configs/quickstart.py --workdir=runs/quickstart
python launch.py evaluate --workdir=runs/quickstart

Measured on 2 cores (AMD EPYC), Python 3.11, JAX 0.10.2: 63 to 78 s for both commands. Test
split, 360 sketches against 120 photos, chance in brackets: category mAP@all 0.500 (0.085), P@1
0.644 (0.050); instance acc@1 0.133 (0.008), acc@10 0.606 (0.083).
"""

from sbir_jax.config import default_config


def get_config():
    config = default_config()
    config.data.image_size = 32
    config.data.load_size = 36
    config.data.sampler = "classes"
    config.data.per_class = 8
    config.augment.min_scale = 0.8
    config.augment.rotate = 10.0
    config.model.towers = "stems"
    config.model.width = 32
    config.loss.pairs = "joint"
    config.loss.infonce.temperature = 0.05
    config.optim.lr = 4e-3
    config.train.duration = "900 steps"
    config.train.log_every = "50 steps"
    return config
