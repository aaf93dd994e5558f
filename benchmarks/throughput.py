"""Images a second of training: the step alone, the whole loop, and the same in torch.

    pip install -r benchmarks/requirements.txt
    python benchmarks/throughput.py                                  # the device decides the cases
    python benchmarks/throughput.py --name=pacs --data_dir=data   # not the drawn demo

Three figures of each case: (b) the train step with its data already on the device, (c) `train`'s
loop end to end, after its first steps and without validation, and the gap between them, which is
waiting; (a), the input pipeline alone, is `input.py`. Torch is eager and compiled, in the default
layout and channels_last; its loop decodes in a DataLoader. Sketches and photos both count. Each
method is a process of its own; compiling and first steps are outside the clock. On accelerators all
compile side by side before the first is timed, on CPUs one after the other. Our step augments its
images, torch's alone does not. On CPUs: the small encoder of configs/pacs_cpu.py and ResNet-18 at
128 px. On an accelerator: ResNet-50 and ViT-B/16 at 224 px in bfloat16, with and without
`train.deterministic`, and torch with AMP. Results: benchmarks/results/, README.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

import throughput_ours as ours
from turns import in_turn, wait_for_turn
from versions import versions

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
PACKAGES = ("jax", "jaxlib", "flax", "torch", "pytorch-metric-learning", "numpy", "pillow")
OURS = {
    "step": "**sbir_jax, step**",
    "step, deterministic": "sbir_jax, step, deterministic",
    "loop": "**sbir_jax, end to end**",
}
TORCH = ("eager", "eager, channels_last", "compiled", "compiled, channels_last")


@dataclasses.dataclass(frozen=True)
class Case:
    """One encoder.

    Attributes:
      settings: of the config.
      batch: pairs.
      lap: steps between two metric lines, a second or so.
      torch: what torch is to be; layouts make no difference to a ViT.
    """

    settings: dict
    batch: int
    lap: int
    torch: tuple[str, ...] = TORCH


_LARGE = {
    "model.dtype": "bfloat16",
    "model.embed_dim": 512,
    "data.image_size": 224,
    "data.load_size": 256,
}
CASES = {
    "cpu": {
        "patch_resnet 32, 64 px": Case({"model.width": 32}, 65, 12),
        "resnet18, 128 px": Case(
            {"model.backbone": "resnet18", "data.image_size": 128, "data.load_size": 144}, 20, 2
        ),
    },
    "accelerator": {
        "resnet50, 224 px": Case(
            {"model.backbone": "resnet50", **_LARGE}, 240, 10, (TORCH[1], TORCH[3])
        ),
        "vit_base_patch16, 224 px": Case(
            {"model.backbone": "vit_base_patch16", **_LARGE}, 240, 5, (TORCH[0], TORCH[2])
        ),
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


def measure(args: argparse.Namespace, method: str, name: str) -> dict | None:
    """One method in this process; None if it has printed its figures itself."""
    if method == "device":
        import jax

        wait_for_turn()
        device = jax.devices()[0]
        kind = "cpu" if device.platform == "cpu" else "accelerator"
        return {"cases": kind, "device": device.device_kind}
    case = all_cases()[name]
    changes = {"train.deterministic": "deterministic" in method}
    if method == "loop":
        changes |= {
            "train.duration": f"{100 * case.lap} steps",
            "train.log_every": f"{case.lap} steps",
            "train.eval_every": "100%",
        }
    run = run_of(case, args.name, args.data_dir, **changes)
    if method == "loop":
        return ours.loop(run)
    if method not in case.torch:
        return ours.step(run, args.seconds)
    import peers_throughput as peers
    import torch

    from sbir_jax.models.dual import model_spec

    torch.set_num_threads(args.threads)
    return peers.measure(
        model_spec(run.model, run.data.image_size),
        data=(args.name, Path(args.data_dir)),
        size=run.data.image_size,
        batch=run.data.batch_size,
        dim=run.model.embed_dim,
        grey=run.model.backbone == "patch_resnet",
        variant=method,
        amp=run.model.dtype == "bfloat16",
        seconds=args.seconds,
        workers=args.threads,
    )


def measured(args: argparse.Namespace, methods: list[tuple[str, str]], at_once: int) -> Iterator:
    """Each (case, method) with its figures, as soon as it has them."""
    given = {key: getattr(args, key) for key in ("name", "data_dir", "seconds", "threads")}
    options = [f"--{key}={value}" for key, value in given.items()]
    command = [sys.executable, "-W", "ignore", __file__, *options, "--measure"]
    commands = [[*command, method, name] for name, method in methods]
    yield from zip(methods, in_turn(commands, side_by_side=at_once), strict=True)


def all_cases() -> dict[str, Case]:
    return CASES["cpu"] | CASES["accelerator"]


def table(found: dict[str, dict[str, dict]]) -> str:
    """Markdown; MFU is against the matrix product measured in the same run."""
    lines = [
        "| case | method | images/s | least..most | / torch's best | MFU | first step, s |",
        "|---|---|---|---|---|---|---|",
    ]

    def add(name: str, label: str, row: dict, best: float | None, first: str = "") -> None:
        rate, mfu = row["images_per_s"], ""
        if "flop_per_image" in found[name]["step"]:
            step = found[name]["step"]
            mfu = f"{rate * step['flop_per_image'] / step['measured_peak']:.0%}"
        least_most = f"{min(row['rates']):,.0f}..{max(row['rates']):,.0f}"
        ratio = f"{rate / best:.2f}" if best else ""
        lines.append(
            f"| {name} | {label} | {rate:,.0f} | {least_most} | {ratio} | {mfu} | {first} |"
        )

    for name, methods in found.items():
        torch = [
            methods[m] for m in all_cases()[name].torch if "images_per_s" in methods.get(m, {})
        ]
        best = max((row["images_per_s"] for row in torch), default=None)
        best_loop = max((row["loop"]["images_per_s"] for row in torch), default=None)
        for method, row in methods.items():
            label = OURS.get(method, f"torch, {method}")
            if "missing" in row:
                lines.append(f"| {name} | {label} | {row['missing']} |" + " |" * 4)
                continue
            first = f"{row['first_s']:.1f}" if "first_s" in row else ""
            add(name, label, row, best_loop if method == "loop" else best, first)
            if "loop" in row:
                add(name, f"{label}, end to end", row["loop"], best_loop)
        if all("images_per_s" in methods.get(method, {}) for method in ("step", "loop")):
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
    args = parser.parse_args()
    from sbir_jax.verbs import runs

    if args.measure:
        runs.ready_libraries("off")
        found = measure(args, *args.measure)
        if found is not None:
            print(json.dumps(found))
        return
    runs.draw_demo_once(run_of(CASES["cpu"]["patch_resnet 32, 64 px"], args.name, args.data_dir))
    ((_, device),) = measured(args, [("", "device")], 1)
    kind = device["cases"]
    names = [name for name in CASES[kind] if args.only in name]
    if not names:
        parser.error(f"--only={args.only}: no case of {', '.join(CASES[kind])}")
    ours_too = [method for method in OURS if kind != "cpu" or "deterministic" not in method]
    methods = [(name, method) for name in names for method in (*ours_too, *CASES[kind][name].torch)]
    found: dict[str, dict[str, dict]] = {name: {} for name in names}
    about = {
        "date": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}",
        "device": device["device"],
        "cores": args.threads,
        "dataset": args.name,
        "machine": platform.platform(),
        **versions(PACKAGES),
    }
    out = args.out or HERE / "results" / f"throughput_{kind}_{about['date']}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    at_once = 1 if kind == "cpu" else len(methods)
    for (name, method), figures in measured(args, methods, at_once):
        print(f"{name}: {method}: {figures.get('images_per_s', figures)}", file=sys.stderr)
        found[name][method] = figures
        # After each: a lent accelerator may be gone before the last.
        out.write_text(json.dumps({"about": about, "cases": found}, indent=1) + "\n")
    print(", ".join(f"{key} {value}" for key, value in about.items()) + "\n")
    print(table(found))


if __name__ == "__main__":
    main()
