"""Arrays of a pytree by their paths, such as 'trunks/photo/blocks/0/convs/1/kernel'."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

import jax


def by_path(tree: Any) -> dict[str, Any]:
    """{'trunks/photo/blocks/0/convs/1/kernel': leaf, ...} in tree order."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def pick(tree: Any, paths: Container[str]) -> dict[str, Any]:
    """Those leaves of `by_path(tree)` whose path is one of `paths`."""
    return {path: leaf for path, leaf in by_path(tree).items() if path in paths}


def replaced(tree: Any, leaves: Mapping[str, Any]) -> Any:
    """The tree with the leaves at some paths replaced; paths that it lacks are passed over."""
    kept = by_path(tree)
    return jax.tree.unflatten(jax.tree.structure(tree), [leaves.get(p, x) for p, x in kept.items()])
