"""What the scan of a raw layout yields: one `Item` an image file, before any pixel is read."""

from __future__ import annotations

import dataclasses
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from sbir_jax.data.images import Modality, read_image

SPLITS = ("train", "val", "test")
# What file managers leave behind; every other file among the images has to be an image.
CLUTTER = {"thumbs.db", "desktop.ini"}


class PrepareError(ValueError):
    """A dataset that cannot be prepared. Its message says what to change; most are one line."""


class BadArgument(PrepareError):
    """An argument that cannot work, in one line: the command line exits with code 2, not 1."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Item:
    """One image file and what is known about it.

    path: where its bytes are.
    file: how messages and records name it: its path below the raw directory, with `/`.
    modality: its side: "photo" is searched, "sketch" holds the queries.
    label: class name.
    instance_id: the depicted object, unique over all classes (`<class>/<photo name>`); a photo and
      the sketches drawn after it share it. "" for a sketch drawn after no particular photo.
    split: "train", "val", "test", or "" to have it drawn.
    photo_query: a query that is a photo itself, as in photo-to-photo search.
    part: offset and length of its bytes, where a file holds many drawings; None: the whole file.
    decode: from its bytes to grey pixels, where they are strokes and not an image.
    """

    path: Path
    file: str
    modality: Modality
    label: str
    instance_id: str = ""
    split: str = ""
    photo_query: bool = False
    part: tuple[int, int] | None = None
    decode: Callable[[bytes], np.ndarray] | None = None

    @property
    def kind(self) -> Modality:
        """How its pixels are read and stored: "photo" in colour, "sketch" in grey."""
        return "photo" if self.photo_query else self.modality

    def read(self) -> bytes:
        """Its bytes; raises OSError."""
        if self.part is None:
            return self.path.read_bytes()
        offset, length = self.part
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.read(length)

    def pixels(self, data: bytes, *, min_side: int = 0) -> np.ndarray:
        """What its bytes show, as `images.read_image` returns it; raises BadImage."""
        if self.decode is not None:
            return self.decode(data)
        return read_image(data, self.kind, min_side=min_side)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scan:
    """The items of a raw layout, and how it wants its splits drawn.

    split_by: "instance" keeps a photo and its sketches together; "category" keeps whole classes.
    notes: lines for the user about how the layout was understood.
    details: what the dataset adds to `prepare_report.json`.
    train_config: the config file to start from, where it is not the dataset's usual one.
    test_only: there is nothing to train on; every item is tested.
    """

    items: tuple[Item, ...]
    split_by: str = "instance"
    notes: tuple[str, ...] = ()
    details: dict = dataclasses.field(default_factory=dict)
    train_config: str = ""
    test_only: bool = False


@dataclasses.dataclass(frozen=True)
class Option:
    """A dataset's own command-line option; its type is the type of its default."""

    name: str
    default: str | int | float
    doc: str
    choices: tuple[str, ...] = ()


def class_key(name: str) -> str:
    """Equal for all spellings of a class: hot-air_balloon, hot air balloon, hotairballoon."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def found_dir(raw: Path, names: Sequence[str], what: str) -> Path:
    """The first of some folders below `raw` (or `raw` itself, named "") that exists.

    Raises:
      PrepareError: none does.
    """
    for name in names:
        if (raw / name).is_dir():
            return raw / name
    wanted = " or ".join(f"{name}/" for name in names)
    raise PrepareError(f"--raw={raw}: no {wanted} in it, which holds the {what}")


def class_dirs(root: Path) -> list[Path]:
    """Visible sub-directories of `root`, sorted by name."""
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def image_files(root: Path) -> Iterator[Path]:
    """Every file below `root` at any depth, sorted, without hidden ones and clutter.

    Raises:
      PrepareError: a name that is no text, which no record could hold.
    """
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and name.lower() not in CLUTTER:
                path = Path(folder, name)
                shown = os.fsencode(path).decode("utf-8", "backslashreplace")
                if shown != str(path):
                    raise PrepareError(f"{shown}: its name is not UTF-8; give it another")
                yield path


def class_items(
    raw: Path,
    root: Path,
    modality: Modality,
    photo_of: Callable[[str], str] = lambda stem: stem,
    label_of: Callable[[str], str] = lambda folder: folder,
) -> list[Item]:
    """Items of every class folder in `root`.

    Args:
      label_of: from a folder's name to the class.
      others: as in `folder_items`.
    """
    return [
        item
        for folder in class_dirs(root)
        for item in folder_items(raw, folder, modality, label_of(folder.name), photo_of)
    ]


def named_alike(names: Iterable[str], aliases: dict[str, str]) -> Callable[[str], str]:
    """How folders of one side are called on the other.

    Args:
      names: class names of the side whose spelling is kept.
      aliases: from a folder's name to the class, where they differ in more than `class_key`
        forgives, such as misspelt folders.

    Returns:
      a function from a folder's name to the class; unknown names stay as they are.
    """
    by_key = {class_key(name): name for name in names}
    known = {class_key(folder): name for folder, name in aliases.items()}

    def label_of(folder: str) -> str:
        key = class_key(folder)
        return by_key.get(class_key(known.get(key, folder)), by_key.get(key, folder))

    return label_of


def folder_items(
    raw: Path,
    folder: Path,
    modality: Modality,
    label: str,
    photo_of: Callable[[str], str] = lambda stem: stem,
) -> list[Item]:
    """Items of one class.

    Args:
      raw: what `Item.file` is relative to.
      photo_of: from a file's path below `folder`, without suffix, to the photo's; "" for no link.

    Names that read alike are alike: macOS writes the dots of an "ü" as a letter of their own.
    """
    items, label = [], unicodedata.normalize("NFC", label)
    for path in image_files(folder):
        stem = path.relative_to(folder).with_suffix("").as_posix()
        photo = photo_of(unicodedata.normalize("NFC", stem))
        items.append(
            Item(
                path=path,
                file=path.relative_to(raw).as_posix(),
                modality=modality,
                label=label,
                instance_id=f"{label}/{photo}" if photo else "",
            )
        )
    return items
