"""Synthetic embeddings with the class sizes of Sketchy, and their average precision in float64."""

from __future__ import annotations

import pathlib

import numpy as np

HERE = pathlib.Path(__file__).parent
FILES = ("queries", "gallery", "query_labels", "gallery_labels")
CHECKED = 64  # queries of which the exact average precision is known


def shapes() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Sketches and photos of each class, by name of shape."""
    split1 = np.loadtxt(HERE / "sketchy_split1.csv", int, delimiter=",", skiprows=1, usecols=(1, 2))

    def even(count: int, classes: int) -> np.ndarray:
        return count // classes + (np.arange(classes) < count % classes)

    return {
        "split1": (split1[:, 0], split1[:, 1]),
        "full_sketchy": (even(75_471, 125), np.full(125, 100)),  # sketches a class, about
        "quickdraw": (even(92_291, 30), even(54_151, 30)),  # QuickDraw-Extended's unseen classes
        "small": (np.full(10, 100), np.full(10, 300)),
    }


def write(shape: str, folder: pathlib.Path) -> None:
    """Writes the arrays of `FILES`, and `reference`: float64 AP of the first queries.

    Classes are points in 32 dimensions of the 512; items lie around them at distances that vary,
    sketches further away and shifted. Items are in random order, so that the first queries are a
    fair sample.
    """
    rng = np.random.default_rng(0)
    sketches, photos = shapes()[shape]
    basis = np.linalg.qr(rng.normal(size=(512, 32)))[0].T
    centres, shift = rng.normal(size=(len(photos), 32)), 0.5 * rng.normal(size=32)

    def side(counts: np.ndarray, noise: float, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
        away = noise * np.exp(0.4 * rng.normal(size=(len(labels), 1)))
        x = (centres[labels] + away * rng.normal(size=(len(labels), 32)) + shift) @ basis
        x += 0.02 * rng.normal(size=x.shape)
        return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), labels

    queries, query_labels = side(sketches, 1.3, shift)
    gallery, gallery_labels = side(photos, 1.0, 0 * shift)
    for name, array in zip(FILES, (queries, gallery, query_labels, gallery_labels), strict=True):
        np.save(folder / f"{name}.npy", array)

    exact = [x.astype(np.float64) for x in (queries[:CHECKED], gallery)]
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in exact]
    nearest = np.argsort(-(unit[0] @ unit[1].T), axis=1)
    relevant = gallery_labels[nearest] == query_labels[:CHECKED, None]
    precision = np.cumsum(relevant, axis=1) / np.arange(1, len(gallery) + 1)
    average = (precision * relevant).sum(axis=1) / relevant.sum(axis=1)
    np.save(folder / "reference.npy", average)
