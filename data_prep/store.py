"""Puts a checked and split dataset on disk in one move: there is never a half-written one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from data_prep.builder import PairedImages
from data_prep.checking import Checked, progress
from data_prep.contact_sheet import contact_sheet
from data_prep.index import write_index
from data_prep.items import PrepareError
from sbir_jax.data.images import MODALITIES


def store(
    builder: type[PairedImages], final: Path, good: Sequence[Checked], report: dict, *, quiet: bool
) -> None:
    """Builds records, index, report and contact sheet beside `final`, then renames them into place.

    Args:
      final: the dataset's directory; one that exists is replaced.
      good: items with their splits.
      report: as made by `make_report`.

    Raises:
      PrepareError: a raw file changed meanwhile, or the disk refused; `final` is as it was.
    """
    partial = final.parent / f".{final.name}.partial-{os.getpid()}"
    stored = sorted(good, key=lambda c: c.item.file)
    try:
        partial.mkdir()
        with progress(None, len(stored), "writing images", quiet) as bar:
            for modality in MODALITIES:
                builder(
                    config=modality,
                    data_dir=partial,
                    checked=[c for c in stored if c.item.modality == modality],
                    classes=report["classes"],
                    max_side=report["options"]["max_side"],
                    on_item=bar.update,
                ).write()
        made = partial / builder.name
        write_index(made, classes=report["classes"], checked=stored)
        linked = {"sketch": "sketch drawn after that photo", "photo": "a pair"}[report["queries"]]
        title = f"{final.name}: framed together = {linked}"
        contact_sheet([c.item for c in stored], title=title).save(made / "contact_sheet.png")
        (made / "prepare_report.json").write_text(json.dumps(report, indent=1) + "\n")
        _move_into_place(made, final, set_aside=partial / "replaced")
    except OSError as error:
        raise PrepareError(f"{final}: writing failed ({error.strerror or error})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _move_into_place(made: Path, final: Path, *, set_aside: Path) -> None:
    if not final.exists():
        made.rename(final)
        return
    final.rename(set_aside)
    try:
        made.rename(final)
    except BaseException:
        set_aside.rename(final)
        raise
