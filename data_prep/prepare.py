"""From a raw layout to a prepared dataset on disk: the order of operations, all or nothing."""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from data_prep.builder import PairedImages, with_splits
from data_prep.checking import Checked, check_images
from data_prep.folders import Folders
from data_prep.generated import Demo
from data_prep.items import SPLITS, BadArgument, Item, PrepareError
from data_prep.looks_like import LooksLike
from data_prep.looks_like_demo import LooksLikeDemo
from data_prep.pacs import Pacs
from data_prep.report import fingerprint, make_report, summary, totals
from data_prep.sketchy import Sketchy
from data_prep.splits import draw_splits
from data_prep.store import store
from sbir_jax.config import nearest
from sbir_jax.data.images import MODALITIES

BUILDERS: dict[str, type[PairedImages]] = {
    builder.name: builder for builder in (Demo, Pacs, Sketchy, LooksLike, LooksLikeDemo, Folders)
}
LISTED_PROBLEMS = 20


def prepare(
    dataset: str,
    *,
    raw: str | Path | None = None,
    data_dir: str | Path,
    name: str | None = None,
    on_error: str = "fail",
    dry_run: bool = False,
    overwrite: bool = False,
    val: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
    max_side: int = 256,
    quiet: bool = False,
    **options: str | int | float,
) -> Path:
    """Checks, splits and stores a raw dataset as `<data_dir>/<name>`.

    Args:
      dataset: which layout `raw` has; a key of `BUILDERS`.
      raw: directory (for folders also a CSV manifest); only demo can do without.
      data_dir: directory of prepared datasets, made if absent.
      name: of the prepared dataset, `dataset` unless given.
      on_error: what a bad image does: "fail" stops after all are listed, "skip" leaves them out.
      dry_run: check and print the plan, write nothing.
      overwrite: replace a dataset of that name; without it, unchanged input is a no-op.
      val, test: share of the photo instances of each class.
      seed: of the drawn splits.
      max_side: larger images are stored with their shorter side scaled down to this, in pixels.
      quiet: print nothing.
      options: the dataset's own, as in its `OPTIONS`.

    Returns:
      The directory of the prepared dataset.

    Raises:
      BadArgument: an argument that cannot work.
      PrepareError: unusable raw data; nothing has been written.
    """
    started = time.monotonic()
    say = (lambda text: None) if quiet else print
    builder = _builder(dataset)
    name = dataset if name is None else name
    own = _checked_arguments(builder, name, on_error, val, test, seed, max_side, options)
    options = own | {"val": val, "test": test, "seed": seed, "max_side": max_side}
    final = Path(data_dir) / name
    replace = overwrite or dry_run or not final.exists()
    generator = builder.generator()
    with contextlib.ExitStack() as stack:
        raw_dir = _raw_dir(builder, raw, stack)
        if not dry_run:
            _make_data_dir(final.parent)
        if generator:
            identity = fingerprint(dataset, {**options, "generator": generator}, ())
            if not replace:
                return _unchanged(final, identity, say)
        scan = builder.scan(raw_dir, **own)
        for modality in MODALITIES:
            if not any(item.modality == modality for item in scan.items):
                raise PrepareError(f"--raw={raw}: no {modality} found in it")
        _require_common_class(scan.items)
        if not replace:
            hashed = check_images(scan.items, decode=False, quiet=quiet)
            return _unchanged(final, fingerprint(dataset, options, hashed), say)

        checked = check_images(scan.items, quiet=quiet)
        bad = [c for c in checked if c.problem]
        if bad and on_error == "fail" and not dry_run:
            raise PrepareError(
                f"{_listing(bad)}\nnothing was written: mend or remove them, "
                "or leave them out with --on_error=skip"
            )
        good = [c for c in checked if not c.problem]
        items = draw_splits([c.item for c in good], by=scan.split_by, val=val, test=test, seed=seed)
        good = with_splits(good, items)
        empty = _empty_sides(good)
        report = make_report(
            dataset=dataset,
            name=name,
            options=options,
            fingerprint=identity if generator else fingerprint(dataset, options, checked),
            good=good,
            bad=bad,
            notes=(*scan.notes, *empty),
            details=scan.details,
        )
        if dry_run:
            say(f"plan for {final} (--dry_run: nothing is written)\n{_plan(report)}")
            if bad:
                say(_listing(bad))
            return final
        if bad:
            say(_listing(bad))
        store(builder, final, good, report, quiet=quiet)
    config = scan.train_config or builder.TRAIN_CONFIG
    say(
        f"{final} is ready, after {time.monotonic() - started:.0f} s\n{summary(report)}\n"
        f"  look at {final / 'contact_sheet.png'}; details in {final / 'prepare_report.json'}\n"
        f"  train on it: python launch.py train --config={config} "
        f"--config.data.name={name} --config.data.dir={data_dir} --workdir=runs/{name}"
    )
    return final


def _builder(dataset: str) -> type[PairedImages]:
    if dataset not in BUILDERS:
        raise BadArgument(f"dataset {dataset!r}: {nearest(dataset, BUILDERS)}")
    return BUILDERS[dataset]


def _checked_arguments(builder, name, on_error, val, test, seed, max_side, options) -> dict:
    """The dataset's own options, completed with their defaults."""
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise BadArgument(f"--name={name!r}: use letters, digits, '_', '-' and '.'")
    if on_error not in ("fail", "skip"):
        raise BadArgument(f"--on_error={on_error!r}: valid: fail, skip")
    for flag, share in (("val", val), ("test", test)):
        if not 0 < share < 1:
            raise BadArgument(f"--{flag}={share}: valid above 0 and below 1")
    if val + test >= 1:
        raise BadArgument(f"--val={val} --test={test}: together valid below 1")
    if not 16 <= max_side <= 4096:
        raise BadArgument(f"--max_side={max_side}: valid from 16 to 4096 pixels")
    own = {option.name: option for option in builder.OPTIONS}
    for key, value in options.items():
        if key not in own:
            raise BadArgument(f"--{key}: no such option of {builder.name}; {nearest(key, own)}")
        if own[key].choices and value not in own[key].choices:
            raise BadArgument(f"--{key}={value!r}: {nearest(value, own[key].choices)}")
    return {key: options.get(key, option.default) for key, option in own.items()}


def _require_common_class(items: Sequence[Item]) -> None:
    photo, sketch = (sorted({i.label for i in items if i.modality == m}) for m in MODALITIES)
    if not set(photo) & set(sketch):
        raise PrepareError(
            f"no class has both photos and sketches: photos of {', '.join(photo[:5])}; "
            f"sketches of {', '.join(sketch[:5])}; equal classes need equal folder names or labels"
        )


def _empty_sides(good: Sequence[Checked]) -> list[str]:
    """A note for each split without photos or sketches; train needs both."""
    empty = [
        (split, m)
        for m, by_split in totals(good).items()
        for split in SPLITS
        if not by_split[split]
    ]
    for split, modality in empty:
        if split == "train":
            raise PrepareError(f"no {modality} is left for split train")
    return [f"split {split} has no {modality}" for split, modality in empty]


def _raw_dir(builder: type[PairedImages], raw: str | Path | None, stack) -> Path:
    if raw is None:
        if builder.NEEDS_RAW:
            example = f"python -m data_prep {builder.name} {builder.EXAMPLE}"
            raise BadArgument(f"--raw is missing; example: {example}")
        return Path(stack.enter_context(tempfile.TemporaryDirectory()))
    raw = Path(raw)
    if builder.NEEDS_RAW and not raw.exists():
        raise BadArgument(f"--raw={raw}: no such file or directory")
    return raw


def _make_data_dir(data_dir: Path) -> None:
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=data_dir):
            pass
    except OSError as error:
        raise BadArgument(
            f"--data_dir={data_dir}: cannot write there ({error.strerror})"
        ) from error


def _unchanged(final: Path, expected: str, say: Callable[[str], None]) -> Path:
    """The dataset that is there already, if it was prepared from the same input."""
    try:
        found = json.loads((final / "prepare_report.json").read_text())["fingerprint"]
    except (OSError, ValueError, KeyError):
        found = None
    if found != expected:
        what = "is not a prepared dataset" if found is None else "holds other files or options"
        raise PrepareError(f"{final} exists and {what}: use --overwrite, or another --name")
    say(f"{final} is up to date: its input and options are unchanged")
    return final


def _listing(bad: Sequence[Checked]) -> str:
    lines = [f"{len(bad)} of the files cannot be used:"]
    lines += [f"  {c.item.file}: {c.problem}" for c in bad[:LISTED_PROBLEMS]]
    if len(bad) > LISTED_PROBLEMS:
        lines.append(f"  ... and {len(bad) - LISTED_PROBLEMS} more")
    return "\n".join(lines)


def _plan(report: dict) -> str:
    """Summary plus one line a class."""
    width = max(len(label) for label in report["classes"])
    queries = {"sketch": "sketches", "photo": "queries"}[report["queries"]]
    lines = [f"  {'class':{width}}  photos train/val/test  {queries:>8} train/val/test"]
    for label, by_modality in report["counts"].items():
        photo, sketch = ("/".join(str(n) for n in by_modality[m].values()) for m in MODALITIES)
        lines.append(f"  {label:{width}}  {photo:>21}  {sketch:>23}")
    return "\n".join([*lines, summary(report)])
