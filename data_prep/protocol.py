"""Published protocols as data: `protocols/<name>.json`, checked when they are read.

A protocol fixes what makes two numbers comparable: classes, gallery, renderings, metrics; and says
how many images of each kind are expected. A number that no source gives is null there.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.items import BadArgument, class_key
from sbir_jax.eval_config import LEVELS
from sbir_jax.ranking import names as metric_names
from sbir_jax.setting import nearest

FOLDER = Path(__file__).parent / "protocols"
GALLERIES = ("listed", "distinct", "extended")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Counts:
    """Images that a protocol expects; None where no source gives the number.

    queries: test sketches.
    gallery: test photos, by gallery variant.
    seen_sketches: sketches of the published training list.
    held_back_sketches: those of seen classes that the published training list leaves out.
    seen_photos: photos of seen classes (by class) or of the training split, by gallery variant.
    per_class: by test class, "queries" and gallery variants to numbers.
    """

    queries: int | None
    gallery: Mapping[str, int | None]
    seen_sketches: int | None
    held_back_sketches: int | None
    seen_photos: Mapping[str, int | None]
    per_class: Mapping[str, Mapping[str, int]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Protocol:
    """One protocol.

    title: one line about it.
    source: who defined or listed it.
    dataset: whose builder makes it; "" if none here does.
    options: the builder's, by name.
    level: what is relevant, "category" or "instance".
    within_class: each query is ranked against the photos of its own class only.
    metrics: names and presets, separated by commas.
    unseen: test classes; None where classes are not held out, or are not known.
    seen: all other classes; empty if there is nothing to train on.
    published: rows of published tables, in percent, as printed.
    obstacle: why it cannot be run; "" if it can.
    """

    name: str
    title: str
    source: str
    dataset: str
    options: Mapping[str, str]
    level: str
    within_class: bool
    metrics: str
    unseen: tuple[str, ...] | None
    seen: tuple[str, ...] | None
    counts: Counts
    published: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...]
    obstacle: str

    @property
    def zero_shot(self) -> bool:
        """Whether the test classes are held out from training."""
        return bool(self.unseen and self.seen)

    def fingerprint(self, options: Mapping[str, Any]) -> str:
        """sha256 over what decides its numbers, with the options that were used in the end."""
        decides = [
            self.dataset,
            {name: options[name] for name in sorted(self.options)},
            self.level,
            self.within_class,
            self.metrics,
            sorted(self.unseen or ()),
            sorted(self.seen or ()),
        ]
        return hashlib.sha256(json.dumps(decides).encode()).hexdigest()


def protocol_names() -> list[str]:
    """Names of the protocols that come with the project, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def load_protocol(name: str) -> Protocol:
    """Reads and checks a protocol.

    Args:
      name: of one that comes with the project, or the path of a `.json` file like those.

    Raises:
      BadArgument: there is none, or it is not valid; one line.
    """
    path = Path(name) if name.endswith(".json") else FOLDER / f"{name}.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        valid = nearest(name, protocol_names())
        raise BadArgument(f"--protocol={name}: {valid}, or a .json file") from None
    except (OSError, ValueError) as error:
        raise BadArgument(f"{path}: cannot be read ({error})") from None
    try:
        protocol = _built(Protocol, values, "")
        _check(protocol, path.stem)
    except _Invalid as error:
        raise BadArgument(f"{path}: {error}") from None
    return protocol


class _Invalid(ValueError):
    """What is wrong with a protocol, without its file."""


_TEXT, _COUNT = "a text", "a whole number from 0, or null"
_COUNT_BY_GALLERY = f"{{{', '.join(GALLERIES)}}}, each {_COUNT}"


def _is_count(value: Any) -> bool:
    return value is None or (type(value) is int and value >= 0)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(x, str) and x for x in value)


def _is_by_gallery(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and tuple(value) == GALLERIES
        and all(_is_count(number) for number in value.values())
    )


def _is_per_class(value: Any) -> bool:
    columns = {"queries", *GALLERIES}
    return isinstance(value, dict) and all(
        isinstance(row, dict)
        and set(row) <= columns
        and all(type(number) is int and number > 0 for number in row.values())
        for row in value.values()
    )


# What each field has to be: a test of the JSON value, and in words.
_RULES = {
    **dict.fromkeys(
        ("name", "title", "source", "dataset", "metrics", "obstacle"),
        (lambda value: isinstance(value, str), _TEXT),
    ),
    "options": (
        lambda value: isinstance(value, dict) and all(isinstance(x, str) for x in value.values()),
        "texts by name",
    ),
    "level": (lambda value: value in ("category", "instance"), "category or instance"),
    "within_class": (lambda value: isinstance(value, bool), "true or false"),
    **dict.fromkeys(
        ("unseen", "seen"),
        (lambda value: value is None or _is_texts(value), "a list of class names, or null"),
    ),
    "counts": (lambda value: isinstance(value, dict), "a group"),
    **dict.fromkeys(("queries", "seen_sketches", "held_back_sketches"), (_is_count, _COUNT)),
    **dict.fromkeys(("gallery", "seen_photos"), (_is_by_gallery, _COUNT_BY_GALLERY)),
    "per_class": (_is_per_class, f"rows of {{queries, {', '.join(GALLERIES)}}} by class"),
    "published": (
        lambda value: isinstance(value, list) and all("method" in row for row in value),
        'rows with "method"',
    ),
    "notes": (_is_texts, "a list of texts"),
}


def _built(schema: type, values: Any, prefix: str) -> Any:
    fields = [field.name for field in dataclasses.fields(schema)]
    if not isinstance(values, dict):
        raise _Invalid(f"expected a group of {', '.join(fields)}")
    for key in values:
        if key not in fields:
            raise _Invalid(f"{prefix}{key}: no such field; {nearest(key, fields)}")
    built = {}
    for name in fields:
        if name not in values:
            raise _Invalid(f"{prefix}{name} is missing")
        value, (accepts, wanted) = values[name], _RULES[name]
        if not accepts(value):
            raise _Invalid(f"{prefix}{name}={json.dumps(value)[:80]}: expected {wanted}")
        if name == "counts":
            value = _built(Counts, value, "counts.")
        built[name] = tuple(value) if isinstance(value, list) else value
    return schema(**built)


def _check(protocol: Protocol, stem: str) -> None:
    """What fields say together."""
    if protocol.name != stem:
        raise _Invalid(f"name={protocol.name!r}: expected {stem!r}, as the file is called")
    try:
        metric_names.select(protocol.metrics, LEVELS)
    except metric_names.MetricError as error:
        raise _Invalid(f"metrics={protocol.metrics!r}: {error}") from None
    if not protocol.dataset and not protocol.obstacle:
        raise _Invalid("dataset is empty: obstacle has to say why")
    classes = [*(protocol.unseen or ()), *(protocol.seen or ())]
    if not classes and not protocol.obstacle:
        raise _Invalid("neither unseen nor seen names a class: obstacle has to say why")
    twice = [name for name, n in Counter(map(class_key, classes)).items() if n > 1]
    if twice:
        raise _Invalid(f"class {twice[0]!r} is listed twice among unseen and seen")
    _check_counts(protocol)


def _check_counts(protocol: Protocol) -> None:
    counts, tested = protocol.counts, protocol.unseen or protocol.seen or ()
    for name in counts.per_class:
        if name not in tested:
            raise _Invalid(f"counts.per_class: {name!r} is no test class; {nearest(name, tested)}")
    totals = {"queries": counts.queries, **counts.gallery}
    for column, total in totals.items():
        rows = [row[column] for row in counts.per_class.values() if column in row]
        if rows and len(rows) != len(tested):
            raise _Invalid(f"counts.per_class: {column} of {len(rows)} of {len(tested)} classes")
        if rows and total is not None and sum(rows) != total:
            raise _Invalid(f"counts: {column}={total}, but its classes sum to {sum(rows)}")
