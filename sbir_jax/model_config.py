"""The settings of the two encoders: backbone and its weights, what they share, head, adapters."""

from __future__ import annotations

import dataclasses

from sbir_jax.backbones import BACKBONES, ResNetSpec, ViTSpec, spec_of
from sbir_jax.setting import ConfigError, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The two encoders."""

    backbone: str = setting(
        "patch_resnet",
        "patch_resnet is the small one for CPUs; the others are timm's of that name (ViTs without "
        "the input size)",
        choices=tuple(BACKBONES),
    )
    weights: str = setting(
        "",
        "published weights that a run starts from: a file, what `launch.py weights` wrote, or "
        "hf:OWNER/NAME (empty: random)",
    )
    width: int = setting(
        64, "channels of the first stage of patch_resnet (the others are fixed)", low=8, high=512
    )
    towers: str = setting(
        "dual",
        "dual: two encoders; shared: one (siamese); stems: own stems, shared trunk",
        choices=("dual", "shared", "stems"),
    )
    head: str = setting(
        "linear",
        "linear, dense-norm-relu-dense, or none: embeddings are the pooled features",
        choices=("linear", "mlp", "none"),
    )
    embed_dim: int = setting(128, "embedding dimensions", low=2, high=8192)
    normalize: str = setting(
        "unit",
        "unit: divide by the L2 norm; sr: signed square root first (sr_norm)",
        choices=("unit", "sr"),
    )
    dropout: float = setting(0.0, "share of pooled features dropped", low=0.0, high=0.9)
    batch_norm: str = setting(
        "live",
        "BatchNorm of the backbone; live: trains on the statistics of each batch; frozen: on the "
        "running ones, which stay as they are",
        choices=("live", "frozen"),
    )
    prompts: int = setting(
        0, "learned tokens of each side, appended to the input of a ViT's trunk", low=0, high=256
    )
    lora_rank: int = setting(
        0, "rank of the low-rank updates of a ViT's attention (0: none)", low=0, high=256
    )
    dtype: str = setting(
        "float32",
        "activations; parameters and embeddings are always float32",
        choices=("float32", "bfloat16"),
    )
    remat: str = setting(
        "none",
        "activations kept for the gradient; none: all; dots: products and convolutions, the rest "
        "is computed again; blocks: the input of each block, all else is computed again",
        choices=("none", "dots", "blocks"),
    )


def check(model: ModelConfig, *, image_size: int, from_scratch: bool) -> None:
    """What can be checked without JAX.

    Args:
      model: the settings.
      image_size: side in pixels of what the encoders see.
      from_scratch: the run starts from neither weights nor another run.

    Raises:
      ConfigError: settings that do not fit the backbone.
    """
    spec = BACKBONES[model.backbone].spec
    if isinstance(spec, ViTSpec) and image_size % spec.patch:
        raise ConfigError(
            f"config.data.image_size={image_size}: must be a multiple of {spec.patch}, the patches "
            f"of {model.backbone}"
        )
    if not isinstance(spec, (ViTSpec, ResNetSpec)) and image_size < 32:
        raise ConfigError(f"config.data.image_size={image_size}: at least 32 for {model.backbone}")
    for name in ("prompts", "lora_rank"):
        if getattr(model, name) and not isinstance(spec, ViTSpec):
            raise ConfigError(
                f"config.model.{name}={getattr(model, name)}: {model.backbone} is no ViT; valid: 0"
            )
    if model.weights and model.backbone == "patch_resnet":
        raise ConfigError(
            f"config.model.weights={model.weights!r}: nobody publishes weights of patch_resnet; "
            "choose another config.model.backbone"
        )
    if model.batch_norm == "frozen" and from_scratch:
        raise ConfigError(
            "config.model.batch_norm='frozen': from scratch there are no statistics to keep; set "
            "config.model.weights or config.train.init_from"
        )
    features = spec_of(model.backbone, image_size=image_size, width=model.width).features
    if model.head == "none" and model.embed_dim != features:
        raise ConfigError(
            f"config.model.embed_dim={model.embed_dim}: without a head it must be the {features} "
            f"features of {model.backbone}"
        )
