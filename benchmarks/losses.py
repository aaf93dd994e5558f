"""Speed, memory and exactness of mining and losses beside other libraries, forward and backward.

    pip install -r benchmarks/requirements.txt        # the others; without them their rows say so
    python benchmarks/losses.py                       # batches of 256, 1,024 and 4,096 embeddings
    python benchmarks/losses.py --batch=1024 --only=batch

The work: from B unit-length float32 embeddings of 512 dimensions, 4 of each class, to the loss and
its gradient for them; every embedding is an anchor against all others. Every call is a process of
its own and methods take turns; imports, compiling and first calls are outside the clock. Results:
benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import peers_losses as peers
from versions import versions

DIM, PER_CLASS = 512, 4
SECONDS, LEAST = 1.0, 2  # a process repeats its step for so long, and at least so often
PACKAGES = (
    *("jax", "numpy", "torch", "pytorch-metric-learning"),
    *("open-metric-learning", "sentence-transformers"),
)
LIBRARIES = {
    "pml": "pytorch-metric-learning",
    "oml": "open-metric-learning",
    "st": "sentence-transformers",
    "torch": "plain torch",
}


@dataclasses.dataclass(frozen=True)
class Task:
    """One loss.

    Attributes:
      settings: of ours.
      name: of ours in `config.loss.name`.
      peers: by library, the function of `peers_losses`.
      largest: batch that a peer is run on; above it a row says so.
    """

    name: str
    settings: dict
    peers: dict[str, Callable]
    largest: dict[str, int] = dataclasses.field(default_factory=dict)


TASKS = {
    "batch hard": Task(
        "triplet",
        {"miner": "batch_hard", "margin": peers.MARGIN},
        {
            "torch": peers.torch_batch_hard,
            "pml": peers.pml_batch_hard,
            "oml": peers.oml_batch_hard,
            "st": peers.st_batch_hard,
        },
    ),
    "semi-hard": Task(
        "triplet",
        {"miner": "semi_hard", "margin": peers.MARGIN},
        {
            "torch": peers.torch_semi_hard,
            "pml": peers.pml_semi_hard,
            "st": peers.st_semi_hard,
        },
    ),
    "all triplets": Task(
        "triplet",
        {"miner": "all", "margin": peers.MARGIN, "average": "active"},
        {
            "torch": peers.torch_all,
            "pml": peers.pml_all,
            "oml": peers.oml_all,
            "st": peers.st_all,
        },
        {"oml": 256},  # 6.4 GB three times at 1,024
    ),
    "supervised contrastive": Task(
        "infonce",
        {"temperature": peers.TEMPERATURE},
        {"torch": peers.torch_contrastive, "pml": peers.pml_contrastive},
    ),
    "smooth AP": Task(
        "smooth_ap",
        {"temperature": peers.SMOOTHNESS},
        {"torch": peers.torch_smooth_ap, "pml": peers.pml_smooth_ap},
        {"pml": 512},  # B^3
    ),
}


def embeddings(batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows of overlapping classes in random order: float32 [B, DIM], int64 [B]."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(batch // PER_CLASS), PER_CLASS))
    centres = rng.normal(size=(batch // PER_CLASS, DIM))
    x = centres[labels] + 4 * rng.normal(size=(batch, DIM))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), labels


def reference(task: str, z: np.ndarray, labels: np.ndarray) -> float:
    """The loss from its definition, anchor by anchor, in float64."""
    z = z.astype(np.float64)
    norms = (z**2).sum(axis=1)
    values, weights = [], []
    for i, anchor in enumerate(z):
        cosine = z @ anchor
        apart = np.sqrt(np.maximum(norms + norms[i] - 2 * cosine, 0))
        positive = (labels == labels[i]) & (np.arange(len(z)) != i)
        near, far = apart[labels != labels[i]], apart[positive]
        if task == "batch hard":
            hinge = np.maximum(far.max() - near.min() + peers.MARGIN, 0)[None]
        elif task == "semi-hard":
            picked = [near[near > d].min() if (near > d).any() else near.max() for d in far]
            hinge = np.maximum(far - picked + peers.MARGIN, 0)
        elif task == "all triplets":
            hinge = np.maximum(far[:, None] - near + peers.MARGIN, 0)
            hinge = hinge[hinge > 0]
        elif task == "supervised contrastive":
            logits = np.delete(cosine, i) / peers.TEMPERATURE
            share = cosine[positive] / peers.TEMPERATURE - np.log(np.exp(logits).sum())
            hinge = -share.mean()[None]
        else:
            hinge = np.array([1 - _smooth_precisions(cosine, positive, i).mean()])
        values.append(hinge.sum())
        weights.append(len(hinge))
    return float(sum(values) / max(sum(weights), 1))


def _smooth_precisions(cosine: np.ndarray, positive: np.ndarray, anchor: int) -> np.ndarray:
    """Of each positive: its smooth rank among the positives over that among all but the anchor."""
    others = np.arange(len(cosine)) != anchor
    found = []
    for p in np.flatnonzero(positive):
        with np.errstate(over="ignore"):
            above = 1 / (1 + np.exp(-(cosine - cosine[p]) / peers.SMOOTHNESS))
        above[p] = 0
        found.append((1 + above[positive].sum()) / (1 + above[others].sum()))
    return np.array(found)


def ours(task: Task, z: np.ndarray, labels: np.ndarray) -> Callable[[], tuple[float, float]]:
    """A step of sbir_jax: the two halves of the batch are its sides, and every two images meet."""
    import jax

    from sbir_jax import losses, mining
    from sbir_jax.loss_config import LossConfig

    group = dataclasses.replace(getattr(LossConfig(), task.name), **task.settings)
    config = LossConfig(name=task.name, pairs="joint", **{task.name: group})
    half = len(z) // 2
    ids = [
        mining.Ids(jax.numpy.asarray(x, "int32"), jax.numpy.full(half, -1, "int32"))
        for x in (labels[:half], labels[half:])
    ]

    def loss(z):
        key = jax.random.key(0)
        return losses.cross_modal(config, z[:half], z[half:], *ids, key=key)[0]

    step = jax.jit(jax.value_and_grad(loss))
    z = jax.device_put(z)

    def run() -> tuple[float, float]:
        value, gradient = jax.block_until_ready(step(z))
        return float(value), float(jax.numpy.linalg.norm(gradient))

    return run


def theirs(loss: Callable, z: np.ndarray, labels: np.ndarray) -> Callable[[], tuple[float, float]]:
    """A step of a function of `peers_losses`."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    z, labels = (torch.from_numpy(x).to(device) for x in (z, labels))
    z.requires_grad_()

    def run() -> tuple[float, float]:
        z.grad = None
        value = loss(z, labels)
        value.backward()
        return float(value.detach()), float(z.grad.norm())

    return run


def measure(task: str, who: str, batch: int) -> dict:
    """Times one method in this process, after a first call."""
    z, labels = embeddings(batch)
    try:
        if who == "reference":
            return {"loss": reference(task, z, labels)}
        if who == "sbir_jax":
            run = ours(TASKS[task], z, labels)
        else:
            run = theirs(TASKS[task].peers[who], z, labels)
        start = time.perf_counter()
        loss, gradient = run()
        first = time.perf_counter() - start
    except ImportError as error:
        return {"missing": str(error)[:100]}
    times = []
    while len(times) < LEAST or sum(times) < SECONDS:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts in KiB
    return {
        "ms": 1000 * statistics.median(times),
        "first": first,
        "loss": loss,
        "gradient": gradient,
        "peak_mib": peak,
    }


def child(task: str, who: str, batch: int, threads: int) -> dict:
    """`measure` in a process of its own."""
    limits = {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "OPENBLAS", "MKL")}
    limits |= {"TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-W", "ignore", __file__, "--measure", task, who, str(batch)]
    done = subprocess.run(
        [*command, f"--threads={threads}"],
        env=os.environ | limits,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return {"missing": lines[-1][:100] if lines else f"exit status {done.returncode}"}
    return json.loads(done.stdout.splitlines()[-1])


def table(found: dict[tuple[str, int, str], list[dict]]) -> str:
    """Markdown; times are medians (least to most), ratios medians of each round's own ratio."""
    lines = [
        "| loss | B | method | ms | / ours | first call, s | peak, MiB | loss, relative error |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (task, batch, who), rounds in found.items():
        if who == "reference":
            continue
        label = LIBRARIES.get(who, who)
        if "missing" in rounds[0]:
            lines.append(f"| {task} | {batch:,} | {label} | {rounds[0]['missing']} |" + " |" * 4)
            continue
        mine = found.get((task, batch, "sbir_jax"), [])
        times = [one["ms"] for one in rounds]
        ratios = [a["ms"] / b["ms"] for a, b in zip(rounds, mine, strict=False) if "ms" in b]
        exact = found[task, batch, "reference"][0]["loss"]
        cells = [
            task,
            f"{batch:,}",
            label,
            f"{statistics.median(times):.3g} ({min(times):.3g}..{max(times):.3g})",
            f"{statistics.median(ratios):.2f}" if ratios else "",
            f"{statistics.median(one['first'] for one in rounds):.2f}",
            f"{max(one['peak_mib'] for one in rounds):,.0f}",
            f"{abs(rounds[0]['loss'] / exact - 1):.0e}" if exact else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", default="256,1024,4096", help="embeddings, separated by commas")
    parser.add_argument("--repeats", type=int, default=3, help="rounds over the methods")
    parser.add_argument("--only", default="", help="losses, by a part of their names: hard,smooth")
    parser.add_argument("--who", default="", help=f"methods: sbir_jax,{','.join(LIBRARIES)}")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=pathlib.Path, help="JSON file for every measured number")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        if hasattr(os, "sched_setaffinity"):  # XLA takes a thread for each core that it may use
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
        task, who, batch = args.measure
        print(json.dumps(measure(task, who, int(batch))))
        return

    tasks = [task for task in TASKS if any(part in task for part in args.only.split(","))]
    if not tasks:
        parser.error(f"--only={args.only}: no loss of {', '.join(TASKS)}")
    found: dict[tuple[str, int, str], list[dict]] = {}
    for batch in map(int, args.batch.split(",")):
        for task in tasks:
            who = ["sbir_jax", *TASKS[task].peers]
            who = [one for one in who if not args.who or one in args.who.split(",")]
            found[task, batch, "reference"] = [child(task, "reference", batch, args.threads)]
            for i in range(args.repeats):
                for one in who:
                    print(f"{task}, {batch}, round {i + 1}: {one}", file=sys.stderr)
                    key = (task, batch, one)
                    if batch > TASKS[task].largest.get(one, math.inf):
                        found[key] = [{"missing": "not run: memory"}]
                        continue
                    found.setdefault(key, []).append(child(task, one, batch, args.threads))
    machine = {
        "threads": args.threads,
        "machine": platform.platform(),
        **versions(PACKAGES),
    }
    print(", ".join(f"{key} {value}" for key, value in machine.items()) + "\n")
    print(table(found))
    if args.out:
        rows = [{"loss": t, "batch": b, "method": w, "rounds": r} for (t, b, w), r in found.items()]
        args.out.write_text(json.dumps({"machine": machine, "rows": rows}))


if __name__ == "__main__":
    main()
