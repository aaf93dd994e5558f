"""The model card of exported encoders: what they are, from which data, how good, on whose terms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sbir_jax import __version__
from sbir_jax.config import RunConfig
from sbir_jax.data.source import DatasetError, open_dataset
from sbir_jax.models.licences import licence_of
from sbir_jax.retrieval.encoders import Encoders

_FIT = {
    "pad": "scaled to fit, aspect ratio kept, centred on white",
    "squash": "stretched to the square",
    "crop": "scaled and cut to the central square",
}


def model_card(encoders: Encoders) -> str:
    """Markdown, from the run's own files; what is not known is said to be unknown."""
    run, source = encoders.run, encoders.source
    dataset, size = source["dataset"], run.data.load_size
    words = str(encoders).replace(source["workdir"], f"run `{Path(source['workdir']).name}`")
    channels = f"grey [b, {size}, {size}, 1] and colour [b, {size}, {size}, 3]"
    lines = [
        f"# Sketch and photo encoders: {run.model.backbone}, {encoders.dim} dimensions",
        "",
        f"Made by sbir_jax {__version__}: {words}.",
        "",
        "## Use",
        "",
        "```python",
        "import jax",
        "program = bytearray(open('sketch.jaxexport', 'rb').read())",
        f"embed = jax.jit(jax.export.deserialize(program).call)  # uint8 [b, {size}, {size}, 1]",
        "```",
        "",
        f"Sketches and photos are uint8 squares, {channels}: {_FIT[run.data.fit]}, upright, "
        "sketches dark on white. Vectors are float32 of length 1; compare a sketch and a photo by "
        "their dot product. The programs are for CPUs (tested), CUDA GPUs and TPUs (not tested). "
        "JAX reads them for six months at least.",
        "",
        "## Training",
        "",
        f"- data: {dataset['name']}, fingerprint `{dataset['fingerprint']}`",
        f"- protocol: {_protocol(run, dataset['fingerprint'])}",
        f"- towers: {run.model.towers}; embeddings: {run.model.normalize}; seed {run.seed}",
        f"- duration: {run.train.duration}; batches of {run.data.batch_size} pairs",
        f"- starting weights: {_start(run.model.weights)}",
        f"- sha256 of the parameters: `{encoders.identity.weights}`",
        "",
        "## Results",
        "",
        *_results(Path(source["workdir"]), source),
        "",
        "## Limits",
        "",
        "Results are of the data above; on other photos and other hands they differ. Nothing was "
        "done against biases of that data. Similarities are no probabilities.",
        "",
        "## Licence",
        "",
        "Of these parameters: that of the starting weights, above, and the terms of the training "
        "data apply. Of the code that made them: Apache-2.0.",
        "",
    ]
    return "\n".join(lines)


def _protocol(run: RunConfig, fingerprint: str) -> str:
    """The published protocol that the data was prepared for."""
    try:
        dataset = open_dataset(run.data.name, run.data.dir)
    except DatasetError:
        return "unknown: the prepared dataset is not at hand"
    if dataset.fingerprint != fingerprint:
        return "unknown: the dataset has been prepared again since"
    return dataset.protocol["name"] if dataset.protocol else "none of the literature"


def _start(weights: str) -> str:
    """The published weights that a run started from, and their licence."""
    if not weights:
        return "none, drawn at random"
    try:
        about = json.loads((Path(weights) / "weights.json").read_text())
        return f"{about['arch']} of {about['source']}; licence: {about['licence']}"
    except (OSError, ValueError, KeyError, TypeError):
        tag = weights.rpartition("/")[2].partition(".")[2]
        return f"{weights}; licence: {licence_of(tag, '')}"


def _results(workdir: Path, source: dict[str, Any]) -> list[str]:
    """A table a level of every evaluation of this very checkpoint."""
    try:
        entries = json.loads((workdir / "results.json").read_text()).values()
    except (OSError, ValueError):
        entries = []
    lines = []
    for entry in entries:
        same = (entry["checkpoint"], entry["step"]) == (source["checkpoint"], source["step"])
        for level in entry["levels"] if same else ():
            metrics = {n: found for n, found in entry[level].items() if isinstance(found, dict)}
            lines += [
                f"{entry['dataset']}, {entry['split']} split, {level}{_by(entry)}: "
                f"{entry[level]['queries']:,} queries, {entry[level]['gallery']:,} photos, "
                f"{entry['distance']} distance, {entry['ties']} ties",
                "",
                "| metric | value | 95 % interval | chance |",
                "|---|---|---|---|",
                *(f"| {name} | {_row(found)} |" for name, found in metrics.items()),
                "",
            ]
    return lines[:-1] or ["Not evaluated: `python launch.py evaluate` fills this in."]


def _by(entry: dict[str, Any]) -> str:
    return f", protocol {entry['protocol']['name']}" if "protocol" in entry else ""


def _row(found: dict[str, Any]) -> str:
    low, high = found.get("interval") or (None, None)
    interval = "" if low is None else f"{low:.4f} to {high:.4f}"
    chance = found.get("chance")
    return f"{found['value']:.4f} | {interval} | {'' if chance is None else f'{chance:.4f}'}"
