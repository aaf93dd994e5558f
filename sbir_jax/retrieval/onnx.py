"""Both encoders as ONNX programs, which run where there is no JAX: `sketch.onnx`, `photo.onnx`.

They are converted by jax2onnx, in an environment of its own (docs/onnx.md says why and how), and
take and give what the programs of `export.py` do. Each is run by onnxruntime before it is written,
and not written if its vectors are not those of the encoders.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.extend.core import Jaxpr, Literal

from sbir_jax.data import augment
from sbir_jax.data.images import Modality
from sbir_jax.models import dual
from sbir_jax.retrieval import RetrievalError
from sbir_jax.retrieval.encoders import Encoders

OPSET = 21  # of onnxruntime 1.18 and newer
# Between vectors of length 1; 8e-7 is the most that was seen of ResNet, VGG, ConvNeXt and ViT.
TOLERANCE = 1e-5
_ROWS = (1, 3)  # batches that are compared
_INLINED = ("jit", "pjit", "custom_jvp_call", "custom_vjp_call", "remat", "checkpoint")


def export_onnx(encoders: Encoders, out: str | Path) -> float:
    """Writes `sketch.onnx`, `photo.onnx` and what they expect, `encoders.json`, into a directory.

    Returns:
      The largest difference of an element of a vector between onnxruntime and JAX, on this CPU.

    Raises:
      RetrievalError: jax2onnx or onnxruntime is not installed, an encoder cannot be converted or
        gives other vectors, or the directory cannot be written to.
    """
    out = Path(out)
    programs, largest = {}, 0.0
    for side in dual.MODALITIES:
        programs[side] = _converted(encoders, side)
        difference = _difference(encoders, side, programs[side])
        largest = max(largest, difference)
        if not difference <= TOLERANCE:
            raise RetrievalError(
                f"{side}.onnx gives other vectors than the {encoders}: they differ by "
                f"{difference:.1g}, at most {TOLERANCE:g} is accepted; nothing was written"
            )
    about = {
        "opset": OPSET,
        "dim": encoders.dim,
        "model": encoders.identity.model,
        "preprocessing": encoders.identity.preprocessing,
        "weights": encoders.identity.weights,
        "largest difference": largest,
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        for side, program in programs.items():
            (out / f"{side}.onnx").write_bytes(program)
        (out / "encoders.json").write_text(json.dumps(about, indent=1) + "\n")
    except OSError as error:
        raise RetrievalError(f"{out}: cannot be written: {error.strerror}") from error
    return largest


def traced(encoders: Encoders, side: Modality, rows: Any) -> Any:
    """The embedding of one side as a jaxpr of primitives alone: uint8 [rows, S, S, C] in.

    What jax2onnx is given in place of the model: its stand-ins for the layers of Flax refuse
    Dropout's `rngs` and pooling of any number of images (0.17.1), and there are none in a jaxpr.
    """
    params, model_state = jax.tree.map(np.asarray, encoders.state)
    size = encoders.run.data.image_size

    def embed(images: jax.Array) -> jax.Array:
        images = augment.resize(images, size)
        return dual.apply_embed(encoders.graphdef, params, model_state, images, side, fused=False)

    square = (encoders.run.data.load_size,) * 2
    shape = jax.ShapeDtypeStruct((rows, *square, dual.CHANNELS[side]), np.uint8)
    whole = jax.make_jaxpr(embed)(shape)
    return jax.make_jaxpr(lambda images: _evaluated(whole.jaxpr, whole.consts, [images]))(shape)


def _converted(encoders: Encoders, side: Modality) -> bytes:
    with _quiet():
        try:
            from jax2onnx import to_onnx
        except ImportError:
            raise RetrievalError(
                "ONNX needs jax2onnx, in an environment of its own: see docs/onnx.md"
            ) from None
        (batch,) = jax.export.symbolic_shape("b")
        program = traced(encoders, side, batch)
        (images,) = program.in_avals
        try:
            model = to_onnx(
                lambda images: _evaluated(program.jaxpr, program.consts, [images])[0],
                [jax.ShapeDtypeStruct(images.shape, images.dtype)],
                model_name=side,
                opset=OPSET,
                input_names=["images"],
                output_names=["vectors"],
            )
            return model.SerializeToString()
        except Exception as error:  # whatever a converter meets that does not know an operation
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise RetrievalError(f"{side}: jax2onnx cannot convert it ({reason})") from error


def _difference(encoders: Encoders, side: Modality, program: bytes) -> float:
    """The largest difference of an element between onnxruntime and JAX, on random squares."""
    try:
        import onnxruntime
    except ImportError:
        raise RetrievalError("ONNX needs onnxruntime: see docs/onnx.md") from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails is raised too
    size, rng, largest = encoders.run.data.load_size, np.random.default_rng(0), 0.0
    try:
        session = onnxruntime.InferenceSession(program, options, providers=["CPUExecutionProvider"])
        for rows in _ROWS:
            shape = (rows, size, size, dual.CHANNELS[side])
            images = rng.integers(0, 256, shape, np.uint8)
            (vectors,) = session.run(None, {"images": images})
            difference = np.abs(vectors - encoders.embed(list(images), side)).max()
            largest = max(largest, float(difference))
    except Exception as error:  # onnxruntime has no base class of its errors
        reason = " ".join(str(error).split())[:200]
        raise RetrievalError(f"{side}: onnxruntime cannot run it ({reason})") from error
    return largest


def _evaluated(jaxpr: Jaxpr, consts: Sequence[Any], given: Sequence[Any]) -> list[Any]:
    """Runs a jaxpr with calls inlined."""
    known = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *given), strict=True))
    for eqn in jaxpr.eqns:
        values = [of.val if isinstance(of, Literal) else known[of] for of in eqn.invars]
        if eqn.primitive.name in _INLINED:
            inner: Any = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
            found = _evaluated(getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), values)
        else:
            found = eqn.primitive.bind(*values, **eqn.params)
            found = found if eqn.primitive.multiple_results else [found]
        known |= zip(eqn.outvars, found, strict=True)
    return [of.val if isinstance(of, Literal) else known[of] for of in jaxpr.outvars]


@contextmanager
def _quiet() -> Iterator[None]:
    """What the converter says of its own ways is kept from the console."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)
