"""ONNX programs give the vectors of the encoders, or are not written."""

from __future__ import annotations

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from front_door import error_line, launch
from tiny import small_backbone

from sbir_jax import load_encoders, sharding
from sbir_jax.retrieval import RetrievalError, onnx


@pytest.fixture(scope="module")
def encoders(finished):
    with small_backbone():
        return load_encoders(finished[1], mesh=sharding.make_mesh(jax.devices()[:1]))


@pytest.mark.parametrize("side", ["sketch", "photo"])
def test_what_is_converted_is_the_encoder(encoders, side):
    """The primitives that the converter is given, run by JAX, make the encoder's vectors."""
    size, channels = encoders.run.data.load_size, {"sketch": 1, "photo": 3}[side]
    images = np.random.default_rng(1).integers(0, 256, (3, size, size, channels), np.uint8)
    program = onnx.traced(encoders, side, 3)
    names = {eqn.primitive.name for eqn in program.eqns}
    assert not names & {"jit", "pjit", "custom_jvp_call", "reduce_window_max", "pad"}
    (vectors,) = jax.core.eval_jaxpr(program.jaxpr, program.consts, jnp.asarray(images))
    np.testing.assert_allclose(vectors, encoders.embed(list(images), side), atol=1e-6)


def test_without_the_converter_it_is_one_line(finished, tmp_path, capsys, monkeypatch):
    """Names the page that says how to get it; a format that there is not names the valid ones."""
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    argv = ["export", f"--workdir={finished[1]}", f"--out={tmp_path / 'out'}"]
    with small_backbone():
        line = error_line(capsys, *argv, "--format=onnx", code=1)
    assert "docs/onnx.md" in line and not (tmp_path / "out").exists()
    line = error_line(capsys, *argv, "--format=onxn")
    assert "--format=onxn" in line and "jax, onnx" in line


def test_programs_run_by_onnxruntime_give_the_vectors(finished, encoders, tmp_path, capsys):
    """Of one photo and of five, from the command line's files; encoders.json says how to feed."""
    pytest.importorskip("jax2onnx", reason="jax2onnx has an environment of its own: docs/onnx.md")
    runtime = pytest.importorskip("onnxruntime")
    out = tmp_path / "out"
    with small_backbone():
        argv = ["export", f"--workdir={finished[1]}", f"--out={out}", "--format=onnx"]
        assert launch.main(argv) == 0
    assert "differ from JAX's by" in capsys.readouterr().out
    about = json.loads((out / "encoders.json").read_text())
    assert about["weights"] == encoders.identity.weights and about["dim"] == encoders.dim
    size = about["preprocessing"]["load_size"]
    for side, channels in (("sketch", 1), ("photo", 3)):
        session = runtime.InferenceSession(out / f"{side}.onnx")
        for rows in (1, 5):
            images = np.random.default_rng(rows).integers(
                0, 256, (rows, size, size, channels), np.uint8
            )
            (vectors,) = session.run(None, {"images": images})
            assert vectors.dtype == np.float32
            np.testing.assert_allclose(vectors, encoders.embed(list(images), side), atol=1e-6)


def test_a_program_of_other_vectors_is_not_written(encoders, tmp_path, monkeypatch):
    """One that is off by more than the tolerance is refused with its difference."""
    monkeypatch.setattr(onnx, "_converted", lambda encoders, side: b"program")
    monkeypatch.setattr(onnx, "_difference", lambda encoders, side, program: 0.003)
    with pytest.raises(RetrievalError, match=r"sketch.onnx gives other vectors .* by 0.003"):
        onnx.export_onnx(encoders, tmp_path / "out")
    assert not (tmp_path / "out").exists()
