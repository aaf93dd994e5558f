"""Settings: every one is documented, checked, and refused in one line that helps."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from sbir_jax.config import (
    ConfigError,
    RunConfig,
    default_config,
    duration_steps,
    resolve,
    settings,
)
from sbir_jax.loss_config import LossConfig, in_steps, steps, terms
from sbir_jax.loss_groups import TripletConfig
from sbir_jax.ranking.rank import rank
from sbir_jax.ranking.relevance import by_ids


def flattened(tree: dict, prefix: str = "") -> dict:
    flat = {}
    for name, value in tree.items():
        path = prefix + name
        flat |= flattened(value, path + ".") if isinstance(value, dict) else {path: value}
    return flat


def test_defaults_resolve_to_the_dataclass_defaults():
    """A config file that changes nothing is the default run."""
    assert resolve(default_config()) == RunConfig()


def test_settings_lists_every_leaf_once_with_its_meaning():
    """`settings()` names exactly the leaves of the config tree, and each explains itself."""
    listed = [path for path, _ in settings()]
    assert sorted(listed) == sorted(flattened(dataclasses.asdict(RunConfig())))
    assert len(set(listed)) == len(listed)
    for path, field in settings():
        assert len(field.metadata["doc"]) > 5, path


def test_every_default_obeys_its_own_limits():
    """A default lies in its range or choices, and a range has both ends."""
    for path, field in settings():
        limits = field.metadata
        assert (limits["low"] is None) == (limits["high"] is None), path
        if limits["choices"]:
            assert field.default in limits["choices"], path
        if limits["low"] is not None:
            assert limits["low"] <= field.default <= limits["high"], path


@pytest.mark.parametrize(
    "path, bad, expected",
    [
        ("seed", "abc", ["config.seed='abc'", "int"]),
        ("seed", 1.5, ["config.seed=1.5", "int"]),
        ("seed", True, ["config.seed=True", "int"]),
        ("seed", -1, ["config.seed=-1", "0 to 2147483647"]),
        ("optim.lr", None, ["config.optim.lr=None", "float"]),
        ("optim.lr", math.nan, ["config.optim.lr=nan", "finite"]),
        ("optim.lr", math.inf, ["config.optim.lr=inf", "finite"]),
        ("optim.lr", -0.1, ["config.optim.lr=-0.1", "0.0 to 100.0"]),
        ("loss.name", "triplt", ["config.loss.name='triplt'", "did you mean 'triplet'", "infonce"]),
        ("loss.name", "None", ["config.loss.name='None'", "infonce, triplet"]),
        ("loss.name", "triplet + tiplet", ["'triplet + tiplet': 'tiplet'", "'triplet'"]),
        ("loss.name", "circle + 2*circle", ["config.loss.name=", "'circle' comes twice"]),
        ("loss.name", "0*circle", ["config.loss.name='0*circle'", "weight '0'", "above 0"]),
        ("loss.name", "a*circle", ["weight 'a': expected a number above 0"]),
        ("loss.name", "", ["config.loss.name=''", "infonce, triplet"]),
        ("loss.matryoshka", "16,8", ["config.loss.matryoshka='16,8'", "rising", "'8,16,32'"]),
        ("loss.matryoshka", "64,128", ["config.loss.matryoshka='64,128'", "embed_dim=128"]),
        ("loss.matryoshka", "8;16", ["config.loss.matryoshka='8;16'", "whole numbers"]),
        ("loss.triplet.miner", "hardest", ["config.loss.triplet.miner='hardest'", "batch_hard"]),
        ("loss.triplet.miner", "all, random", ["'random' does not say when it begins"]),
        ("loss.quadruplet.miner", "all", ["config.loss.quadruplet.miner='all'", "semi_hard"]),
        ("loss.triplet.distance", "l0.5", ["config.loss.triplet.distance='l0.5'", "p >= 1"]),
        ("loss.contrastive.distance", "dot", ["config.loss.contrastive.distance='dot'", "cosine"]),
        ("loss.memory_after", "later", ["config.loss.memory_after='later'", "steps"]),
        ("loss", 3, ["config.loss=3", "a group", "matryoshka"]),
        ("optim.lrr", 1.0, ["config.optim.lrr", "did you mean 'lr'", "weight_decay"]),
        ("data.load_size", 32, ["config.data.load_size=32", "config.data.image_size=64"]),
        ("eval.metric", "mAP@all", ["config.eval.metric='mAP@all'", "category/NAME"]),
        ("eval.metric", "pixel/mAP@all", ["config.eval.metric='pixel/mAP@all'", "instance/NAME"]),
        ("eval.metric", "category/mAP@200", ["config.eval.metric=", "mAP@200/min"]),
        ("eval.metrics", "sake,P@0", ["config.eval.metrics='sake,P@0'", "P@0"]),
        ("eval.distance", "l0.5", ["config.eval.distance='l0.5'", "l<p> with p >= 1"]),
        ("eval.distance", "cosin", ["config.eval.distance='cosin'", "did you mean 'cosine'"]),
        ("eval.ties", "none", ["config.eval.ties='none'", "pessimistic, optimistic, expected"]),
        ("train.duration", "ten", ["config.train.duration='ten'", "steps, epochs or examples"]),
        ("train.duration", "10%", ["config.train.duration='10%'", "steps, epochs or examples"]),
        ("train.duration", "0 steps", ["config.train.duration='0 steps'", "at least one step"]),
        ("train.duration", "-4 steps", ["config.train.duration='-4 steps'"]),
        ("train.duration", "1e999 steps", ["config.train.duration='1e999 steps'", "at most"]),
        ("train.log_every", "20", ["config.train.log_every='20'", "%"]),
        ("optim.warmup", "5 parsecs", ["config.optim.warmup='5 parsecs'", "epochs", "%"]),
    ],
)
def test_bad_value_is_one_line_naming_path_value_and_valid_ones(path, bad, expected):
    """A setting that cannot work is named with its value and what would work, in one line."""
    values = dataclasses.asdict(RunConfig())
    *groups, name = path.split(".")
    holder = values
    for group in groups:
        holder = holder[group]
    holder[name] = bad
    with pytest.raises(ConfigError) as caught:
        resolve(values)
    message = str(caught.value)
    assert "\n" not in message
    for part in expected:
        assert part in message


@pytest.mark.parametrize(
    "changes, expected",
    [
        (
            {"data": {"sampler": "classes", "batch_size": 64, "per_class": 5}},
            ["config.data.per_class=5", "config.data.batch_size=64"],
        ),
        (
            {"data": {"sampler": "classes"}, "loss": {"match": "instance"}},
            ["config.data.sampler='classes'", "config.loss.match='instance'", "'pairs'"],
        ),
        (
            {"loss": {"triplet": {"miner": "distance_weighted", "distance": "l1"}}},
            ["config.loss.triplet.distance='l1'", "'distance_weighted'", "cosine, l2 or sq_l2"],
        ),
    ],
)
def test_settings_that_contradict_each_other_are_both_named(changes, expected):
    """Two settings, each valid alone, that cannot work together are both in the message."""
    config = default_config()
    config.update(changes)
    with pytest.raises(ConfigError) as caught:
        resolve(config)
    for part in expected:
        assert part in str(caught.value)


@pytest.mark.parametrize("name", ["cosine", "dot", "l1", "l2", "sq_l2", "linf", "l3", "l1.5"])
def test_a_distance_that_settings_accept_can_be_computed(name):
    """Whatever `resolve` lets through as eval.distance ranks a gallery."""
    config = default_config()
    config.eval.distance = name
    points, ids = np.eye(3, dtype=np.float32), np.arange(3)
    relevance = {"instance": by_ids(ids, ids)}
    names = {"instance": ("acc@1",)}
    found = rank(points, points, relevance, names, distance=resolve(config).eval.distance)
    assert found.scores["instance"].metrics["acc@1"].tolist() == [1, 1, 1]


def test_missing_setting_says_where_to_start():
    """A config that was not built from the defaults is told so."""
    config = default_config()
    del config.optim.lr
    with pytest.raises(ConfigError, match=r"config\.optim\.lr is missing.*default_config"):
        resolve(config)


def test_whole_number_is_a_float_where_a_float_is_meant():
    """`lr = 1` means 1.0, so that a file need not write the point."""
    values = dataclasses.asdict(RunConfig())
    values["optim"]["lr"] = 1
    lr = resolve(values).optim.lr
    assert lr == 1.0
    assert type(lr) is float


@pytest.mark.parametrize(
    "text, total, steps",
    [
        ("400 steps", None, 400),
        ("1 step", None, 1),
        ("1e3 steps", None, 1000),
        ("  7steps ", None, 7),
        ("30 epochs", None, 469),  # 30 * 1000 / 64 = 468.75
        ("0.5 epoch", None, 8),  # 7.8125
        ("25600 examples", None, 400),
        ("1 example", None, 1),
        ("64 examples", None, 1),
        ("65 examples", None, 2),
        ("5%", 400, 20),
        ("0.1%", 400, 1),  # 0.4
        ("0%", 400, 0),
        ("0 steps", 400, 0),
    ],
)
def test_durations_in_every_unit(text, total, steps):
    """Hand-worked step counts for batches of 64 pairs and epochs of 1000."""
    got = duration_steps(text, path="train.duration", batch_size=64, epoch_size=1000, total=total)
    assert got == steps


@pytest.mark.parametrize(
    "name, expected",
    [
        ("circle", ((1.0, "circle"),)),
        ("triplet+.5 * category", ((1.0, "triplet"), (0.5, "category"))),
        (" 2e-3*infonce + 3 * smooth_ap ", ((0.002, "infonce"), (3.0, "smooth_ap"))),
    ],
)
def test_a_loss_is_a_weighted_sum(name, expected):
    """Terms and weights as a reader would take them, with or without spaces."""
    assert terms(name) == expected


def test_durations_of_the_losses_become_steps():
    """Hand-worked for 400 steps of 64 pairs and epochs of 1000: 60 % are 240, 10 epochs 157; what
    has no duration stays."""
    config = LossConfig(
        memory_after="10 epochs",
        triplet=TripletConfig(miner="random,semi_hard @ 10%, batch_hard@60%", margin=0.4),
    )
    found = in_steps(config, batch_size=64, epoch_size=1000, total=400)
    assert found.triplet.miner == "random, semi_hard@40 steps, batch_hard@240 steps"
    assert found.memory_after == "157 steps"
    assert (found.triplet.margin, found.infonce) == (0.4, LossConfig().infonce)
    assert in_steps(found, batch_size=64, epoch_size=1000, total=400) == found
    late = dataclasses.replace(config, triplet=TripletConfig(miner="random, all@100%"))
    with pytest.raises(ConfigError, match=r"^config.loss.triplet.miner='.*' would have no step"):
        in_steps(late, batch_size=64, epoch_size=1000, total=400)


def test_other_durations_than_steps_are_refused_where_the_run_is_not_known():
    """A duration in percent, taken for steps, would be another run."""
    assert steps("240 steps") == 240
    with pytest.raises(ConfigError, match=r"^'60%': expected steps"):
        steps("60%")


def test_runs_are_frozen():
    """A resolved run cannot be changed behind the log's back."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        resolve(default_config()).optim.lr = 3.0
