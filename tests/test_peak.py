"""Model FLOP utilisation: against data sheets where the device is known, else against a product."""

from __future__ import annotations

import jax
import pytest

from sbir_jax import sharding
from sbir_jax.peak import measured, peak, published, seconds_at_peak


@pytest.mark.parametrize(
    "kind, dtype, teraflops",
    [
        ("NVIDIA A100-SXM4-80GB", "bfloat16", 312),
        ("NVIDIA A100 80GB PCIe", "float32", 156),
        ("NVIDIA H100 80GB HBM3", "bfloat16", 989.4),
        ("NVIDIA H100 PCIe", "bfloat16", 756),
        ("NVIDIA H200", "bfloat16", 989.4),
        ("NVIDIA L4", "bfloat16", 121),
        ("Tesla T4", "float32", 8.1),
        ("Tesla V100-SXM2-16GB", "float32", 15.7),
        ("TPU v3", "bfloat16", 61.5),
        ("TPU v5 lite", "bfloat16", 197),
        ("TPU v6e", "bfloat16", 918),
    ],
)
def test_known_devices_have_their_makers_dense_peak(kind, dtype, teraflops):
    """By the names under which JAX shows them."""
    assert published(kind, dtype) == pytest.approx(1e12 * teraflops)


@pytest.mark.parametrize(
    "kind, dtype",
    [("NVIDIA L40S", "bfloat16"), ("NVIDIA H200 NVL", "bfloat16"), ("Tesla T4", "bfloat16")],
)
def test_nothing_is_taken_for_its_sibling(kind, dtype):
    """Names that only begin like a known one, and types a device has no units for."""
    assert published(kind, dtype) is None


def test_other_devices_are_measured_by_a_product():
    """A core does between 1 GFLOP/s and 1 TFLOP/s, and a second look gives the same number."""
    device = jax.devices()[0]
    found = peak(device, "float32")
    assert found.source == "measured"
    assert 1e9 < found.flops < 1e15
    assert measured(device, "float32") == found.flops


def test_cpu_devices_of_one_process_are_one_machine(monkeypatch):
    """1 TFLOP takes half a second at 2 TFLOP/s, on one simulated device and on eight."""
    monkeypatch.setattr("sbir_jax.peak.measured", lambda device, dtype: 2e12)
    for devices in (1, 8):
        mesh = sharding.make_mesh(jax.devices()[:devices])
        seconds, words = seconds_at_peak(1e12, mesh, "float32")
        assert (seconds, words) == (0.5, "1 x 2 TFLOP/s (measured, float32)")
