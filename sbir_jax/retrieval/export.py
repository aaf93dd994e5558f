"""Both encoders as programs that need none of this package: JAX alone runs them.

`sketch.jaxexport` and `photo.jaxexport` are `jax.export` artefacts for CPUs, CUDA GPUs and TPUs
alike, with the parameters and the preprocessing of pixels inside: uint8 squares of any number in,
unit vectors out. JAX promises to read an artefact for six months; the checkpoint is what to keep.

`encoders.json` says how an image becomes a square, and `README.md` is the model card.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sbir_jax import __version__
from sbir_jax.data import augment
from sbir_jax.models import dual
from sbir_jax.retrieval import RetrievalError
from sbir_jax.retrieval.encoders import Encoders
from sbir_jax.retrieval.model_card import model_card
from sbir_jax.workdir import write_json

PLATFORMS = ("cpu", "cuda", "tpu")


@dataclasses.dataclass(frozen=True)
class Exported:
    """Encoders from `load_exported`.

    Attributes:
      about: what `encoders.json` says.
      sketch: uint8 [b, S, S, 1] to float32 [b, D], each row of length 1; S is `load_size`.
      photo: the same of uint8 [b, S, S, 3].
    """

    about: dict[str, Any]
    sketch: Callable[[Any], jax.Array]
    photo: Callable[[Any], jax.Array]


def export_encoders(encoders: Encoders, out: str | Path) -> Path:
    """Writes both encoders, what they expect and a model card into a directory.

    Raises:
      RetrievalError: it cannot be written to.
    """
    out = Path(out)
    about = {
        "sbir_jax": __version__,
        "jax": jax.__version__,
        "platforms": PLATFORMS,
        "dim": encoders.dim,
        **dataclasses.asdict(encoders.identity),
        "source": {name: of for name, of in encoders.source.items() if name != "workdir"},
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        for side in dual.MODALITIES:
            (out / f"{side}.jaxexport").write_bytes(_program(encoders, side))
        write_json(out / "encoders.json", about)
        (out / "README.md").write_text(model_card(encoders), encoding="utf-8")
    except OSError as error:
        raise RetrievalError(f"{out}: cannot be written: {error.strerror}") from error
    return out


def load_exported(folder: str | Path) -> Exported:
    """Loads what `export_encoders` wrote; other programs need three lines for it, see the card.

    Raises:
      RetrievalError: it is not there, or damaged.
    """
    folder = Path(folder)
    try:
        about = json.loads((folder / "encoders.json").read_text())
        calls = {
            side: jax.jit(
                jax.export.deserialize(bytearray((folder / f"{side}.jaxexport").read_bytes())).call
            )
            for side in dual.MODALITIES
        }
    except Exception as error:  # OSError, json, and whatever the deserialiser meets
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise RetrievalError(f"{folder}: no exported encoders there ({reason})") from error
    return Exported(about, **calls)


def _program(encoders: Encoders, side: str) -> bytearray:
    params, model_state = jax.tree.map(np.asarray, encoders.state)  # on no device: any will do
    size = encoders.run.data.image_size

    def embed(images: jax.Array) -> jax.Array:
        images = augment.resize(images, size)
        # Kept from being folded into each other, which rounds otherwise than the live encoders.
        kept, rest = jax.lax.optimization_barrier((params, model_state))
        return dual.apply_embed(encoders.graphdef, kept, rest, images, side, fused=False)

    (batch,) = jax.export.symbolic_shape("b")
    square = (encoders.run.data.load_size,) * 2
    shape = jax.ShapeDtypeStruct((batch, *square, dual.CHANNELS[side]), np.uint8)
    return jax.export.export(jax.jit(embed), platforms=PLATFORMS)(shape).serialize()
