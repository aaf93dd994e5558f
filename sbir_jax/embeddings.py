"""Embeddings made anywhere, read from .npz or .npy files.

An .npz file holds the arrays
  embeddings  float16, float32 or float64 [n, D]; the only one that must be there
  labels      integers or strings [n], the category of each row; -1 or "" for none
  instances   integers or strings [n], equal for a sketch and its photo; -1 or "" for none
  names       strings [n], distinct; for TREC files
and an .npy file the embeddings alone. Nothing is ever unpickled.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

_KEYS = ("embeddings", "labels", "instances", "names")
_NPY = b"\x93NUMPY"


class EmbeddingsError(ValueError):
    """Embeddings, labels or a relevance that cannot be used; the message is one line."""


@dataclasses.dataclass(frozen=True, eq=False)
class Embeddings:
    """Vectors and what is known of them.

    Attributes:
      vectors: float32 [n, D], finite.
      labels: int64 or str [n], negative or "" for none; None without.
      instances: int64 or str [n], likewise.
      names: str [n], distinct; None without.
    """

    vectors: np.ndarray
    labels: np.ndarray | None
    instances: np.ndarray | None
    names: np.ndarray | None

    def labelled(self) -> tuple[np.ndarray, np.ndarray]:
        """Labels and instances, where both are needed; those of datasets are always known.

        Raises:
          EmbeddingsError: one of them is not known.
        """
        if self.labels is None or self.instances is None:
            raise EmbeddingsError("labels and instances are needed, on both sides")
        return self.labels, self.instances


def load(path: str | Path, labels: str | Path | None = None) -> Embeddings:
    """Reads embeddings, whatever made them.

    Args:
      path: an .npz or .npy file; its content tells which.
      labels: file with the labels where `path` has none: .npy, or text with one label a line,
        integers if every line is one.

    Returns:
      `Embeddings`. Labels or instances that are all -1 or "" count as absent.

    Raises:
      EmbeddingsError: a missing, damaged or pickled file, an unknown key, another dtype, shapes
        that do not agree, no rows, vectors that are not finite in float32, names that are not
        distinct, or labels twice.
    """
    stored = read_arrays(path, _KEYS)
    if stored is None:
        raise EmbeddingsError(f"{path}: is neither an .npz nor an .npy file")
    arrays = stored if isinstance(stored, dict) else {"embeddings": stored}
    if "embeddings" not in arrays:
        found = ", ".join(arrays) or "none"
        raise EmbeddingsError(f"{path}: no key 'embeddings'; keys found: {found}")
    vectors = _vectors(path, arrays["embeddings"])
    ids = {}
    for key in ("labels", "instances"):
        ids[key] = _ids(path, key, arrays[key], len(vectors)) if key in arrays else None
    if labels is not None:
        if "labels" in arrays:
            raise EmbeddingsError(f"{path}: holds labels already; leave out {labels}")
        ids["labels"] = _ids(labels, "labels", _label_file(labels), len(vectors))
    names = _names(path, arrays["names"], len(vectors)) if "names" in arrays else None
    return Embeddings(vectors, ids["labels"], ids["instances"], names)


def read_arrays(
    path: str | Path, keys: tuple[str, ...]
) -> np.ndarray | dict[str, np.ndarray] | None:
    """The array of an .npy file, the arrays of an .npz file, or None for any other file.

    Args:
      path: its content tells which it is.
      keys: those that an .npz file may have; none of them must be there.

    Raises:
      EmbeddingsError: a missing, damaged or pickled file, or an unknown key.
    """
    key = ""
    try:
        # Opened here: np.load leaves the file open when it is damaged.
        with open(path, "rb") as file:
            magic = file.read(len(_NPY))
            file.seek(0)
            if magic == _NPY:
                return np.load(file, allow_pickle=False)
            if not magic.startswith((b"PK\3\4", b"PK\5\6")):
                return None
            with np.load(file, allow_pickle=False) as arrays:
                unknown = [key for key in arrays.files if key not in keys]
                if unknown:
                    raise EmbeddingsError(
                        f"{path}: unknown key {unknown[0]!r}; keys found: "
                        f"{', '.join(arrays.files)}; valid: {', '.join(keys)}"
                    )
                found = {}
                for key in arrays.files:
                    found[key] = np.asarray(arrays[key])
                return found
    except EmbeddingsError:
        raise
    except OSError as error:
        raise EmbeddingsError(f"{path}: {error.strerror or error}") from None
    except Exception as error:  # zipfile, zlib, tokenize: whatever a damaged file gives
        where = f"{path}: {key}" if key else f"{path}"
        if "Object arrays" in str(error):
            raise EmbeddingsError(
                f"{where}: Python objects (dtype object), which are never unpickled; save numbers "
                "or strings, such as np.asarray(labels, dtype=str)"
            ) from None
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise EmbeddingsError(f"{where}: damaged or incomplete ({reason})") from error


def _vectors(path: str | Path, x: np.ndarray) -> np.ndarray:
    if x.ndim != 2 or 0 in x.shape:
        raise EmbeddingsError(
            f"{path}: embeddings of shape {x.shape}; expected [n, D], neither of them 0"
        )
    if x.dtype.kind != "f" or x.dtype.itemsize > 8:
        raise EmbeddingsError(
            f"{path}: embeddings are {x.dtype}; expected float16, float32 or float64 "
            "(x.astype(np.float32) makes numbers so)"
        )
    with np.errstate(over="ignore"):  # found below
        x = x.astype(np.float32, copy=False)
    bad = ~np.isfinite(x).all(axis=1)
    if bad.any():
        raise EmbeddingsError(
            f"{path}: {bad.sum()} of {len(x)} embeddings are not finite in float32 (NaN, inf or "
            f"beyond 3.4e38), the first in row {int(np.argmax(bad))}"
        )
    return x


def _ids(path: str | Path, key: str, x: np.ndarray, rows: int) -> np.ndarray | None:
    """int64 or str [rows]; None if no row has one."""
    if x.shape != (rows,):
        raise EmbeddingsError(
            f"{path}: {key} of shape {x.shape}; expected ({rows},), as embeddings"
        )
    if x.dtype.kind == "U":
        return x if (x != "").any() else None
    if x.dtype.kind not in "iu" or (x.dtype == np.uint64 and x.max() > np.iinfo(np.int64).max):
        raise EmbeddingsError(f"{path}: {key} are {x.dtype}; expected integers (int64) or strings")
    return x.astype(np.int64) if (x >= 0).any() else None


def _names(path: str | Path, x: np.ndarray, rows: int) -> np.ndarray:
    if x.shape != (rows,) or x.dtype.kind != "U":
        raise EmbeddingsError(
            f"{path}: names are {x.dtype} {x.shape}; expected strings ({rows},), as embeddings"
        )
    distinct, counts = np.unique(x, return_counts=True)
    if len(distinct) < rows:
        raise EmbeddingsError(
            f"{path}: names are not distinct: {str(distinct[np.argmax(counts)])!r} stands "
            f"{counts.max()} times"
        )
    return x


def _label_file(path: str | Path) -> np.ndarray:
    stored = read_arrays(path, ("labels",))
    if isinstance(stored, dict):
        raise EmbeddingsError(f"{path}: expected labels as .npy or as text, one a line")
    if stored is not None:
        return stored
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")
    except UnicodeDecodeError:
        raise EmbeddingsError(f"{path}: is neither .npy nor UTF-8 text") from None
    lines = [line.strip() for line in lines]
    if "" in lines:
        raise EmbeddingsError(
            f"{path}, line {lines.index('') + 1}: empty; expected one label a line"
        )
    try:
        numbers = [int(line) for line in lines]
    except ValueError:
        return np.array(lines)
    # 007 is a name, and not the same as 7.
    return np.array(numbers if [str(number) for number in numbers] == lines else lines)
