"""`weights`: published weights of a backbone, imported."""

from __future__ import annotations

from pathlib import Path

from sbir_jax.backbones import BACKBONES
from sbir_jax.cli import Flag, Given, UsageError, Verb
from sbir_jax.config import nearest
from sbir_jax.verbs import runs


def weights(given: Given, overrides: list[str]) -> None:
    """Import published weights of a backbone, and say what they are."""
    arch, source = given["arch"], given["from"]
    if not source:
        raise UsageError("missing --from=FILE, a directory, or hf:OWNER/NAME")
    if arch not in BACKBONES or arch == "patch_resnet":
        valid = nearest(arch, (name for name in BACKBONES if name != "patch_resnet"))
        raise UsageError(f"--arch={arch}: {valid}" if arch else f"missing --arch=NAME; {valid}")
    out = Path(given["out"] or f"weights/{arch}")
    runs.ready_libraries()
    from sbir_jax.models.summary import summary
    from sbir_jax.models.weights import load, save

    imported = load(source, arch)
    save(imported, out)
    print(summary(imported))
    print(f"wrote {out}; to start a run from it: --config.model.weights={out}")


VERBS = {
    "weights": Verb(
        weights,
        {
            "arch": Flag("the backbone, as config.model.backbone names it (required)"),
            "from": Flag("model.safetensors, .npz, .pth, a directory, or hf:OWNER/NAME (required)"),
            "out": Flag("directory for weights.safetensors and weights.json (weights/ARCH)"),
        },
        {
            "from the Hugging Face hub (extra `weights`)": (
                "--arch=resnet50 --from=hf:timm/resnet50.a1_in1k"
            ),
            "from a file": "--arch=vit_small_patch14_dinov2 --from=downloads/model.safetensors",
        },
    )
}
