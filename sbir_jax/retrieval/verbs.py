"""The verbs of a trained model in use: `launch.py index`, `search`, `serve` and `export`.

Like launch.py it imports nothing heavy before a command line has been found right.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING

from sbir_jax.cli import Flag, Given, UsageError, Verb, ready_libraries, workdir_of
from sbir_jax.config import nearest
from sbir_jax.retrieval import RetrievalError

if TYPE_CHECKING:
    from sbir_jax.retrieval.encoders import Encoders
    from sbir_jax.retrieval.index import Index

_SIDES = ("sketch", "photo")
_SHOWN_BAD = 5
_GRID_ROWS, _GRID_COLUMNS = 50, 20


def index(given: Given, _words: list[str]) -> None:
    """Embed a folder of photos, to be searched; the same command brings it up to date."""
    out = _path(given, "out", "the directory of the index, as in indices/mine")
    ready_libraries()
    if given["remove"]:
        from sbir_jax.retrieval.index import Index
        from sbir_jax.retrieval.indexing import remove

        gone = remove(Index.open(out), str(given["remove"]))
        print(f"{out}: {gone:,} photos removed")
        return
    from sbir_jax.retrieval.encoders import load_encoders
    from sbir_jax.retrieval.indexing import update

    workdir = workdir_of(given)
    encoders = load_encoders(workdir, checkpoint=str(given["checkpoint"]))
    print(f"encoders: {encoders}; {encoders.dim} dimensions", flush=True)
    report = update(str(given["photos"]), encoders, out)
    for file in report.bad[:_SHOWN_BAD]:
        print(f"not indexed: {file.path}: {file.reason}")
    if len(report.bad) > _SHOWN_BAD:
        print(f"... and {len(report.bad) - _SHOWN_BAD:,} more, all in {out / 'bad.jsonl'}")
    print(f"{out}: {report}")


def search(given: Given, files: list[str]) -> None:
    """Find the photos of an index that are nearest to sketches, or to other photos."""
    folder = _path(given, "index", "the directory of an index")
    from sbir_jax.retrieval.index import METHODS

    side, method = _one_of(given, "as", _SIDES), _one_of(given, "method", METHODS)
    top = _number(given, "top", low=1, high=10_000)
    if not files:
        raise UsageError("no queries; name sketch files: search --index=DIR sketch.png")
    for file in files:
        if not Path(file).is_file():
            raise UsageError(f"{file}: no such file")
    ready_libraries()
    from sbir_jax.retrieval.queries import find, named_queries

    index, encoders = _opened(given, folder)
    names, squares = named_queries(files, encoders, side)
    found, recall = find(index, encoders.embed(squares, side), top, method=method)
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

        out = Path(str(given["out"]))
        rows, columns = found[:_GRID_ROWS], min(top, _GRID_COLUMNS)
        grid = picture(index, names, squares, [matches[:columns] for matches in rows])
        try:
            grid.save(out)
        except (OSError, ValueError) as error:
            raise UsageError(f"--out={out}: cannot be written: {error}") from None


def serve(given: Given, _words: list[str]) -> None:
    """Serve a page to draw on, which finds photos of an index as one draws."""
    folder = _path(given, "index", "the directory of an index")
    port = _number(given, "port", low=1, high=65_535)
    line, rate = _real(given, "line", low=0.002, high=0.1), _real(given, "rate", low=0, high=1e6)
    from sbir_jax.retrieval.index import METHODS

    method = _one_of(given, "method", METHODS)
    for package in ("starlette", "uvicorn"):
        if importlib.util.find_spec(package) is None:
            raise RetrievalError(f"the page needs {package}: pip install 'sbir_jax[serve]'")
    ready_libraries()
    from sbir_jax.retrieval.engine import BATCHES, one_device
    from sbir_jax.retrieval.serving import run

    index, encoders = _opened(given, folder, batches=BATCHES, mesh=one_device())
    run(index, encoders, host=str(given["host"]), port=port, line=line, rate=rate, method=method)


def export(given: Given, _words: list[str]) -> None:
    """Write both encoders as programs that JAX alone runs, with a model card."""
    workdir, out = workdir_of(given), _path(given, "out", "where the programs go")
    ready_libraries()
    from sbir_jax.retrieval.encoders import load_encoders
    from sbir_jax.retrieval.export import export_encoders

    encoders = load_encoders(workdir, checkpoint=str(given["checkpoint"]))
    export_encoders(encoders, out)
    size = sum(file.stat().st_size for file in out.glob("*.jaxexport"))
    print(
        f"{encoders}: wrote sketch.jaxexport, photo.jaxexport ({size / 1e6:,.1f} MB), "
        f"encoders.json and README.md into {out}"
    )


def _opened(given: Given, folder: Path, **options) -> tuple[Index, Encoders]:
    """An index, and the encoders that it was made with; options of `load_encoders`."""
    from sbir_jax.retrieval.index import Index
    from sbir_jax.retrieval.queries import encoders_of

    index = Index.open(folder)
    return index, encoders_of(index, str(given["workdir"]), **options)


# Flags


def _path(given: Given, flag: str, meaning: str) -> Path:
    if not given[flag]:
        raise UsageError(f"missing --{flag}=DIR, {meaning}")
    return Path(str(given[flag]))


def _one_of(given: Given, flag: str, valid: tuple[str, ...]) -> str:
    if given[flag] not in valid:
        raise UsageError(f"--{flag}={given[flag]}: {nearest(str(given[flag]), valid)}")
    return str(given[flag])


def _number(given: Given, flag: str, *, low: int, high: int) -> int:
    text = str(given[flag])
    if not (text.isdecimal() and low <= int(text) <= high):
        raise UsageError(f"--{flag}={text}: expected a whole number from {low} to {high:,}")
    return int(text)


def _real(given: Given, flag: str, *, low: float, high: float) -> float:
    try:
        value = float(str(given[flag]))
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise UsageError(f"--{flag}={given[flag]}: expected a number from {low:g} to {high:g}")
    return value


_CHECKPOINT = "best, latest, a step, none (untrained) or pretrained"
_MOVED = Flag("where the run of the index is now, if it was moved")

VERBS = {
    "index": Verb(
        index,
        {
            "photos": Flag("directory of images, at any depth"),
            "remove": Flag("a directory or a photo to take out of the index"),
            "out": Flag("directory of the index (required)"),
            "workdir": Flag("directory of the run whose encoders embed (required)", ("photos",)),
            "checkpoint": Flag(_CHECKPOINT, ("photos",), "best"),
        },
        {
            "": "--workdir=runs/quickstart --photos=my_photos --out=indices/mine",
            "take photos out again": "--remove=my_photos/old --out=indices/mine",
        },
        modes=("photos", "remove"),
    ),
    "search": Verb(
        search,
        {
            "index": Flag("directory of an index (required)"),
            "as": Flag("what the queries are: sketch or photo", default="sketch"),
            "top": Flag("photos of each query", default="20"),
            "method": Flag(
                "exact, int8, binary (less memory) or faiss (approximate)",
                default="exact",
            ),
            "out": Flag("also draw the results, into grid.png"),
            "json": Flag("print JSON", default=False),
            "workdir": _MOVED,
        },
        {"": "--index=indices/mine --out=grid.png sketch.png"},
        words="FILE ...           queries: images, .svg, or .ndjson of Quick, Draw! strokes",
    ),
    "serve": Verb(
        serve,
        {
            "index": Flag("directory of an index (required)"),
            "host": Flag("address to listen on; 0.0.0.0 for every network", default="127.0.0.1"),
            "port": Flag("port to listen on", default="8000"),
            "line": Flag("width of drawn lines, as a share of the side", default="0.012"),
            "rate": Flag("queries a second of one address; 0: no limit", default="20"),
            "method": Flag("how photos are searched, as in `search`", default="exact"),
            "workdir": _MOVED,
        },
        {"": "--index=indices/mine"},
    ),
    "export": Verb(
        export,
        {
            "workdir": Flag("directory of the run (required)"),
            "checkpoint": Flag(_CHECKPOINT, default="best"),
            "out": Flag("directory for the programs and the model card (required)"),
        },
        {"": "--workdir=runs/quickstart --out=exported/quickstart"},
    ),
}
