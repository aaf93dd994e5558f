"""A dry run shows what training would do and writes nothing; a run is repeated from its workdir."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny import TINY, assert_same_run, metric_lines, tiny_run

import launch
from sbir_jax import environment
from sbir_jax.config import ConfigError
from sbir_jax.dry_run import dry_run
from sbir_jax.train import train

pytestmark = pytest.mark.usefixtures("small_model")


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of every file."""
    files = [p for p in folder.rglob("*") if p.is_file()]
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in files}


def test_a_dry_run_takes_the_first_step_of_training_and_writes_nothing(
    finished, tiny_data, tmp_path, mesh, capsys, monkeypatch
):
    """The first loss is that of the run, the parts add up to its parameters, no file appears."""
    run, workdir = finished
    data = shutil.copytree(tiny_data, tmp_path / "data")  # without the cache of other tests
    shutil.rmtree(data / f"{TINY}/cache", ignore_errors=True)
    run = dataclasses.replace(run, data=dataclasses.replace(run.data, dir=str(data)))
    monkeypatch.chdir(tmp_path)
    before = contents(tmp_path)
    found = dry_run(run, tmp_path / "run", mesh=mesh)
    assert contents(tmp_path) == before
    assert not (tmp_path / "run").exists()
    lines = metric_lines(workdir)
    assert found["loss"][0] == pytest.approx(lines[0]["loss"], rel=1e-5)
    assert found["loss"][1] != found["loss"][0] and found["s_per_step"] > 0
    out = capsys.readouterr().out
    total = sum(found["parameters"].values())
    assert f"; {total:,} parameters trained, 0 frozen; 1 x cpu" in out
    for words in ("uint8[8, 36, 36, 3]", "stems/sketch", "the last took", "MiB", "6 steps of"):
        assert words in out


def test_a_dry_run_refuses_what_training_refuses(finished, tiny_data, mesh):
    """A batch over the devices, and a workdir that holds another run."""
    with pytest.raises(ConfigError, match=r"^config.data.batch_size=12: .* 8 devices"):
        dry_run(tiny_run(tiny_data, {"data.batch_size": 12}))
    _, workdir = finished
    with pytest.raises(ConfigError, match="other settings: config.seed=5"):
        dry_run(tiny_run(tiny_data, {"seed": 5}), workdir, mesh=mesh)


@pytest.mark.parametrize(
    "argv, words",
    [
        (["--from=a", "--workdir=a"], "--from=a: is --workdir itself"),
        (["--from=a", "--workdir=b"], "--from=a: no run there"),
        (["--from=a", "--workdir=b", "--config=x.py"], "one of them, not both"),
        (["--dry_run", "--profile=1:2", "--config=configs/quickstart.py"], "without --dry_run"),
    ],
)
def test_flags_that_contradict_are_one_line(argv, words, capsys):
    """Exit code 2, and what is wrong."""
    assert launch.main(["train", *argv]) == 2
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1


def test_a_run_is_repeated_from_its_workdir(finished, tmp_path, mesh, capsys):
    """What config.json and environment.json keep is enough: bit-equal; other images are refused."""
    run, workdir = finished
    from sbir_jax.config import resolve
    from sbir_jax.overrides import stored_config

    train(resolve(stored_config(workdir)), tmp_path / "again", mesh=mesh, source=workdir)
    assert "not as it was started" not in capsys.readouterr().err
    assert_same_run(tmp_path / "again", workdir)
    [entry] = environment.starts(tmp_path / "again")
    assert entry["seed"] == run.seed
    assert entry["packages"]["numpy"] == np.__version__
    assert entry["devices"] == {"kind": "cpu", "count": 1, "processes": 1}
    assert "python" in entry["command"] and entry["python"].startswith("3.")
    assert entry["git"] is None or len(entry["git"]["commit"]) == 40
    other = shutil.copytree(workdir, tmp_path / "other")
    (other / "dataset.json").write_text('{"name": "tiny", "fingerprint": "of another"}')
    with pytest.raises(ConfigError, match="a run on other images"):
        train(run, tmp_path / "third", mesh=mesh, source=other)
    assert not (tmp_path / "third").exists()
