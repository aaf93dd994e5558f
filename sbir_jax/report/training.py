"""How the run went, and how precision falls as recall rises: the sections made of lines."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from sbir_jax.report import curves, page
from sbir_jax.report.numbers import number
from sbir_jax.report.record import Record, series
from sbir_jax.report.sheets import Sheets

_NOT_SCORES = ("step", "kind", "nonfinite")


def figures_of(metric: str) -> tuple[tuple[str, str, str, tuple[str, ...], str], ...]:
    """File, title, kind of line, metrics and axis of each figure of training.

    `metric` chose the best checkpoint; it is the first of those of the validation.
    """
    scores = tuple(dict.fromkeys((metric, "category/mAP@all", "category/P@1")))
    return (
        ("loss", "Loss of the batch", "train", ("loss",), "loss"),
        ("validation", "Validation", "val", scores, "score"),
        ("learning_rate", "Learning rate", "train", ("optim/lr",), "learning rate"),
        ("throughput", "Images a second", "train", ("perf/images_per_s",), "images/s"),
    )


def training(record: Record, sheets: Sheets) -> Iterator[str]:
    if not record.metrics:
        yield page.missing("No metrics yet: metrics.jsonl is missing or empty.")
        return
    shown = []
    for file, title, kind, names, axis in figures_of(record.run.eval.metric):
        found = [(name, *series(record.metrics, name, kind)) for name in names]
        found = [line for line in found if line[1]]
        if not found:
            yield page.missing(f"{title}: not in metrics.jsonl.")
            continue
        image = curves.lines(
            title, found, x="step", y=axis, unit=kind == "val", points=kind == "val"
        )
        words = "; ".join(curves.in_words(*line) for line in found)
        shown.append(sheets.picture(file, image, alt=f"{title} over steps. {words}."))
    yield page.beside(shown)
    lines = [line for line in record.metrics if line["kind"] == "val"]
    if lines:
        names = list(dict.fromkeys(n for line in lines for n in line if n not in _NOT_SCORES))
        rows = [[f"{line['step']:,}", *(number(line.get(n)) for n in names)] for line in lines]
        yield page.details(
            f"The {len(rows)} validations as a table",
            page.table("Scores of the validation split", ["step", *names], rows),
        )


def precision(record: Record, sheets: Sheets) -> Iterator[str]:
    if not record.curves:
        yield page.missing(*record.lacks("curves.csv"))
        return
    levels = list(dict.fromkeys(row["level"] for row in record.curves))
    by_recall = [curves.precision(record.curves, level, "recall") for level in levels]
    by_rank = [curves.precision(record.curves, level, "rank") for level in levels]
    lines = functools.partial(curves.lines, x="recall", y="precision", unit=True)
    image = lines("Interpolated precision at recall", by_recall)
    words = "; ".join(
        f"{name}: {up[0]:.3f} at recall 0, {up[len(up) // 2]:.3f} at recall {x[len(x) // 2]:.2f}, "
        f"{up[-1]:.3f} at recall 1"
        for name, x, up in by_recall
    )
    one = sheets.picture(
        "precision_at_recall",
        image,
        alt=f"Interpolated precision against recall. {words}.",
        caption="The largest precision at that recall or more, averaged over queries.",
    )
    image = lines("Precision and recall at each rank", by_rank)
    words = "; ".join(f"{name}: precision {up[0]:.3f} at rank 1" for name, _, up in by_rank)
    two = sheets.picture(
        "precision_and_recall",
        image,
        alt=f"Mean precision against mean recall, rank by rank. {words}.",
        caption="P@k against recall@k for k = 1, 2, ..., averaged over queries; as measured.",
    )
    yield page.beside([one, two])
