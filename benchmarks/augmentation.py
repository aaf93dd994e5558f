"""What augmentation costs a step: 64 pairs seen at 64 pixels, each setting switched on alone.

    python benchmarks/augmentation.py

Each program is run in turn, round by round, so that a busy moment falls on all of them; the best
round counts, and the time of the default settings is taken off. CPU time, of all cores, is what
to trust on a machine that others use. Results: docs/augmentation.md.
"""

from __future__ import annotations

import time

import jax
import numpy as np

from sbir_jax.backbones import BACKBONES
from sbir_jax.config import RunConfig
from sbir_jax.data_config import AugmentConfig, DataConfig
from sbir_jax.mining import Ids
from sbir_jax.models.compiling import compiler_options
from sbir_jax.step import seen

ROUNDS = 60
PAIRS, STORED = 64, 72
CASES = {
    "default": {},
    "blur": {"blur": 0.5},
    "erase": {"erase": 0.5},
    "thickness": {"thickness": 0.5},
    "stroke_dropout": {"stroke_dropout": 0.3},
    "partial": {"partial": 0.5},
    "pseudo": {"pseudo": 0.5},
}


def main() -> None:
    rng = np.random.default_rng(0)
    ids = Ids(np.zeros(PAIRS, np.int32), np.zeros(PAIRS, np.int32))
    batch = {
        side: rng.integers(0, 256, (PAIRS, STORED, STORED, channels)).astype(np.uint8)
        for side, channels in (("sketch", 1), ("photo", 3))
    }
    batch = jax.device_put(batch | {"sketch_ids": ids, "photo_ids": ids})
    programs, best = {}, {name: np.full(2, np.inf) for name in CASES}
    options = compiler_options(BACKBONES["patch_resnet"].spec, "cpu", deterministic=True)
    for name, changes in CASES.items():
        run = RunConfig(data=DataConfig(batch_size=PAIRS), augment=AugmentConfig(**changes))
        look = jax.jit(lambda key, batch, run=run: seen(run, key, {}, batch)[0])
        programs[name] = look.lower(jax.random.key(0), batch).compile(options)
    for turn in range(ROUNDS):
        for name, program in programs.items():
            start = clocks()
            jax.block_until_ready(program(jax.random.key(turn), batch))
            best[name] = np.minimum(best[name], clocks() - start)
    print("| setting | ms | CPU ms |\n|---|---|---|")
    for name, milliseconds in best.items():
        if CASES[name]:
            cells = [f"{more:+.1f}" for more in milliseconds - best["default"]]
        else:
            cells = [f"{whole:.1f}" for whole in milliseconds]
        print(f"| {name} | {' | '.join(cells)} |")


def clocks() -> np.ndarray:
    """Milliseconds that passed, and that this process computed for."""
    return 1000 * np.array([time.perf_counter(), time.process_time()])


if __name__ == "__main__":
    main()
