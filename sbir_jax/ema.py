"""The exponential moving average of a run's parameters, which is evaluated in their place.

It starts as the first parameters, and its decay warms up: min(decay, (1 + t) / (10 + t)) after t
earlier updates, the rule of TensorFlow's `ExponentialMovingAverage`, so that short runs do not end
with an average of their beginning. BatchNorm's statistics are averaged with it, as in EfficientNet
(Tan, Le, ICML 2019, its public code): those of the last few batches belong to other weights.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from sbir_jax.paths import replaced


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Average:
    """What is averaged.

    Attributes:
      params: {path: array} of the trained parameters of the model; frozen ones are their average.
      model_state: as the model's.
    """

    params: dict[str, jax.Array]
    model_state: Any

    def model(self, params: Any) -> tuple[Any, Any]:
        """The averaged model: all of `params` with the trained ones replaced, and its state."""
        return replaced(params, self.params), self.model_state


def update(average: Average, newest: Average, *, decay: float, count: jax.Array) -> Average:
    """The average with one more model, `newest`, after `count` (int32 []) earlier updates."""
    kept = jnp.minimum(decay, (1 + count) / (10 + count))
    # Written so that what does not change stays as it is, to the bit.
    return jax.tree.map(lambda old, new: old + (1 - kept) * (new - old), average, newest)
