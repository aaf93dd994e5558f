"""Published weights: strict both ways, told in one line, and the same in every tower."""

from __future__ import annotations

import json
import pickle
import sys
import types
from pathlib import Path

import drawn
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from sbir_jax import backbones
from sbir_jax.backbones import Backbone, ResNetSpec, ViTSpec
from sbir_jax.config import ModelConfig
from sbir_jax.models import dual
from sbir_jax.models.licences import licence_of
from sbir_jax.models.weight_files import WeightsError
from sbir_jax.models.weights import load, place, save
from sbir_jax.paths import by_path

# A ResNet of two blocks, as its published file would list it.
NORM = {"weight": (), "bias": (), "running_mean": (), "running_var": ()}


def norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.{leaf}": (width,) for leaf in NORM} | {f"{name}.num_batches_tracked": ()}


SHAPES = {
    "conv1.weight": (8, 3, 7, 7),
    **norm("bn1", 8),
    "layer1.0.conv1.weight": (8, 8, 3, 3),
    **norm("layer1.0.bn1", 8),
    "layer1.0.conv2.weight": (8, 8, 3, 3),
    **norm("layer1.0.bn2", 8),
    "layer2.0.conv1.weight": (12, 8, 3, 3),
    **norm("layer2.0.bn1", 12),
    "layer2.0.conv2.weight": (12, 12, 3, 3),
    **norm("layer2.0.bn2", 12),
    "layer2.0.downsample.0.weight": (12, 8, 1, 1),
    **norm("layer2.0.downsample.1", 12),
    "fc.weight": (10, 12),
    "fc.bias": (10,),
}
SMALL = Backbone(
    spec=ResNetSpec(depths=(1, 1), widths=(8, 12)),
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """resnet18 is a small one here."""
    monkeypatch.setitem(backbones.BACKBONES, "resnet18", SMALL)


def write(folder: Path, tensors: dict, config: dict | None = None, card: str = "") -> str:
    folder.mkdir(exist_ok=True)
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    if card:
        (folder / "README.md").write_text(card)
    return str(folder)


def test_every_tensor_has_its_place(tmp_path):
    """Convolutions land transposed, norms by name, and what is left out is said."""
    tensors = drawn.weights(SHAPES)
    weights = load(write(tmp_path, tensors), "resnet18")
    assert len(weights.arrays) == 6 + 6 * 4
    for ours, theirs in {
        "stem/conv/kernel": tensors["conv1.weight"].transpose(2, 3, 1, 0),
        "stem/norm/var": tensors["bn1.running_var"],
        "trunk/blocks/0/norms/1/scale": tensors["layer1.0.bn2.weight"],
        "trunk/blocks/1/convs/0/kernel": tensors["layer2.0.conv1.weight"].transpose(2, 3, 1, 0),
        "trunk/blocks/1/project/kernel": tensors["layer2.0.downsample.0.weight"].transpose(
            2, 3, 1, 0
        ),
        "trunk/blocks/1/project_norm/mean": tensors["layer2.0.downsample.1.running_mean"],
    }.items():
        np.testing.assert_array_equal(weights.arrays[ours], theirs)
    told = "; ".join(weights.notes)
    for part in ("bn1.num_batches_tracked", "layer*.*.bn*.num_batches_tracked (4)", "fc.weight"):
        assert part in told
    assert "does not say mean and std" in told
    assert (weights.mean, weights.image_size) == (SMALL.mean, 224)
    assert weights.licence == "unknown (ask the publisher)"


def changed(**changes) -> dict[str, np.ndarray]:
    tensors = drawn.weights(SHAPES)
    for name, value in changes.items():
        name = name.replace("__", ".")
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value
    return tensors


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        ({"bn1__weight": None}, ["missing: bn1.weight"]),
        ({"head__weight": np.ones((2, 2), np.float32)}, ["not of this backbone: head.weight"]),
        (
            {"conv1__weight": np.ones((8, 3, 3, 3), np.float32)},
            ["conv1.weight is (8, 3, 3, 3), expected (8, 3, 7, 7)"],
        ),
        ({"bn1__bias": np.ones(8, np.int32)}, ["bn1.bias is int32, expected floats"]),
        ({"bn1__bias": np.full(8, np.nan, np.float32)}, ["bn1.bias holds values that are not"]),
        (
            # Everything that is wrong is in one line.
            {
                "bn1__weight": None,
                "layer2__0__conv1__weight": None,
                "extra": np.ones(3, np.float32),
                "layer1__0__bn1__bias": np.ones(9, np.float32),
                "layer2__0__bn2__running_var": np.full(12, np.inf, np.float32),
            },
            [
                "missing: bn1.weight, layer2.0.conv1.weight",
                "not of this backbone: extra",
                "layer1.0.bn1.bias is (9,), expected (8,)",
                "layer2.0.bn2.running_var holds",
            ],
        ),
    ],
)
def test_what_does_not_fit_is_told_at_once(tensors, expected, tmp_path):
    """Missing, extra, of another size, not floats, not finite: one line with all of it."""
    source = write(tmp_path, changed(**tensors))
    with pytest.raises(WeightsError) as caught:
        load(source, "resnet18")
    message = str(caught.value)
    assert message.startswith(source) and "\n" not in message
    for part in expected:
        assert part in message


def test_another_network_is_recognised(tmp_path):
    """By its sizes, or by what stands beside it: the error says what to ask for."""
    source = write(tmp_path / "a", drawn.weights(SHAPES))
    with pytest.raises(WeightsError, match="not weights of vgg16, but of resnet18 by their sizes"):
        load(source, "vgg16")
    source = write(tmp_path / "b", drawn.weights(SHAPES), {"architecture": "resnet34"})
    with pytest.raises(WeightsError, match="weights of resnet34, not of resnet18; use --arch="):
        load(source, "resnet18")
    source = write(tmp_path / "c", drawn.weights(SHAPES), {"architecture": "resnet152"})
    with pytest.raises(WeightsError, match="weights of resnet152, .*that one is not supported"):
        load(source, "resnet18")


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_is_converted_and_said(dtype, tmp_path):
    """float16 and bfloat16 files give float32 of the same values, and a note."""
    exact = drawn.weights(SHAPES)
    halves = {n: a.astype(dtype) if a.dtype == np.float32 else a for n, a in exact.items()}
    weights = load(write(tmp_path, halves), "resnet18")
    assert {a.dtype for a in weights.arrays.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(
        weights.arrays["stem/norm/bias"], halves["bn1.bias"].astype(np.float32)
    )
    assert any(np.dtype(dtype).name in note and "float32" in note for note in weights.notes)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (lambda whole: whole[: len(whole) // 2], "damaged or cut short"),
        (lambda whole: whole[:-1], "damaged or cut short"),
        (lambda whole: b"", "damaged or cut short"),
        (lambda whole: b"PK" + whole, "damaged or cut short"),
    ],
)
def test_damaged_safetensors(content, expected, tmp_path):
    """Half a file, one byte less, nothing, something else: one line with the file's name."""
    path = Path(write(tmp_path, drawn.weights(SHAPES))) / "model.safetensors"
    path.write_bytes(content(path.read_bytes()))
    with pytest.raises(WeightsError, match=expected) as caught:
        load(str(path), "resnet18")
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


class Trap:
    """Unpickled, it would leave a trace."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return (Path.touch, (self.trace,))


def test_nothing_of_a_file_is_executed(tmp_path):
    """Pickled code in a .pth or an .npz is refused in one line, and does not run."""
    torch = pytest.importorskip("torch", reason="reading .pth needs torch")
    trace = tmp_path / "trace"
    torch.save({"conv1.weight": Trap(trace)}, tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(pickle.dumps(Trap(trace)))
    np.savez(tmp_path / "c.npz", a=np.array([Trap(trace)], dtype=object))
    (tmp_path / "d.npz").write_bytes(b"PK nothing")
    for name in ("a.pth", "b.pth", "c.npz", "d.npz"):
        with pytest.raises(WeightsError, match=name) as caught:
            load(str(tmp_path / name), "resnet18")
        assert "\n" not in str(caught.value)
    assert not trace.exists()


def test_torchvision_pth(tmp_path, monkeypatch):
    """A .pth gives what the same tensors in safetensors give; without torch it says so."""
    torch = pytest.importorskip("torch", reason="reading .pth needs torch")
    tensors = drawn.weights(SHAPES)
    half = torch.from_numpy(tensors["bn1.bias"]).to(torch.bfloat16)
    loaded = {n: torch.from_numpy(np.asarray(a)) for n, a in tensors.items()} | {"bn1.bias": half}
    torch.save({"state_dict": loaded}, tmp_path / "resnet.pth")
    tensors["bn1.bias"] = tensors["bn1.bias"].astype(ml_dtypes.bfloat16)
    one = load(str(tmp_path / "resnet.pth"), "resnet18")
    other = load(write(tmp_path / "b", tensors), "resnet18")
    for path, value in one.arrays.items():
        np.testing.assert_array_equal(value, other.arrays[path])
    assert one.notes == other.notes
    find = "sbir_jax.models.weight_files.importlib.util.find_spec"
    monkeypatch.setattr(find, lambda name: None)
    with pytest.raises(WeightsError, match="pickled by torch, which is not installed"):
        load(str(tmp_path / "resnet.pth"), "resnet18")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("nowhere.safetensors", "no such file"),
        (".", "holds neither weights.safetensors nor model.safetensors"),
        ("weights.h5", "unknown kind of file; valid: .safetensors, .npz, .pth"),
        ("hf:resnet50", "expected hf:OWNER/NAME"),
    ],
)
def test_sources_that_are_none(source, expected, tmp_path, monkeypatch):
    """A source that names nothing says what would."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.h5").touch()
    with pytest.raises(WeightsError, match=expected):
        load(source, "resnet18")


CONFIG = {
    "architecture": "resnet18",
    "pretrained_cfg": {
        "tag": "fb_swsl_ig1b_ft_in1k",
        "input_size": [3, 160, 160],
        "mean": [0.1, 0.2, 0.3],
        "std": [0.4, 0.5, 0.6],
    },
}


def test_the_hub(tmp_path, monkeypatch):
    """hf:OWNER/NAME downloads through huggingface_hub; not installed or offline is one line."""
    import importlib.util

    folder = Path(write(tmp_path, drawn.weights(SHAPES), CONFIG))
    asked = []

    def download(repository, name, revision=None):
        asked.append((repository, name, revision))
        if not (folder / name).exists():
            raise FileNotFoundError(name)
        return str(folder / name)

    fake = types.ModuleType("huggingface_hub")
    fake.hf_hub_download = download
    fake.__spec__ = importlib.util.spec_from_loader("huggingface_hub", None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    weights = load("hf:timm/resnet18.fb_swsl_ig1b_ft_in1k@v1", "resnet18")
    assert weights.mean == (0.1, 0.2, 0.3) and weights.image_size == 160
    assert weights.licence == "cc-by-nc-4.0 (no commercial use)"
    names = ["model.safetensors", "config.json", "README.md"]
    assert asked == [("timm/resnet18.fb_swsl_ig1b_ft_in1k", name, "v1") for name in names]

    def offline(*args, **kwargs):
        raise OSError("cannot reach the hub\nsecond line")

    fake.hf_hub_download = offline
    with pytest.raises(WeightsError, match="cannot be downloaded: OSError: cannot reach the hub"):
        load("hf:timm/resnet18.a1_in1k", "resnet18")

    class GatedRepoError(Exception):
        """As huggingface_hub names it."""

    def gated(*args, **kwargs):
        raise GatedRepoError("401 Client Error")

    fake.hf_hub_download = gated
    with pytest.raises(WeightsError, match="gated: accept its licence on the hub"):
        load("hf:timm/vit_small_patch16_dinov3.lvd1689m", "resnet18")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match=r"pip install 'sbir_jax\[weights\]'"):
        load("hf:timm/resnet18.a1_in1k", "resnet18")


def test_what_stands_beside_a_file_is_kept(tmp_path):
    """Mean, std, size and licence of config.json and the card; they outlive being saved."""
    card = "---\nlicense: mit\ntags:\n- timm\n---\n# A model\nlicense: nonsense\n"
    source = write(tmp_path / "in", drawn.weights(SHAPES), CONFIG, card)
    weights = load(source, "resnet18")
    assert weights.licence == "mit (no commercial use)"  # the tag is of weights that are not
    save(weights, tmp_path / "out")
    again = load(str(tmp_path / "out"), "resnet18")
    assert again.about() == weights.about()
    for path, value in weights.arrays.items():
        np.testing.assert_array_equal(value, again.arrays[path])
    with pytest.raises(WeightsError, match="weights of resnet18, not of resnet34"):
        load(str(tmp_path / "out"), "resnet34")
    about = json.loads((tmp_path / "out/weights.json").read_text())
    del about["mean"]
    (tmp_path / "out/weights.json").write_text(json.dumps(about))
    with pytest.raises(WeightsError, match="weights.json lacks mean"):
        load(str(tmp_path / "out"), "resnet18")


@pytest.mark.parametrize(
    ("tag", "declared", "expected"),
    [
        ("tv_in1k", "", "bsd-3-clause"),
        ("a1_in1k", "", "apache-2.0"),
        ("metaclip_400m", "", "cc-by-nc-4.0 (no commercial use)"),
        ("eupe_lvd1689m", "", "fair-noncommercial-research-license (no commercial use)"),
        ("dinov3_lvd1689m", "other", "other (gated"),
        ("clip_laion2b_augreg", "", "mit"),
        ("clip_laion2b_augreg_ft_in12k_in1k", "", "unknown"),
        ("", "CC-BY-NC-4.0", "CC-BY-NC-4.0 (no commercial use)"),
        ("", "", "unknown (ask the publisher)"),
    ],
)
def test_licences(tag, declared, expected):
    """Known tags and declared licences; those that forbid commercial use or are gated say so."""
    assert licence_of(tag, declared).startswith(expected)


@pytest.mark.parametrize("towers", ["dual", "stems", "shared"])
def test_all_towers_hold_the_published_values(towers, tmp_path):
    """Every stem and trunk is filled from the one file, heads are left, and pixels travel along."""
    weights = load(write(tmp_path, drawn.weights(SHAPES), CONFIG), "resnet18")
    config = ModelConfig(backbone="resnet18", towers=towers, embed_dim=4)
    _, *before = dual.build(config, jax.random.key(0), image_size=32)
    after = [by_path(tree) for tree in place(weights, *before)]
    heads = {n: v for n, v in by_path(before[0]).items() if n.startswith("heads")}
    assert heads and all(after[0][name] is value for name, value in heads.items())
    for tree in after:
        for name, value in tree.items():
            part, _, rest = name.partition("/")
            if part in ("stems", "trunks"):
                own = weights.arrays[f"{part[:-1]}/{rest.partition('/')[2]}"]
                np.testing.assert_array_equal(value, own)
    np.testing.assert_array_equal(after[1]["pixels/mean"], np.float32([0.1, 0.2, 0.3]))
    np.testing.assert_array_equal(after[1]["pixels/std"], np.float32([0.4, 0.5, 0.6]))


VIT = ViTSpec(patch=16, width=32, depth=2, heads=2, image_size=48)


@pytest.mark.parametrize(
    ("tag", "wanted", "given"), [("openai", "_quickgelu", ""), ("laion2b", "", "_quickgelu")]
)
def test_clip_weights_want_their_own_gelu(tag, wanted, given, tmp_path):
    """Weights that were trained with one GELU are not taken with the other."""
    config = {"architecture": "vit_base_patch32_clip_224", "pretrained_cfg": {"tag": tag}}
    source = write(tmp_path, {"cls_token": np.ones((1, 1, 4), np.float32)}, config)
    with pytest.raises(WeightsError, match=f"use --arch=vit_base_patch32_clip{wanted}$"):
        load(source, f"vit_base_patch32_clip{given}")


@pytest.mark.parametrize("pool", ["token", "map"])
@pytest.mark.parametrize("stacked", [False, True])
def test_big_vision_npz(pool, stacked, tmp_path, monkeypatch):
    """A file in big_vision's layout fills the same arrays as its tensors under timm's names."""
    spec = ViTSpec(patch=16, width=32, depth=2, heads=2, image_size=48, pool=pool)
    monkeypatch.setitem(backbones.BACKBONES, "vit_tiny_patch16", Backbone(spec=spec))
    shapes = VIT_SHAPES | (MAP_SHAPES if pool == "map" else {"cls_token": (1, 1, 32)})
    shapes["pos_embed"] = (1, 9 + (pool == "token"), 32)
    tensors = drawn.weights(shapes)
    np.savez(tmp_path / "vit.npz", **big_vision(tensors, heads=2, stacked=stacked))
    one = load(str(tmp_path / "vit.npz"), "vit_tiny_patch16")
    other = load(write(tmp_path / "b", tensors), "vit_tiny_patch16")
    assert one.arrays.keys() == other.arrays.keys()
    for path, value in one.arrays.items():
        np.testing.assert_array_equal(value, other.arrays[path], err_msg=path)
    assert any("params/t" in note for note in one.notes)
    if pool == "token":  # the class token's own position is in it
        np.testing.assert_array_equal(
            one.arrays["stem/class_token"],
            tensors["cls_token"][0] + tensors["pos_embed"][0, :1],
        )


def dense(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def layer_norm(name: str) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (32,), f"{name}.bias": (32,)}


VIT_SHAPES = {
    "patch_embed.proj.weight": (32, 3, 16, 16),
    "patch_embed.proj.bias": (32,),
    **layer_norm("norm"),
}
for _i in range(2):
    VIT_SHAPES |= layer_norm(f"blocks.{_i}.norm1") | layer_norm(f"blocks.{_i}.norm2")
    VIT_SHAPES |= dense(f"blocks.{_i}.attn.qkv", 32, 96) | dense(f"blocks.{_i}.attn.proj", 32, 32)
    VIT_SHAPES |= dense(f"blocks.{_i}.mlp.fc1", 32, 128) | dense(f"blocks.{_i}.mlp.fc2", 128, 32)
MAP_SHAPES = {
    "attn_pool.latent": (1, 1, 32),
    **dense("attn_pool.q", 32, 32),
    **dense("attn_pool.kv", 32, 64),
    **dense("attn_pool.proj", 32, 32),
    **layer_norm("attn_pool.norm"),
    **dense("attn_pool.mlp.fc1", 32, 128),
    **dense("attn_pool.mlp.fc2", 128, 32),
}


def big_vision(tensors: dict, *, heads: int, stacked: bool) -> dict[str, np.ndarray]:
    """timm's tensors as big_vision stores them, in the image tower of a pair."""
    found = {"params/t": np.ones(1, np.float32), "params/txt/head/bias": np.ones(4, np.float32)}

    def put(name: str, value: np.ndarray) -> None:
        found[f"params/img/{name}"] = value

    def put_dense(name: str, timm: str) -> None:
        put(f"{name}/kernel", tensors[f"{timm}.weight"].T)
        put(f"{name}/bias", tensors[f"{timm}.bias"])

    def put_norm(name: str, timm: str) -> None:
        put(f"{name}/scale", tensors[f"{timm}.weight"])
        put(f"{name}/bias", tensors[f"{timm}.bias"])

    def put_heads(name: str, weight: np.ndarray, bias: np.ndarray) -> None:
        put(f"{name}/kernel", weight.T.reshape(len(weight.T), heads, -1))
        put(f"{name}/bias", bias.reshape(heads, -1))

    def put_attention(name: str, parts: dict, proj: str) -> None:
        for part, (weight, bias) in parts.items():
            put_heads(f"{name}/{part}", weight, bias)
        weight = tensors[f"{proj}.weight"].T
        put(f"{name}/out/kernel", weight.reshape(heads, -1, weight.shape[-1]))
        put(f"{name}/out/bias", tensors[f"{proj}.bias"])

    def split(timm: str, parts: tuple[str, ...]) -> dict:
        cut = [np.split(tensors[f"{timm}.{leaf}"], len(parts)) for leaf in ("weight", "bias")]
        return dict(zip(parts, zip(*cut, strict=True), strict=True))

    put("embedding/kernel", tensors["patch_embed.proj.weight"].transpose(2, 3, 1, 0))
    put("embedding/bias", tensors["patch_embed.proj.bias"])
    put("pos_embedding", tensors["pos_embed"])
    if "cls_token" in tensors:
        put("cls", tensors["cls_token"])
    for i in range(2):
        block, timm = f"Transformer/encoderblock_{i}", f"blocks.{i}"
        put_norm(f"{block}/LayerNorm_0", f"{timm}.norm1")
        put_norm(f"{block}/LayerNorm_1", f"{timm}.norm2")
        put_dense(f"{block}/MlpBlock_0/Dense_0", f"{timm}.mlp.fc1")
        put_dense(f"{block}/MlpBlock_0/Dense_1", f"{timm}.mlp.fc2")
        parts = split(f"{timm}.attn.qkv", ("query", "key", "value"))
        attention = f"{block}/MultiHeadDotProductAttention_0"
        put_attention(attention, parts, f"{timm}.attn.proj")
    put_norm("Transformer/encoder_norm", "norm")
    if "attn_pool.latent" in tensors:
        pool = "MAPHead_0"
        put(f"{pool}/probe", tensors["attn_pool.latent"])
        parts = split("attn_pool.q", ("query",)) | split("attn_pool.kv", ("key", "value"))
        put_attention(f"{pool}/MultiHeadDotProductAttention_0", parts, "attn_pool.proj")
        put_norm(f"{pool}/LayerNorm_0", "attn_pool.norm")
        put_dense(f"{pool}/MlpBlock_0/Dense_0", "attn_pool.mlp.fc1")
        put_dense(f"{pool}/MlpBlock_0/Dense_1", "attn_pool.mlp.fc2")
    if stacked:
        apart = [name for name in found if "encoderblock_0/" in name]
        for name in apart:
            both = [found.pop(name.replace("encoderblock_0", f"encoderblock_{i}")) for i in (0, 1)]
            found[name.replace("encoderblock_0", "encoderblock")] = np.stack(both)
    return found


def test_positions_that_are_no_square(tmp_path, monkeypatch):
    """A ViT's positions must be those of a square of patches."""
    monkeypatch.setitem(backbones.BACKBONES, "vit_tiny_patch16", Backbone(spec=VIT))
    tensors = drawn.weights(VIT_SHAPES | {"pos_embed": (1, 8, 32), "cls_token": (1, 1, 32)})
    with pytest.raises(WeightsError, match="pos_embed holds 8 positions, which are no square"):
        load(write(tmp_path, tensors), "vit_tiny_patch16")


@pytest.mark.parametrize("count", [16, 49])
def test_positions_are_resampled_as_torch_does(count):
    """Bicubic and antialiased, from 5 x 5 to 4 x 4 and to 7 x 7."""
    torch = pytest.importorskip("torch", reason="parity with torch needs torch")
    from sbir_jax.models.weights import resample_positions

    positions = np.random.default_rng(0).standard_normal((25, 6), np.float32)
    side = round(count**0.5)
    grid = torch.from_numpy(positions).reshape(1, 5, 5, 6).permute(0, 3, 1, 2)
    wanted = torch.nn.functional.interpolate(
        grid, size=(side, side), mode="bicubic", antialias=True
    )
    wanted = wanted.permute(0, 2, 3, 1).reshape(count, 6).numpy()
    np.testing.assert_allclose(resample_positions(positions, count), wanted, atol=1e-5)


def test_default_pixels_change_nothing():
    """Mean and std of 0.5 give the first layer the -1..1 that it was always given, bit for bit."""
    config = ModelConfig(width=8, embed_dim=4)
    graphdef, params, state = dual.build(config, jax.random.key(0), image_size=32)
    images = jnp.asarray(drawn.images(32, 3) * 2 - 1)
    mean, std = (state["pixels"][name] for name in ("mean", "std"))
    np.testing.assert_array_equal(images * (0.5 / std) + (0.5 - mean) / std, images)
    assert dual.apply_embed(graphdef, params, state, images, "photo").shape == (2, 4)
