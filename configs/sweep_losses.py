"""Three losses with two seeds each on generated sketches: an example of a sweep.

python launch.py sweep --config=configs/sweep_losses.py --workdir=runs/losses

The runs are quickstart.py's, cut to 150 steps, which is far from what any of them can learn; what a
real study looks like: benchmarks/recipes.py.
"""

from sbir_jax.config import default_config

LOSSES = {
    "infonce": {},
    "triplet": {"loss.name": "triplet", "loss.triplet.margin": 0.3},
    "contrastive": {"loss.name": "contrastive"},
}


def get_config():
    config = default_config()
    config.data.image_size = 32
    config.data.load_size = 36
    config.data.sampler = "classes"
    config.data.per_class = 8
    config.model.towers = "stems"
    config.model.width = 16
    config.loss.pairs = "joint"
    config.optim.lr = 4e-3
    config.train.duration = "150 steps"
    config.train.eval_every = "75 steps"
    return config


def get_sweep():
    for seed in (0, 1):  # a whole seed first
        for name, settings in LOSSES.items():
            yield name, settings | {"seed": seed}
