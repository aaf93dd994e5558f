"""Sweeps: named, checked, resumed, counted; and one that really trains."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from pathlib import Path

import pytest
from tiny import tiny_run

import launch
from sbir_jax.config import ConfigError
from sbir_jax.sweep import SweepFailed, best_validation, run_sweep, subprocesses
from sbir_jax.sweep_points import name_of, safe, sweep_points

ROOT = Path(__file__).resolve().parents[1]
METRIC = "category/mAP@all"

CONFIG = '''"""A trial."""
from sbir_jax.config import default_config


def get_config():
    config = default_config()
    config.update_from_flattened_dict({changes})
    return config


def get_sweep():
    return {entries}
'''


def write(folder: Path, entries: str, changes: dict | None = None) -> str:
    path = folder / "trial.py"
    path.write_text(CONFIG.format(entries=entries, changes=changes or {}))
    return str(path)


def points_of(folder: Path, entries: str, tokens: tuple[str, ...] = ()):
    return sweep_points(write(folder, entries), folder, list(tokens))


FOUR = "[(n, {'optim.lr': lr, 'seed': s}) for n, lr in (('a', 1e-3), ('b', 2e-3)) for s in (0, 1)]"


class Played:
    """Stands in for training: writes what a run leaves, as a script of outcomes says."""

    def __init__(self, script: dict[str, list]) -> None:
        self.script, self.calls = script, []

    def __call__(self, verb, point, workdir, interrupts):
        self.calls.append((verb, point.name))
        outcome = self.script[point.name].pop(0)
        workdir.mkdir(parents=True, exist_ok=True)
        (workdir / "config.json").write_text(json.dumps(dataclasses.asdict(point.run)))
        if isinstance(outcome, tuple):
            return outcome
        lines = [
            {"step": 2, "kind": "val", METRIC: outcome - 0.1},
            {"step": 4, "kind": "val", METRIC: outcome},
            {"step": 6, "kind": "val", METRIC: outcome - 0.05},
        ]
        (workdir / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
        return 0, ""


def test_a_name_is_of_the_settings_and_not_of_their_order():
    """Hand-worked names; unsafe letters are replaced and told apart by a digest."""
    assert (
        name_of({"optim.lr": 0.003, "loss.name": "triplet", "seed": 4}) == "name=triplet,lr=0.003"
    )
    assert name_of({"loss.name": "x", "model.name": "y"}) == "loss.name=x,model.name=y"
    strange = [safe(name) for name in ("a/b", "a\\b", "a b", "../..", "é", "a" * 300)]
    assert len(set(strange)) == len(strange)
    for name in strange:
        assert len(name) <= 100 and name.isascii() and not set(name) & set('/\\ :*?"<>|')
        assert not name.startswith(".")
    assert safe("infonce") == "infonce"


@pytest.mark.parametrize(
    "entries, tokens, words",
    [
        ("[{'optim.lr': 1}, {'optim.rate': 1}]", [], "entry 1 .*no such setting"),
        ("[{'seed': 0}, {'data.batch_size': 'x'}]", [], "entry 1 .*batch_size"),
        ("[{'loss.name': 'none_such'}]", [], "entry 0 .*config.loss.name='none_such'"),
        ("[{'seed': 1}, {'seed': 1}]", [], "'seed=1' is there already"),
        ("[{'seed': [1]}]", [], "expected a number"),
        ("[3]", [], "expected a dict"),
        ("[]", [], "not a list of runs"),
        ("[{'seed': 1}]", ["--config.seed=2"], "config.seed=2: .* sets it too"),
        ("1 / 0", [], "line 12: ZeroDivisionError"),
    ],
)
def test_a_bad_sweep_is_refused_before_its_first_run(tmp_path, capsys, entries, tokens, words):
    """One line that names the entry; nothing is made."""
    with pytest.raises(ConfigError, match=words):
        points_of(tmp_path, entries, tokens)
    workdir = tmp_path / "s"
    argv = ["sweep", f"--config={tmp_path / 'trial.py'}", f"--workdir={workdir}", *tokens]
    assert launch.main(argv) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not workdir.exists()


def test_seeds_are_grouped_and_recipes_sorted(tmp_path, capsys):
    """Mean and standard deviation of hand-made scores; the better recipe comes first."""
    points = points_of(tmp_path, FOUR)
    played = Played({"a,seed=0": [0.3], "a,seed=1": [0.5], "b,seed=0": [0.6], "b,seed=1": [0.7]})
    outcomes = run_sweep(points, tmp_path / "s", played)
    assert {name: o["value"] for name, o in outcomes.items()} == {
        "a,seed=0": 0.3, "a,seed=1": 0.5, "b,seed=0": 0.6, "b,seed=1": 0.7,
    }  # fmt: skip
    lines = (tmp_path / "s/results.md").read_text().splitlines()
    assert lines[0] == f"| recipe | val {METRIC} | seeds |"
    a, b = statistics.stdev([0.3, 0.5]), statistics.stdev([0.6, 0.7])
    assert lines[2] == f"| b | 0.6500 ± {b:.4f} | 2 |"
    assert lines[3] == f"| a | 0.4000 ± {a:.4f} | 2 |"
    assert f"of {math.sqrt((a * a + b * b) / 2):.4f} (pooled)" in lines[-1]
    assert "\n".join(lines) in capsys.readouterr().out
    assert json.loads((tmp_path / "s/results.json").read_text()) == outcomes


def test_a_sweep_goes_on_after_failures_and_tries_them_again(tmp_path, capsys):
    """Failed and interrupted runs are told in the table; the next sweep repeats those alone."""
    points = points_of(tmp_path, FOUR)
    nan = (1, "launch.py: loss is nan at step 3")
    script = {"a,seed=0": [nan, 0.5], "a,seed=1": [0.5], "b,seed=0": [0.6], "b,seed=1": [nan, 0.7]}
    played = Played(script)
    with pytest.raises(SweepFailed, match=r"^2 of 4 runs failed: a,seed=0, b,seed=1; "):
        run_sweep(points, tmp_path / "s", played)
    text = (tmp_path / "s/results.md").read_text()
    assert "a,seed=0: failed: loss is nan at step 3" in text
    assert "| a | 0.5000 | 1 |" in text
    played.calls.clear()
    run_sweep(points, tmp_path / "s", played)
    assert played.calls == [("train", "a,seed=0"), ("train", "b,seed=1")]
    argv = ["sweep", f"--config={tmp_path / 'trial.py'}", f"--workdir={tmp_path / 's'}"]
    assert launch.main([*argv, "--dry_run"]) == 0
    out = capsys.readouterr().out
    assert out.count(": finished: ") == 4
    assert launch.main([*argv, "--dry_run", "--config.model.width=32"]) == 0
    assert capsys.readouterr().out.count(": to do: ") == 4


def test_the_best_validation_is_read_past_half_a_line(tmp_path):
    """Of steps 2, 4, 6 the best, null and a killed process's last line aside."""
    lines = ['{"step": 2, "kind": "val", "m": 0.2}', '{"step": 4, "kind": "val", "m": 0.4}']
    lines += ['{"step": 4, "kind": "train", "m": 9}', '{"step": 6, "kind": "val", "m": null}']
    (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 8, "ki']))
    assert best_validation(tmp_path, "m") == (0.4, 4)
    assert math.isnan(best_validation(tmp_path / "none", "m")[0])


LAUNCH_SMALL = """
import sys
sys.path[:0] = [{tests!r}, {root!r}]
import launch, tiny
with tiny.small_backbone():
    sys.exit(launch.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_sweep_trains_evaluates_and_tells_what_diverged(tiny_data, tmp_path):
    """Two real runs in processes of their own: one is measured on the test split, one diverges."""
    run = tiny_run(tiny_data)
    from sbir_jax.config import settings

    flat = {path: _get(run, path) for path, _ in settings()}
    wild = {
        "optim.name": "sgd", "optim.lr": 100.0, "optim.weight_decay": 10.0,
        "optim.warmup": "0 steps", "train.duration": "60 steps",
    }  # fmt: skip
    config = write(tmp_path, f"[('tame', {{'seed': 0}}), ('wild', {wild})]", flat)
    points = sweep_points(config, tmp_path, [])
    launcher = tmp_path / "start.py"
    launcher.write_text(LAUNCH_SMALL.format(tests=str(ROOT / "tests"), root=str(ROOT)))
    execute = subprocesses(launcher, config, [])
    with pytest.raises(SweepFailed, match="^1 of 2 runs failed: wild;"):
        run_sweep(points, tmp_path / "s", execute, evaluate=True)
    found = json.loads((tmp_path / "s/results.json").read_text())
    assert "at step" in found["wild"]["reason"] and found["wild"]["code"] == 1
    tame = tmp_path / "s/tame,seed=0"
    entry = json.loads((tame / "results.json").read_text())["test/best"]
    assert found["tame,seed=0"]["test"][METRIC] == entry["category"]["mAP@all"]["value"]
    assert (found["tame,seed=0"]["value"], found["tame,seed=0"]["step"]) == best_validation(
        tame, METRIC
    )


def _get(run, path):
    for name in path.split("."):
        run = getattr(run, name)
    return run
