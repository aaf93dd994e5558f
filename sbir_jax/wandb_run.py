"""Weights & Biases beside `metrics.jsonl`, for who asks for it: `config.train.wandb`.

The names are those of the JSON lines. `wandb.json` in the workdir keeps the run's id, so that a
continued run goes on in the same one there. With WANDB_MODE=offline nothing leaves the machine:
the files are in `workdir/wandb`, and `wandb sync` sends them later.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from sbir_jax.workdir import write_json


class WandbError(RuntimeError):
    """W&B is asked for and cannot be used; the message says what to do."""


class WandbRun:
    """One run there; as a context it is finished with exit code 1 if its block raises.

    Raises:
      WandbError: the package is missing, or W&B refuses to start (as without an API key).
    """

    def __init__(self, project: str, workdir: Path, settings: Mapping[str, Any]) -> None:
        try:
            import wandb
        except ImportError as error:
            raise WandbError(
                f"config.train.wandb={project!r}: needs W&B; pip install 'sbir_jax[wandb]'"
            ) from error
        path = Path(workdir) / "wandb.json"
        try:
            run_id = json.loads(path.read_text())["id"]
        except (OSError, ValueError, KeyError, TypeError):
            run_id = secrets.token_hex(8)
            write_json(path, {"project": project, "id": run_id})
        try:
            self._run = wandb.init(
                project=project,
                id=run_id,
                name=Path(workdir).name,
                resume="allow",
                dir=str(workdir),
                config=dict(settings),
                settings=wandb.Settings(silent=True, console="off"),
            )
        except Exception as error:  # of its own kinds, which change between versions
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise WandbError(
                f"config.train.wandb={project!r}: {first}; WANDB_MODE=offline needs no account"
            ) from error
        # Steps of a run that was killed come twice; W&B's own counter would refuse the second.
        self._run.define_metric("*", step_metric="step")

    def __enter__(self) -> WandbRun:
        return self

    def __exit__(self, kind: type | None, _error: object, _trace: TracebackType | None) -> None:
        self._run.finish(exit_code=1 if kind else 0)

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Sends the numbers of a step."""
        self._run.log({"step": step, **numbers})
