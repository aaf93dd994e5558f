"""Writes docs/api.md from the docstrings of the public Python API: python docs/make_api.py

Read by griffe (package griffelib, extra `dev`) from the source: nothing is imported.
"""

from __future__ import annotations

import pathlib
import re

import griffe

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "api.md"

# What others may build on, by heading: whole modules, or single names of one.
PUBLIC = {
    "A model in use": (
        "sbir_jax.retrieval.encoders.load_encoders",
        "sbir_jax.retrieval.encoders.Encoders",
        "sbir_jax.retrieval.index.Index",
        "sbir_jax.retrieval.index.Match",
        "sbir_jax.retrieval.items.Item",
        "sbir_jax.retrieval.indexing.update",
        "sbir_jax.retrieval.indexing.remove",
        "sbir_jax.retrieval.export.export_encoders",
        "sbir_jax.retrieval.export.load_exported",
        "sbir_jax.retrieval.export.Exported",
        "sbir_jax.retrieval.RetrievalError",
    ),
    "A run": (
        "sbir_jax.config.default_config",
        "sbir_jax.config.resolve",
        "sbir_jax.config.settings",
        "sbir_jax.train.train",
        "sbir_jax.evaluate.evaluate_workdir",
        "sbir_jax.knn.knn_workdir",
        "sbir_jax.dimensions.dimensions_workdir",
        "data_prep.prepare.prepare",
    ),
    "Embeddings made anywhere": (
        "sbir_jax.bare",
        "sbir_jax.compare.compare_evaluations",
        "sbir_jax.embeddings",
        "sbir_jax.relevant.relevance_of",
    ),
    "Rankings and metrics": (
        "sbir_jax.ranking.names",
        "sbir_jax.ranking.relevance",
        "sbir_jax.ranking.rank",
        "sbir_jax.ranking.summary",
        "sbir_jax.ranking.expected.by_chance",
        "sbir_jax.ranking.bootstrap",
        "sbir_jax.ranking.trec",
    ),
    "Distances, mining, losses": (
        "sbir_jax.distances",
        "sbir_jax.mining",
        "sbir_jax.losses.ways.Way",
        "sbir_jax.losses.ways.ways",
        "sbir_jax.losses.pairs",
        "sbir_jax.losses.triplets",
        "sbir_jax.losses.softmax",
        "sbir_jax.losses.smooth_ap.smooth_ap",
        "sbir_jax.losses.category.category",
        "sbir_jax.losses.total.cross_modal",
        "sbir_jax.memory",
    ),
    "Models": (
        "sbir_jax.models.dual",
        "sbir_jax.models.weights.load",
        "sbir_jax.models.weights.save",
        "sbir_jax.models.weights.Weights",
        "sbir_jax.backbones.spec_of",
    ),
    "Data": (
        "sbir_jax.data.source",
        "sbir_jax.data.sampling.make_sampler",
        "sbir_jax.data.images.read_image",
        "sbir_jax.data.images.to_square",
        "sbir_jax.data.strokes",
        "sbir_jax.data.svg.read_svg",
        "sbir_jax.sharding.make_mesh",
    ),
}

ABOUT = """\
# Python API

Made from the docstrings by `docs/make_api.py`; do not edit it. What is not here may change without
notice, as may all of it before 1.0. Settings and flags tell about themselves:
`python launch.py show` and `python launch.py VERB --help`. In use:
[search.md](search.md#from-python).
"""

_SECTIONS = {  # how griffe parses the house's docstrings
    "returns_multiple_items": False,
    "returns_named_value": False,
    "warnings": False,
}


def main() -> None:
    PAGE.write_text(render())


def render() -> str:
    """The whole page."""
    loader = griffe.GriffeLoader(search_paths=[ROOT], allow_inspection=False)
    packages = {name: loader.load(name) for name in ("sbir_jax", "data_prep")}
    contents, body = [], []
    for heading, names in PUBLIC.items():
        contents.append(f"- [{heading}](#{heading.lower().replace(',', '').replace(' ', '-')}): ")
        body.append(f"## {heading}")
        said = []
        for name in names:
            package, _, path = name.partition(".")
            thing = packages[package][path]
            if thing.is_module:
                body += [f"### `{thing.path}`", _text(thing)]
                body += [_entry(member) for member in _members(thing)]
            else:
                body.append(_entry(thing))
            said.append(f"`{name if thing.is_module else thing.name}`")
        contents[-1] += ", ".join(said)
    return "\n\n".join([ABOUT + "\n" + "\n".join(contents), *body]) + "\n"


def _members(thing: griffe.Module | griffe.Class) -> list[griffe.Object]:
    """The public functions and classes that are defined in a module or class, in their order."""
    found = [
        member
        for name, member in thing.members.items()
        if not name.startswith("_") and not member.is_alias
        if member.is_function or member.is_class or "property" in member.labels
    ]
    return sorted(found, key=lambda member: member.lineno)


def _entry(thing: griffe.Object) -> str:
    """A function or a class with its public methods."""
    parts = [f"#### `{thing.path}`", _signature(thing), _text(thing)]
    if thing.is_class:
        for member in _members(thing):
            parts += [_signature(member, of=f"{thing.name}."), _text(member)]
    return "\n\n".join(part for part in parts if part)


def _signature(thing: griffe.Object, *, of: str = "") -> str:
    """As in the source; a line for each parameter where one for all is too long."""
    if thing.is_class:
        bases = ", ".join(str(base) for base in thing.bases)
        return f"```python\nclass {thing.name}{f'({bases})' if bases else ''}\n```"
    if not thing.is_function:  # a property
        return f"```python\n{of}{thing.name}: {thing.annotation}\n```"
    written, starred = [], False
    for parameter in thing.parameters:
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind is griffe.ParameterKind.keyword_only and not starred:
            written.append("*")
            starred = True
        stars = {"variadic positional": "*", "variadic keyword": "**"}
        star = stars.get(parameter.kind.value, "")
        starred = starred or star == "*"
        annotation = f": {parameter.annotation}" if parameter.annotation else ""
        equals = " = " if annotation else "="
        default = f"{equals}{parameter.default}" if parameter.default and not star else ""
        written.append(f"{star}{parameter.name}{annotation}{default}")
    returns = f" -> {thing.returns}" if thing.returns else ""
    line = f"{of}{thing.name}({', '.join(written)}){returns}"
    if len(line) > 100:
        inside = "".join(f"    {parameter},\n" for parameter in written)
        line = f"{of}{thing.name}(\n{inside}){returns}"
    return f"```python\n{line}\n```"


def _text(thing: griffe.Object) -> str:
    """The docstring as Markdown."""
    if thing.docstring is None:
        return ""
    parts = []
    for section in thing.docstring.parse("google", **_SECTIONS):
        if section.kind is griffe.DocstringSectionKind.text:
            parts.append(section.value)
        elif isinstance(section.value, list):
            items = "\n".join(f"- {_item(item)}" for item in section.value)
            parts.append(f"{section.kind.value.capitalize()}:\n\n{items}")
        else:
            parts.append(f"{section.title}: {section.value.description}")
    return "\n\n".join(parts)


def _item(item: griffe.DocstringElement) -> str:
    """A parameter, attribute or exception with what is said of it."""
    name = getattr(item, "name", "")
    if not name and isinstance(item, griffe.DocstringRaise):
        name = str(item.annotation).strip("()")
    description = re.sub(r"\s*\n\s*", "\n  ", item.description)
    return f"`{name}`: {description}" if name else description


if __name__ == "__main__":
    main()
