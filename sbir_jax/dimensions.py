"""How small the embeddings of a run may be: retrieval against dimensions and bytes.

One pass embeds a split and the training images of both sides, and is kept in the workdir;
everything else is the arithmetic of `sizes` on those arrays, as a table, a figure and files.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

from sbir_jax import plots, sharding
from sbir_jax.config import RunConfig
from sbir_jax.data.source import open_dataset
from sbir_jax.evaluator import Evaluator
from sbir_jax.load import as_measured, parameters
from sbir_jax.models import dual
from sbir_jax.ranking.relevance import Relevance
from sbir_jax.sizes import METHODS, Row, chance, study
from sbir_jax.workdir import write_json


class DimensionsError(RuntimeError):
    """A study that cannot be made; the message is one line."""


def dimensions_workdir(
    workdir: Path,
    *,
    run: RunConfig,
    others: Mapping[Path, RunConfig],
    checkpoint: str,
    split: str,
    mesh: Mesh | None = None,
) -> list[Row]:
    """Studies a run, and writes `workdir/dimensions_SPLIT_CHECKPOINT` as .csv, .json and .png.

    Embeddings are kept in `workdir/embeddings`, named by what they depend on, and used again.

    Args:
      others: runs to compare with, by workdir: heads of other sizes, Matryoshka training. Each adds
        its prefixes, uncompressed.

    Returns:
      The rows of `sizes.study`, each with the run's name and how it was trained (plain,
      matryoshka).

    Raises:
      DimensionsError: the embeddings have collapsed, another run is of other images, two runs have
        one name, or no relevance tells a good ranking from a bad one.
      CheckpointError, DatasetError, WeightsError: as `evaluate_workdir` does.
    """
    names = [path.resolve().name for path in (workdir, *others)]
    if twice := [name for name in names if names.count(name) > 1]:
        raise DimensionsError(f"two runs are called {twice[0]!r}: rename one, to tell them apart")
    mesh, run = mesh or sharding.make_mesh(), as_measured(run, checkpoint)
    dataset = open_dataset(run.data.name, run.data.dir)
    evaluator = Evaluator(
        run, dataset, dual.define(run.model, image_size=run.data.image_size), mesh
    )
    relevance = _telling(evaluator.relevance(split))
    if not relevance:
        raise DimensionsError(
            f"--split={split}: all photos of {dataset.name!r} are relevant to all queries, or none"
        )
    found, rows = _embed(workdir, evaluator, checkpoint, ("train", split)), []
    train = np.concatenate([found["train", side] for side in dual.MODALITIES])
    try:
        own = study(train, found[split, "sketch"], found[split, "photo"], relevance, mesh=mesh)
    except ValueError as error:
        raise DimensionsError(f"{workdir}: cannot study its embeddings: {error}") from error
    rows += _named(own, names[0], run)
    for name, (other, config) in zip(names[1:], others.items(), strict=True):
        theirs = open_dataset(config.data.name, config.data.dir)
        if theirs.fingerprint != dataset.fingerprint:
            raise DimensionsError(
                f"{other}: a run on {theirs.name!r}, not on the images of {workdir} "
                f"({dataset.name!r})"
            )
        config = as_measured(config, checkpoint)
        evaluator = Evaluator(
            config, theirs, dual.define(config.model, image_size=config.data.image_size), mesh
        )
        found = _embed(other, evaluator, checkpoint, (split,))
        theirs = study(
            train,
            found[split, "sketch"],
            found[split, "photo"],
            relevance,
            methods=("prefix",),
            codes=("float32",),
            mesh=mesh,
        )
        rows += _named(theirs, name, config)
    counts = [f"{len(dataset.index(split, side)):,}" for side in dual.MODALITIES]
    title = f"{dataset.name}, {split} split: {counts[0]} queries, {counts[1]} photos"
    by_chance = chance(relevance)
    print(table(rows, by_chance, title))
    stem = workdir / f"dimensions_{split}_{checkpoint}"
    write_json(stem.with_suffix(".json"), {"title": title, "chance": by_chance, "rows": rows})
    with stem.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    plots.dimensions(rows, by_chance, title).savefig(stem.with_suffix(".png"), dpi=150)
    print(f"wrote {stem}.csv, .json and .png")
    return rows


def table(rows: Sequence[Row], by_chance: Mapping[str, float], title: str) -> str:
    """The study for the console: for each score, a line a dimension and a column a code."""
    lines = [title]
    for name, level in by_chance.items():
        lines.append(f"{name} (chance {level:.4f}; among ties, the expected value)")
        for run in dict.fromkeys(row["run"] for row in rows):
            for method in METHODS:
                chosen = [r for r in rows if r["run"] == run and r["method"] == method]
                if not chosen:
                    continue
                codes = list(dict.fromkeys(row["code"] for row in chosen))
                heads = "".join(f"{code:>20}" for code in codes)
                lines.append(f"  {run}, {method:<14}{heads}".rstrip())
                for dim in dict.fromkeys(row["dim"] for row in chosen):
                    cells = [
                        f"{r[name]:>9.4f}{r['bytes']:>7,} B  " for r in chosen if r["dim"] == dim
                    ]
                    lines.append(f"  {dim:>5} dimensions  {''.join(cells)}".rstrip())
    return "\n".join(lines)


def _telling(relevance: Mapping[str, Relevance]) -> dict[str, Relevance]:
    """The levels that can tell a good ranking from a bad one: not all photos are relevant."""
    return {level: of for level, of in relevance.items() if not (of.counts == of.size).all()}


def _named(rows: Sequence[Row], name: str, run: RunConfig) -> list[Row]:
    trained = "matryoshka" if run.loss.matryoshka else "plain"
    return [{"run": name, "trained": trained, **row} for row in rows]


def _embed(
    workdir: Path, evaluator: Evaluator, checkpoint: str, splits: Sequence[str]
) -> dict[tuple[str, str], np.ndarray]:
    """Embeddings by (split, side), from `workdir/embeddings` where they have been made before."""
    run = evaluator.run
    _, *state = parameters(run, workdir, checkpoint, evaluator.mesh)
    digest = hashlib.sha256(evaluator.dataset.fingerprint.encode())
    digest.update(repr((run.model, run.data.image_size, run.data.load_size, run.data.fit)).encode())
    for leaf in jax.tree.leaves(state):
        digest.update(np.asarray(leaf).tobytes())
    folder = workdir / "embeddings"
    found: dict[tuple[str, str], np.ndarray] = {}
    folder.mkdir(parents=True, exist_ok=True)
    for split in splits:
        for side in dual.MODALITIES:
            path = folder / f"{split}_{side}_{digest.hexdigest()[:16]}.npz"
            if not path.exists():
                of = evaluator.embed(split, side, *state)
                scratch = path.with_suffix(".partial.npz")
                labels, instances = of.labelled()
                np.savez(scratch, embeddings=of.vectors, labels=labels, instances=instances)
                scratch.replace(path)
            with np.load(path, allow_pickle=False) as arrays:
                found[split, side] = arrays["embeddings"]
    return found
