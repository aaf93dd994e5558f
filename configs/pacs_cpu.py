"""PACS sketches and photos, five classes, from scratch on two CPU cores.

    python -m data_prep pacs --raw=../shared/data/pacs --data_dir=data
    python launch.py train --config=configs/pacs_cpu.py --workdir=runs/pacs
    python launch.py evaluate --workdir=runs/pacs
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
