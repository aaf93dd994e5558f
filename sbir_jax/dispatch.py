"""Which steps of a run are sent to the devices together, as one program.

Sending a program takes the host a while, whatever the program does. Where a step of a small model
takes an accelerator less than that, `config.train.steps_per_dispatch` steps go at once: a loop over
their batches, on the device (`step.make_train_step`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax

from sbir_jax.config import ConfigError


@dataclasses.dataclass(frozen=True)
class Dispatches:
    """The steps of a run, `most` at a time: counted from the validation before.

    A dispatch never goes past a validation or the end of the run; what is left before one goes
    step by step, so that there are at most two programs. What goes together is a function of the
    step alone, so that a run which continues takes its steps as if it had never stopped.

    Attributes:
      total: steps of the run.
      eval_every: steps between two validations.
      most: steps of a whole dispatch.
    """

    total: int
    eval_every: int
    most: int

    def check(self) -> None:
        """Raises `ConfigError` if no dispatch could ever be whole."""
        interval = min(self.eval_every, self.total)
        if self.most > interval:
            raise ConfigError(
                f"config.train.steps_per_dispatch={self.most}: at most the {interval} steps to the "
                "next validation (config.train.eval_every) or the end (config.train.duration)"
            )

    def together(self, taken: int) -> int:
        """How many steps go together when `taken` of the run have been: `most`, or 1."""
        since = taken % self.eval_every
        left = min(self.eval_every - since, self.total - taken)
        return self.most if since % self.most == 0 and self.most <= left else 1

    def after(self, taken: int) -> Iterator[range]:
        """The steps of each dispatch, counted from 1, when `taken` of the run have been."""
        while taken < self.total:
            count = self.together(taken)
            yield range(taken + 1, taken + count + 1)
            taken += count

    def sizes(self, taken: int) -> list[int]:
        """The different sizes of those dispatches, the largest first."""
        return sorted({len(steps) for steps in self.after(taken)}, reverse=True)


def one(batches: dict[str, Any], place: int) -> dict[str, Any]:
    """The batch of one step, [B, ...], of the stacked ones of a dispatch, [n, B, ...]."""
    return jax.tree.map(lambda x: x[place], batches)
