"""Evaluations and comparisons as text for the console, under 100 columns wide."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def of_evaluation(entry: dict[str, Any], title: str) -> str:
    """Each metric of an entry of `results.json`: value, interval, chance, class mean."""
    lines = [title, _how(entry), ""]
    lines.append(f"{'':<20}{'value':>8}   {'95 % interval':<18}{'chance':>8}{'class mean':>13}")
    for level, summary in _levels(entry):
        gallery = f"{summary['gallery']:,} in the gallery"
        if (distinct := summary["gallery_distinct"]) < summary["gallery"]:
            gallery += f" ({distinct:,} distinct)"
        lines.append(f"{level}: {summary['queries']:,} queries, {gallery}")
        for name, of in _metrics(summary):
            lines.append(
                f"  {name:<18}{of['value']:>8.4f}   {_interval(of['interval'], ''):<18}"
                f"{_number(of['chance']):>8}"
                f"{_number(of['class_mean']):>13}"
            )
        if missing := summary["queries_without_relevant"]:
            rule = {"exclude": "left out of the means", "zero": "counted as 0"}
            lines.append(
                f"  {missing:,} queries have no relevant item: {rule[entry['no_relevant']]}"
            )
    return "\n".join(lines)


def of_comparison(entry: dict[str, Any]) -> str:
    """Each metric of two evaluations: both values, their difference, its intervals, p-value."""
    columns = f"{'a':>8}{'b':>8}{'b - a':>9}  {'95 % over queries':<19}"
    lines = [
        f"a = {entry['a']}",
        f"b = {entry['b']}",
        "",
        f"{'':<20}{columns}{'95 % over classes':<19}{'p':>8}",
    ]
    for level, summary in _levels(entry):
        lines.append(f"{level}: {summary['queries']:,} queries")
        for name, of in _metrics(summary):
            lines.append(
                f"  {name:<18}{of['a']:>8.4f}{of['b']:>8.4f}{of['difference']:>+9.4f}  "
                f"{_interval(of['interval'], '+'):<19}{_interval(of['class_interval'], '+'):<19}"
                f"{of['p_value']:>8.4f}"
            )
    return "\n".join(lines)


def of_protocol(entry: dict[str, Any], *, checkpoint: str) -> str:
    """What a row of a published table has to say besides its numbers, and what differs."""
    about = entry["protocol"]
    level = "within_class" if about["within_class"] else about["level"]
    options = ", ".join(f"{name} {value}" for name, value in about["options"].items())
    lines = [f"protocol {about['name']}: {about['title']}"]
    if level in entry:
        gallery = f"{entry[level]['queries']:,} queries, {entry[level]['gallery']:,} photos"
        values = ", ".join(f"{n} {100 * of['value']:.2f}" for n, of in _metrics(entry[level]))
        lines.append(f"  row: {values} (%); {gallery}; {entry['ties']} ties")
    lines.append(f"  {options or 'no options'}; {checkpoint}")
    lines.append(f"  fingerprint {about['fingerprint'][:16]}")
    if differing := about["counts_that_differ"]:
        lines.append(f"  {len(differing)} counts are not the protocol's: {differing[0]}")
    return "\n".join(lines)


def _how(entry: dict[str, Any]) -> str:
    normalised = {"none": "", "unit": ", unit vectors", "sr": ", square-rooted unit vectors"}
    return f"{entry['distance']} distance{normalised[entry['normalise']]}; {entry['ties']} ties"


def _levels(entry: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    return ((level, entry[level]) for level in entry["levels"])


def _metrics(summary: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    return ((name, of) for name, of in summary.items() if isinstance(of, dict))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _interval(ends: list[float] | None, sign: str) -> str:
    return "-" if ends is None else f"[{ends[0]:{sign}.4f}, {ends[1]:{sign}.4f}]"
