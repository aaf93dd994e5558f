"""Train and evaluate sketch-to-photo retrieval: python launch.py VERB --flag=value ...

A run is one config file, overrides of single settings, and a workdir that keeps all it makes:

  python launch.py train --config=configs/pacs_cpu.py --config.optim.lr=3e-4 --workdir=runs/a
  python launch.py evaluate --workdir=runs/a
"""

# This file has the verbs; reading the command line and help are in sbir_jax/cli.py, the work is
# in the rest of sbir_jax. To add a verb, write a function of (given, overrides) and add it to
# VERBS. Heavy imports stay inside the verbs: help, `configs`, `show` and every user error answer
# in 0.1 s, where importing JAX takes a second.

from __future__ import annotations

import dataclasses
import os
import re
import sys
from pathlib import Path

from absl import flags

from sbir_jax import cli
from sbir_jax.backbones import BACKBONES
from sbir_jax.cli import Flag, Given, UsageError, Verb, make_directory, workdir_of
from sbir_jax.config import RunConfig, default_config, nearest, resolve
from sbir_jax.overrides import (
    config_files,
    config_list,
    load_config,
    override,
    settings_table,
    stored_config,
)

CONFIGS = Path(__file__).resolve().parent / "configs"

# Errors that explain themselves in one line, by module.
RUN_ERRORS = {
    "sbir_jax.data.source": "DatasetError",
    "sbir_jax.checkpoint": "CheckpointError",
    "sbir_jax.train": "TrainingDiverged",
    "sbir_jax.embeddings": "EmbeddingsError",
    "sbir_jax.models.weight_files": "WeightsError",
    "sbir_jax.results": "ResultsError",
    "sbir_jax.dimensions": "DimensionsError",
    "sbir_jax.plots": "PlotsMissing",
    "sbir_jax.ranking.trec": "TrecError",
    "data_prep.items": "PrepareError",
    "data_prep.doctor": "ProblemsFound",
}

# Flags of `evaluate` that are short for --config.eval.NAME.
SHORT = ("metrics", "distance", "normalise", "ties", "no_relevant")


# Verbs: each takes its own flags as {name: value} and the tokens of config overrides.


def train(given: Given, overrides: list[str]) -> None:
    """Train a model, or continue a run that was stopped."""
    workdir = workdir_of(given)
    if given["config"]:
        config = load_config(given["config"], CONFIGS)
    elif (workdir / "config.json").exists():
        config = stored_config(workdir)
    else:
        raise UsageError(f"missing --config=FILE; configs: {', '.join(config_files(CONFIGS))}")
    run = resolve(override(config, overrides))
    make_directory("workdir", workdir)
    _ready_libraries()
    _draw_demo_once(run)
    from sbir_jax.train import train as train_run

    train_run(run, workdir)


def evaluate(given: Given, overrides: list[str]) -> None:
    """Measure retrieval: of a run, of bare embeddings, or of two runs compared."""
    overrides = overrides + [f"--config.eval.{of}={given[of]}" for of in SHORT if given[of]]
    if given["compare"]:
        _compare(given, overrides)
    elif given["queries"]:
        _evaluate_embeddings(given, overrides)
    else:
        _evaluate_run(given, overrides)


def knn(given: Given, overrides: list[str]) -> None:
    """Classify images by their nearest neighbours, on backbone features and on embeddings."""
    checkpoint, split = _checkpoint(given), _split(given)
    if split == "train":
        raise UsageError("--split=train: its images are the neighbours; valid: test, val")
    workdir, run = _run_to_measure(given, overrides)
    from sbir_jax.knn import knn_workdir

    knn_workdir(workdir, run=run, checkpoint=checkpoint, split=split)


def dimensions(given: Given, overrides: list[str]) -> None:
    """Measure how small embeddings may be: prefixes, PCA, int8 and binary codes, other heads."""
    checkpoint, split = _checkpoint(given), _split(given)
    workdir, run = _run_to_measure(given, overrides)
    others = {}
    for path in (Path(path.strip()) for path in given["also"].split(",") if path.strip()):
        if not (path / "config.json").exists():
            raise UsageError(f"--also={given['also']}: no run in {path} (no config.json)")
        others[path] = resolve(override(stored_config(path), overrides))
    from sbir_jax.dimensions import dimensions_workdir

    dimensions_workdir(workdir, run=run, others=others, checkpoint=checkpoint, split=split)


def weights(given: Given, overrides: list[str]) -> None:
    """Import published weights of a backbone, and say what they are."""
    arch, source = given["arch"], given["from"]
    if not source:
        raise UsageError("missing --from=FILE, a directory, or hf:OWNER/NAME")
    if arch not in BACKBONES or arch == "patch_resnet":
        valid = nearest(arch, (name for name in BACKBONES if name != "patch_resnet"))
        raise UsageError(f"--arch={arch}: {valid}" if arch else f"missing --arch=NAME; {valid}")
    out = Path(given["out"] or f"weights/{arch}")
    _ready_libraries()
    from sbir_jax.models.summary import summary
    from sbir_jax.models.weights import load, save

    imported = load(source, arch)
    save(imported, out)
    print(summary(imported))
    print(f"wrote {out}; to start a run from it: --config.model.weights={out}")


def doctor(given: Given, overrides: list[str]) -> None:
    """Look over the machine and the prepared datasets; the exit code is 1 if anything is wrong."""
    _ready_libraries()
    from data_prep.doctor import ProblemsFound, data_findings
    from data_prep.items import BadArgument
    from sbir_jax.machine import machine_findings

    problems = 0
    try:
        for findings in (
            machine_findings(),
            data_findings(Path(given["data_dir"]), given["protocol"]),
        ):
            for finding in findings:
                print(finding, flush=True)
                problems += finding.kind == "problem"
    except BadArgument as error:
        raise UsageError(str(error)) from error
    if problems:
        raise ProblemsFound(f"{problems} problem{'s' * (problems > 1)} found")


def configs(given: Given, overrides: list[str]) -> None:
    """List the config files, each with the first line of its docstring."""
    print(config_list(CONFIGS))


def show(given: Given, overrides: list[str]) -> None:
    """Print every setting with its meaning and valid values, before and after overrides."""
    if given["config"] and given["workdir"]:
        raise UsageError("--config and --workdir: show reads one of them, not both")
    if given["workdir"]:
        config = stored_config(workdir_of(given))
    else:
        config = load_config(given["config"], CONFIGS) if given["config"] else default_config()
    before = config.to_dict()
    after = dataclasses.asdict(resolve(override(config, overrides)))
    print(settings_table(before, after))


# What decides how `evaluate` evaluates, and the flags that go with one or two of these.
_RUN, _FILES, _PAIR = ("workdir",), ("queries",), ("compare",)
_ONE = _RUN + _FILES
_CHECKPOINT = "best, latest, a step, none (untrained) or pretrained (published)"
_UNTRAINED = ("none", "pretrained")  # these need no run

VERBS = {
    "train": Verb(
        train,
        {
            "config": Flag("config file; leave it out to continue the run in --workdir"),
            "workdir": Flag("directory for config, metrics, checkpoints, results (required)"),
        },
        {"": "--config=configs/quickstart.py --workdir=runs/quickstart"},
    ),
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
            "checkpoint": Flag(_CHECKPOINT, _RUN + _PAIR, "best"),
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
    ),
    "knn": Verb(
        knn,
        {
            "workdir": Flag("directory of a run; the table goes there (required)"),
            "checkpoint": Flag(_CHECKPOINT, default="best"),
            "split": Flag("test or val, whose neighbours are training images", default="test"),
            "config": Flag("config file, where there is no run (--checkpoint=none or pretrained)"),
        },
        {"": "--workdir=runs/quickstart"},
    ),
    "dimensions": Verb(
        dimensions,
        {
            "workdir": Flag("directory of a run; table and figure go there (required)"),
            "also": Flag("A,B,...: more runs: heads of other sizes, Matryoshka training"),
            "checkpoint": Flag(_CHECKPOINT, default="best"),
            "split": Flag("test, val or train", default="test"),
            "config": Flag("config file, where there is no run (--checkpoint=none or pretrained)"),
        },
        {"": "--workdir=runs/quickstart"},
    ),
    "weights": Verb(
        weights,
        {
            "arch": Flag("the backbone, as config.model.backbone names it (required)"),
            "from": Flag("model.safetensors, .npz, .pth, a directory, or hf:OWNER/NAME (required)"),
            "out": Flag("directory for weights.safetensors and weights.json (weights/ARCH)"),
        },
        {
            "from the Hugging Face hub (extra `weights`)": (
                "--arch=resnet50 --from=hf:timm/resnet50.a1_in1k"
            ),
            "from a file": "--arch=vit_small_patch14_dinov2 --from=downloads/model.safetensors",
        },
    ),
    "doctor": Verb(
        doctor,
        {
            "data_dir": Flag("directory of prepared datasets", default="data"),
            "protocol": Flag("published protocol that has to be able to run"),
        },
        {"": "--data_dir=data"},
    ),
    "configs": Verb(configs),
    "show": Verb(
        show,
        {
            "config": Flag("config file; leave it out to see the defaults"),
            "workdir": Flag("show the config of this run instead"),
        },
        {"": "--config=configs/quickstart.py --config.optim.lr=3e-4"},
    ),
}


def main(argv: list[str]) -> int:
    """Runs one command line (without the program's name); `cli.run` has the exit codes."""
    return cli.run(argv, VERBS, about=__doc__, configs=CONFIGS, run_errors=RUN_ERRORS)


# The three ways to evaluate


def _evaluate_run(given: Given, overrides: list[str]) -> None:
    checkpoint, split = _checkpoint(given), _split(given)
    depth, trec = _trec_depth(given), Path(given["trec"]) if given["trec"] else None
    if given["generalised"] and split == "train":
        raise UsageError("--generalised: adds the photos that --split=train already ranks")
    workdir, run = _run_to_measure(given, overrides)
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


def _run_to_measure(given: Given, overrides: list[str]) -> tuple[Path, RunConfig]:
    """The workdir, and the settings of its run or, where there is none, those of --config."""
    workdir = workdir_of(given)
    if (workdir / "config.json").exists():
        if given["config"]:
            raise UsageError(
                f"--config={given['config']}: {workdir} holds its own config; leave --config out"
            )
        config = stored_config(workdir)
        for token in overrides:
            if re.match(r"--?config\.(?!data\.dir\b|eval\.)", token):
                raise UsageError(
                    f"{token}: of a run only config.data.dir and config.eval.* can change here"
                )
    elif given["checkpoint"] in _UNTRAINED and given["config"]:
        config = load_config(given["config"], CONFIGS)
    elif given["checkpoint"] in _UNTRAINED:
        raise UsageError(
            f"--workdir={workdir}: no run there; --checkpoint={given['checkpoint']} needs "
            "--config=FILE"
        )
    else:
        raise UsageError(
            f"--workdir={workdir}: no run there (no config.json); make one with "
            f"python launch.py train --config=FILE --workdir={workdir}"
        )
    run = resolve(override(config, overrides))
    make_directory("workdir", workdir)
    _ready_libraries()
    _draw_demo_once(run)
    return workdir, run


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
    files = {name: Path(given[name]) if given[name] else None for name in names}
    depth, out = _trec_depth(given), Path(given["out"] or "evaluation")
    make_directory("out", out)
    make_directory("trec", files["trec"])
    _ready_libraries()
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
    checkpoint, split = _checkpoint(given), _split(given)
    out = Path(given["out"]) if given["out"] else None
    make_directory("out", out)
    from sbir_jax.compare import compare_evaluations

    compare_evaluations(*map(Path, pair), split=split, checkpoint=checkpoint, out=out)


# Flags


def _checkpoint(given: Given) -> str:
    checkpoint = given["checkpoint"]
    words = ("best", "latest", *_UNTRAINED)
    if checkpoint not in words and not checkpoint.isdecimal():
        valid = nearest(checkpoint, words)
        raise UsageError(f"--checkpoint={checkpoint}: {valid}, or a step number")
    return checkpoint


def _split(given: Given) -> str:
    if given["split"] not in ("test", "val", "train"):
        valid = nearest(given["split"], ("test", "val", "train"))
        raise UsageError(f"--split={given['split']}: {valid}")
    return given["split"]


def _trec_depth(given: Given) -> int:
    depth = given["trec_depth"]
    if not (depth.isdecimal() and int(depth) > 0):
        raise UsageError(f"--trec_depth={depth}: expected a whole number, at least 1")
    return int(depth)


# Before a run


def _ready_libraries() -> None:
    """Settles what must be settled before JAX, Grain and Orbax are imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # remarks of XLA about the host's CPU
    from absl import logging

    # Orbax and TFDS log each of their steps, and Orbax a traceback before an error of ours.
    logging.set_verbosity(logging.FATAL)
    flags.FLAGS.mark_as_parsed()  # Grain's worker processes read absl's global flags


def _draw_demo_once(run: RunConfig) -> None:
    demo = Path(run.data.dir) / "demo"
    if run.data.name == "demo" and not demo.exists():
        print(f"drawing the demo dataset into {demo} first", flush=True)
        from data_prep.prepare import prepare

        prepare("demo", data_dir=run.data.dir)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
