"""The two encoders of a run: sketches and photos into one embedding space.

`towers` says what they share: `dual` nothing; `stems` the trunk and head but not the stem;
`shared` everything (the lecture's siamese network: one encoder, called for both sides). Prompts, if
any, are of one side each, whatever is shared.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from sbir_jax.backbones import HALF, Spec, spec_of
from sbir_jax.config import ConfigError, ModelConfig
from sbir_jax.distances import sr_norm, unit
from sbir_jax.models.initial import lecun_normal
from sbir_jax.models.network import make_stem, make_trunk
from sbir_jax.models.norms import batch_norm
from sbir_jax.models.remat import through
from sbir_jax.models.vit import Trunk, repeat, tokens

MODALITIES: tuple[Literal["sketch", "photo"], ...] = ("sketch", "photo")
CHANNELS = {"sketch": 1, "photo": 3}


class Pixels(nnx.Variable):
    """Mean or standard deviation of RGB in 0..1 that the first layer expects: float32 [3].

    Not trained; part of the model's state, so that every checkpoint has them.
    """


class Head(nnx.Module):
    """Pooled features to embeddings, float32 [B, embed_dim], not yet normalised.

    The head `none` has no parameters: embeddings are the features.
    """

    def __init__(self, features: int, config: ModelConfig, *, rngs: nnx.Rngs):
        self.dropout = nnx.Dropout(config.dropout)
        self.is_mlp, self.is_none = config.head == "mlp", config.head == "none"
        if self.is_mlp:  # dense-norm-relu-dense, as in the lecture's code
            self.hidden = nnx.Linear(
                features, config.embed_dim, kernel_init=lecun_normal, rngs=rngs
            )
            self.norm = batch_norm(config.embed_dim, dtype=jnp.float32, rngs=rngs)
            features = config.embed_dim
        if not self.is_none:
            self.out = nnx.Linear(features, config.embed_dim, kernel_init=lecun_normal, rngs=rngs)

    def __call__(self, x: jax.Array, *, train: bool, rngs: nnx.Rngs | None) -> jax.Array:
        x = self.dropout(x, deterministic=not train, rngs=rngs)
        if self.is_none:
            return x
        if self.is_mlp:
            x = self.norm(self.hidden(x), train=train, relu=True)
        return self.out(x)


class DualEncoder(nnx.Module):
    """Embeds float32 sketches [B, S, S, 1] and photos [B, S, S, 3], in -1..1, S `image_size`.

    A published backbone sees a sketch in its three channels, as it would see a grey photo. A
    `shared` encoder also takes photos as queries, [B, S, S, 3] on both sides. With `headless`,
    `embed` stops before the head.
    """

    def __init__(self, config: ModelConfig, *, image_size: int, rngs: nnx.Rngs):
        spec = model_spec(config, image_size)
        dtype = jnp.dtype(config.dtype)
        self.normalise = {"unit": unit, "sr": sr_norm}[config.normalize]
        self.headless = False
        self.towers = config.towers
        self.live_norms = config.batch_norm == "live"
        self.remat = config.remat
        self.one_stem = config.towers == "shared"
        self.one_trunk = config.towers != "dual"
        # The small backbone has no published weights, and its sketch stem no use for colours.
        self.grey_stem = config.backbone == "patch_resnet" and not self.one_stem
        stem_names = ("both",) if self.one_stem else MODALITIES
        trunk_names = ("both",) if self.one_trunk else MODALITIES
        channels = CHANNELS if self.grey_stem else {}
        self.pixels = nnx.Dict({n: Pixels(jnp.array(HALF)) for n in ("mean", "std")})
        self.stems = nnx.Dict(
            {n: make_stem(channels.get(n, 3), spec, dtype=dtype, rngs=rngs) for n in stem_names}
        )
        self.trunks = nnx.Dict({n: make_trunk(spec, dtype=dtype, rngs=rngs) for n in trunk_names})
        self.heads = nnx.Dict({n: Head(spec.features, config, rngs=rngs) for n in trunk_names})
        self.prompted = config.prompts > 0
        if self.prompted:
            self.prompts = nnx.Dict(
                {n: tokens(config.prompts, spec.features, rngs=rngs) for n in MODALITIES}
            )

    def __call__(
        self, sketch: jax.Array, photo: jax.Array, *, train: bool, rngs: nnx.Rngs | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Embeddings of both sides, normalised, float32 [B, embed_dim] each.

        What is shared runs once over both sides joined: called twice, BatchNorm would train on
        each side's own statistics and then embed with the average of the two.
        """
        if self.one_trunk:
            if self.one_stem:
                maps = self._stem(jnp.concatenate([_rgb(sketch), photo]), "both", train)
            else:
                maps = jnp.concatenate(
                    [self._stem(sketch, "sketch", train), self._stem(photo, "photo", train)]
                )
            sides = {"sketch": len(sketch), "photo": len(photo)}
            both = self._finish(maps, "both", sides, train, rngs)
            return both[: len(sketch)], both[len(sketch) :]
        sketches, photos = (
            self._finish(self._stem(images, name, train), name, {name: len(images)}, train, rngs)
            for name, images in (("sketch", sketch), ("photo", photo))
        )
        return sketches, photos

    def embed(self, images: jax.Array, modality: str) -> jax.Array:
        """Embeddings of one side with running statistics: float32 [B, embed_dim], normalised.

        Of a `headless` model the trunk's pooled features, float32 [B, features], as they are.
        """
        if self.one_stem and modality == "sketch":
            images = _rgb(images)
        maps = self._stem(images, "both" if self.one_stem else modality, False)
        trunk = "both" if self.one_trunk else modality
        return self._finish(maps, trunk, {modality: images.shape[0]}, False, None)

    def _stem(self, images: jax.Array, name: str, train: bool) -> jax.Array:
        if images.shape[-1] != CHANNELS.get(name, 3):
            raise ConfigError(
                f"config.model.towers={self.towers!r}: the queries are photos, in colour, and "
                "share the photos' encoder; valid: shared"
            )
        if not self.grey_stem:
            images = _rgb(images)
        mean, std = (self.pixels[n][...][: images.shape[-1]] for n in ("mean", "std"))
        # From -1..1; written so that the default 0.5 and 0.5 leave every bit as it is.
        images = images * (0.5 / std) + (0.5 - mean) / std
        remat = self.remat if train else "none"
        return through(self.stems[name], images, remat=remat, train=train and self.live_norms)

    def _finish(
        self,
        maps: jax.Array,
        name: str,
        sides: dict[str, int],
        train: bool,
        rngs: nnx.Rngs | None,
    ) -> jax.Array:
        """Through a trunk and its head; `sides`: rows of each modality, in their order."""
        prompts = {}
        if self.prompted:
            rows = [repeat(self.prompts[side][...], count) for side, count in sides.items()]
            prompts = {"prompts": jnp.concatenate(rows)}
        options = {"train": train and self.live_norms, "remat": self.remat if train else "none"}
        features = self.trunks[name](maps, **options, **prompts)
        if self.headless:
            return features
        return self.normalise(self.heads[name](features, train=train, rngs=rngs))


def init_key(seed: int) -> jax.Array:
    """The key that draws a run's parameters, apart from the keys of its steps."""
    return jax.random.fold_in(jax.random.key(seed), 2**31)


def model_spec(config: ModelConfig, image_size: int) -> Spec:
    """What the backbone of a config is, at an image size in pixels."""
    return spec_of(
        config.backbone, image_size=image_size, width=config.width, lora_rank=config.lora_rank
    )


def build(
    config: ModelConfig, key: jax.Array, *, image_size: int
) -> tuple[nnx.GraphDef, dict, dict]:
    """Draws a model: (graph definition, parameters, other state), the last two pure dicts."""
    model = DualEncoder(config, image_size=image_size, rngs=nnx.Rngs(key))
    graphdef, params, state = nnx.split(model, nnx.Param, ...)
    return graphdef, nnx.to_pure_dict(params), nnx.to_pure_dict(state)


def define(config: ModelConfig, *, image_size: int, headless: bool = False) -> nnx.GraphDef:
    """The graph definition alone: how to put pure dicts back together. Allocates nothing.

    With `headless`, `apply_embed` gives pooled features instead of embeddings.
    """
    model = nnx.eval_shape(lambda: DualEncoder(config, image_size=image_size, rngs=nnx.Rngs(0)))
    model.headless = headless
    return nnx.split(model, nnx.Param, ...)[0]


def apply_train(
    graphdef: nnx.GraphDef,
    params: dict,
    state: dict,
    sketch: jax.Array,
    photo: jax.Array,
    *,
    key: jax.Array,
    fused: bool = True,
) -> tuple[tuple[jax.Array, jax.Array], dict]:
    """One training forward pass; returns ((sketch, photo) embeddings, updated state).

    Without `fused`, attention is products also where a kernel fits (`attention.fits_one_kernel`).
    """
    model = _merged(graphdef, params, state, fused)
    embeddings = model(sketch, photo, train=True, rngs=nnx.Rngs(dropout=key))
    return embeddings, nnx.to_pure_dict(nnx.state(model, nnx.Not(nnx.Param)))


def apply_embed(
    graphdef: nnx.GraphDef,
    params: dict,
    state: dict,
    images: jax.Array,
    modality: str,
    *,
    fused: bool = True,
) -> jax.Array:
    """One inference forward pass of one side; see `DualEncoder.embed`, and `apply_train`."""
    return _merged(graphdef, params, state, fused).embed(images, modality)


def _merged(graphdef: nnx.GraphDef, params: dict, state: dict, fused: bool) -> DualEncoder:
    model = nnx.merge(graphdef, params, state)
    for trunk in model.trunks.values():
        if isinstance(trunk, Trunk):
            trunk.fused = trunk.fused and fused
    return model


def _rgb(sketch: jax.Array) -> jax.Array:
    return jnp.broadcast_to(sketch, (*sketch.shape[:-1], 3))
