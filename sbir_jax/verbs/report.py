"""`report`: one page of a run or of several, with pictures; also at the end of training."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sbir_jax.cli import Flag, Given, UsageError, Verb, workdir_of
from sbir_jax.config import nearest
from sbir_jax.verbs import runs

if TYPE_CHECKING:
    from sbir_jax.config import RunConfig

_MAPS = ("pca", "tsne", "umap")


def report(given: Given, _overrides: list[str]) -> None:
    """Write one HTML page about a run, or about several beside each other, with its pictures."""
    if given["map"] not in _MAPS:
        raise UsageError(f"--map={given['map']}: {nearest(str(given['map']), _MAPS)}")
    evaluation = given["evaluation"]
    if given["workdirs"]:
        names = [name.strip() for name in given["workdirs"].split(",")]
        if not all(names):
            raise UsageError(
                f"--workdirs={given['workdirs']}: expected directories, as in runs/a,runs/b"
            )
        runs.ready_libraries()
        from sbir_jax.report.several import write_comparison

        out = Path(given["out"])
        written = write_comparison([*map(Path, names)], out, evaluation=evaluation)
    else:
        workdir = workdir_of(given)
        runs.ready_libraries()
        from sbir_jax.report.one import write_report

        written = write_report(workdir, evaluation=evaluation, method=given["map"])
    print(f"wrote {written} and its pictures")


def at_the_end(run: RunConfig, workdir: Path) -> None:
    """The report of a run that has just ended, measured on the validation split.

    It fails no run: an error becomes one line. The test split stays untouched.
    """
    import jax

    if jax.process_count() > 1:
        print(f"no report from many processes: python launch.py report --workdir={workdir}")
        return
    try:
        from sbir_jax.evaluate import evaluate_workdir
        from sbir_jax.report.one import write_report

        evaluate_workdir(workdir, checkpoint="best", split="val", run=run, quiet=True)
        print(f"wrote {write_report(workdir, evaluation='val/best')} and its pictures")
    except Exception as error:  # the run is safe; whatever a picture has met is worth one line
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"warning: no report: {reason}", file=sys.stderr)


VERBS = {
    "report": Verb(
        report,
        {
            "workdir": Flag("directory of a run; the page goes to WORKDIR/report/index.html"),
            "workdirs": Flag("A,B,...: compare runs; the first is the baseline"),
            "evaluation": Flag("entry of results.json (test/best if it is there, or val/best)"),
            "map": Flag("pca; tsne or umap (extra `maps`)", ("workdir",), "pca"),
            "out": Flag("directory of the page", ("workdirs",), "comparison"),
        },
        {
            "what a run has come to": "--workdir=runs/quickstart",
            "runs beside each other": "--workdirs=runs/a,runs/b --out=comparison",
        },
        modes=("workdir", "workdirs"),
    )
}
