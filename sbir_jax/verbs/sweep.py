"""`sweep`: the runs that a config file asks for, one after another, and a table of them."""

from __future__ import annotations

from sbir_jax.cli import Flag, Given, UsageError, Verb, make_directory, workdir_of
from sbir_jax.lock import only_run_in
from sbir_jax.verbs import runs


def sweep(given: Given, overrides: list[str]) -> None:
    """Train every run that get_sweep() of a config names, and compare them in a table."""
    workdir = workdir_of(given)
    if not given["config"]:
        raise UsageError("missing --config=FILE, which defines get_sweep() beside get_config()")
    from sbir_jax.sweep import is_finished, run_sweep, stored_outcomes, subprocesses
    from sbir_jax.sweep_points import sweep_points

    points = sweep_points(given["config"], runs.CONFIGS, overrides)
    if given["dry_run"]:
        outcomes = stored_outcomes(workdir)
        for point in points:
            done = is_finished(point, workdir, outcomes, evaluate=given["evaluate"])
            print(f"{point.name}: {'finished' if done else 'to do'}: {' '.join(point.tokens)}")
        print(f"{len(points)} runs; nothing was written")
        return
    make_directory("workdir", workdir)
    runs.ready_libraries()
    runs.draw_demo_once(points[0].run)
    execute = subprocesses(runs.CONFIGS.parent / "launch.py", given["config"], overrides)
    with only_run_in(workdir):
        run_sweep(points, workdir, execute, evaluate=given["evaluate"])


VERBS = {
    "sweep": Verb(
        sweep,
        {
            "config": Flag("config file with get_sweep() (required)"),
            "workdir": Flag("directory of the sweep: a workdir a run, and results.md (required)"),
            "evaluate": Flag("also measure each best checkpoint on the test split", (), False),
            "dry_run": Flag("list the runs and stop", (), False),
        },
        {"": "--config=configs/sweep_losses.py --workdir=runs/losses"},
    )
}
