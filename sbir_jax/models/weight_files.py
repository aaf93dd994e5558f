"""Files of published weights: where they are, what they hold, and what is said beside them.

safetensors as on the Hugging Face hub, .npz of big_vision and vision_transformer, .pth of
torchvision. Nothing here runs code from a file: .pth is unpickled by torch's `weights_only`, which
takes arrays alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import logging
import re
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors

OWN_ARRAYS, OWN_ABOUT = "weights.safetensors", "weights.json"  # what `launch.py weights` writes
_PUBLISHED = "model.safetensors"
_DTYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16,
    "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8, "U8": np.uint8,
    "BOOL": np.bool_,
}  # fmt: skip

_HUB_ERRORS = {
    "LocalEntryNotFoundError": "no connection to the hub, and not in its cache here",
    "RepositoryNotFoundError": "no such repository, or a private one",
    "GatedRepoError": "gated: accept its licence on the hub, and log in with `hf auth login`",
    "RemoteEntryNotFoundError": f"no {_PUBLISHED} in this repository",
}


class WeightsError(RuntimeError):
    """Weights that are missing, damaged, or not of this backbone, said in one line."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
    """A file of weights as it is.

    Attributes:
      kind: "own" (written by `launch.py weights`), "safetensors", "npz" or "pth".
      arrays: by the file's own names, any dtype.
      about: what stands beside it: `weights.json` of our own, else {"arch", "tag", "mean", "std",
        "image_size", "licence"}, those that are known.
      source, sha256: of the file.
    """

    kind: str
    arrays: dict[str, np.ndarray]
    about: dict[str, Any]
    source: str
    sha256: str


def read(source: str) -> Published:
    """Reads a file, the directory of one, or `hf:OWNER/NAME` (with @REVISION if not the newest).

    Raises:
      WeightsError: it is not there, cannot be read, or needs a package that is not installed.
    """
    hub = source.startswith("hf:")
    path = _from_hub(source) if hub else _find(source)
    name = source[3:].partition("@")[0] if hub else str(path.parent)
    if path.name == OWN_ARRAYS and (path.parent / OWN_ABOUT).is_file():
        kind, about = "own", _json(path.parent / OWN_ABOUT)
    else:
        kind = {".safetensors": "safetensors", ".npz": "npz"}.get(path.suffix, "pth")
        about = _about(path, name.rpartition("/")[2])
    readers = {"npz": _read_npz, "pth": _read_pth}
    arrays = readers.get(kind, _read_safetensors)(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Published(kind=kind, arrays=arrays, about=about, source=source, sha256=digest)


def _find(source: str) -> Path:
    path = Path(source).expanduser()
    if path.is_dir():
        names = [name for name in (OWN_ARRAYS, _PUBLISHED) if (path / name).is_file()]
        if not names:
            raise WeightsError(f"{path}: holds neither {OWN_ARRAYS} nor {_PUBLISHED}")
        path /= names[0]
    if not path.is_file():
        raise WeightsError(f"{path}: no such file; valid: a file, its directory, or hf:OWNER/NAME")
    if path.suffix not in (".safetensors", ".npz", ".pth", ".pt", ".bin"):
        raise WeightsError(f"{path}: unknown kind of file; valid: .safetensors, .npz, .pth")
    return path


def _from_hub(source: str) -> Path:
    repository, _, revision = source[3:].partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise WeightsError(f"{source}: expected hf:OWNER/NAME, as in hf:timm/resnet50.a1_in1k")
    if importlib.util.find_spec("huggingface_hub") is None:
        raise WeightsError(
            f"{source}: needs huggingface_hub: pip install 'sbir_jax[weights]'; or download its "
            f"{_PUBLISHED} and config.json and name their directory"
        )
    from huggingface_hub import hf_hub_download

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it logs each of its tries
    try:
        path = hf_hub_download(repository, _PUBLISHED, revision=revision or None)
    except Exception as error:  # offline, no such repository, gated: errors of three libraries
        kind = type(error).__name__
        reason = _HUB_ERRORS.get(kind, f"{kind}: {_first_line(error)}")
        raise WeightsError(f"{source}: cannot be downloaded: {reason}") from error
    for beside in ("config.json", "README.md"):
        try:
            hf_hub_download(repository, beside, revision=revision or None)
        except Exception:  # what they say is then unknown, and said to be
            continue
    return Path(path)


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        found = safetensors.deserialize(path.read_bytes())
    except safetensors.SafetensorError as error:
        raise WeightsError(f"{path}: damaged or cut short: {error}") from error
    arrays = {}
    for name, of in found:
        if of["dtype"] not in _DTYPES:
            raise WeightsError(f"{path}: {name} is {of['dtype']}; valid: {', '.join(_DTYPES)}")
        arrays[name] = np.frombuffer(of["data"], _DTYPES[of["dtype"]]).reshape(of["shape"])
    return arrays


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        # Opened here: np.load leaves the file open when it is damaged.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
            arrays = dict(found)
    except Exception as error:  # whatever zipfile and NumPy say of a damaged file
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise WeightsError(f"{path}: damaged, cut short or not arrays alone: {reason}") from error
    # NumPy has no bfloat16: it reads two bytes of nothing in particular.
    bare = np.dtype("V2")
    return {n: a.view(ml_dtypes.bfloat16) if a.dtype == bare else a for n, a in arrays.items()}


def _read_pth(path: Path) -> dict[str, np.ndarray]:
    if importlib.util.find_spec("torch") is None:
        raise WeightsError(
            f"{path}: pickled by torch, which is not installed; install torch, or name weights in "
            "safetensors, which need nothing"
        )
    import torch

    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle.UnpicklingError, RuntimeError of its zip reader, ...
        raise WeightsError(f"{path}: damaged, or more than arrays: {_first_line(error)}") from error
    for key in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not all(torch.is_tensor(x) for x in loaded.values()):
        raise WeightsError(f"{path}: expected tensors by name (a state_dict)")
    return {
        name: x.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        if x.dtype == torch.bfloat16  # which NumPy does not have
        else x.numpy()
        for name, x in loaded.items()
    }


def _about(path: Path, name: str) -> dict[str, Any]:
    """What `config.json` and `README.md`, as the hub has them, and the name say."""
    config = _json(path.parent / "config.json") if (path.parent / "config.json").is_file() else {}
    details = config.get("pretrained_cfg") or {}
    size = details.get("input_size") or [None]
    tag = details.get("tag") or (name.split(".", 1)[1] if "." in name else "")
    card = path.parent / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    front = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
    licence = re.search(r"^license(?:_name)?:\s*(\S+)", front[1], re.MULTILINE) if front else None
    declared = details.get("license") or config.get("license") or (licence[1] if licence else "")
    found = {
        "arch": config.get("architecture"), "tag": tag, "mean": details.get("mean"),
        "std": details.get("std"), "image_size": size[-1], "licence": declared,
    }  # fmt: skip
    return {key: value for key, value in found.items() if value}


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise WeightsError(f"{path}: expected an object")
    return found
