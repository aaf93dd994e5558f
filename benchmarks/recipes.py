"""Which loss and miner wins on PACS at equal steps: every recipe with three seeds, and a table.

    python -m data_prep pacs --raw=PACS --data_dir=data
    python launch.py sweep --config=benchmarks/recipes.py --evaluate --workdir=runs/recipes

The encoders, the batches and the schedule are those of configs/pacs_cpu.py, at 48 pixels and for
300 steps; recipes differ in the loss alone, with the settings of RECIPES, which were written down
before the first run and not tuned. Results: docs/recipes.md.
"""

from pathlib import Path

from sbir_jax.overrides import load_config

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
SEEDS = 3

COMMON = {
    "data.image_size": 48,
    "data.load_size": 54,
    "train.duration": "300 steps",
    "train.eval_every": "100 steps",
    "loss.pairs": "joint",
}
_TRIPLET = {"loss.name": "triplet", "loss.triplet.margin": 0.3}
RECIPES = {
    "infonce": {},
    "infonce, cross": {"loss.pairs": "cross"},
    "infonce, learnt temperature": {"loss.infonce.learn_temperature": True},
    "infonce, smoothing 0.2, 0.07": {
        "loss.infonce.label_smoothing": 0.2,
        "loss.infonce.temperature": 0.07,
    },
    "infonce, memory of 520": {"loss.memory": 520, "loss.memory_after": "20%"},
    "infonce + 0.5 category": {"loss.name": "infonce + 0.5*category"},
    "triplet, random": _TRIPLET | {"loss.triplet.miner": "random"},
    "triplet, all": _TRIPLET | {"loss.triplet.miner": "all"},
    "triplet, all, active": _TRIPLET
    | {"loss.triplet.miner": "all", "loss.triplet.average": "active"},
    "triplet, semi-hard": _TRIPLET,
    "triplet, semi-hard, cross": _TRIPLET | {"loss.pairs": "cross"},
    "triplet, distance-weighted": _TRIPLET | {"loss.triplet.miner": "distance_weighted"},
    "triplet, batch-hard": _TRIPLET | {"loss.triplet.miner": "batch_hard"},
    "triplet, batch-hard, soft": {
        "loss.name": "triplet",
        "loss.triplet.miner": "batch_hard",
        "loss.triplet.form": "soft",
        "loss.triplet.margin": 0.0,
    },
    "triplet, semi-hard, then batch-hard": _TRIPLET
    | {"loss.triplet.miner": "semi_hard, batch_hard@50%"},
    "quadruplet": {"loss.name": "quadruplet", "loss.quadruplet.margin": 0.3},
    "relative triplet": {"loss.name": "relative_triplet", "loss.relative_triplet.margin": 0.3},
    "contrastive": {"loss.name": "contrastive"},
    "n-pairs": {"loss.name": "n_pairs"},
    "sigmoid": {"loss.name": "sigmoid"},
    "multi-similarity": {"loss.name": "multi_similarity"},
    "circle": {"loss.name": "circle"},
    "smooth AP": {"loss.name": "smooth_ap"},
    "category": {"loss.name": "category"},
    "category, cosface": {"loss.name": "category", "loss.category.margin_form": "cosface"},
}


def get_config():
    config = load_config(str(CONFIGS / "pacs_cpu.py"), CONFIGS)
    config.update_from_flattened_dict(COMMON)
    return config


def get_sweep():
    for seed in range(SEEDS):  # a whole seed first
        for name, settings in RECIPES.items():
            yield name, settings | {"seed": seed}
