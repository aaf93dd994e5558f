"""The report of one run: its sections, from what its workdir holds."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from sbir_jax import __version__, plots
from sbir_jax.data.source import Dataset, DatasetError, open_dataset
from sbir_jax.report import maps, numbers, page, retrievals
from sbir_jax.report.by_class import by_class
from sbir_jax.report.figures import rendered
from sbir_jax.report.record import Record, read_record
from sbir_jax.report.sheets import Sheets
from sbir_jax.report.training import precision, training

_QUERIES = 6  # of each retrieval grid


def write_report(
    workdir: Path,
    *,
    evaluation: str = "",
    method: str = "pca",
    now: datetime.datetime | None = None,
) -> Path:
    """Writes `workdir/report/index.html` and each of its pictures beside it, as .png.

    The model is not needed, nor is anything computed over the dataset: what is shown is what
    training and `evaluate` have stored. Only the retrieval grids read images.

    Args:
      workdir: of a run.
      evaluation: which entry of results.json; by default test/best, else val/best, else the last.
      method: of the map: pca, tsne or umap.
      now: the date at the bottom.

    Returns:
      the path of the page.

    Raises:
      ReportError: no run there, no such evaluation, or a package that the map needs.
      ConfigError: settings of the run that cannot be read.
    """
    maps.require(method)
    record = read_record(workdir, evaluation)
    sheets = Sheets(Path(workdir) / "report")
    dataset, why = _dataset(record)
    query = "query" if dataset and dataset.channels["sketch"] == 3 else "sketch"
    sections = [
        ("scores", "Scores", numbers.scores(record)),
        ("training", "Training", training(record, sheets)),
        ("precision", "Recall and precision", precision(record, sheets)),
        ("classes", "Classes", by_class(record, sheets)),
        ("retrievals", "Retrievals", _retrievals(record, dataset, why, query, sheets)),
        ("map", "Map of the embeddings", _map(record, method, query, sheets)),
        ("dimensions", "Dimensions", _dimensions(record, sheets)),
        ("dataset", "Dataset", _data(record, dataset, why, sheets)),
        ("made", "How it was made", numbers.made(record)),
    ]
    when = now or datetime.datetime.now(datetime.UTC)
    return sheets.write(
        page.page(
            f"{record.name}: report",
            numbers.lead(record),
            [(anchor, heading, list(parts)) for anchor, heading, parts in sections],
            f"Made on {when:%Y-%m-%d %H:%M} UTC by sbir_jax {__version__}.",
        )
    )


def _dataset(record: Record) -> tuple[Dataset | None, str]:
    """The dataset of the evaluation, or of the run; or why it cannot be opened."""
    data = record.run.data
    try:
        dataset = open_dataset(record.entry.get("dataset", data.name), data.dir)
    except DatasetError as error:
        return None, str(error)
    return dataset, ""


def _retrievals(
    record: Record, dataset: Dataset | None, why: str, query: str, sheets: Sheets
) -> Iterator[str]:
    found, scores = record.retrieved, record.scores
    if found is None or scores is None:
        yield page.missing(*record.lacks("retrieved.npz" if found is None else "scores.npz"))
        return
    if dataset is None:
        yield page.missing(f"The images are not at hand: {why}")
        return
    split = record.entry["split"]
    if dataset.fingerprint != record.entry.get("dataset_fingerprint"):
        yield page.missing(
            f"{dataset.path} has been prepared again from other images since this evaluation."
        )
        return
    level = "category" if "category" in scores.values else next(iter(scores.values))
    name, values = next(iter(scores.values[level].items()))
    counted = scores.relevant[level] > 0
    if not (found.query_instances >= 0).any():
        yield page.paragraph(
            f"No {query} is linked to a photo: no photo is marked as the instance."
        )
    yield page.paragraph(
        "Right photos have a thick green frame and a tick, wrong ones a thin red frame and a "
        f"cross; a star marks the photo that the {query} is linked to."
    )
    chosen = {
        "best": ("Best", retrievals.best(values, counted, found.query_labels, _QUERIES)),
        "worst": ("Worst", retrievals.worst(values, counted, found.query_labels, _QUERIES)),
        "random": ("Drawn at random", retrievals.drawn(counted, _QUERIES)),
    }
    for file, (heading, rows) in chosen.items():
        yield page.subheading(heading)
        if not len(rows):
            yield page.missing("No query has a relevant photo.")
            continue
        try:
            image = retrievals.picture(dataset, split, found, rows, fit=record.run.data.fit)
        except DatasetError as error:
            yield page.missing(str(error))
            continue
        low, high = values[rows].min(), values[rows].max()
        hits = found.right[rows]
        caption = f"{len(rows)} queries; {level}/{name} from {low:.3f} to {high:.3f}."
        alt = f"{heading}: {hits.sum()} of the {hits.size} photos shown are of the right class"
        yield sheets.picture(
            f"retrievals_{file}", image, alt=alt, caption=caption, wide=True, photos=True
        )


def _map(record: Record, method: str, query: str, sheets: Sheets) -> Iterator[str]:
    found = record.retrieved
    if found is None:
        yield page.missing(*record.lacks("retrieved.npz"))
        return
    try:
        queries, photos, words = maps.of_both(found, method)
    except ValueError as error:  # a collapsed model: all embeddings are equal
        yield page.missing(f"No map: {error}")
        return
    title = f"{maps.METHODS[method]} ({words})"
    image = maps.figure_of(found, queries, photos, title=title, query=query)
    counts = f"{len(queries):,} queries (dots) and {len(photos):,} photos (squares)"
    yield sheets.picture(
        "map",
        image,
        alt=f"Map of the embeddings by {title}: {counts}.",
        caption=f"{counts}, evenly drawn over the classes. The largest classes have a colour, and "
        "their name at their middle; all others are grey.",
    )


def _dimensions(record: Record, sheets: Sheets) -> Iterator[str]:
    study = record.dimensions
    if study is None:
        split, checkpoint = record.place if record.chosen else ("test", "best")
        yield page.missing(
            "Not studied:",
            f"python launch.py dimensions --workdir={record.workdir} --split={split} "
            f"--checkpoint={checkpoint}",
        )
        return
    image = rendered(plots.dimensions(study["rows"], study["chance"], study["title"]))
    names = ", ".join(study["chance"])
    alt = f"{names} against dimensions, and against bytes per photo"
    yield sheets.picture("dimensions", image, alt=alt, wide=True)
    rows = [
        [row["method"], row["dim"], row["code"], f"{row['bytes']:,}"]
        + [numbers.number(row.get(name)) for name in study["chance"]]
        for row in study["rows"]
    ]
    header = ["method", "dimensions", "code", "bytes", *study["chance"]]
    yield page.details("As a table", page.table(study["title"], header, rows))


def _data(record: Record, dataset: Dataset | None, why: str, sheets: Sheets) -> Iterator[str]:
    if dataset is None:
        yield page.missing(why)
        return
    yield numbers.counts(dataset)
    path = dataset.path / "contact_sheet.png"
    try:
        with Image.open(path) as stored:
            image = stored.convert("RGB")
    except OSError:
        yield page.missing(f"No contact sheet: {path} is missing or damaged.")
        return
    yield sheets.picture(
        "contact_sheet",
        image,
        alt=f"Contact sheet of {dataset.name}: classes in rows, photos beside queries",
        caption="As data_prep drew it; a joint frame links a sketch and its photo.",
        wide=True,
        photos=True,
    )
