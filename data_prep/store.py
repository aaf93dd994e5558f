"""Puts a checked and split dataset on disk in one move: there is never a half-written one."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from data_prep.builder import PairedImages
from data_prep.checking import Checked, progress
from data_prep.contact_sheet import contact_sheet
from data_prep.index import write_index
from data_prep.items import PrepareError
from sbir_jax.data.images import MODALITIES


def store(
    builder: type[PairedImages],
    final: Path,
    good: Sequence[Checked],
    report: dict,
    *,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Builds records, index, report and contact sheet beside `final`, then renames them into place.

    Any number of preparations may run at once: each builds in a directory of its own.

    Args:
      final: the dataset's directory.
      good: items with their splits.
      report: as made by `make_report`.
      overwrite: replace a dataset that is there by then.

    Raises:
      PrepareError: a raw file changed meanwhile, the disk refused, or another preparation made
        `final` meanwhile; `final` is as it was.
    """
    stored = sorted(good, key=lambda c: c.item.file)
    try:
        # Its name is unique on a disk that several machines share, where process numbers are not.
        partial = Path(tempfile.mkdtemp(prefix=f".{final.name}.partial-", dir=final.parent))
    except OSError as error:
        raise PrepareError(f"{final}: writing failed ({error.strerror or error})") from error
    try:
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
        if final.exists() and not overwrite:
            raise PrepareError(
                f"{final} was made by another preparation meanwhile: it stays, this one is dropped"
            )
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
