"""Speed, memory and exactness of the evaluator beside a bare matrix product and other libraries.

    pip install -r benchmarks/requirements.txt        # the others; without them their rows say so
    python benchmarks/evaluator.py                    # 15,229 x 17,101 x 512
    python benchmarks/evaluator.py --shape=small      # a look

The work: from unit-length float32 embeddings to mAP@all, P@100 and AP@200 of every query, with the
class sizes of Sketchy-Extended split 1. Every call is a process of its own and methods take turns;
imports and first calls are outside the clock. A slow method runs on the first queries only and its
time is scaled up per query: the table says so. Results: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
import peers_evaluator as peers
import synthetic
from versions import versions

PRODUCT_ROWS = 2048  # with NumPy 1,024, 2,048 and 4,096 rows are equally fast, 256 are slower
INSTALL = "the pip lines at the top of benchmarks/requirements.txt"
PACKAGES = (
    *("jax", "numpy", "scikit-learn", "torch"),
    *("torchmetrics", "pytorch-metric-learning", "open-metric-learning"),
)


@dataclasses.dataclass(frozen=True)
class Method:
    """What a process runs.

    Attributes:
      run: takes the arrays of `synthetic.FILES`; returns what the functions of `peers` do.
      queries: on how many it runs unless --full; None for all.
      over: what its AP@200 divides by.
      compiled: whether the first call compiles, and so is timed, on as many queries.
    """

    run: Callable[..., peers.Values]
    queries: int | None = None
    over: str = ""
    compiled: bool = False


def numpy_product(queries, gallery, *_) -> peers.Values:
    """All products, block by block, thrown away."""
    block = np.empty((PRODUCT_ROWS, len(gallery)), np.float32)
    for start in range(0, len(queries), PRODUCT_ROWS):
        rows = queries[start : start + PRODUCT_ROWS]
        np.matmul(rows, gallery.T, out=block[: len(rows)])
    return {}


def jax_product(queries, gallery, *_) -> peers.Values:
    """The same by `jax.numpy` on the default device."""
    import jax

    gallery = jax.device_put(gallery)
    for start in range(0, len(queries), PRODUCT_ROWS):
        _product()(queries[start : start + PRODUCT_ROWS], gallery).block_until_ready()
    return {}


@functools.cache
def _product():
    import jax

    return jax.jit(lambda x, y: jax.numpy.matmul(x, y.T, precision="highest"))


def ours(queries, gallery, query_labels, gallery_labels, *, engine: str) -> peers.Values:
    """`sbir_jax.ranking.rank`; its values are NumPy arrays, so the device has finished."""
    from sbir_jax.ranking import relevance
    from sbir_jax.ranking.rank import rank

    ranking = rank(
        queries,
        gallery,
        {"category": relevance.by_ids(query_labels, gallery_labels)},
        {"category": ("mAP@all", "P@100", "mAP@200/min")},
        distance="cosine",
        engine=engine,
    )
    metrics = ranking.scores["category"].metrics
    return {
        "mAP@all": metrics["mAP@all"],
        "P@100": metrics["P@100"],
        "AP@200": metrics["mAP@200/min"],
    }


PRODUCTS = ("matrix product, NumPy", "matrix product, JAX")
OURS = ("sbir_jax, host engine", "sbir_jax, device engine")
METHODS = {
    PRODUCTS[0]: Method(numpy_product),
    PRODUCTS[1]: Method(jax_product, compiled=True),
    OURS[0]: Method(functools.partial(ours, engine="host"), None, "min(R, 200)", True),
    OURS[1]: Method(functools.partial(ours, engine="device"), 1024, "min(R, 200)", True),
    "scikit-learn, loop": Method(peers.scikit_learn, 512, "hits"),
    "torchmetrics": Method(peers.torchmetrics, 512, "hits"),
    "pytorch-metric-learning": Method(peers.pytorch_metric_learning, 2048, "R"),
    "open-metric-learning": Method(peers.open_metric_learning, 2048, "hits"),
}


def measure(name: str, folder: pathlib.Path, rows: int, threads: int) -> dict:
    """Times the second call of one method, in this process."""
    if hasattr(os, "sched_setaffinity"):  # XLA takes a thread for each core that it may use
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    method = METHODS[name]
    arrays = [np.load(folder / f"{file}.npy") for file in synthetic.FILES]

    def call(first: int, last: int) -> tuple[float, peers.Values]:
        queries, gallery, query_labels, gallery_labels = arrays
        start = time.perf_counter()
        values = method.run(queries[first:last], gallery, query_labels[first:last], gallery_labels)
        return time.perf_counter() - start, values

    try:
        first, _ = call(0, rows if method.compiled else 16)
    except ModuleNotFoundError as error:
        return {"missing": str(error)}
    seconds, values = call(0, rows)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts in KiB
    result = {"seconds": seconds, "first": first if method.compiled else None, "peak_mib": peak}
    if values:
        reference = np.load(folder / "reference.npy")
        average = values["mAP@all"]
        if average.ndim == 0:  # a library that gives means only is asked for one query at a time
            average = np.array([call(i, i + 1)[1]["mAP@all"] for i in range(synthetic.CHECKED)])
        error = np.abs(average[: synthetic.CHECKED] - reference).max()
        result |= {"mean": float(average[: synthetic.CHECKED].mean()), "error": float(error)}
    return result


def child(arguments: list[str], threads: int) -> dict:
    """What this file prints with these arguments, in a process of its own.

    The caller must stay small: Linux counts the memory of a process from before it became another
    program, so a parent that holds the data would be the peak of every child.
    """
    limits = {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "OPENBLAS", "MKL")}
    command = [sys.executable, __file__, f"--threads={threads}", *arguments]
    done = subprocess.run(command, env=os.environ | limits, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit status {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def table(rounds: list[dict], rows: dict[str, int], queries: int) -> str:
    """Markdown; times are medians (least to most), ratios medians of each round's own ratio."""
    lines = [
        "| method | queries run | all queries, s | / product | / ours | first call, s | peak, MiB "
        "| AP@200 over | largest error | mean |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in rounds[0]:
        found = [one[name] for one in rounds]

        def scaled(one: dict, name: str) -> float:
            return one[name]["seconds"] * queries / rows[name]

        def ratio(others: tuple[str, ...], name: str = name) -> str:
            best = [min((scaled(one, x) for x in others if x in one), default=0) for one in rounds]
            if not all(best):
                return ""
            pairs = zip(rounds, best, strict=True)
            return f"{statistics.median(scaled(one, name) / least for one, least in pairs):.2f}"

        times = [scaled(one, name) for one in rounds]
        first = statistics.median(one["first"] or 0 for one in found)
        cells = [
            name,
            "all" if rows[name] == queries else f"{rows[name]:,}",
            f"{statistics.median(times):.2f} ({min(times):.2f}..{max(times):.2f})",
            ratio(PRODUCTS),
            ratio(OURS),
            f"{first:.1f}" if METHODS[name].compiled else "",
            f"{max(one['peak_mib'] for one in found):,.0f}",
            METHODS[name].over,
            f"{found[0]['error']:.0e}" if "error" in found[0] else "",
            f"{found[0]['mean']:.6f}" if "mean" in found[0] else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def backend() -> str:
    import jax

    return jax.default_backend()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", choices=list(synthetic.shapes()), default="split1")
    parser.add_argument("--repeats", type=int, default=3, help="rounds over the methods")
    parser.add_argument("--only", default="", help="methods, by a part of their names: NumPy,host")
    parser.add_argument("--full", action="store_true", help="every method on all queries")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=pathlib.Path, help="JSON file for every measured number")
    for hidden in ("--data", "--measure", "--rows"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.data:
        folder = pathlib.Path(args.data)
        if args.measure:
            print(json.dumps(measure(args.measure, folder, int(args.rows), args.threads)))
        else:
            synthetic.write(args.shape, folder)
            print(json.dumps({"backend": backend()}))
        return

    chosen = [name for name in METHODS if any(part in name for part in args.only.split(","))]
    if not chosen:
        parser.error(f"--only={args.only}: no method of {', '.join(METHODS)}")
    with tempfile.TemporaryDirectory() as folder:
        made = child([f"--shape={args.shape}", f"--data={folder}"], args.threads)
        queries, gallery = (int(sum(counts)) for counts in synthetic.shapes()[args.shape])
        rows = {
            name: queries if args.full else min(method.queries or queries, queries)
            for name, method in METHODS.items()
        }
        if made["backend"] != "cpu":
            rows[OURS[1]] = queries
        rounds = []
        for i in range(args.repeats):
            rounds.append({})
            for name in chosen:
                print(f"round {i + 1} of {args.repeats}: {name}", file=sys.stderr)
                given = [f"--data={folder}", f"--measure={name}", f"--rows={rows[name]}"]
                found = child(given, args.threads)
                if "missing" in found:
                    print(f"{name}: {found['missing']}; see {INSTALL}", file=sys.stderr)
                else:
                    rounds[-1][name] = found
    machine = {
        "shape": f"{queries:,} x {gallery:,}",
        **made,
        "threads": args.threads,
        "machine": platform.platform(),
        **versions(PACKAGES),
    }
    print(", ".join(f"{key} {value}" for key, value in machine.items()) + "\n")
    print(table(rounds, rows, queries))
    if args.out:
        args.out.write_text(json.dumps({"machine": machine, "rows": rows, "rounds": rounds}))


if __name__ == "__main__":
    main()
