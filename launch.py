"""Train and evaluate sketch-to-photo retrieval: python launch.py VERB --flag=value ...

A run is one config file, overrides of single settings, and a workdir that keeps all it makes:

  python launch.py train --config=configs/pacs_cpu.py --config.optim.lr=3e-4 --workdir=runs/a
  python launch.py evaluate --workdir=runs/a
"""

# The verbs are in sbir_jax/verbs/, reading the command line and help in sbir_jax/cli.py.

from __future__ import annotations

import sys

from sbir_jax import cli
from sbir_jax.verbs import RUN_ERRORS, VERBS, runs


def main(argv: list[str]) -> int:
    """Runs one command line (without the program's name); `cli.run` has the exit codes."""
    return cli.run(argv, VERBS, about=__doc__, configs=runs.CONFIGS, run_errors=RUN_ERRORS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
