"""Rematerialisation: which activations a block keeps for its gradient, and which it computes again.

Chen, Xu, Zhang, Guestrin, Training Deep Nets with Sublinear Memory Cost, 2016. The gradient is the
same; a step takes up to a third more arithmetic.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
from flax import nnx
from jax.extend.core.primitives import conv_general_dilated_p

_dots = jax.checkpoint_policies.dots_with_no_batch_dims_saveable


def _is_product(primitive: Any, *arguments: Any, **parameters: Any) -> bool:
    """Convolutions too: in a ResNet nothing else is expensive."""
    return primitive is conv_general_dilated_p or _dots(primitive, *arguments, **parameters)


_POLICIES = {"dots": _is_product, "blocks": jax.checkpoint_policies.nothing_saveable}


def through(block: nnx.Module, x: jax.Array, *, remat: str, **options: Any) -> jax.Array:
    """`block(x, **options)`, keeping for its gradient what `config.model.remat` says.

    What the block changes of itself, as BatchNorm its statistics, changes once.
    """
    if remat == "none":
        return block(x, **options)
    graphdef, params, rest = nnx.split(block, nnx.Param, ...)

    @functools.partial(jax.checkpoint, policy=_POLICIES[remat])
    def run(params: nnx.State, rest: nnx.State, x: jax.Array) -> tuple[jax.Array, nnx.State]:
        own = nnx.merge(graphdef, params, rest)
        return own(x, **options), nnx.state(own, nnx.Not(nnx.Param))

    y, rest = run(params, rest, x)
    nnx.update(block, rest)
    return y
