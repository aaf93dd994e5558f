"""Generated photos and sketches, 20 categories: the first run, under three minutes on two cores.

python launch.py train --config=configs/quickstart.py --workdir=runs/quickstart
python launch.py evaluate --workdir=runs/quickstart
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
    config.loss.temperature = 0.05
    config.optim.lr = 4e-3
    config.train.duration = "900 steps"
    config.train.log_every = "50 steps"
    return config
