"""The encoders of a trained run, ready for use: image files and strokes in, unit vectors out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from sbir_jax import sharding
from sbir_jax.config import RunConfig, resolve
from sbir_jax.data.images import BadImage, Modality, read_image, to_square
from sbir_jax.data.svg import read_svg
from sbir_jax.embed_step import make_embed_step
from sbir_jax.load import as_measured, named, parameters
from sbir_jax.models import dual
from sbir_jax.overrides import stored_config
from sbir_jax.retrieval import RetrievalError

Picture = str | Path | bytes | np.ndarray

# Of the settings of a model, those that its parameters do not show.
_MODEL = ("backbone", "towers", "head", "normalize", "dtype", "batch_norm")
# Smaller batches than the run's own, so that one drawing does not pay for many.
_SMALL = (1, 8)


@dataclasses.dataclass(frozen=True)
class Identity:
    """What embeddings depend on: two encoders of equal identity make comparable vectors.

    Attributes:
      weights: sha256 over the names and values of all parameters and BatchNorm statistics.
      model: settings that the parameters do not show.
      preprocessing: how an image becomes the square that is embedded.
    """

    weights: str
    model: dict[str, Any]
    preprocessing: dict[str, Any]

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """What is not as in `other`, an identity from JSON: "load_size=40, not 36"."""
        found = []
        if self.weights != other["weights"]:
            found.append(f"weights {self.weights[:8]}, not {other['weights'][:8]}")
        for part in ("model", "preprocessing"):
            own, its = getattr(self, part), other[part]
            found += [
                f"{name}={own.get(name)}, not {its.get(name)}"
                for name in sorted(own.keys() | its.keys())
                if own.get(name) != its.get(name)
            ]
        return found


class Encoders:
    """Two encoders with their preprocessing, from `load_encoders`.

    Batches have a few fixed sizes, so that nothing is compiled again after the first of each.

    Attributes:
      identity: what the vectors depend on.
      source: where they are from: workdir, checkpoint, step, dataset.
      dim: of the vectors.
    """

    def __init__(
        self,
        run: RunConfig,
        state: tuple[Any, Any],
        *,
        source: dict[str, Any],
        mesh: Mesh,
        batches: Sequence[int],
    ):
        self.run, self.source, self.dim = run, source, run.model.embed_dim
        self.mesh, self.state = mesh, state
        self.batches = sorted({-(-rows // mesh.size) * mesh.size for rows in batches})
        self.graphdef = dual.define(run.model, image_size=run.data.image_size)
        self._embed = make_embed_step(run, self.graphdef, mesh=mesh)
        self.identity = Identity(
            weights=_sha256(state),
            model={name: getattr(run.model, name) for name in _MODEL},
            preprocessing={
                name: getattr(run.data, name) for name in ("fit", "load_size", "image_size")
            },
        )

    def __str__(self) -> str:
        checkpoint, step = self.source["checkpoint"], self.source["step"]
        words = named(self.run, checkpoint, step).replace(f" ({step})", "")  # named by its step
        return f"{words} of {self.source['workdir']}"

    def sketches(self, images: Iterable[Picture]) -> np.ndarray:
        """Embeds sketches: dark lines on a light ground.

        Args:
          images: each a path (SVG too), the bytes of an image file, or uint8 [H, W].

        Returns:
          float32 [n, dim], each of length 1.

        Raises:
          RetrievalError: an image that cannot be read; names it.
        """
        return self.embed([self.square(image, "sketch") for image in images], "sketch")

    def photos(self, images: Iterable[Picture]) -> np.ndarray:
        """Embeds photos, as `sketches` does; arrays are uint8 [H, W, 3]."""
        return self.embed([self.square(image, "photo") for image in images], "photo")

    def embed(self, squares: Sequence[np.ndarray], side: Modality) -> np.ndarray:
        """Embeds squares, uint8 [load_size, load_size, C] each; float32 [n, dim], of length 1."""
        out = np.empty((len(squares), self.dim), np.float32)
        at = 0
        while at < len(squares):
            left = len(squares) - at
            rows = next((rows for rows in self.batches if rows >= left), self.batches[-1])
            part = np.stack(squares[at : at + rows])
            batch = np.pad(part, [(0, rows - len(part)), (0, 0), (0, 0), (0, 0)])
            placed = sharding.put_rows(self.mesh, batch[sharding.local_rows(self.mesh, rows)])
            out[at : at + len(part)] = np.asarray(self._embed(*self.state, placed, side))[
                : len(part)
            ]
            at += len(part)
        return out

    def square(self, image: Picture, side: Modality) -> np.ndarray:
        """The square that is embedded, uint8 [load_size, load_size, 1 or 3]; errors as `sketches`.

        What preparing a dataset and reading it do, but for the JPEG between them.
        """
        size = self.run.data.load_size
        try:
            if isinstance(image, str | Path):
                image = _read(Path(image), side, min_side=2 * size)
            elif isinstance(image, bytes):
                image = read_image(image, side, min_side=2 * size)
            channels = dual.CHANNELS[side]
            wrong = image.dtype != np.uint8 or image.shape[2:] not in {(), (channels,)}
            if wrong or image.ndim == 2 and channels == 3:
                expected = "[H, W]" if side == "sketch" else "[H, W, 3]"
                raise RetrievalError(
                    f"a {side} of shape {image.shape} and dtype {image.dtype}: expected uint8 "
                    f"{expected}"
                )
        except BadImage as error:
            raise RetrievalError(f"{side}: {error}") from error
        return to_square(image, size, self.run.data.fit)

    def warm(self) -> None:
        """Compiles both encoders for every batch size."""
        for side in dual.MODALITIES:
            size = self.run.data.load_size
            blank = np.full((size, size, dual.CHANNELS[side]), 255, np.uint8)
            for rows in self.batches:
                self.embed([blank] * rows, side)


def load_encoders(
    workdir: str | Path,
    *,
    checkpoint: str = "best",
    mesh: Mesh | None = None,
    batches: Sequence[int] = (),
) -> Encoders:
    """Opens the encoders of a run.

    Args:
      workdir: of the run.
      checkpoint: "best", "latest", a step, "none" (untrained) or "pretrained" (the published
        backbone alone).
      mesh: devices; all by default.
      batches: sizes of batches; by default 1, 8 and the run's `eval.batch_size`.

    Raises:
      RetrievalError: there is no run in the workdir.
      CheckpointError, ConfigError, WeightsError: as `evaluate.evaluate_workdir` does.
    """
    workdir, mesh = Path(workdir), mesh or sharding.make_mesh()
    if not (workdir / "config.json").exists():
        raise RetrievalError(f"{workdir}: no run there (no config.json)")
    run = as_measured(resolve(stored_config(workdir)), checkpoint)
    step, *state = parameters(run, workdir, checkpoint, mesh)
    source = {"workdir": str(workdir.resolve()), "checkpoint": checkpoint, "step": step}
    try:
        source["dataset"] = json.loads((workdir / "dataset.json").read_text())
    except (OSError, ValueError):
        source["dataset"] = {"name": run.data.name, "fingerprint": "unknown"}
    batches = batches or (*_SMALL, run.eval.batch_size)
    return Encoders(run, tuple(state), source=source, mesh=mesh, batches=batches)


def _read(path: Path, side: Modality, *, min_side: int) -> np.ndarray:
    try:
        data = path.read_bytes()
        if path.suffix.lower() == ".svg" and side == "sketch":
            return read_svg(data)
        return read_image(data, side, min_side=min_side)
    except BadImage as error:
        raise RetrievalError(f"{path}: {error}") from error
    except OSError as error:
        raise RetrievalError(f"{path}: {error.strerror}") from error


def _sha256(tree: Any) -> str:
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        value = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {value.dtype} {value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()
