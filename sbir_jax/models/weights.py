"""Published weights become parameters here, strictly both ways.

Every array of a file is used or knowingly left out, every parameter of the backbone is filled, and
all that is wrong is told in one error. What belongs to weights travels with them: the mean and
standard deviation of their pixels, the size of their images, their licence and where they are from.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
import safetensors.numpy

from sbir_jax.backbones import BACKBONES, ViTSpec, short_name
from sbir_jax.models import big_vision, naming
from sbir_jax.models.licences import licence_of
from sbir_jax.models.network import shapes_of
from sbir_jax.models.weight_files import OWN_ABOUT, OWN_ARRAYS, Published, WeightsError, read

# Tags of CLIP weights by the GELU they were trained with, which no tensor shows.
_GELU_OF_TAGS = {
    "quick_gelu": r"openai|metaclip_(?:400m|2pt5b)",
    "gelu": r"laion2b.*|datacompxl|openai_ft_.*",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weights:
    """Weights of one backbone, all that is known of them.

    Attributes:
      arch: name of the backbone.
      arrays: float32, by path in `network.Network`.
      mean, std: of RGB in 0..1: what the first layer expects to have been subtracted and divided.
      image_size: pixels of the square they were trained on.
      licence: in words.
      source, sha256: of the file they were imported from.
      notes: what was done to them on import.
    """

    arch: str
    arrays: dict[str, np.ndarray]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int
    licence: str
    source: str
    sha256: str
    notes: tuple[str, ...] = ()

    def about(self) -> dict[str, Any]:
        """All but the arrays, for JSON."""
        names = [field.name for field in dataclasses.fields(self) if field.name != "arrays"]
        return {name: getattr(self, name) for name in names}


def load(source: str, arch: str) -> Weights:
    """Weights of `arch` from a file, a directory or the hub (`weight_files.read`).

    Raises:
      WeightsError: they cannot be read, or are not of this backbone; everything that is wrong.
    """
    published = read(source)
    about, arrays, notes = published.about, published.arrays, []
    said = short_name(str(about.get("arch", arch)))
    own = published.kind == "own"
    # timm keeps CLIP's files under the name without quickgelu, whichever they want.
    same = said == arch or (not own and said == arch.replace("_quickgelu", ""))
    if not same:
        hint = f"use --arch={said}" if said in BACKBONES else "that one is not supported"
        raise WeightsError(f"{source}: weights of {said}, not of {arch}; {hint}")
    if own:
        return _own(published, arch)
    backbone, spec = BACKBONES[arch], BACKBONES[arch].spec
    tag = str(about.get("tag", ""))
    if isinstance(spec, ViTSpec):
        _check_gelu(source, arch, spec, tag)
    if published.kind == "npz":
        arrays, others = big_vision.to_timm(arrays)
        notes += [f"left out: {_grouped(others)}"] if others else []
    if isinstance(spec, ViTSpec):
        try:
            arrays, spec = naming.positions_split(arrays, spec)
        except ValueError as error:
            raise WeightsError(f"{source}: {error}") from error
    shapes = shapes_of(spec)
    paths = {path: naming.timm_name(spec, path) for path in shapes}
    wanted = {paths[path]: naming.to_timm_layout(path, of.shape) for path, of in shapes.items()}
    ignored = sorted(name for name in arrays if naming.is_ignored(spec, name))
    _check(source, arch, arrays, wanted, ignored)
    imported = {
        path: np.ascontiguousarray(naming.from_timm_layout(path, arrays[name]), np.float32)
        for path, name in paths.items()
    }
    notes += [f"left out: {_grouped(ignored)}"] if ignored else []
    halves = sorted({str(arrays[n].dtype) for n in paths.values()} & {"float16", "bfloat16"})
    notes += [f"{' and '.join(halves)} in the file, converted to float32"] if halves else []
    if not {"mean", "std"} <= about.keys():
        notes.append("the file does not say mean and std: they are those usual for this backbone")
    native = getattr(spec, "image_size", about.get("image_size", backbone.image_size))
    return Weights(
        arch=arch,
        arrays=imported,
        mean=tuple(about.get("mean", backbone.mean)),
        std=tuple(about.get("std", backbone.std)),
        image_size=int(native),
        licence=licence_of(tag, str(about.get("licence", ""))),
        source=source,
        sha256=published.sha256,
        notes=tuple(notes),
    )


def save(weights: Weights, directory: Path) -> None:
    """Writes weights.safetensors and weights.json, which `load` reads without converting again.

    Raises:
      WeightsError: the directory cannot be made or written to.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        safetensors.numpy.save_file(weights.arrays, directory / OWN_ARRAYS)
        (directory / OWN_ABOUT).write_text(json.dumps(weights.about(), indent=2) + "\n")
    except OSError as error:
        raise WeightsError(f"{directory}: {error.strerror}") from error


def place(weights: Weights, params: dict, model_state: dict) -> tuple[dict, dict]:
    """The weights in every tower of an encoder; its heads, prompts and low-rank updates stay.

    Args:
      weights: of the encoder's backbone.
      params, model_state: of `dual.build`, arrays; they are not changed.

    Returns:
      Both, with the published values. A ViT's positions are resampled to the grid of its images.
    """
    pixels = {"pixels/mean": np.array(weights.mean, np.float32)}
    pixels["pixels/std"] = np.array(weights.std, np.float32)

    def put(path: Any, leaf: Any) -> Any:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if name in pixels:
            return pixels[name]
        part, _, rest = name.partition("/")
        if part not in ("stems", "trunks") or re.search(r"/lora_[ab]$", name):
            return leaf
        value = weights.arrays[f"{part[:-1]}/{rest.partition('/')[2]}"]
        if name.endswith("/positions"):
            value = resample_positions(value, len(leaf))
        if value.shape != leaf.shape:
            raise ValueError(f"{name} is {leaf.shape}, weights are {value.shape}")
        return value

    return tuple(jax.tree_util.tree_map_with_path(put, tree) for tree in (params, model_state))


def resample_positions(positions: np.ndarray, count: int) -> np.ndarray:
    """Positions of one square grid of patches, [n, width], for another: [count, width].

    Bicubic, antialiased where the grid shrinks: what timm's `resample_abs_pos_embed` does.
    """
    if len(positions) == count:
        return positions
    old, new = (round(n**0.5) for n in (len(positions), count))
    grid = positions.reshape(old, old, -1)
    resized = jax.image.resize(grid, (new, new, grid.shape[-1]), "cubic", antialias=True)
    return np.asarray(resized).reshape(count, -1)


def _own(published: Published, arch: str) -> Weights:
    source, about = published.source, published.about
    fields = {field.name for field in dataclasses.fields(Weights)} - {"arrays"}
    if missing := fields - about.keys():
        raise WeightsError(f"{source}: {OWN_ABOUT} lacks {', '.join(sorted(missing))}")
    spec = BACKBONES[arch].spec
    if isinstance(spec, ViTSpec):
        spec = dataclasses.replace(spec, image_size=about["image_size"])
    wanted = {path: of.shape for path, of in shapes_of(spec).items()}
    _check(source, arch, published.arrays, wanted, [])
    tuples = {name: tuple(about[name]) for name in ("mean", "std", "notes")}
    return Weights(arrays=published.arrays, **{n: about[n] for n in fields} | tuples)


def _check_gelu(source: str, arch: str, spec: ViTSpec, tag: str) -> None:
    for act, tags in _GELU_OF_TAGS.items():
        if "_clip" in arch and act != spec.act and re.fullmatch(tags, tag):
            other = arch.removesuffix("_quickgelu") + "_quickgelu" * (act == "quick_gelu")
            name = {"quick_gelu": "QuickGELU", "gelu": "the exact GELU"}[act]
            raise WeightsError(
                f"{source}: weights {tag!r} of CLIP were trained with {name}; use --arch={other}"
            )


def _check(
    source: str,
    arch: str,
    arrays: dict[str, np.ndarray],
    wanted: dict[str, tuple[int, ...]],
    ignored: list[str],
) -> None:
    """Raises one WeightsError with everything that keeps `arrays` from being those `wanted`."""
    missing = [name for name in wanted if name not in arrays]
    extra = [name for name in arrays if name not in wanted and name not in ignored]
    problems = [f"missing: {_grouped(missing)}"] if missing else []
    problems += [f"not of this backbone: {_grouped(extra)}"] if extra else []
    for name, shape in wanted.items():
        found = arrays.get(name)
        if found is None:
            continue
        if found.shape != shape:
            problems.append(f"{name} is {found.shape}, expected {shape}")
        elif not np.issubdtype(found.dtype, np.floating) and found.dtype != ml_dtypes.bfloat16:
            problems.append(f"{name} is {found.dtype}, expected floats")
        elif not np.isfinite(found.astype(np.float32)).all():
            problems.append(f"{name} holds values that are not finite")
    if not problems:
        return
    others = naming.looks_like(arrays)
    if others and arch not in others:
        raise WeightsError(
            f"{source}: not weights of {arch}, but of {' or '.join(others)} by their sizes; use "
            f"--arch={others[0]}"
        )
    raise WeightsError(f"{source}: not weights of {arch}: {'; '.join(problems)}")


def _grouped(names: list[str]) -> str:
    """Names with their numbers as *, and how many there are of each: `blocks.*.norm1.bias (12)`."""
    counts = Counter(re.sub(r"\d+(?=[./])|(?<=[._])\d+\b", "*", name) for name in names)
    alone = {re.sub(r"\d+(?=[./])|(?<=[._])\d+\b", "*", name): name for name in names}
    return ", ".join(alone[k] if n == 1 else f"{k} ({n})" for k, n in counts.items())
