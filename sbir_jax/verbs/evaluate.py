"""`evaluate`: of a run, of bare embeddings, or of two runs compared."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sbir_jax.cli import Flag, Given, UsageError, Verb, make_directory
from sbir_jax.config import default_config, resolve
from sbir_jax.overrides import override
from sbir_jax.verbs import runs

# Flags that are short for --config.eval.NAME.
SHORT = ("metrics", "distance", "normalise", "ties", "no_relevant")


def evaluate(given: Given, overrides: list[str]) -> None:
    """Measure retrieval: of a run, of bare embeddings, or of two runs compared."""
    overrides = overrides + [f"--config.eval.{of}={given[of]}" for of in SHORT if given[of]]
    if given["compare"]:
        _compare(given, overrides)
    elif given["queries"]:
        _evaluate_embeddings(given, overrides)
    else:
        _evaluate_run(given, overrides)


def _evaluate_run(given: Given, overrides: list[str]) -> None:
    checkpoint, split = runs.checkpoint(given), runs.split(given)
    depth, trec = _trec_depth(given), Path(given["trec"]) if given["trec"] else None
    if given["generalised"] and split == "train":
        raise UsageError("--generalised: adds the photos that --split=train already ranks")
    workdir, run = runs.to_measure(given, overrides)
    make_directory("trec", trec)
    from sbir_jax.evaluate import evaluate_workdir

    evaluate_workdir(
        workdir,
        checkpoint=checkpoint,
        split=split,
        run=run,
        elsewhere=given["dataset"],
        protocol=given["protocol"],
        generalised=given["generalised"],
        trec=trec,
        trec_depth=depth,
    )


def _evaluate_embeddings(given: Given, overrides: list[str]) -> None:
    if not given["gallery"]:
        raise UsageError("missing --gallery=FILE, the embeddings to be ranked")
    free = (*SHORT, "memory_mib")
    for token in overrides:
        if not re.match(rf"--?config\.eval\.({'|'.join(free)})\b", token):
            raise UsageError(
                f"{token}: with --queries only config.eval.{{{','.join(free)}}} matter"
            )
    settings = resolve(override(default_config(), overrides)).eval
    names = ("query_labels", "gallery_labels", "relevance", "seen_gallery", "trec")
    files: dict[str, Any] = {name: Path(given[name]) if given[name] else None for name in names}
    depth, out = _trec_depth(given), Path(given["out"] or "evaluation")
    make_directory("out", out)
    make_directory("trec", files["trec"])
    runs.ready_libraries()
    from sbir_jax.bare import evaluate_embeddings

    evaluate_embeddings(
        Path(given["queries"]),
        Path(given["gallery"]),
        settings=settings,
        out=out,
        trec_depth=depth,
        **files,
    )


def _compare(given: Given, overrides: list[str]) -> None:
    if overrides:
        raise UsageError(f"{overrides[0]}: --compare reads evaluations as they are")
    pair = [path.strip() for path in given["compare"].split(",")]
    if len(pair) != 2 or not all(pair):
        raise UsageError(
            f"--compare={given['compare']}: expected two directories, as in runs/a,runs/b"
        )
    checkpoint, split = runs.checkpoint(given), runs.split(given)
    out = Path(given["out"]) if given["out"] else None
    make_directory("out", out)
    from sbir_jax.compare import compare_evaluations

    compare_evaluations(*map(Path, pair), split=split, checkpoint=checkpoint, out=out)


def _trec_depth(given: Given) -> int:
    depth = given["trec_depth"]
    if not (depth.isdecimal() and int(depth) > 0):
        raise UsageError(f"--trec_depth={depth}: expected a whole number, at least 1")
    return int(depth)


# What decides how `evaluate` evaluates, and the flags that go with one or two of these.
_RUN, _FILES, _PAIR = ("workdir",), ("queries",), ("compare",)
_ONE = _RUN + _FILES

VERBS = {
    "evaluate": Verb(
        evaluate,
        {
            "workdir": Flag("directory of a run; results go there"),
            "dataset": Flag("another prepared dataset to measure the run on", _RUN),
            "protocol": Flag("published protocol whose metrics to report", _RUN),
            "generalised": Flag("also rank with the training photos in the gallery", _RUN, False),
            "config": Flag(
                "config file, where there is no run (--checkpoint=none or pretrained)", _RUN
            ),
            "checkpoint": Flag(runs.CHECKPOINT, _RUN + _PAIR, "best"),
            "split": Flag("test, val or train", _RUN + _PAIR, "test"),
            "queries": Flag("embeddings, .npz or .npy, whatever made them"),
            "gallery": Flag("embeddings to be ranked", _FILES),
            "query_labels": Flag("labels of the queries, where they are .npy", _FILES),
            "gallery_labels": Flag("labels of the gallery", _FILES),
            "relevance": Flag("what is relevant: a matrix (.npy) or TREC qrels", _FILES),
            "seen_gallery": Flag("embeddings that also join the gallery (generalised)", _FILES),
            "out": Flag("directory for results (of --queries: evaluation)", _FILES + _PAIR),
            "compare": Flag("A,B: two workdirs, or --out directories, evaluated before"),
            "metrics": Flag("names and presets (docs/metrics.md): sake,instance/acc@1", _ONE),
            "distance": Flag("cosine, dot, l1, l2, sq_l2, linf or l<p>", _ONE),
            "normalise": Flag("none, unit or sr", _ONE),
            "ties": Flag("pessimistic, optimistic or expected", _ONE),
            "no_relevant": Flag("queries without relevant items: exclude or zero", _ONE),
            "trec": Flag("directory for qrels.txt and run.txt, as trec_eval reads them", _ONE),
            "trec_depth": Flag("items of each query in run.txt", _ONE, "1000"),
        },
        {
            "the best checkpoint of a run, on its test split": "--workdir=runs/quickstart",
            "anyone's embeddings; keys of the files: embeddings [n, D], labels [n], ...": (
                "--queries=sketches.npz --gallery=photos.npz --metrics=sake,P@10"
            ),
            "is b better than a? differences, intervals, p-values": "--compare=runs/a,runs/b",
        },
        modes=_RUN + _FILES + _PAIR,
    )
}
