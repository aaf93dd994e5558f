"""Photos that search photos of their class, or logos logos, with one encoder.

    python -m data_prep folders --queries=photo --raw=MY_IMAGES --data_dir=data --name=photos
    python launch.py train --config=configs/photo_to_photo.py --workdir=runs/photos
    python launch.py evaluate --workdir=runs/photos

MY_IMAGES holds photos/<class>/*; of logos, a class is a brand. Half of each class then searches the
other half; with queries/<class>/* beside photos/, those do. In training every two images of the
batch meet, whichever side they are on. Measured on the photos of PACS, 400 of its 1,000 steps, 96
queries against 97 photos, chance in brackets: mAP@all 0.664 (0.266), untrained 0.308.
"""

from sbir_jax.config import default_config


def get_config():
    config = default_config()
    config.data.name = "photos"
    config.model.towers = "shared"
    config.model.width = 32
    config.loss.pairs = "joint"
    config.optim.lr = 3e-3
    config.optim.weight_decay = 0.2
    config.train.duration = "1000 steps"
    config.train.eval_every = "10%"
    return config
