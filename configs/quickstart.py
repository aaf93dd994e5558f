"""Generated photos and sketches, 20 categories: the first run, under three minutes on two cores.

python launch.py train --config=configs/quickstart.py --workdir=runs/quickstart
python launch.py evaluate --workdir=runs/quickstart
"""

from sbir_jax.config import default_config


def get_config():
    config = default_config()
    config.data.image_size = 48
    config.data.load_size = 56
    config.data.batch_size = 64
    config.model.width = 32
    config.optim.lr = 2e-3
    config.train.duration = "300 steps"
    return config
