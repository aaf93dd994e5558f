"""Floating-point operations of a program's products and convolutions, counted from its trace.

A multiply-add is two operations. Nothing else is counted, as in the figures of papers: in a network
the rest is a few percent. XLA's own count is not used: for GPUs it has none before compiling.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn


def of_program(jaxpr: ClosedJaxpr) -> float:
    """Operations of one call, over all devices.

    Of a loop over an axis every turn counts, of one with a condition a single turn, of branches the
    dearest. A convolution's taps beyond the edge count, as everybody counts them; zeros between
    the pixels of a strided one's gradient do not.
    """
    return float(_of(jaxpr.jaxpr))


def _of(jaxpr: Jaxpr) -> int:
    return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation: JaxprEqn) -> int:
    name, options = equation.primitive.name, equation.params
    shapes: list[Any] = [
        getattr(x.aval, "shape", ()) for x in (*equation.invars, *equation.outvars)
    ]
    if name == "dot_general":
        (contracted, _), _ = options["dimension_numbers"]
        depth = math.prod(shapes[0][axis] for axis in contracted)
        return 2 * depth * math.prod(shapes[2])
    if name == "conv_general_dilated":
        kernel = options["dimension_numbers"].rhs_spec  # out, in, then space
        taps = math.prod(shapes[1][axis] for axis in kernel[1:])
        return 2 * taps * math.prod(shapes[2]) // math.prod(options["lhs_dilation"])
    if name.startswith("dot_product_attention_"):  # cuDNN's kernel, see `models.attention`
        batch, length, heads, size = shapes[0]  # of the queries; of the keys [B, S, heads, size]
        product = 2 * batch * heads * length * shapes[1][1] * size
        return product * (4 if "bwd" in name else 2)
    inner = [_of(of) for of in _inside(options.values())]
    if name == "cond":
        return max(inner)
    repeated = options.get("length", 1) if name == "scan" else 1
    if name == "shard_map":  # written for one device
        repeated = options["mesh"].size
    return repeated * sum(inner)


def _inside(values: Any) -> Iterator[Jaxpr]:
    for value in values:
        if isinstance(value, ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, Jaxpr):
            yield value
        elif isinstance(value, tuple | list):
            yield from _inside(value)
