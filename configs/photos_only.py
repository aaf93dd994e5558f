"""Photos alone: each is searched by drawings made from its own edges, with `data_prep photos`.

    python -m data_prep photos --raw=MY_PHOTOS --data_dir=data --name=mine
    python launch.py train --config=configs/photos_only.py --config.data.name=mine --workdir=runs/m

Every training sketch is drawn anew in each step (`augment.pseudo=1`), so that no two are alike; the
drawings that `data_prep` wrote serve validation and test. A photo is found by its own drawings
(`loss.match=instance`). Where the folders are classes and any photo of the class will do:
`--config.loss.match=class --config.data.sampler=classes --config.eval.metric=category/mAP@all`.

How well such a model serves people's own sketches is measured in docs/photos_only.md.
"""

from sbir_jax.config import default_config


def get_config():
    config = default_config()
    config.data.name = "photos"
    config.data.sampler = "instances"
    config.augment.pseudo = 1.0
    config.augment.flip = "paired"
    config.model.width = 32  # these five as in pacs_cpu.py
    config.loss.pairs = "joint"
    config.loss.match = "instance"
    config.optim.lr = 3e-3
    config.optim.weight_decay = 0.2
    config.train.duration = "1000 steps"
    config.train.eval_every = "10%"
    config.eval.metric = "instance/mAP@all"
    return config
