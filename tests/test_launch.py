"""The command line: it teaches, it overrides, and every mistake is one line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import types
from dataclasses import asdict
from pathlib import Path

import pytest
from front_door import ROOT, error_line, launch

from sbir_jax.config import RunConfig, settings
from sbir_jax.verbs import runs

CONFIG = '''"""A trial run.

More about it.
"""
from sbir_jax.config import default_config


def get_config():
    config = default_config()
    config.data.name = "pacs"
    config.optim.lr = 0.5
    return config
'''


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A directory with configs/trial.py, as the current one; no verb reaches real training."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/trial.py").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs, "CONFIGS", tmp_path / "configs")
    return tmp_path


@pytest.fixture
def calls(monkeypatch):
    """Stands in for the modules behind the verbs, and records what they are called with."""
    made = []

    def record(*args, **kwargs):
        made.append((args, kwargs))
        return {}

    class TrainingDiverged(RuntimeError):
        pass

    for name, members in {
        "sbir_jax.train": {"train": record, "TrainingDiverged": TrainingDiverged},
        "sbir_jax.evaluate": {"evaluate_workdir": record},
        "sbir_jax.bare": {"evaluate_embeddings": record},
        "sbir_jax.compare": {"compare_evaluations": record},
        "data_prep.prepare": {"prepare": record},
    }.items():
        monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(**members))
    return made


# Help


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"], ["help"]])
def test_help_teaches_verbs_examples_and_configs(argv, here, capsys):
    """Whoever types nothing, or asks, sees each verb with an example, and the configs."""
    assert launch.main(argv) == 0
    text = capsys.readouterr().out
    for verb in ("train", "evaluate", "configs", "show"):
        assert f"\n  {verb} " in text
        assert f"python launch.py {verb}" in text
    assert "configs/trial.py  A trial run." in text


@pytest.mark.parametrize("argv", [["train", "--help"], ["train", "-h"], ["help", "train"]])
def test_verb_help_names_flags_overrides_and_an_example(argv, capsys):
    """Help of a verb says its flags, how to override, and where all settings are shown."""
    assert launch.main(argv) == 0
    text = capsys.readouterr().out
    for part in ("--config ", "--workdir ", "--config.data.batch_size=128", "launch.py show"):
        assert part in text
    assert "python launch.py train --config=" in text


def test_evaluate_help_shows_each_way_to_evaluate(capsys):
    """Help of evaluate groups its flags by what they go with, and has an example of each way."""
    assert launch.main(["evaluate", "--help"]) == 0
    text = capsys.readouterr().out
    for start in ("--workdir=", "--queries=", "--compare="):
        assert f"  python launch.py evaluate {start}" in text
    groups = {part.splitlines()[0]: part for part in text.split("\n\n")}
    assert "--seen_gallery" in groups["With --queries:"]
    assert "--metrics" in groups["With --workdir or --queries:"]
    assert max(map(len, text.splitlines())) <= 100


def test_config_files_that_help_names_exist(capsys):
    """Each example of the help can be typed as it stands."""
    assert launch.main(["help"]) == 0
    named = set(re.findall(r"configs/\w+\.py", capsys.readouterr().out))
    assert named
    assert [path for path in sorted(named) if not (ROOT / path).is_file()] == []


def test_verb_help_wins_over_other_flags(capsys):
    """Asking for help in the middle of a half-typed command gives help, not an error."""
    assert launch.main(["evaluate", "--checkpont=best", "--help"]) == 0
    assert "--checkpoint" in capsys.readouterr().out


def test_configs_lists_files_without_running_them(here, capsys):
    """`configs` reads docstrings only, so that a file that fails is still listed."""
    (here / "configs/raising.py").write_text('"""Raises."""\nraise RuntimeError\n')
    (here / "configs/broken.py").write_text("def get_config(:\n")
    (here / "configs/silent.py").write_text("x = 1\n")
    (here / "configs/_shared.py").write_text('"""Not a run."""\n')
    assert launch.main(["configs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [
        f"configs/{name}.py" for name in ("broken", "raising", "silent", "trial")
    ]
    assert "line 1" in lines[0]
    assert lines[1].endswith("Raises.")
    assert lines[2].endswith("(no docstring)")


def test_the_projects_own_configs_are_valid(capsys):
    """Every file in configs/ resolves and has a docstring to be listed by."""
    for path in sorted((ROOT / "configs").glob("[!_]*.py")):
        assert launch.main(["show", f"--config={path}"]) == 0, capsys.readouterr().err
    assert launch.main(["configs"]) == 0
    assert "(no docstring)" not in capsys.readouterr().out


# Show


def row(text: str, group: str, name: str) -> str:
    section = text.split(f"\n{group}: ")[1].split("\n\n")[0]
    return next(line for line in section.splitlines() if line.split()[:1] == [name])


def test_show_tells_default_file_and_override_apart(here, capsys):
    """Of a setting changed twice all three values are shown; of an unchanged one the default."""
    assert launch.main(["show", "--config=configs/trial.py", "--config.optim.lr=3e-4"]) == 0
    text = capsys.readouterr().out
    assert row(text, "optim", "lr").split()[:4] == ["lr", "0.001", "0.5", "0.0003"]
    assert row(text, "data", "name").split()[:3] == ["name", "'demo'", "'pacs'"]
    header = text.splitlines()[0]
    assert row(text, "data", "name").index("'pacs'") == header.index("config file")
    assert row(text, "optim", "lr").index("0.0003") == header.index("override")
    assert row(text, "optim", "momentum").split()[:3] == ["momentum", "0.9", "momentum"]


def test_show_explains_every_setting_and_its_valid_values(capsys):
    """`show` alone is the reference: each setting with meaning, choices or range."""
    assert launch.main(["show"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for _, field in settings():
        limits = field.metadata
        assert limits["doc"] in text
        if limits["choices"]:
            assert f"[{' | '.join(limits['choices'])}]" in text


def test_show_reads_the_config_of_a_run(here, capsys):
    """`show --workdir` shows what a run used; settings newer than the run have defaults."""
    stored = asdict(RunConfig())
    stored["seed"] = 17
    del stored["optim"]["momentum"]
    (here / "config.json").write_text(json.dumps(stored))
    assert launch.main(["show", "--workdir=."]) == 0
    text = capsys.readouterr().out
    assert text.splitlines()[1].split()[:3] == ["seed", "0", "17"]


@pytest.mark.parametrize(
    "token, group, name, shown",
    [
        ("--config.data.batch_size=1e3", "data", "batch_size", "1000"),
        ("--config.optim.lr=2", "optim", "lr", "2.0"),
        ("-config.model.head=mlp", "model", "head", "'mlp'"),
        ("--config.train.duration=30 epochs", "train", "duration", "'30"),
    ],
)
def test_overrides_are_typed_by_the_setting(token, group, name, shown, capsys):
    """An override takes the type of its setting; a whole number may be written 1e3."""
    assert launch.main(["show", token]) == 0
    assert shown in row(capsys.readouterr().out, group, name).split()[2:5]


def test_override_value_may_follow_its_flag(capsys):
    """`--config.optim.lr 2e-4` is `--config.optim.lr=2e-4`."""
    assert launch.main(["show", "--config.optim.lr", "2e-4"]) == 0
    assert "0.0002" in row(capsys.readouterr().out, "optim", "lr")


# Mistakes


@pytest.mark.parametrize(
    "argv, parts",
    [
        (["trian"], ["'trian'", "did you mean 'train'", "evaluate"]),
        (["help", "trian"], ["'trian'", "did you mean 'train'"]),
        (["show", "--cofig=x"], ["--cofig=x", "did you mean '--config'"]),
        (["evaluate", "--workdri=a"], ["--workdri=a", "did you mean '--workdir'"]),
        (["show", "--optim.lr=3"], ["--optim.lr=3", "did you mean --config.optim.lr"]),
        (["configs", "--config=x"], ["--config=x", "no such flag of configs"]),
        (["configs", "all"], ["'all'"]),
        (["show", "all"], ["'all'", "--name=value"]),
        (["show", "--", "--config.seed=1"], ["'--config.seed=1'"]),
        (["train"], ["--workdir"]),
        (["train", "--workdir=runs/a"], ["--config", "configs/trial.py"]),
        (["train", "--config=configs/trial.py"], ["--workdir"]),
        (["train", "--config=configs/trial.py", "--workdir"], ["--workdir"]),
        (["train", "--workdir", "--config=configs/trial.py"], ["missing value", "--workdir"]),
        (["show", "--config=nope.py"], ["--config=nope.py", "configs/trial.py"]),
        (["show", "--config=configs/trail.py"], ["did you mean 'configs/trial.py'"]),
        (["show", "--config=configs"], ["--config=configs", "configs/trial.py"]),
        (["show", "--config=configs/trial.py:big"], ["configs/trial.py", "get_config()"]),
        (["show", "--config=a.py", "--config=b.py"], ["--config=b.py", "already defined as a.py"]),
        (["show", "--config=a.py", "--workdir=b"], ["--config", "--workdir", "not both"]),
        (["show", "--config.seed=1", "--config.seed=2"], ["--config.seed=2", "already"]),
        (["show", "--config.optim.lrr=3"], ["optim.lrr=3", "did you mean --config.optim.lr?"]),
        (["show", "--config.optimm.lr=3"], ["optimm.lr=3", "did you mean --config.optim.lr?"]),
        (["show", "--config.lr=3"], ["config.lr=3", "did you mean --config.optim.lr?"]),
        (["show", "--config.xyz=3"], ["config.xyz=3", "valid: augment, data, eval"]),
        (["show", "--config.optim.lr.x=3"], ["optim.lr.x=3", "no such setting"]),
        (["show", "--config.optim=3"], ["config.optim=3", "a group", "optim.weight_decay"]),
        (["show", "--config.seed=1.5"], ["config.seed=1.5", "whole number"]),
        (["show", "--config.seed=abc"], ["config.seed=abc", "number"]),
        (["show", "--config.seed=inf"], ["config.seed=inf", "whole number"]),
        (["show", "--config.seed="], ["config.seed=", "number"]),
        (["show", "--config.seed"], ["--config.seed"]),
        (["show", "--config.data.batch_size=1.5e0"], ["batch_size=1.5e0", "whole number"]),
        (["show", "--config.optim.lr=abc"], ["config.optim.lr=abc", "number"]),
        (["show", "--config.optim.lr=nan"], ["config.optim.lr=nan", "finite"]),
        (["show", "--config.loss.name=None"], ["config.loss.name='None'", "infonce, triplet"]),
        (["show", "--config.loss.name=triplt"], ["'triplt'", "did you mean 'triplet'"]),
        (["show", "--config.data.batch_size=1"], ["batch_size=1", "from 2 to"]),
        (["show", "--config.train.duration=ten"], ["train.duration='ten'", "epochs"]),
        (["show", "--config.data.load_size=16"], ["load_size=16", "image_size=64"]),
        (["show", "--noconfig.seed"], ["--noconfig.seed", "no such flag"]),
        (["show", "--workdir=nowhere"], ["nowhere/config.json", "No such file"]),
        (["evaluate"], ["--workdir"]),
        (["evaluate", "--workdir=a"], ["--workdir=a", "no run there", "launch.py train --config"]),
        (["evaluate", "--workdir=a", "--checkpoint=none"], ["--checkpoint=none needs --config"]),
        (["evaluate", "--workdir=a", "--checkpoint=bets"], ["=bets", "did you mean 'best'"]),
        (["evaluate", "--workdir=a", "--checkpoint=-1"], ["--checkpoint=-1", "step number"]),
        (["evaluate", "--workdir=a", "--split=tset"], ["--split=tset", "did you mean 'test'"]),
        (["evaluate", "--queries=q.npz", "--workdir=a"], ["--workdir and --queries", "not both"]),
        (["evaluate", "--compare=a,b", "--queries=q"], ["--queries and --compare", "not both"]),
        (["evaluate", "--gallery=g.npz"], ["--gallery: goes with --queries"]),
        (["evaluate", "--gallery=g.npz", "--workdir=a"], ["--queries, not with --workdir"]),
        (["evaluate", "--queries=q.npz"], ["missing --gallery=FILE"]),
        (["evaluate", "--queries=q.npz", "--split=val"], ["--split: goes with", "--compare, not"]),
        (["evaluate", "--queries=q", "--generalised"], ["--generalised: goes with --workdir"]),
        (["evaluate", "--compare=a,b", "--metrics=sake"], ["--metrics: goes with --workdir or"]),
        (["evaluate", "--compare=a"], ["--compare=a", "runs/a,runs/b"]),
        (["evaluate", "--compare=a,b,c"], ["--compare=a,b,c", "two"]),
        (["evaluate", "--compare=a,b", "--config.eval.ties=x"], ["evaluations as they are"]),
        (["evaluate", "--workdir=a", "--trec_depth=0"], ["--trec_depth=0", "at least 1"]),
        (["evaluate", "--workdir=a", "--split=train", "--generalised"], ["--generalised", "train"]),
        (
            ["evaluate", "--queries=q", "--gallery=g", "--metrics=mAP@200"],
            ["config.eval.metrics='mAP@200'", "mAP@200/hits", "mAP@200/min", "mAP-voc@200/min"],
        ),
        (
            ["evaluate", "--queries=q", "--gallery=g", "--ties=worst"],
            ["config.eval.ties='worst'", "pessimistic"],
        ),
        (
            ["evaluate", "--queries=q", "--gallery=g", "--distance=l0"],
            ["config.eval.distance='l0'", "cosine", "l<p>"],
        ),
        (
            ["evaluate", "--queries=q", "--gallery=g", "--ties=expected", "--config.eval.ties=x"],
            ["config.eval.ties", "already"],
        ),
        (
            ["evaluate", "--queries=q", "--gallery=g", "--config.model.width=8"],
            ["--config.model.width=8", "only config.eval.{metrics,"],
        ),
        (["train", "--config=configs/trial.py", "--workdir=configs/trial.py"], ["is a file"]),
        (["train", "--config=configs/trial.py", "--workdir=configs/trial.py/a"], ["cannot be"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and value else None,
)
def test_mistake_is_one_line_that_helps(argv, parts, here, calls, capsys):
    """Every bad verb, flag, file, setting or value: one line, exit code 2, and nothing runs."""
    line = error_line(capsys, *argv)
    for part in parts:
        assert part in line
    assert calls == []


@pytest.mark.parametrize(
    "source, parts",
    [
        ("x = 1\ndef get_config(:\n", ["line 2", "invalid syntax"]),
        ("x = 1\nx.y\n", ["line 2", "AttributeError"]),
        ("import no_such_package\n", ["line 1", "no_such_package"]),
        ("def get_config():\n    return 1 / 0\n", ["line 2", "ZeroDivisionError"]),
        ("config = 1\n", ["no get_config()"]),
        ("def get_config():\n    pass\n", ["returned NoneType"]),
        (CONFIG.replace("= 0.5", "= 'high'"), ["line 11", "lr"]),
        (CONFIG.replace("optim.lr", "optim.lrr"), ["config.optim.lrr", "did you mean 'lr'"]),
        (CONFIG.replace("optim.lr", "optm.lr"), ["line 11", "optm"]),
        (CONFIG.replace("default_config()", "ConfigDict()"), ["bad.py"]),
        (CONFIG.replace("0.5", "500.0"), ["bad.py", "config.optim.lr=500.0", "0.0 to 100.0"]),
    ],
)
def test_broken_config_file_is_told_with_its_line(source, parts, here, capsys):
    """A config file that does not parse, raises or returns rubbish is named with the line."""
    (here / "configs/bad.py").write_text(source)
    line = error_line(capsys, "show", "--config=configs/bad.py")
    for part in parts:
        assert part in line


@pytest.mark.parametrize("text", ["{", "3", '{"optim": 3}', '{"optim": {"lr": "x"}}', '{"q": 1}'])
def test_damaged_config_of_a_run_is_one_line(text, here, capsys):
    """A config.json edited by hand into something else is refused, not guessed at."""
    (here / "config.json").write_text(text)
    assert "config.json: " in error_line(capsys, "show", "--workdir=.", "--config.optim.lr=1")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a directory nobody can write to")
def test_workdir_that_cannot_be_made_is_one_line(here, calls, capsys):
    """A workdir where nothing can be written is refused before anything is computed."""
    line = error_line(capsys, "train", "--config=configs/trial.py", "--workdir=/proc/self/run")
    assert "--workdir=/proc/self/run" in line
    assert calls == []


# Train and evaluate


def test_train_gets_the_resolved_run_and_workdir(here, calls):
    """`train` hands the file's settings with the overrides on top, and the made workdir."""
    argv = ["train", "--config=configs/trial.py", "--config.seed=7", "--workdir=runs/a"]
    assert launch.main(argv) == 0
    [((run, workdir), options)] = calls
    assert (run.seed, run.optim.lr, run.data.name) == (7, 0.5, "pacs")
    assert options == {"profile": None, "source": None}
    assert workdir == Path("runs/a")
    assert workdir.is_dir()


def test_train_gets_the_steps_to_trace_and_the_cache_its_directory(here, calls, monkeypatch):
    """--profile=10:15 arrives as two numbers; --compile_cache is made, and told to JAX."""
    told = []
    monkeypatch.setattr(
        "sbir_jax.compile_cache.use_compile_cache", lambda where: told.append(where)
    )
    argv = ["train", "--config=configs/trial.py", "--workdir=a"]
    assert launch.main([*argv, "--profile=10:15", "--compile_cache=compiled"]) == 0
    assert launch.main([*argv, "--compile_cache=off"]) == 0
    assert [options["profile"] for _, options in calls] == [(10, 15), None]
    assert told == ["compiled", "off"]
    assert [path.name for path in here.iterdir() if path.name in told] == ["compiled"]


def stored_run(here: Path, **changes) -> None:
    values = asdict(RunConfig())
    values["data"]["name"] = "pacs"
    (here / "runs/a").mkdir(parents=True)
    (here / "runs/a/config.json").write_text(json.dumps(values | changes))


def test_train_without_config_continues_the_stored_run(here, calls):
    """The same workdir without --config goes on with the settings it remembers."""
    stored_run(here, seed=23)
    assert launch.main(["train", "--workdir=runs/a", "--config.train.log_every=5 steps"]) == 0
    [((run, _), _)] = calls
    assert (run.seed, run.train.log_every) == (23, "5 steps")


def test_demo_dataset_is_drawn_once_before_training(here, calls, capsys):
    """A run on the demo dataset first draws it where the run looks for it, if it is not there."""
    argv = ["train", "--config=configs/trial.py", "--config.data.name=demo", "--workdir=a"]
    argv.append("--config.data.dir=sets")
    assert launch.main(argv) == 0
    assert calls[0] == (("demo",), {"data_dir": "sets"})
    assert calls[1][0][0].data.name == "demo"
    assert "sets/demo" in capsys.readouterr().out
    (here / "sets/demo").mkdir(parents=True)
    assert launch.main(argv) == 0
    assert len(calls) == 3


def test_evaluate_passes_checkpoint_split_and_allowed_overrides(here, calls):
    """`evaluate` needs only the workdir; data.dir and eval.* may be changed on the way."""
    stored_run(here)
    assert launch.main(["evaluate", "--workdir=runs/a"]) == 0
    more = ["--checkpoint=40", "--split=val", "--config.eval.distance=l2", "--config.data.dir=d"]
    assert launch.main(["evaluate", "--workdir=runs/a", *more]) == 0
    (_, first), ((workdir,), second) = calls
    assert (first["checkpoint"], first["split"]) == ("best", "test")
    assert workdir == Path("runs/a")
    assert (second["checkpoint"], second["split"]) == ("40", "val")
    assert (second["run"].eval.distance, second["run"].data.dir) == ("l2", "d")


def test_short_flags_of_evaluate_are_settings(here, calls):
    """--metrics, --distance, --normalise, --ties and --no_relevant are config.eval.* of a run."""
    stored_run(here)
    short = {
        "metrics": "sake, instance/acc@1",
        "distance": "linf",
        "normalise": "sr",
        "ties": "expected",
        "no_relevant": "zero",
    }
    given = [f"--{name}={value}" for name, value in short.items()]
    assert launch.main(["evaluate", "--workdir=runs/a", *given, "--generalised"]) == 0
    [(_, options)] = calls
    assert asdict(options["run"].eval) | short == asdict(options["run"].eval)
    assert options["generalised"] is True


def test_evaluate_of_embeddings_gets_files_and_settings(here, calls):
    """`--queries` needs no run: files, settings and the directory of results are handed on."""
    argv = ["evaluate", "--queries=q.npz", "--gallery=g.npy", "--gallery_labels=g.txt"]
    argv += ["--metrics=P@5", "--config.eval.memory_mib=64", "--trec=t", "--trec_depth=20"]
    assert launch.main(argv) == 0
    [(files, options)] = calls
    assert files == (Path("q.npz"), Path("g.npy"))
    settings = options.pop("settings")
    assert (settings.metrics, settings.memory_mib, settings.distance) == ("P@5", 64, "cosine")
    assert options == {
        "query_labels": None,
        "gallery_labels": Path("g.txt"),
        "relevance": None,
        "seen_gallery": None,
        "out": Path("evaluation"),
        "trec": Path("t"),
        "trec_depth": 20,
    }
    assert (here / "evaluation").is_dir()


def test_compare_gets_both_evaluations(here, calls):
    """`--compare=A,B` names two directories, and which evaluation of each."""
    assert launch.main(["evaluate", "--compare=runs/a, runs/b", "--split=val"]) == 0
    [(pair, options)] = calls
    assert pair == (Path("runs/a"), Path("runs/b"))
    assert options == {"split": "val", "checkpoint": "best", "out": None}


def test_evaluate_refuses_to_change_what_was_trained(here, calls, capsys):
    """Settings that shaped the parameters cannot be overridden, nor the config replaced."""
    stored_run(here)
    for token in ("--config.model.width=32", "--config.data.name=demo", "--config.seed=1"):
        line = error_line(capsys, "evaluate", "--workdir=runs/a", token)
        assert token in line
        assert "config.eval.*" in line
    line = error_line(capsys, "evaluate", "--workdir=runs/a", "--config=configs/trial.py")
    assert "holds its own config" in line
    assert calls == []


def test_evaluate_untrained_needs_no_run(here, calls):
    """`--checkpoint=none --config=FILE` measures an untrained model in an empty workdir."""
    argv = ["evaluate", "--workdir=b", "--checkpoint=none", "--config=configs/trial.py"]
    assert launch.main([*argv, "--config.model.width=32"]) == 0
    [(_, options)] = calls
    assert options["checkpoint"] == "none"
    assert options["run"].model.width == 32


@pytest.mark.parametrize(
    "module, name, code",
    [
        ("sbir_jax.data.source", "DatasetError", 1),
        ("sbir_jax.checkpoint_errors", "CheckpointError", 1),
        ("sbir_jax.compile", "DoesNotFit", 1),
        ("sbir_jax.train", "TrainingDiverged", 1),
        ("sbir_jax.embeddings", "EmbeddingsError", 1),
        ("sbir_jax.results", "ResultsError", 1),
        ("sbir_jax.ranking.trec", "TrecError", 1),
        ("data_prep.items", "PrepareError", 1),
        ("sbir_jax.config", "ConfigError", 2),
    ],
)
def test_what_a_run_refuses_is_one_line(module, name, code, here, calls, capsys, monkeypatch):
    """Errors meant for users, of any room, end in one line: 2 for settings, 1 for the rest."""
    if module == "sbir_jax.config":
        from sbir_jax.config import ConfigError as refusal
    else:
        refusal = type(name, (Exception,), {})
        stand_in = types.SimpleNamespace(**vars(sys.modules.get(module, types.SimpleNamespace())))
        setattr(stand_in, name, refusal)
        monkeypatch.setitem(sys.modules, module, stand_in)

    def refuse(*args, **options):
        raise refusal("checkpoint 7: no such step;\n  valid: 5, 10")

    monkeypatch.setattr(sys.modules["sbir_jax.train"], "train", refuse)
    argv = ["train", "--config=configs/trial.py", "--workdir=a"]
    line = error_line(capsys, *argv, code=code)
    assert line == "launch.py: checkpoint 7: no such step; valid: 5, 10"


def test_interrupt_says_how_to_go_on(here, calls, capsys, monkeypatch):
    """Ctrl-C ends in one line and the shell's code for it."""

    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["sbir_jax.train"], "train", interrupted)
    argv = ["train", "--config=configs/trial.py", "--workdir=a"]
    assert "continues" in error_line(capsys, *argv, code=130)


def test_a_bug_keeps_its_traceback(here, calls, monkeypatch):
    """An exception nobody meant for users is not dressed up as one."""

    def broken(*args, **options):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(sys.modules["sbir_jax.train"], "train", broken)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        launch.main(["train", "--config=configs/trial.py", "--workdir=a"])


# As a process


def test_process_exits_with_the_code_and_one_line():
    """The shell sees exit code 2, an empty stdout and one line on stderr."""
    done = subprocess.run(
        [sys.executable, "launch.py", "show", "--config.optim.lrr=3"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("launch.py: --config.optim.lrr=3: no such setting")


def test_help_and_errors_do_not_import_jax():
    """What needs no computing answers without loading JAX, TFDS or Orbax."""
    program = """
import sys
import launch
for argv in (["help"], ["configs"], ["show"], ["train", "--help"], ["train"], ["evaluate"],
             ["evaluate", "--queries=q", "--gallery=g", "--metrics=mAP@200"],
             ["evaluate", "--compare=a"]):
    launch.main(argv)
heavy = {"jax", "flax", "grain", "orbax", "tensorflow_datasets", "tensorboardX"} & set(sys.modules)
sys.exit(f"imported: {heavy}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
