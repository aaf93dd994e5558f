"""Search in a large index: time of a query, memory, and recall, by method.

    pip install -e ".[faiss]"
    python benchmarks/search.py --photos=100000

Vectors are synthetic: clusters and noise, of length 1. Recall of codes and of faiss depends on the
embeddings, and is only a look here; `launch.py search --method=...` prints that of real ones.
Results: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

METHODS = ("exact", "int8", "binary", "faiss")
QUERIES, TOP, REPEATS = 64, 20, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photos", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--run", help=argparse.SUPPRESS)  # method,folder: a process of its own
    args = parser.parse_args()
    if args.run:
        _run(*args.run.split(",", 1))
        return
    with tempfile.TemporaryDirectory() as folder:
        _make(pathlib.Path(folder), args.photos, args.dim)
        print(f"{args.photos:,} photos x {args.dim}, top {TOP}; seconds, MiB")
        print("method    ready  1 query  64 queries  recall   peak")
        for method in args.methods.split(","):
            if method == "faiss" and importlib.util.find_spec("faiss") is None:
                print("faiss     not installed: pip install -e '.[faiss]'")
                continue
            command = [sys.executable, __file__, f"--run={method},{folder}"]
            subprocess.run(command, check=True)


def _make(folder: pathlib.Path, photos: int, dim: int) -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(1000, dim)).astype(np.float32)
    vectors = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float16, (photos, dim))
    for start in range(0, photos, 1 << 16):
        vectors[start : start + (1 << 16)] = _drawn(rng, centres, min(1 << 16, photos - start))
    np.save(folder / "queries.npy", _drawn(rng, centres, QUERIES))


def _drawn(rng: np.random.Generator, centres: np.ndarray, rows: int) -> np.ndarray:
    x = centres[rng.integers(len(centres), size=rows)]
    x = x + 1.5 * rng.normal(size=x.shape).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def _run(method: str, folder: str) -> None:
    from sbir_jax.retrieval.index import Index
    from sbir_jax.retrieval.search import recall

    path = pathlib.Path(folder)
    vectors = np.load(path / "vectors.npy", mmap_mode="r", allow_pickle=False)
    queries = np.load(path / "queries.npy", allow_pickle=False)
    index = Index(path, {"content": "synthetic"}, [], vectors)
    started = time.perf_counter()
    searcher = index.searcher(method)
    searcher.nearest(queries[:1], TOP)
    searcher.nearest(queries, TOP)
    ready = time.perf_counter() - started
    one, many = _best(searcher, queries[:1]), _best(searcher, queries)
    rows, _ = searcher.nearest(queries, TOP)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    exact = np.load(path / "exact.npy") if method != "exact" else rows
    np.save(path / "exact.npy", exact)
    print(
        f"{method:<8}{ready:>7.1f}{one:>9.4f}{many:>12.4f}{recall(rows, exact):>8.3f}{peak:>7.0f}"
    )


def _best(searcher, queries: np.ndarray) -> float:
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        searcher.nearest(queries, TOP)
        times.append(time.perf_counter() - started)
    return min(times)


if __name__ == "__main__":
    main()
