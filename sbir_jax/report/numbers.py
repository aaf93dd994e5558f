"""The numbers of a report: scores, settings and surroundings as tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sbir_jax.config import RunConfig
from sbir_jax.data.source import SPLITS, Dataset
from sbir_jax.report import page
from sbir_jax.report.record import Line, Record, differing, metrics_of

_HEADLINE = ("category/mAP@all", "category/P@1", "instance/acc@1", "instance/acc@10")


def number(value: Any) -> str:
    """Four digits after the point, as on the console; a dash for none."""
    return f"{value:.4f}" if isinstance(value, int | float) else "–"


def interval(ends: Sequence[float] | None, sign: str = "") -> str:
    """[0.1234, 0.2345]; a dash for none."""
    return "–" if ends is None else f"[{ends[0]:{sign}.4f}, {ends[1]:{sign}.4f}]"


def parsed(cell: str) -> float:
    """A cell of per_class.csv; NaN where a class has no query that counts."""
    try:
        return float(cell)
    except ValueError:
        return float("nan")


def lead(record: Record) -> Iterator[str]:
    """What the run is, in a sentence and a few large numbers."""
    run, entry = record.run, record.entry
    trained = max((line["step"] for line in record.metrics), default=0)
    yield page.paragraph(
        f"{run.model.backbone} on {run.data.name}, {trained:,} steps trained. Run directory: "
        f"{record.workdir}"
    )
    if entry:
        yield page.facts(
            (name, number(of["value"]), f"95 %: {interval(of.get('interval'))}")
            for name, of in _named(entry).items()
            if name in _HEADLINE
        )
        split, checkpoint = record.place
        yield page.paragraph(
            f"Measured on the {split} split, checkpoint {checkpoint} (step {entry['step']:,})."
        )
    for remark in record.remarks:
        yield page.missing(remark)


def scores(record: Record) -> Iterator[str]:
    """Every number of the evaluation, and the other evaluations of the run."""
    entry = record.entry
    if not entry:
        yield page.missing(*record.lacks("results.json"))
        return
    if entry["split"] != "test":
        yield page.missing(
            f"Scores of {record.chosen}, not of the test split. When all choices are made:",
            f"python launch.py evaluate --workdir={record.workdir}",
        )
    for level in entry["levels"]:
        summary = entry[level]
        without = summary.get("queries_without_relevant", 0)
        caption = f"By {level}: {summary['queries']:,} queries, {summary['gallery']:,} photos"
        caption += f"; {without:,} queries have no relevant photo" if without else ""
        rows = [
            [
                name,
                number(of["value"]),
                interval(of.get("interval")),
                number(of.get("chance")),
                number(of.get("class_mean")),
                interval(of.get("class_interval")),
            ]
            for name, of in metrics_of(summary).items()
        ]
        yield page.table(caption, _COLUMNS, rows)
    if "instance" not in entry["levels"]:
        yield page.missing("No sketch is linked to a photo of this split: no instance retrieval.")
    yield page.paragraph(
        f"Distance {entry['distance']}, normalisation {entry['normalise']}, ties "
        f"{entry['ties']}, queries without a relevant photo: {entry['no_relevant']}."
    )
    definitions = entry.get("definitions", {})
    if definitions:
        inner = page.table("Definitions", ["metric", "meaning"], definitions.items(), words=True)
        yield page.details("What each metric means", inner)
    if len(record.entries) > 1:
        yield _all_entries(record)


_COLUMNS = ("metric", "value", "95 % interval", "chance", "class mean", "95 % over classes")


def _all_entries(record: Record) -> str:
    names = dict.fromkeys(
        name for of in record.entries.values() for name in _named(of) if name in _HEADLINE
    )
    rows = [
        [name, f"{of['step']:,}", *(number(_named(of).get(m, {}).get("value")) for m in names)]
        for name, of in record.entries.items()
    ]
    return page.table("All evaluations of this run", ["evaluation", "step", *names], rows)


def made(record: Record) -> Iterator[str]:
    """Command, surroundings, and the settings that are not the defaults."""
    yield page.subheading("Command")
    if record.starts:
        for start in record.starts:
            yield page.code(str(start.get("command", "unknown")))
    else:
        yield page.missing(
            "environment.json is missing: the exact command and code of this run were not recorded."
        )
    yield page.subheading("Settings that differ from the defaults")
    changed = differing(RunConfig(), record.run)
    if changed:
        rows = [[f"config.{path}", *map(repr, values)] for path, values in changed.items()]
        yield page.table(
            f"{len(changed)} settings", ["setting", "default", "this run"], rows, words=True
        )
    else:
        yield page.paragraph("None: every setting has its default.")
    yield page.subheading("Environment")
    rows = [*surroundings(record.starts[-1])] if record.starts else []
    if not rows and record.entry:  # an evaluation keeps the little that it needs
        entry = record.entry
        rows = [["device", f"{entry.get('devices', 1)} x {entry.get('device', 'unknown')}"]]
        rows += list(entry.get("versions", {}).items())
    if rows:
        when = "of the last start" if record.starts else "of the evaluation"
        yield page.table(f"Environment {when}", ["what", "which"], rows, words=True)
    else:
        yield page.missing("Neither a start nor an evaluation has recorded its environment.")


def surroundings(start: Line) -> Iterator[tuple[str, str]]:
    """A start of environment.json in rows."""
    for name in ("started", "step", "seed", "directory", "python", "platform"):
        if name in start:
            yield name, str(start[name])
    devices = start.get("devices")
    if isinstance(devices, dict):
        yield "devices", f"{devices.get('count', 1)} x {devices.get('kind', 'unknown')}"
    git = start.get("git")
    if isinstance(git, dict):
        dirty = ", with changes that were not committed" if git.get("dirty") else ""
        yield "git commit", f"{git.get('commit', 'unknown')}{dirty}"
    for group in ("packages", "variables"):
        found = start.get(group)
        if isinstance(found, dict):
            yield from ((str(name), str(value)) for name, value in sorted(found.items()))


def counts(dataset: Dataset) -> str:
    """How many images each split has."""
    query = "photo queries" if dataset.channels["sketch"] == 3 else "sketches"
    rows = []
    for split in SPLITS:
        sketch, photo = (dataset.index(split, side) for side in ("sketch", "photo"))
        linked = int((sketch.instance >= 0).sum())
        seen = len({*sketch.label.tolist(), *photo.label.tolist()})
        rows.append([split, *(f"{n:,}" for n in (len(sketch), linked, len(photo), seen))])
    return page.table(
        f"{dataset.name}: {len(dataset.classes):,} classes",
        ["split", query, "of them linked to a photo", "photos", "classes"],
        rows,
    )


def _named(entry: Line) -> dict[str, Line]:
    return {
        f"{level}/{name}": of
        for level in entry["levels"]
        for name, of in metrics_of(entry[level]).items()
    }
