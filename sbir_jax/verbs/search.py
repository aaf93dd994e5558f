"""`index` and `search`: a folder of photos embedded, and found again by sketches."""

from __future__ import annotations

import json
from pathlib import Path

from sbir_jax.cli import Flag, Given, UsageError, Verb, workdir_of
from sbir_jax.retrieval import RetrievalError
from sbir_jax.verbs import indices, runs

_SIDES = ("sketch", "photo")
_SHOWN_BAD = 5
_GRID_ROWS, _GRID_COLUMNS = 50, 20


def index(given: Given, words: list[str]) -> None:
    """Embed a folder of photos, bring its index up to date, or push it into a database."""
    if words not in ([], ["push"]) or (words and not given["to"]):
        raise UsageError(f"{' '.join(words)}: expected `index push --index=DIR --to=WHERE`")
    if given["to"]:
        return _push(given)
    out = indices.path(given, "out", "the directory of the index, as in indices/mine")
    if given["remove"]:
        runs.ready_libraries()
        from sbir_jax.retrieval.index import Index
        from sbir_jax.retrieval.indexing import remove

        gone = remove(Index.open(out), given["remove"])
        print(f"{out}: {gone:,} photos removed")
        return
    workdir, checkpoint = workdir_of(given), runs.checkpoint(given)
    runs.ready_libraries()
    from sbir_jax.retrieval.encoders import load_encoders
    from sbir_jax.retrieval.indexing import update

    encoders = load_encoders(workdir, checkpoint=checkpoint)
    print(f"encoders: {encoders}; {encoders.dim} dimensions", flush=True)
    try:
        report = update(given["photos"], encoders, out)
    except OSError as error:  # the disk is full, say: what is done stays, and is gone on from
        raise RetrievalError(f"{out}: cannot be written: {error.strerror}") from error
    for file in report.bad[:_SHOWN_BAD]:
        print(f"not indexed: {file.path}: {file.reason}")
    if len(report.bad) > _SHOWN_BAD:
        print(f"... and {len(report.bad) - _SHOWN_BAD:,} more, all in {out / 'bad.jsonl'}")
    print(f"{out}: {report}")


def _push(given: Given) -> None:
    folder, to = indices.path(given, "index", "the directory of an index"), given["to"]
    from sbir_jax.retrieval.store import is_database

    if not is_database(to) and not to.endswith(".parquet"):
        shown = to.partition("://")[0]
        raise UsageError(f"--to={shown}: expected postgresql://... or a file NAME.parquet")
    runs.ready_libraries()
    from sbir_jax.retrieval.index import Index

    source = Index.open(folder)
    if to.endswith(".parquet"):
        from sbir_jax.retrieval.parquet import write_parquet

        write_parquet(source, to)
        print(f"{to}: {len(source):,} photos written")
        return
    from sbir_jax.retrieval.postgres import push

    name = given["name"]
    done = push(source, to, name)
    print(f"{name}: {len(source):,} photos {'pushed' if done else 'are there already'}")


def search(given: Given, files: list[str]) -> None:
    """Find the photos of an index nearest to sketches or to other photos."""
    indices.path(given, "index", "the directory of an index")
    side, method = indices.one_of(given, "as", _SIDES), indices.method(given)
    top, label = indices.number(given, "top", low=1, high=10_000), given["label"]
    if not files:
        raise UsageError("no queries; name sketch files: search --index=DIR sketch.png")
    for file in files:
        if not Path(file).is_file():
            raise UsageError(f"{file}: no such file")
    runs.ready_libraries()
    from sbir_jax.retrieval.queries import find, named_queries

    index, encoders = indices.opened(given)
    names, squares = named_queries(files, encoders, side)
    found, recall = find(index, encoders.embed(squares, side), top, method=method, label=label)
    if given["json"]:
        rows = [
            {
                "query": name,
                "results": [
                    {"rank": rank, "similarity": match.similarity, "file": str(match.item.file)}
                    for rank, match in enumerate(matches, 1)
                ],
            }
            for name, matches in zip(names, found, strict=True)
        ]
        print(json.dumps(rows, indent=1))
    else:
        for name, matches in zip(names, found, strict=True):
            print(name)
            for rank, match in enumerate(matches, 1):
                print(f"  {rank:>4}  {match.similarity:.4f}  {match.item.file}")
        if recall is not None:
            print(f"recall@{top} of {method} against exact search: {recall:.4f}")
    if given["out"]:
        from sbir_jax.retrieval.queries import picture

        out = Path(given["out"])
        rows, columns = found[:_GRID_ROWS], min(top, _GRID_COLUMNS)
        grid = picture(index, names, squares, [matches[:columns] for matches in rows], side)
        try:
            grid.save(out)
        except (OSError, ValueError) as error:
            raise UsageError(f"--out={out}: cannot be written: {error}") from None


VERBS = {
    "index": Verb(
        index,
        {
            "photos": Flag("directory of images, at any depth"),
            "remove": Flag("a directory or a photo to take out of the index"),
            "to": Flag("postgresql://USER:PASSWORD@HOST/DATABASE, or a file NAME.parquet"),
            "index": Flag("directory of the index to push", ("to",)),
            "name": Flag("of the index in the database", ("to",), "photos"),
            "out": Flag("directory of the index (required)", ("photos", "remove")),
            "workdir": Flag("directory of the run whose encoders embed (required)", ("photos",)),
            "checkpoint": Flag(runs.CHECKPOINT, ("photos",), "best"),
        },
        {
            "": "--workdir=runs/quickstart --photos=my_photos --out=indices/mine",
            "take photos out again": "--remove=my_photos/old --out=indices/mine",
            "copy it into a database": "push --index=indices/mine --to=postgresql://localhost/db",
        },
        modes=("photos", "remove", "to"),
        words="push               copy an index to --to",
    ),
    "search": Verb(
        search,
        {
            "index": indices.INDEX,
            "name": indices.NAME,
            "label": Flag("only photos below that folder (PostgreSQL)"),
            "as": Flag("what the queries are: sketch or photo", default="sketch"),
            "top": Flag("photos of each query", default="20"),
            "method": Flag(
                "exact, int8, binary (less memory) or faiss (approximate); PostgreSQL: exact, hnsw",
                default="exact",
            ),
            "out": Flag("also draw the results, into grid.png"),
            "json": Flag("print JSON", default=False),
            "workdir": indices.MOVED,
        },
        {"": "--index=indices/mine --out=grid.png sketch.png"},
        words="FILE ...           queries: images, .svg, or .ndjson of Quick, Draw! strokes",
    ),
}
