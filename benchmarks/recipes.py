"""Which loss and miner wins on PACS at equal steps: every recipe with every seed, and a table.

    python -m data_prep pacs --raw=PACS --data_dir=data
    python benchmarks/recipes.py --data_dir=data --out=runs/recipes

The encoders, the batches and the schedule are those of configs/pacs_cpu.py, at 48 pixels and for
300 steps; recipes differ in the loss alone, with the settings of RECIPES, which were written down
before the first run and not tuned. Each run is a workdir in --out and is not repeated if it is
there. Results: docs/recipes.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import scipy.stats

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

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
METRICS = ("category/mAP@all", "category/P@1", "instance/acc@10")


def run(recipe: str, seed: int, data_dir: str, out: Path) -> None:
    """Trains and evaluates in this process."""
    from sbir_jax.config import resolve
    from sbir_jax.overrides import load_config
    from sbir_jax.verbs import runs

    runs.ready_libraries()
    from sbir_jax.evaluate import evaluate_workdir
    from sbir_jax.train import train

    config = load_config(str(ROOT / "configs/pacs_cpu.py"), runs.CONFIGS)
    config.update_from_flattened_dict(COMMON | RECIPES[recipe])
    config.seed, config.data.dir = seed, data_dir
    workdir, settings = workdir_of(recipe, seed, out), resolve(config)
    train(settings, workdir)
    evaluate_workdir(workdir, checkpoint="best", split="test", run=settings)


def workdir_of(recipe: str, seed: int, out: Path) -> Path:
    return out / recipe.replace(", ", "-").replace(" ", "_") / f"seed{seed}"


def scores(recipe: str, seed: int, out: Path) -> list[float] | None:
    """The test scores `METRICS` of a run that was evaluated; None of another."""
    path = workdir_of(recipe, seed, out) / "results.json"
    if not path.exists():
        return None
    entry = json.loads(path.read_text())["test/best"]
    found = []
    for metric in METRICS:
        level, name = metric.split("/")
        found.append(entry[level][name]["value"])
    return found


def table(recipes: list[str], seeds: int, out: Path) -> str:
    """Markdown, best first: of each recipe the mean over seeds (least to most).

    Below it how far seeds lie apart: the standard deviation pooled over the recipes, and half the
    width of the 95 % interval that it gives a mean of all seeds (Student's t).
    """
    rows, squares, freedom = [], [0.0] * len(METRICS), 0
    for recipe in recipes:
        found = [scores(recipe, seed, out) for seed in range(seeds)]
        found = [one for one in found if one is not None]
        if not found:
            continue
        cells = []
        for i, values in enumerate(zip(*found, strict=True)):
            mean = statistics.mean(values)
            squares[i] += sum((value - mean) ** 2 for value in values)
            cells.append(f"{mean:.3f} ({min(values):.3f}..{max(values):.3f})")
        freedom += len(found) - 1
        mean = statistics.mean(one[0] for one in found)
        rows.append((mean, f"| {recipe} | {' | '.join(cells)} | {len(found)} |"))
    rows.sort(reverse=True)
    names = [metric.split("/")[1] for metric in METRICS]
    head = f"| recipe | {' | '.join(names)} | seeds |"
    lines = [head, "|---" * (len(METRICS) + 2) + "|", *(row for _, row in rows)]
    if freedom:
        apart = [math.sqrt(square / freedom) for square in squares]
        half = [scipy.stats.t.ppf(0.975, freedom) * sd / math.sqrt(seeds) for sd in apart]
        for name, sd, width in zip(names, apart, half, strict=True):
            lines.append(f"\n{name}: sd between seeds {sd:.4f}, a mean of {seeds} is ± {width:.4f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data_dir", default="data", help="where `data_prep pacs` wrote")
    parser.add_argument("--out", type=Path, default=Path("runs/recipes"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="recipes, by a part of their names: hard,circle")
    parser.add_argument("--workers", type=int, default=1, help="runs at once; they share the cores")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        recipe, seed = args.one
        run(recipe, int(seed), args.data_dir, args.out)
        return
    chosen = [name for name in RECIPES if any(part in name for part in args.only.split(","))]
    if not chosen:
        parser.error(f"--only={args.only}: no recipe of {'; '.join(RECIPES)}")
    wanted = itertools.product(range(args.seeds), chosen)  # a whole seed first
    wanted = [(name, seed) for seed, name in wanted if scores(name, seed, args.out) is None]
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    turns, own = itertools.count(), threading.local()

    def pin() -> None:
        own.cores = cores[next(turns) % args.workers :: args.workers]

    def child(recipe: str, seed: int) -> None:
        command = [sys.executable, __file__, f"--data_dir={args.data_dir}", f"--out={args.out}"]
        process = subprocess.Popen(
            [*command, "--one", recipe, str(seed)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        if own.cores:
            os.sched_setaffinity(process.pid, own.cores)
        _, errors = process.communicate()
        if process.returncode:
            print(f"{recipe}, seed {seed}: {errors.strip().splitlines()[-1]}", file=sys.stderr)
        else:
            print(f"{recipe}, seed {seed}: {scores(recipe, seed, args.out)}", file=sys.stderr)

    with ThreadPoolExecutor(args.workers, initializer=pin) as pool:
        list(pool.map(child, *zip(*wanted, strict=True))) if wanted else None
    print(table(chosen, args.seeds, args.out))


if __name__ == "__main__":
    main()
