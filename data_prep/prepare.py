"""From a raw layout to a prepared dataset on disk: the order of operations, all or nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from data_prep import apply_protocol, arguments
from data_prep.arguments import builder_of
from data_prep.builder import with_splits
from data_prep.checking import Checked, check_images
from data_prep.items import SPLITS, Item, PrepareError, Scan
from data_prep.protocol import Protocol
from data_prep.report import fingerprint, make_report, summary, totals
from data_prep.splits import draw_splits
from data_prep.store import store
from sbir_jax.data.images import MODALITIES

LISTED_PROBLEMS = 20


def prepare(
    dataset: str,
    *,
    raw: str | Path | None = None,
    data_dir: str | Path,
    name: str | None = None,
    protocol: str = "",
    on_error: str = "fail",
    on_counts: str = "fail",
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
      dataset: which layout `raw` has; a key of `arguments.BUILDERS`.
      raw: directory (for folders also a CSV manifest); only demo can do without.
      data_dir: directory of prepared datasets, made if absent.
      name: of the prepared dataset; unless given, that of the protocol, or `dataset`.
      protocol: a published protocol: a name of `protocol.protocol_names`, or a JSON file.
      on_error: what a bad image does: "fail" stops after all are listed, "skip" leaves them out.
      on_counts: what other counts than the protocol's do: "fail" stops, "note" keeps them in the
        report and in every result.
      dry_run: check and print the plan, write nothing.
      overwrite: replace a dataset of that name; without it, unchanged input is a no-op.
      val, test: share of the photo instances of each class, or of the classes.
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
    builder = builder_of(dataset)
    followed = apply_protocol.protocol_for(protocol, dataset, options) if protocol else None
    name = name or (followed.name if followed else dataset)
    arguments.check_common(
        name=name, val=val, test=test, max_side=max_side, on_error=on_error, on_counts=on_counts
    )
    own = arguments.completed(builder, options, followed.options if followed else {})
    options = own | {"val": val, "test": test, "seed": seed, "max_side": max_side}
    if followed:
        options["protocol"] = followed.fingerprint(own)
    final = Path(data_dir) / name
    replace = overwrite or dry_run or not final.exists()
    generator = builder.generator()
    with contextlib.ExitStack() as stack:
        raw_dir = arguments.raw_dir(builder, raw, stack)
        if not dry_run:
            arguments.make_data_dir(final.parent)
        if generator:
            identity = fingerprint(dataset, {**options, "generator": generator}, ())
            if not replace:
                return _unchanged(final, identity, say)
        scan = builder.scan(raw_dir, **own)
        for modality in MODALITIES:
            if not any(item.modality == modality for item in scan.items):
                raise PrepareError(f"--raw={raw}: no {modality} found in it")
        if followed:
            scan = apply_protocol.mark(followed, scan, strict=on_counts == "fail")
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
        if not scan.test_only:
            items = [c.item for c in good]
            items = draw_splits(items, by=scan.split_by, val=val, test=test, seed=seed)
            good = with_splits(good, items)
        scan = _compared(followed, scan, good, own, stop=on_counts == "fail" and not dry_run)
        report = make_report(
            dataset=dataset,
            name=name,
            options=options,
            fingerprint=identity if generator else fingerprint(dataset, options, checked),
            good=good,
            bad=bad,
            notes=(*scan.notes, *([] if scan.test_only else _empty_sides(good))),
            details=scan.details,
        )
        if dry_run:
            say(f"plan for {final} (--dry_run: nothing is written)\n{_plan(report)}")
            if bad:
                say(_listing(bad))
            return final
        if bad:
            say(_listing(bad))
        store(builder, final, good, report, overwrite=overwrite, quiet=quiet)
    say(
        f"{final} is ready, after {time.monotonic() - started:.0f} s\n{summary(report)}\n"
        f"  look at {final / 'contact_sheet.png'}; details in {final / 'prepare_report.json'}"
    )
    config = scan.train_config or builder.TRAIN_CONFIG
    if not scan.test_only:
        words = ("python", "launch.py", "train", f"--config={config}", f"--config.data.name={name}")
        words += (f"--config.data.dir={data_dir}", f"--workdir=runs/{name}")
        say(f"  train on it: {shlex.join(words)}")
    return final


def _compared(
    protocol: Protocol | None, scan: Scan, good: Sequence[Checked], own: dict, *, stop: bool
) -> Scan:
    """The scan with what the report says about the protocol and about counts that differ."""
    if protocol is None:
        return scan
    items = [c.item for c in good]
    differing = apply_protocol.differences(protocol, items, own.get("gallery", "listed"))
    if differing and stop:
        raise PrepareError(
            f"{_few(f'protocol {protocol.name}: {len(differing)} counts differ:', differing)}\n"
            "nothing was written: --on_counts=note goes on, and every result will say so"
        )
    about = apply_protocol.remembered(protocol, own, items, differing)
    title = f"{len(differing)} counts are not the protocol's:"
    notes = _few(title, differing).splitlines() if differing else []
    return dataclasses.replace(
        scan, notes=(*scan.notes, *notes), details={**scan.details, "protocol": about}
    )


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
    problems = [f"{c.item.file}: {c.problem}" for c in bad]
    return _few(f"{len(bad)} of the files cannot be used:", problems)


def _few(title: str, lines: Sequence[str]) -> str:
    """A title and the first lines, the others counted."""
    more = len(lines) - LISTED_PROBLEMS
    shown = [*lines[:LISTED_PROBLEMS], *([f"... and {more} more"] if more > 0 else [])]
    return "\n  ".join([title, *shown])


def _plan(report: dict) -> str:
    """Summary plus one line a class."""
    width = max(len(label) for label in report["classes"])
    queries = {"sketch": "sketches", "photo": "queries"}[report["queries"]]
    lines = [f"  {'class':{width}}  photos train/val/test  {queries:>8} train/val/test"]
    for label, by_modality in report["counts"].items():
        photo, sketch = ("/".join(str(n) for n in by_modality[m].values()) for m in MODALITIES)
        lines.append(f"  {label:{width}}  {photo:>21}  {sketch:>23}")
    return "\n".join([*lines, summary(report)])
