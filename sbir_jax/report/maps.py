"""A map of the embeddings: sketches and photos on a plane, by PCA, t-SNE or UMAP."""

from __future__ import annotations

import importlib.util
import warnings

import numpy as np
from matplotlib import patheffects
from PIL import Image

from sbir_jax.compress import fit_pca
from sbir_jax.report.figures import COLOURS, GREY, blank, rendered, short, styled
from sbir_jax.report.record import ReportError
from sbir_jax.retrieved import Retrieved

METHODS = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}
_NEEDS = {"tsne": ("sklearn", "scikit-learn"), "umap": ("umap", "umap-learn")}
_NEIGHBOURS = 15.0


def require(method: str) -> None:
    """Checks that a method can be used, before any work is done.

    Raises:
      ReportError: its package is not installed.
    """
    module, package = _NEEDS.get(method, ("numpy", ""))
    if importlib.util.find_spec(module) is None:
        raise ReportError(f"--map={method}: needs {package}: pip install 'sbir_jax[maps]'")


def plane(x: np.ndarray, method: str) -> tuple[np.ndarray, str]:
    """Coordinates of embeddings on a plane, and what they show.

    Args:
      x: float32 [n, D], finite.
      method: a key of `METHODS`; the methods with randomness are seeded.

    Returns:
      float64 [n, 2], and words for a caption.

    Raises:
      ValueError: too few rows that differ.
    """
    pca = fit_pca(x)
    if method == "pca":
        found = (x - pca.mean) @ pca.directions[:2].T
        share = pca.variance[:2].sum() / pca.variance.sum()
        return np.pad(found, [(0, 0), (0, 2 - found.shape[1])]), f"{share:.0%} of the variance"
    near = min(_NEIGHBOURS, (len(x) - 1) / 3)
    with warnings.catch_warnings(action="ignore"):  # about threads, given up for a fixed seed
        if method == "tsne":
            from sklearn.manifold import TSNE

            made = TSNE(perplexity=near, metric="cosine", init="random", random_state=0)
            words = f"perplexity {near:.3g}"
        else:
            from umap import UMAP

            near = max(2, int(near))
            made = UMAP(n_neighbors=near, metric="cosine", random_state=0)
            words = f"{near} neighbours"
        return np.asarray(made.fit_transform(x), np.float64), f"{words}; distances mean little"


def of_both(found: Retrieved, method: str) -> tuple[np.ndarray, np.ndarray, str]:
    """Places of the queries [n, 2] and of the photos [m, 2] that have vectors, and words."""
    vectors = np.concatenate([found.query_vectors, found.gallery_vectors])
    places, words = plane(vectors, method)
    count = len(found.query_vectors)
    return places[:count], places[count:], words


@styled
def figure_of(
    found: Retrieved, queries: np.ndarray, photos: np.ndarray, *, title: str, query: str
) -> Image.Image:
    """Queries as dots and photos as squares; the names of the largest classes at their middle.

    Args:
      found: whose labels are used.
      queries, photos: places.
      title: above.
      query: what a query is called: sketch or query.
    """
    sides = (
        (queries, found.query_labels[found.query_rows], "o", 14),
        (photos, found.gallery_labels[found.gallery_rows], "s", 16),
    )
    labels = np.concatenate([of for _, of, _, _ in sides])
    largest = np.argsort(-np.bincount(labels, minlength=len(found.classes)), kind="stable")
    coloured = [int(c) for c in largest[: len(COLOURS)] if (labels == c).any()]
    figure = blank(4.9)
    axes = figure.subplots()
    axes.set_title(title, loc="left")
    for places, of, mark, size in sides:
        rest = ~np.isin(of, coloured)
        for c, colour in [(None, GREY), *zip(coloured, COLOURS, strict=False)]:
            at = places[rest if c is None else of == c]
            # Photos are filled with white: told apart by more than their corners.
            axes.scatter(
                at[:, 0],
                at[:, 1],
                marker=mark,
                s=size,
                facecolors="white" if mark == "s" else colour,
                edgecolors=colour,
                linewidths=0.9,
                alpha=0.75,
            )
    everywhere = np.concatenate([queries, photos])
    for c in coloured:
        x, y = np.median(everywhere[labels == c], axis=0)
        halo = [patheffects.withStroke(linewidth=3, foreground="white")]
        name = short(found.classes[c], 16)
        axes.text(x, y, name, ha="center", va="center", weight="bold", path_effects=halo)
    for mark, name, fill in (("o", query, "#1d2430"), ("s", "photo", "white")):
        axes.scatter([], [], marker=mark, facecolors=fill, edgecolors="#1d2430", label=name)
    figure.legend(loc="outside lower left", ncols=2, frameon=False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    return rendered(figure)
