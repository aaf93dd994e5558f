"""Patterns over parameter paths: what they take, and what one that takes nothing is told."""

from __future__ import annotations

import pytest

from sbir_jax.config import ConfigError, default_config, resolve
from sbir_jax.patterns import matches, named, patterns, rates

PATHS = (
    "heads/both/out/bias",
    "heads/both/out/kernel",
    "stems/photo/conv/kernel",
    "trunks/both/blocks/1/norms/0/scale",
    "trunks/both/blocks/10/norms/0/scale",
    "trunks/both/blocks/10/convs/0/kernel",
)


@pytest.mark.parametrize(
    ("pattern", "taken"),
    [
        ("*", range(6)),
        ("heads/*", (0, 1)),
        ("heads", (0, 1)),  # what a name holds
        ("heads/", (0, 1)),
        ("heads/both/out/bias", (0,)),
        ("*/blocks/1", (3,)),  # and not block 10
        ("*/blocks/1*", (3, 4, 5)),
        ("*/blocks/[1-9]", (3,)),
        ("*/blocks/?", (3,)),
        ("*norm*", (3, 4)),
        ("*/bias", (0,)),
        ("*/convs", (5,)),
        ("head", ()),  # not a part of a name
        ("blocks/1", ()),  # not from the middle of a path
        ("Heads", ()),
        (".*", ()),  # not a regular expression
    ],
)
def test_a_pattern_takes_whole_paths_and_what_is_below(pattern, taken):
    """Worked by hand on six paths: * crosses slashes, a name takes what it holds."""
    assert [path for path in PATHS if matches(pattern, path)] == [PATHS[i] for i in taken]


def test_patterns_are_separated_by_commas():
    """Spaces and a last comma do not count."""
    assert patterns(" *norm*,heads/* , ") == ("*norm*", "heads/*")
    assert patterns("") == ()


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("*nrom*", "did you mean '*norms*'? "),
        ("trunk/*", "did you mean 'trunks/*'? "),
        ("*zzz*", ""),
    ],
)
def test_a_pattern_that_takes_nothing_names_the_nearest_and_what_there_is(pattern, hint):
    """One line: the setting, the pattern, a near name, and every kind of parameter as a pattern."""
    with pytest.raises(ConfigError) as caught:
        named(pattern, PATHS, setting=f"optim.freeze='heads, {pattern}'")
    assert str(caught.value) == (
        f"config.optim.freeze='heads, {pattern}': {pattern!r} matches no parameter; {hint}"
        "this model has heads/both/out, stems/photo/conv, trunks/both/blocks/*/norms/*, "
        "trunks/both/blocks/*/convs/*"
    )


def test_rates_are_read_in_order():
    """'PATTERN: NUMBER' entries, as written."""
    found = rates("prompts*: 100, heads/*:0.5", setting="optim.lr_scale")
    assert found == (("prompts*", 100.0), ("heads/*", 0.5))
    assert rates("", setting="optim.lr_scale") == ()


@pytest.mark.parametrize(
    "entry", ["heads", "heads 10", "heads:", ": 10", "heads: ten", "heads: 0", "a: -1", "a: nan"]
)
def test_rates_that_cannot_be_read_are_one_line_before_any_model_is_made(entry):
    """Resolving the config names the setting, the entry and how it is written."""
    config = default_config()
    config.optim.lr_scale = f"trunks: 2, {entry}"
    with pytest.raises(ConfigError) as caught:
        resolve(config)
    text = str(caught.value)
    assert text.startswith(f"config.optim.lr_scale='trunks: 2, {entry}': {entry!r}: expected ")
    assert "'heads/*: 10'" in text
    assert "\n" not in text
