"""`serve` and `export`: a page to draw on, and the encoders as programs."""

from __future__ import annotations

import importlib.util

from sbir_jax.cli import Flag, Given, Verb, workdir_of
from sbir_jax.retrieval import RetrievalError
from sbir_jax.verbs import indices, runs


def serve(given: Given, _words: list[str]) -> None:
    """Serve a page to draw on, which finds photos of an index as one draws."""
    indices.path(given, "index", "the directory of an index")
    port = indices.number(given, "port", low=1, high=65_535)
    line = indices.real(given, "line", low=0.002, high=0.1)
    rate = indices.real(given, "rate", low=0, high=1e6)
    method = indices.method(given)
    for package in ("starlette", "uvicorn"):
        if importlib.util.find_spec(package) is None:
            raise RetrievalError(f"the page needs {package}: pip install 'sbir_jax[serve]'")
    runs.ready_libraries()
    from sbir_jax.retrieval.engine import BATCHES, one_device
    from sbir_jax.retrieval.serving import run

    index, encoders = indices.opened(given, batches=BATCHES, mesh=one_device())
    run(index, encoders, host=given["host"], port=port, line=line, rate=rate, method=method)


def export(given: Given, _words: list[str]) -> None:
    """Write both encoders as programs that JAX alone runs, with a model card; or as ONNX."""
    workdir, out = workdir_of(given), indices.path(given, "out", "where the programs go")
    checkpoint, form = runs.checkpoint(given), indices.one_of(given, "format", ("jax", "onnx"))
    runs.ready_libraries()
    from sbir_jax.retrieval.encoders import load_encoders

    encoders = load_encoders(workdir, checkpoint=checkpoint)
    if form == "onnx":
        from sbir_jax.retrieval.onnx import export_onnx

        largest = export_onnx(encoders, out)
        print(
            f"{encoders}: wrote sketch.onnx, photo.onnx and encoders.json into {out}; "
            f"onnxruntime's vectors differ from JAX's by {largest:.1g} at most"
        )
        return
    from sbir_jax.retrieval.export import export_encoders

    export_encoders(encoders, out)
    size = sum(file.stat().st_size for file in out.glob("*.jaxexport"))
    print(
        f"{encoders}: wrote sketch.jaxexport, photo.jaxexport ({size / 1e6:,.1f} MB), "
        f"encoders.json and README.md into {out}"
    )


VERBS = {
    "serve": Verb(
        serve,
        {
            "index": indices.INDEX,
            "name": indices.NAME,
            "host": Flag("address to listen on; 0.0.0.0 for every network", default="127.0.0.1"),
            "port": Flag("port to listen on", default="8000"),
            "line": Flag("width of drawn lines, as a share of the side", default="0.012"),
            "rate": Flag("queries a second of one address; 0: no limit", default="20"),
            "method": Flag("how photos are searched, as in `search`", default="exact"),
            "workdir": indices.MOVED,
        },
        {"": "--index=indices/mine"},
    ),
    "export": Verb(
        export,
        {
            "workdir": Flag("directory of the run (required)"),
            "checkpoint": Flag(runs.CHECKPOINT, default="best"),
            "out": Flag("directory for the programs and the model card (required)"),
            "format": Flag("jax, or onnx (needs jax2onnx: docs/onnx.md)", default="jax"),
        },
        {"": "--workdir=runs/quickstart --out=exported/quickstart"},
    ),
}
