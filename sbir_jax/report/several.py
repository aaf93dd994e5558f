"""Several runs beside each other: curves in one picture, scores and settings in tables."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from pathlib import Path

from sbir_jax import __version__
from sbir_jax.compare import compared
from sbir_jax.report import curves, page
from sbir_jax.report.numbers import interval, number
from sbir_jax.report.record import (
    Line,
    Record,
    ReportError,
    differing,
    metrics_of,
    read_record,
    series,
)
from sbir_jax.report.sheets import Sheets
from sbir_jax.report.training import figures_of
from sbir_jax.results import ResultsError

_MOST = 8  # runs: colours and dashes that are told apart


def write_comparison(
    workdirs: Sequence[Path],
    out: Path,
    *,
    evaluation: str = "",
    now: datetime.datetime | None = None,
) -> Path:
    """Writes `out/index.html` and each of its pictures beside it; the first run is the baseline.

    Args:
      workdirs: of two to eight runs.
      out: a directory.
      evaluation: which entry of each results.json; by default test/best if all have it, or else
        val/best.
      now: the date at the bottom.

    Raises:
      ReportError: too few or too many runs, one of them twice, or no such evaluation.
      ConfigError: settings of a run that cannot be read.
    """
    if not 2 <= len(workdirs) <= _MOST:
        raise ReportError(f"--workdirs: {len(workdirs)} of them; compare 2 to {_MOST}")
    if len({path.resolve() for path in workdirs}) < len(workdirs):
        raise ReportError("--workdirs: one of them is there twice")
    records = [read_record(path, evaluation) for path in workdirs]
    names = _names(records)
    chosen = evaluation or next(
        (n for n in ("test/best", "val/best") if all(n in of.entries for of in records)), ""
    )
    if chosen:  # what they have in common may not be what one of them would have shown alone
        records = [of if of.chosen == chosen else read_record(of.workdir, chosen) for of in records]
    sheets = Sheets(out)
    sections = [
        ("scores", "Scores", _scores(records, names, chosen)),
        ("differences", "Differences", _differences(records, names, chosen)),
        ("training", "Training", _training(records, names, sheets)),
        ("precision", "Recall and precision", _precision(records, names, chosen, sheets)),
        ("settings", "Settings that differ", _settings(records, names)),
    ]
    when = now or datetime.datetime.now(datetime.UTC)
    about = f"{len(records)} runs beside each other; the first, {names[0]}, is the baseline."
    return sheets.write(
        page.page(
            f"{', '.join(names)}: comparison",
            [page.paragraph(about), *(page.missing(r) for of in records for r in of.remarks)],
            [(anchor, heading, list(parts)) for anchor, heading, parts in sections],
            f"Made on {when:%Y-%m-%d %H:%M} UTC by sbir_jax {__version__}.",
        )
    )


def _names(records: Sequence[Record]) -> list[str]:
    """Each run by its directory's name; by its whole path where two share one."""
    short = [of.name for of in records]
    return [
        name if short.count(name) == 1 else str(of.workdir)
        for name, of in zip(short, records, strict=True)
    ]


def _scores(records: Sequence[Record], names: Sequence[str], chosen: str) -> Iterator[str]:
    if not chosen:
        yield page.missing(
            "The runs have no evaluation in common: evaluate each of them, on the test split or "
            "with --split=val."
        )
        return
    entries = [of.entries[chosen] for of in records]
    yield page.paragraph(f"Of {chosen} of each run: each value with its 95 % interval.")
    for level in dict.fromkeys(level for entry in entries for level in entry["levels"]):
        found = [metrics_of(entry.get(level, {})) for entry in entries]
        rows = [
            [metric, *(_value(of.get(metric)) for of in found)]
            for metric in dict.fromkeys(metric for of in found for metric in of)
        ]
        yield page.table(f"By {level}", ["metric", *names], rows)


def _value(of: Line | None) -> str:
    return f"{number(of['value'])} {interval(of.get('interval'))}" if of else "–"


def _differences(records: Sequence[Record], names: Sequence[str], chosen: str) -> Iterator[str]:
    if not chosen:
        yield page.missing("Nothing to compare yet.")
        return
    yield page.paragraph(
        "Paired bootstrap over the same queries, and over classes: an interval that holds 0 says "
        "that the difference may be chance. p: how likely so large a difference is without one; "
        "it is not corrected for looking at many."
    )
    split, _, checkpoint = chosen.partition("/")
    base = records[0].workdir
    for name, of in zip(names[1:], records[1:], strict=True):
        heading = f"{name} against {names[0]}"
        yield page.subheading(heading)
        try:
            entry = compared(base, of.workdir, split=split, checkpoint=checkpoint)
        except ResultsError as error:
            yield page.missing(str(error))
            continue
        for level in entry["levels"]:
            rows = [
                [
                    metric,
                    number(one["a"]),
                    number(one["b"]),
                    f"{one['difference']:+.4f}",
                    interval(one["interval"], "+"),
                    interval(one["class_interval"], "+"),
                    number(one["p_value"]),
                ]
                for metric, one in entry[level].items()
                if isinstance(one, dict)
            ]
            caption = f"{heading}, by {level}: {entry[level]['queries']:,} queries"
            header = ["metric", names[0], name, "difference", "95 % over queries"]
            yield page.table(caption, [*header, "95 % over classes", "p"], rows)


def _training(records: Sequence[Record], names: Sequence[str], sheets: Sheets) -> Iterator[str]:
    metric = records[0].run.eval.metric
    shown = []
    for file, title, kind, (value, *_), axis in figures_of(metric):
        title = f"{title}: {metric}" if value == metric else title
        found = [
            (name, *series(of.metrics, value, kind))
            for name, of in zip(names, records, strict=True)
        ]
        if absent := [name for name, across, _ in found if not across]:
            yield page.missing(f"{title}: not in metrics.jsonl of {', '.join(absent)}.")
        found = [line for line in found if line[1]]
        if found:
            image = curves.lines(
                title, found, x="step", y=axis, unit=kind == "val", points=kind == "val"
            )
            words = "; ".join(curves.in_words(*line) for line in found)
            shown.append(sheets.picture(file, image, alt=f"{title} over steps. {words}."))
    if any(of.run.loss != records[0].run.loss for of in records):
        yield page.paragraph(
            "The losses of the runs are not the same; their values do not compare."
        )
    yield page.beside(shown)


def _precision(
    records: Sequence[Record], names: Sequence[str], chosen: str, sheets: Sheets
) -> Iterator[str]:
    if not chosen:
        yield page.missing("Nothing to compare yet.")
        return
    rows = [of.curves for of in records]
    shown = []
    for level in dict.fromkeys(row["level"] for of in rows for row in of):
        found = [
            (name, *curves.precision(of, level, "recall")[1:])
            for name, of in zip(names, rows, strict=True)
        ]
        found = [line for line in found if line[1]]
        title = f"Interpolated precision, by {level}"
        image = curves.lines(title, found, x="recall", y="precision", unit=True)
        middle = "; ".join(f"{n}: {up[len(up) // 2]:.3f} at recall 0.5" for n, _, up in found)
        shown.append(sheets.picture(f"precision_{level}", image, alt=f"{title}. {middle}."))
    yield page.beside(shown) if shown else page.missing("No run has its curves.csv.")


def _settings(records: Sequence[Record], names: Sequence[str]) -> Iterator[str]:
    found = differing(*(of.run for of in records))
    if not found:
        yield page.paragraph("None: the runs have the same settings.")
        return
    rows = [[f"config.{path}", *map(repr, values)] for path, values in found.items()]
    yield page.table(f"{len(found)} settings", ["setting", *names], rows, words=True)
