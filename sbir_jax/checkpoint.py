"""Checkpoints of a run in `workdir/checkpoints/STEP`: the latest and the best are kept.

Each holds separate items: `params`, `model_state` and `ema`, which evaluation reads, and
`loss_params`, `opt_state`, `memory` and `sampler`, which only training needs. An item is a flat
dictionary from array path to array, which any Orbax reader can open. Saving is asynchronous; a
checkpoint exists once its directory has its final name.

Orbax keeps best-N *instead of* the latest unless told otherwise, and a resumed run would then
start from the wrong step; here both are always kept.
"""

from __future__ import annotations

import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from sbir_jax import hosts
from sbir_jax.checkpoint_errors import (
    CheckpointDamaged,
    CheckpointError,
    check_fits,
    unreadable,
    unsaved,
)
from sbir_jax.config import nearest
from sbir_jax.paths import by_path
from sbir_jax.seal import broken, write_seal

_policies = ocp.training.preservation_policies
_RESERVE = 1 << 20  # bytes; beside the arrays, for some 50 small files of a checkpoint and the logs


class Checkpoints:
    """The checkpoints of one workdir, ranked by one validation metric (higher is better)."""

    def __init__(self, workdir: Path, *, metric: str, read_only: bool = False):
        self.directory = Path(workdir).absolute() / "checkpoints"
        self.metric = metric
        if read_only and not self.directory.is_dir():
            raise CheckpointError(f"{workdir}: holds no checkpoints; `launch.py train` makes them")
        self._read_only = read_only
        self._sealer = ThreadPoolExecutor(1)
        self._sealing: Future | None = None
        self.moved: list[str] = []  # damaged checkpoints set aside on opening, in words
        try:
            self._orbax = self._open()
        except CheckpointDamaged:
            if read_only or not self._set_broken_aside():
                raise
            self._orbax = self._open()

    def _set_broken_aside(self) -> bool:
        """Whether a checkpoint is broken and another is whole; the broken ones are then moved."""
        folders = [p for p in self.directory.glob("*") if p.name.isdecimal()]
        reasons = {folder: broken(folder) for folder in folders}
        hosts.wait("looked for damage")
        if all(reasons.values()) or not any(reasons.values()):
            return False
        for folder, reason in reasons.items():
            if reason:
                place = _move_aside(folder)
                self.moved.append(f"{unreadable(folder, reason)}; moved to {place}")
        return True

    def _open(self) -> ocp.training.Checkpointer:
        # A run that was asked to stop saves between two validations, and has no score there.
        best = _policies.BestN(
            get_metric_fn=lambda metrics: metrics.get(self.metric, float("-inf")), n=1
        )
        try:
            return ocp.training.Checkpointer(
                self.directory,
                save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
                preservation_policy=_policies.AnyPreservationPolicy([_policies.LatestN(1), best]),
                # What a killed run left half-written. A reader lets it be: a run may be writing it.
                cleanup_tmp_directories=not self._read_only,
            )
        except Exception as error:  # it reads the metrics of every checkpoint
            raise unreadable(self.directory, error) from error

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: type | None, *_exc: object) -> None:
        self._sealer.shutdown()
        try:
            self._orbax.close()
        except Exception as error:  # the save under way failed
            if kind is None:
                raise unsaved(self.directory, error) from error

    def steps(self) -> dict[int, dict[str, float]]:
        """Saved steps, ascending, each with the metrics it was saved with."""
        return {c.step: dict(c.metrics or {}) for c in self._orbax.checkpoints}

    def find(self, which: str) -> int:
        """The step that 'best', 'latest' or a number names.

        Raises:
          CheckpointError: there is no such checkpoint; names those there are.
        """
        steps = self.steps()
        if not steps:
            raise CheckpointError(f"{self.directory}: no checkpoint has been saved yet")
        if which == "latest":
            return max(steps)
        if which == "best":
            return max(steps, key=lambda step: (steps[step].get(self.metric, float("-inf")), step))
        if not which.isdigit() or int(which) not in steps:
            raise CheckpointError(
                f"checkpoint {which!r}: {nearest(which, ['best', 'latest', *steps])}"
            )
        return int(which)

    def save(self, step: int, items: dict[str, Any], metrics: dict[str, float]) -> None:
        """Starts saving `items` (name to pytree of arrays) under `step`; returns at once.

        The arrays may be donated afterwards: Orbax has copied them when this returns.

        Raises:
          CheckpointError: the disk has no room for it, or the save before this one failed.
        """
        self.wait()
        flat = {name: by_path(tree) for name, tree in items.items()}
        self._check_room(step, flat)
        try:
            saving = self._orbax.save_checkpointables_async(
                step, {name: tree for name, tree in flat.items() if tree}, metrics=metrics
            )
        except Exception as error:
            raise unsaved(self.directory / str(step), error) from error
        self._sealing = self._sealer.submit(self._seal, saving, step)

    def _check_room(self, step: int, flat: dict[str, dict[str, Any]]) -> None:
        # Before anything is written: TensorStore's threads print tracebacks of their own where a
        # disk fills under them, and no hook of Python's sees those.
        need = _RESERVE + sum(a.nbytes for tree in flat.values() for a in tree.values())
        free = shutil.disk_usage(self.directory).free
        if free < need:
            mib = f"it takes {need / 2**20:,.1f} MiB and {free / 2**20:,.1f} MiB are free"
            raise unsaved(self.directory / str(step), f"no space left on the disk ({mib})")

    def wait(self) -> None:
        """Returns when the save under way, if any, is on disk.

        Raises:
          CheckpointError: it could not be saved, as where the disk is full.
        """
        if self._sealing is not None:
            sealing, self._sealing = self._sealing, None
            sealing.result()
        try:
            self._orbax.wait()
        except Exception as error:
            raise unsaved(self.directory, error) from error

    def set_aside(self, step: int) -> Path:
        """Moves a damaged checkpoint out of the way, to `damaged/STEP` beside it; returns where."""
        self._orbax.close()
        place = _move_aside(self.directory / str(step))
        self._orbax = self._open()
        return place

    def _seal(self, saving: Any, step: int) -> None:
        where = self.directory / str(step)
        try:
            saving.result()
            if hosts.is_first():
                write_seal(where)
        except Exception as error:
            raise unsaved(where, error) from error

    def restore(self, step: int, like: dict[str, Any]) -> dict[str, Any]:
        """Loads the items named by `like`, whose leaves say shape, dtype and sharding.

        Raises:
          CheckpointDamaged: its files are not those that were saved, or cannot be read.
          CheckpointError: the arrays of an item are not those of `like`.
        """
        wanted = {name: by_path(tree) for name, tree in like.items()}
        where = self.directory / str(step)
        if reason := broken(where, [name for name, arrays in wanted.items() if arrays]):
            raise unreadable(where, reason)
        try:
            stored = self._orbax.checkpointables_metadata(step).metadata or {}
        except Exception as error:  # ValueError, OSError, json, tensorstore, Orbax's own, ...
            raise unreadable(where, error) from error
        for name, arrays in wanted.items():
            if arrays and stored.get(name) is None:
                raise unreadable(where, f"item {name!r} is missing or damaged")
        check_fits(where, wanted, stored)
        try:
            loaded = self._orbax.load_checkpointables(step, {n: t for n, t in wanted.items() if t})
        except Exception as error:
            raise unreadable(where, error) from error
        return {
            name: jax.tree.unflatten(
                jax.tree.structure(tree), [loaded[name][p] for p in wanted[name]]
            )
            if wanted[name]
            else tree
            for name, tree in like.items()
        }


def restore_from(
    workdir: Path, which: str, like: dict[str, Any], *, metric: str
) -> tuple[int, dict[str, Any]]:
    """Opens a workdir for reading: the step that `which` names, and its items as in `like`.

    Raises:
      CheckpointError: as `Checkpoints`, `find` and `restore` do.
    """
    with Checkpoints(workdir, metric=metric, read_only=True) as checkpoints:
        step = checkpoints.find(which)
        return step, checkpoints.restore(step, like)


def _move_aside(folder: Path) -> Path:
    place = folder.parents[1] / "damaged" / folder.name
    while place.exists():
        place = place.with_name(place.name + "-again")
    hosts.wait("chose a place for what is damaged")
    if hosts.is_first():
        place.parent.mkdir(exist_ok=True)
        folder.rename(place)
    hosts.wait("moved what is damaged")
    return place
