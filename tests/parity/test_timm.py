"""Against timm itself, where it is installed: the fixture is current, and whole networks agree."""

import json

import numpy as np
import pytest

timm = pytest.importorskip("timm", reason="parity with timm needs timm")

import drawn  # noqa: E402
import jax  # noqa: E402
import torch  # noqa: E402
from parity import reference  # noqa: E402
from parity.cases import CASES  # noqa: E402
from parity.make_fixture import DATA  # noqa: E402
from test_weights import big_vision  # noqa: E402

from sbir_jax import backbones  # noqa: E402
from sbir_jax.config import ModelConfig  # noqa: E402
from sbir_jax.models import dual, naming, weights  # noqa: E402
from sbir_jax.models.network import shapes_of  # noqa: E402

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]
torch.set_num_threads(1)

PUBLISHED = [name for name in backbones.BACKBONES if name != "patch_resnet"]


def timm_architecture(name: str) -> str:
    """timm's name of a backbone of ours: with the size of its native images where it has one."""
    size = backbones.BACKBONES[name].image_size
    return name if timm.is_model(name) else f"{name}_{size}"


@pytest.mark.parametrize("name", CASES)
def test_fixture_is_current(name):
    """The committed shapes and features are those that the installed timm computes."""
    found = reference.everything(CASES[name])
    committed = json.loads((DATA / "backbones.json").read_text())[name]
    assert {n: list(s) for n, s in found.pop("shapes").items()} == committed
    with np.load(DATA / "backbones.npz") as arrays:
        for key, value in found.items():
            np.testing.assert_allclose(value, arrays[f"{name}/{key}"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_backbone_has_timms_tensors(name):
    """Names and shapes of every backbone of the registry are timm's, but for what is left out."""
    backbone = backbones.BACKBONES[name]
    with torch.device("meta"):
        model = timm.create_model(timm_architecture(name))
    theirs = reference.shapes_of(model)
    ours = {
        naming.timm_name(backbone.spec, path): naming.to_timm_layout(path, of.shape)
        for path, of in shapes_of(backbone.spec).items()
    }
    if "cls_token" in theirs and not getattr(model, "no_embed_class", False):
        count, width = ours["pos_embed"][1:]
        ours["pos_embed"] = (1, count + 1, width)  # theirs has a position for the class token
    kept = {n: s for n, s in theirs.items() if not naming.is_ignored(backbone.spec, n)}
    assert kept == ours
    if "vit" in name:  # what no tensor shows
        norm, act = model.norm.eps, type(model.blocks[0].mlp.act).__name__
        acts = {"GELU": "gelu", "GELUTanh": "gelu_tanh", "QuickGELU": "quick_gelu"}
        assert (norm, acts[act]) == (backbone.spec.eps, backbone.spec.act)
    # Of one architecture there are weights of different pixels and sizes: ours are those of some.
    known = timm.models.get_arch_pretrained_cfgs(timm_architecture(name)).values()
    pixels = {(tuple(cfg.mean), tuple(cfg.std), cfg.input_size[-1]) for cfg in known}
    assert (backbone.mean, backbone.std, backbone.image_size) in pixels


@pytest.mark.parametrize(
    "name",
    [
        "resnet50",
        "vgg16_bn",
        "convnext_tiny",
        "vit_tiny_patch16",
        "vit_base_patch32_clip_quickgelu",
        "vit_base_patch16_siglip",
        "vit_small_patch14_reg4_dinov2",
    ],
)
def test_whole_networks_agree(name, tmp_path):
    """Networks of their published depth and width give timm's features, 1e-4 relative or better."""
    import safetensors.torch

    size = 160 if "patch32" in name else 112  # multiples of the patch; positions are resampled
    backbone = backbones.BACKBONES[name]
    native = timm.create_model(timm_architecture(name))
    tensors = drawn.weights(reference.shapes_of(native))
    loaded = {n: torch.from_numpy(np.asarray(v)) for n, v in tensors.items()}
    safetensors.torch.save_file(loaded, tmp_path / "model.safetensors")
    arguments = {"img_size": size} if "vit" in name else {}
    model = timm.create_model(timm_architecture(name), **arguments).eval()
    if "vit" in name:
        from timm.models.vision_transformer import checkpoint_filter_fn

        loaded = checkpoint_filter_fn(loaded, model)
    model.load_state_dict(loaded)
    images = drawn.images(size, 3)
    mean, std = (np.array(x, np.float32) for x in (backbone.mean, backbone.std))
    pixels = torch.from_numpy(((images - mean) / std).transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        features = model.forward_features(pixels)
        wanted = (
            features.mean((2, 3))
            if "vgg" in name
            else model.forward_head(features, pre_logits=True)
        ).numpy()
    config = ModelConfig(backbone=name, towers="shared", head="none")
    graphdef, *state = dual.build(config, jax.random.key(0), image_size=size)
    state = weights.place(weights.load(str(tmp_path), name), *state)
    graphdef = dual.define(config, image_size=size, headless=True)
    found = jax.jit(lambda *a: dual.apply_embed(graphdef, *a, "photo"))(*state, images * 2 - 1)
    error = np.abs(found - wanted).max() / np.abs(wanted).max()
    print(name, f"relative error {error:.1e}")
    assert error < 1e-4


@pytest.mark.parametrize("stacked", [False, True])
def test_big_vision_layout_is_what_timm_reads(stacked, tmp_path):
    """timm's own reader of big_vision files finds in ours the tensors that we made them from."""
    from timm.models.vision_transformer import _load_weights

    case = CASES["siglip"]
    model = reference.build(case, case.sizes[0])
    tensors = drawn.weights(reference.shapes(case))
    np.savez(tmp_path / "siglip.npz", **big_vision(tensors, heads=2, stacked=stacked))
    with torch.no_grad():
        _load_weights(model, str(tmp_path / "siglip.npz"))
    for name, value in model.state_dict().items():
        if not name.startswith("head."):
            np.testing.assert_array_equal(value.numpy(), tensors[name], err_msg=name)
