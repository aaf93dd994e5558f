"""Your own photos and sketches, prepared with `data_prep folders`: a small model for CPUs.

    python -m data_prep folders --raw=MY_IMAGES --data_dir=data --name=mine
    python launch.py train --config=configs/folders.py --config.data.name=mine --workdir=runs/mine
    python launch.py evaluate --workdir=runs/mine

On a GPU, a larger encoder and image:
    --config.model.backbone=resnet50 --config.data.image_size=224 --config.data.load_size=256

What is right depends on the data: more steps where the validation mAP still rises at the end,
`--config.loss.match=instance` where each sketch has one photo to find.
"""

from sbir_jax.config import default_config


def get_config():
    config = default_config()
    config.data.name = "folders"
    config.model.width = 32  # these four as in pacs_cpu.py
    config.loss.pairs = "joint"
    config.optim.lr = 3e-3
    config.optim.weight_decay = 0.2
    config.train.duration = "1000 steps"
    config.train.eval_every = "10%"
    return config
