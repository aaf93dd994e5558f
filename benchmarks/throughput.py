"""Images a second of training: the step alone, the whole loop, and the same in torch.

    pip install -r benchmarks/requirements.txt
    python benchmarks/throughput.py                                  # the device decides the cases
    python benchmarks/throughput.py --name=pacs --data_dir=data   # not the drawn demo

Three figures of each case: (b) the train step with its data already on the device, (c) `train`'s
loop end to end, after its first steps and without validation, and the gap between them, which is
waiting; (a), the input pipeline alone, is `input.py`. Torch's are its best of eager and compiled,
default layout and channels_last; its loop decodes in a DataLoader. Sketches and photos both count.
Each method is a process of its own; compiling and first steps are outside the clock. Our step
augments its images, torch's alone does not. On CPUs: the small encoder of configs/pacs_cpu.py and
ResNet-18 at 128 px, 2 and 3 minutes on two cores. On an accelerator: ResNet-50 and ViT-B/16 at
224 px in bfloat16; these have not been run yet, for want of one. Results: benchmarks/results/,
README.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from versions import versions

HERE = Path(__file__).resolve().parent
PACKAGES = ("jax", "jaxlib", "flax", "torch", "pytorch-metric-learning", "numpy", "pillow")


@dataclasses.dataclass(frozen=True)
class Case:
    """One encoder at one batch size, in pairs."""

    settings: dict
    batch: int


CASES = {
    "cpu": {
        "patch_resnet 32, 64 px": Case({"model.width": 32}, 65),
        "resnet18, 128 px": Case(
            {"model.backbone": "resnet18", "data.image_size": 128, "data.load_size": 144}, 20
        ),
    },
    "accelerator": {
        name: Case(
            {
                "model.backbone": name,
                "model.dtype": "bfloat16",
                "model.embed_dim": 512,
                "data.image_size": 224,
                "data.load_size": 256,
            },
            batch,
        )
        for name, batch in (("resnet50", 240), ("vit_base_patch16", 240))
    },
}


def run_of(case: Case, dataset: str, data_dir: str, **changes):
    from sbir_jax.config import default_config, resolve

    config = default_config()
    config.update_from_flattened_dict(
        {
            "data.name": dataset,
            "data.dir": data_dir,
            "data.sampler": "classes",
            "data.per_class": case.batch // 5,
            "data.batch_size": case.batch // 5 * 5,
            "loss.pairs": "joint",
        }
        | case.settings
        | changes
    )
    return resolve(config)


def our_step(run, seconds: float) -> dict:
    """The step of `run` on one batch after another of the resident feed."""
    import jax

    from sbir_jax import loss_config, optim, sharding
    from sbir_jax.compile import compile_ahead
    from sbir_jax.data.pipeline import make_feed
    from sbir_jax.data.source import open_dataset
    from sbir_jax.models import dual
    from sbir_jax.peak import measured, published
    from sbir_jax.step import draw, make_init, make_train_step

    mesh, dataset = sharding.make_mesh(), open_dataset(run.data.name, run.data.dir)
    feed, classes = make_feed(dataset, run.data, seed=0, mesh=mesh), len(dataset.classes)
    sizes = {"batch_size": run.data.batch_size, "epoch_size": feed.epoch_size}
    loss = loss_config.in_steps(run.loss, total=1000, **sizes)
    params, _, loss_params = jax.eval_shape(lambda: draw(run, classes=classes))
    moved = optim.everything(params, loss_params)
    optimizer = optim.make_optimizer(run.optim, lambda step: 1e-3, moved)
    graphdef = dual.define(run.model, image_size=run.data.image_size)
    state = sharding.put_copy(mesh, make_init(run, optimizer, classes=classes)())
    step = make_train_step(dataclasses.replace(run, loss=loss), graphdef, optimizer, state)
    stream = feed.batches(0, 8)
    batches = [next(stream) for _ in range(8)]
    compiled = compile_ahead(step, state, feed.resident, batches[0])

    def go(steps: int) -> float:
        nonlocal state
        started = time.perf_counter()
        for i in range(steps):
            state, metrics = compiled.call(state, feed.resident, batches[i % 8])
            if i >= 2:  # as the loop does: look at what is two steps old
                jax.block_until_ready(before.pop(0))
            before.append(metrics)
        jax.block_until_ready(state)
        before.clear()
        return time.perf_counter() - started

    before: list = []
    go(2)
    each = go(3) / 3
    part = max(3, round(seconds / 5 / each))
    rates = [2 * run.data.batch_size * part / go(part) for _ in range(5)]
    device = jax.devices()[0]
    return {
        "images_per_s": statistics.median(rates),
        "rates": rates,
        "first_s": compiled.seconds,
        "flop_per_image": compiled.flops / (2 * run.data.batch_size),
        "measured_peak": measured(device, run.model.dtype),
        "published_peak": published(device.device_kind, run.model.dtype),
        "device": device.device_kind,
        "mib": compiled.need.total / 2**20 if compiled.need else None,
    }


def our_loop(run) -> dict:
    """`train` end to end: the laps after the first one, as metrics.jsonl has them."""
    from sbir_jax.train import train

    with tempfile.TemporaryDirectory() as folder:
        train(run, Path(folder))
        lines = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").open()]
    laps = [line for line in lines if line["kind"] == "train"][2:]  # 1: step 1; 2: warming up
    images = 2 * run.data.batch_size
    return {
        "images_per_s": images / statistics.median(line["perf/s_per_step"] for line in laps),
        "rates": [line["perf/images_per_s"] for line in laps],
        "wait_share": statistics.median(line["perf/wait_share"] for line in laps),
        "mfu": statistics.median(line["perf/mfu"] for line in laps if "perf/mfu" in line),
    }


def measure(args: argparse.Namespace, method: str, case: Case) -> dict:
    """One method in this process."""
    if method == "device":
        import jax

        kind = jax.devices()[0].platform
        return {"cases": "cpu" if kind == "cpu" else "accelerator"}
    if method == "step":
        return our_step(run_of(case, args.name, args.data_dir), args.seconds)
    if method == "loop":
        lap = max(1, args.steps // 6)
        return our_loop(
            run_of(
                case,
                args.name,
                args.data_dir,
                **{
                    "train.duration": f"{6 * lap} steps",
                    "train.log_every": f"{lap} steps",
                    "train.eval_every": "100%",
                },
            )
        )
    import peers_throughput as peers
    import torch

    from sbir_jax.models.dual import model_spec

    torch.set_num_threads(args.threads)
    run = run_of(case, args.name, args.data_dir)
    return peers.measure(
        model_spec(run.model, run.data.image_size),
        data=(args.name, Path(args.data_dir)),
        size=run.data.image_size,
        batch=run.data.batch_size,
        dim=run.model.embed_dim,
        grey=run.model.backbone == "patch_resnet",
        variant=method.removesuffix(" loop"),
        amp=run.model.dtype == "bfloat16",
        seconds=args.seconds,
        loop=method.endswith(" loop"),
        workers=args.threads,
    )


def child(args: argparse.Namespace, method: str, name: str, **more: object) -> dict:
    """`measure` in a process of its own."""
    command = [sys.executable, "-W", "ignore", __file__, "--measure", method, name]
    given = {k: getattr(args, k) for k in ("name", "data_dir", "seconds", "threads")} | more
    command += [f"--{key}={value}" for key, value in given.items()]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return {"missing": lines[-1][:160] if lines else f"exit status {done.returncode}"}
    return json.loads(done.stdout.splitlines()[-1])


def rows_of(args: argparse.Namespace, name: str) -> dict[str, dict]:
    """All methods on one case; torch's loop is run for its fastest variant alone."""
    from peers_throughput import VARIANTS

    found: dict[str, dict] = {}

    def add(method: str, **more: object) -> dict:
        print(f"{name}: {method}", file=sys.stderr, flush=True)
        found[method] = child(args, method, name, **more)
        return found[method]

    step = add("step")
    if "images_per_s" in step:
        pairs = step["images_per_s"] / 2 / all_cases()[name].batch
        add("loop", steps=max(12, round(2 * args.seconds * pairs)))
    for variant in VARIANTS:
        add(variant)
    speed = {v: found[v]["images_per_s"] for v in VARIANTS if "images_per_s" in found[v]}
    if speed:
        add(f"{max(speed, key=speed.get)} loop")
    return found


def all_cases() -> dict[str, Case]:
    return CASES["cpu"] | CASES["accelerator"]


def table(found: dict[str, dict[str, dict]]) -> str:
    """Markdown; MFU is against the matrix product measured in the same run."""
    lines = [
        "| case | method | images/s | least..most | / torch's best | MFU | first step, s |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, methods in found.items():
        best = {
            loop: max(
                (
                    row["images_per_s"]
                    for method, row in methods.items()
                    if "images_per_s" in row
                    and method not in ("step", "loop")
                    and method.endswith(" loop") == loop
                ),
                default=None,
            )
            for loop in (False, True)
        }
        ours = methods["step"]
        for method, row in methods.items():
            label = {"step": "**sbir_jax, step**", "loop": "**sbir_jax, end to end**"}.get(
                method, "torch, " + method.replace(" loop", ", end to end")
            )
            if "missing" in row:
                lines.append(f"| {name} | {label} | {row['missing']} |" + " |" * 4)
                continue
            rate, peer = row["images_per_s"], best[method.endswith("loop")]
            mfu = ""
            if "flop_per_image" in ours:
                mfu = f"{rate * ours['flop_per_image'] / ours['measured_peak']:.0%}"
            least_most = f"{min(row['rates']):,.0f}..{max(row['rates']):,.0f}"
            first = f"{row['first_s']:.1f}" if "first_s" in row else ""
            lines.append(
                f"| {name} | {label} | {rate:,.0f} | {least_most} | "
                f"{f'{rate / peer:.2f}' if peer else ''} | {mfu} | {first} |"
            )
        if {"step", "loop"} <= methods.keys() and "images_per_s" in methods["loop"]:
            gap = 1 - methods["loop"]["images_per_s"] / methods["step"]["images_per_s"]
            wait = methods["loop"]["wait_share"]
            lines.append(f"| {name} | end to end below the step | {gap:.1%} (waits {wait:.1%}) |")
            lines[-1] += " |" * 4
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--name", default="demo", help="prepared dataset (demo: drawn if absent)")
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--only", default="", help="cases, by a part of their names")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, help="JSON file for every number (default: results/)")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    from sbir_jax.verbs import runs

    if args.measure:
        runs.ready_libraries("off")
        method, name = args.measure
        print(json.dumps(measure(args, method, all_cases().get(name))))
        return
    runs.draw_demo_once(run_of(CASES["cpu"]["patch_resnet 32, 64 px"], args.name, args.data_dir))
    kind = child(args, "device", "")["cases"]
    names = [name for name in CASES[kind] if args.only in name]
    if not names:
        parser.error(f"--only={args.only}: no case of {', '.join(CASES[kind])}")
    found = {name: rows_of(args, name) for name in names}
    about = {
        "date": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}",
        "device": next(iter(found.values()))["step"].get("device", "?"),
        "cores": args.threads,
        "dataset": args.name,
        "machine": platform.platform(),
        **versions(PACKAGES),
    }
    print(", ".join(f"{key} {value}" for key, value in about.items()) + "\n")
    print(table(found))
    out = args.out or HERE / "results" / f"throughput_{kind}_{about['date']}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"about": about, "cases": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
