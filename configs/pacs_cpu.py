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
    config.data.batch_size = 65
    config.data.per_class = 13
    config.train.duration = "1000 steps"
    return config
