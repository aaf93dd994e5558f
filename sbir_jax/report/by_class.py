"""The section on classes: how well each is found, and which is taken for which."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sbir_jax.report import classes, page
from sbir_jax.report.numbers import number, parsed
from sbir_jax.report.record import Record
from sbir_jax.report.sheets import Sheets

_ROWS = 300  # of the table of classes
_OPEN = 12  # a longer table of classes is shown when asked for
_CONFUSIONS = 15


def by_class(record: Record, sheets: Sheets) -> Iterator[str]:
    if not record.per_class:
        yield page.missing(*record.lacks("per_class.csv"))
    else:
        yield from _per_class(record, sheets)
    yield page.subheading("Which class the first photo is of")
    found = record.retrieved
    if found is None:
        yield page.missing(*record.lacks("retrieved.npz"))
        return
    counts = classes.confusion(found)
    chosen = classes.squares_of(counts)
    names = [str(found.classes[c]) for c in chosen]
    right = counts.queries[counts.right].sum() / counts.queries.sum()
    some = len(chosen) < len(np.unique(counts.query))
    cut = f"; the {len(chosen)} classes that most errors touch" if some else ""
    image = classes.confusion_figure(counts.among(chosen), names)
    yield sheets.picture(
        "confusion",
        image,
        alt=f"Confusion of the first photo; {right:.1%} of all queries are on the diagonal.",
        caption=f"Rows: class of the query; columns: class of its first photo{cut}.",
    )
    confused = classes.most_confused(counts, _CONFUSIONS)
    if not confused:
        yield page.paragraph("Every first photo is of its query's class.")
        return
    yield page.table(
        "Most frequent errors of the first photo",
        ["query", "first photo", "queries", "share of the class"],
        [
            [found.classes[a], found.classes[b], f"{n:,}", f"{share:.1%}"]
            for a, b, n, share in confused
        ],
    )


def _per_class(record: Record, sheets: Sheets) -> Iterator[str]:
    header = list(record.per_class[0])
    scores = [n for n in header[1:] if not _is_count(n)]
    main = next((n for n in ("category/mAP@all", record.run.eval.metric) if n in scores), "")
    main = main or next(iter(scores), "")
    if main:
        values = np.array([parsed(row[main]) for row in record.per_class])
        order = classes.shown(values)
        names = [record.per_class[i]["class"] for i in order]
        mean = float(np.nanmean(values)) if np.isfinite(values).any() else 0.0
        cut = f", best and worst {len(order) // 2}" * (len(order) < len(values))
        ends = (
            f"best {names[0]}, {values[order[0]]:.3f}; worst {names[-1]}, {values[order[-1]]:.3f}"
        )
        image = classes.bars(f"{main} by class{cut}", names, values[order], mean=mean, x=main)
        yield sheets.picture("classes", image, alt=f"{main} by class: {ends}.")
    if len(record.per_class) > _ROWS:
        total = len(record.per_class)
        yield page.paragraph(f"The first {_ROWS} of {total:,} classes; all are in per_class.csv.")
    for level in dict.fromkeys(name.partition("/")[0] for name in header[1:]):
        columns = [name for name in header if name.startswith(f"{level}/")]
        rows = [
            [row["class"], *(_cell(name, row[name]) for name in columns)]
            for row in record.per_class[:_ROWS]
        ]
        names = [name.partition("/")[2].replace("_", " ") for name in columns]
        inner = page.table(f"Scores by class: {level}", ["class", *names], rows)
        if len(rows) > _OPEN:
            inner = page.details(f"The {len(rows)} classes as a table, by {level}", inner)
        yield inner


def _cell(column: str, text: str) -> str:
    """Counts as they are, scores with four digits, nothing as a dash."""
    if _is_count(column):
        return text
    return number(parsed(text)) if text else "–"


def _is_count(column: str) -> bool:
    return column.rpartition("/")[2].startswith("queries")
