"""Are drawings made from photos as good as sketches? PACS, three ways to train, equal steps.

    python -m data_prep pacs --raw=PACS --data_dir=data
    python benchmarks/pseudo_sketches.py --data_dir=data --out=runs/pseudo

Each way trains the encoders of configs/pacs_cpu.py at 48 pixels, with equal steps, batches and
seeds; they differ in `config.augment.pseudo`, the share of sketches replaced by drawings of photos.
All are tested on the real test sketches, at their last step, so that no real sketch chooses the
checkpoint of a way that may not see any. A run that is there is not repeated. Results:
docs/photos_only.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from sbir_jax.config import resolve
from sbir_jax.overrides import load_config
from sbir_jax.verbs import runs

WAYS = {"photos alone": 1.0, "real sketches": 0.0, "both, half and half": 0.5}
METRICS = ("category/mAP@all", "category/P@1", "instance/acc@10")
SETTINGS = {
    "data.image_size": 48,
    "data.load_size": 54,
    "train.eval_every": "50%",
    "loss.pairs": "cross",
    "loss.match": "class",
}


def run(way: str, seed: int, args: argparse.Namespace) -> list[float]:
    """Trains and evaluates, or reads what an earlier call left; the test scores of METRICS."""
    from sbir_jax.evaluate import evaluate_workdir
    from sbir_jax.train import train

    workdir = args.out / f"{way.replace(', ', '-').replace(' ', '_')}-seed{seed}"
    if not (workdir / "results.json").exists():
        config = load_config(str(runs.CONFIGS / "pacs_cpu.py"), runs.CONFIGS)
        config.update_from_flattened_dict(SETTINGS)
        config.train.duration = f"{args.steps} steps"
        config.loss.match, config.data.sampler = args.match, args.sampler
        config.augment.pseudo, config.seed, config.data.dir = WAYS[way], seed, args.data_dir
        settings = resolve(config)
        train(settings, workdir)
        evaluate_workdir(workdir, checkpoint="latest", split="test", run=settings)
    entry = json.loads((workdir / "results.json").read_text())["test/latest"]
    found = [metric.split("/") for metric in METRICS]
    return [entry[level][name]["value"] for level, name in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data_dir", default="data", help="where `data_prep pacs` wrote")
    parser.add_argument("--out", type=Path, default=Path("runs/pseudo"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sampler", default="classes", help="config.data.sampler")
    parser.add_argument("--match", default="class", help="config.loss.match")
    args = parser.parse_args()
    runs.ready_libraries()
    scores = {way: [] for way in WAYS}
    for seed in range(args.seeds):
        for way, own in scores.items():
            own.append(run(way, seed, args))
    print("| trained on | " + " | ".join(METRICS) + " |")
    print("|---" * (len(METRICS) + 1) + "|")
    for way, own in scores.items():
        cells = (
            f"{statistics.mean(x):.3f} ({min(x):.3f}..{max(x):.3f})" for x in zip(*own, strict=True)
        )
        print(f"| {way} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
