"""`doctor`: the machine and the prepared datasets, looked over."""

from __future__ import annotations

from pathlib import Path

from sbir_jax.cli import Flag, Given, UsageError, Verb
from sbir_jax.verbs import runs


def doctor(given: Given, overrides: list[str]) -> None:
    """Look over the machine and the prepared datasets; the exit code is 1 if anything is wrong."""
    runs.ready_libraries()
    from data_prep.doctor import ProblemsFound, data_findings
    from data_prep.items import BadArgument
    from sbir_jax.machine import machine_findings

    problems = 0
    try:
        for findings in (
            machine_findings(),
            data_findings(Path(given["data_dir"]), given["protocol"]),
        ):
            for finding in findings:
                print(finding, flush=True)
                problems += finding.kind == "problem"
    except BadArgument as error:
        raise UsageError(str(error)) from error
    if problems:
        raise ProblemsFound(f"{problems} problem{'s' * (problems > 1)} found")


VERBS = {
    "doctor": Verb(
        doctor,
        {
            "data_dir": Flag("directory of prepared datasets", default="data"),
            "protocol": Flag("published protocol that has to be able to run"),
        },
        {"": "--data_dir=data"},
    )
}
