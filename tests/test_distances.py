"""Distances and normalisations: values against SciPy, gradients at the awkward points."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from sbir_jax import distances

SCIPY = {
    "l1": {"metric": "cityblock"},
    "l2": {"metric": "euclidean"},
    "sq_l2": {"metric": "sqeuclidean"},
    "linf": {"metric": "chebyshev"},
    "cosine": {"metric": "cosine"},
    "l3": {"metric": "minkowski", "p": 3},
    "l1.5": {"metric": "minkowski", "p": 1.5},
    "l50": {"metric": "minkowski", "p": 50},
    "dot": {"metric": lambda x, y: -x @ y},
}
NAMES = tuple(SCIPY)


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("name", NAMES)
def test_both_forms_are_scipys(name):
    """The matrix, and the picked pairs, are SciPy's float64 distances up to float32 rounding."""
    x, y = normal(0, 7, 33), normal(1, 70, 33)  # 70: more than two blocks of columns
    expected = cdist(x.astype(np.float64), y.astype(np.float64), **SCIPY[name])
    matrix = distances.pairwise(x, y, name)
    assert matrix.dtype == jnp.float32
    np.testing.assert_allclose(matrix, expected, rtol=2e-6, atol=2e-6)
    rows = distances.rowwise(x[:, None], y[None], name)
    np.testing.assert_allclose(rows, expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_both_forms_have_one_gradient(name):
    """The gradient of a weighted sum of distances is the central difference of SciPy's."""
    x, y, weight = normal(2, 3, 8), normal(3, 40, 8), normal(4, 3, 40)

    def matrix_sum(x, y):
        return jnp.sum(weight * distances.pairwise(x, y, name))

    def rows_sum(x, y):
        return jnp.sum(weight * distances.rowwise(x[:, None], y[None], name))

    def reference(x, y):
        return np.sum(weight * cdist(x, y, **SCIPY[name]))

    wanted = []
    for side in (0, 1):
        pair = [x.astype(np.float64), y.astype(np.float64)]
        slope = np.zeros_like(pair[side])
        for index in np.ndindex(slope.shape):
            kept = pair[side][index]
            pair[side][index] = kept + 1e-6
            above = reference(*pair)
            pair[side][index] = kept - 1e-6
            slope[index] = (above - reference(*pair)) / 2e-6
            pair[side][index] = kept
        wanted.append(slope)
    for function in (matrix_sum, rows_sum):
        for got, want in zip(jax.jit(jax.grad(function, (0, 1)))(x, y), wanted, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_finite_everywhere(name):
    """Duplicates, zero vectors, two zero vectors and tiny vectors have finite gradients."""
    x = normal(5, 6, 16)
    x[1], x[2], x[3] = 0, 1e-20, x[0]
    y = x.copy()
    y[4] = 0

    for function in (
        lambda x, y: jnp.sum(distances.pairwise(x, y, name)),
        lambda x, y: jnp.sum(distances.rowwise(x, y, name)),
    ):
        value, slopes = jax.jit(jax.value_and_grad(function, (0, 1)))(x, y)
        assert np.isfinite(value)
        assert all(np.isfinite(slope).all() for slope in slopes)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "dot"])
def test_picked_duplicates_are_at_exactly_zero(name):
    """By subtraction, equal vectors are at distance 0 with zero gradient, by any true distance."""
    x = normal(6, 5, 300)
    assert not np.any(distances.rowwise(x, x.copy(), name))
    assert not np.any(jax.grad(lambda y: jnp.sum(distances.rowwise(x, y, name)))(x.copy()))


@pytest.mark.parametrize("name", ["l2", "sq_l2", "cosine"])
def test_matrix_form_is_never_negative(name):
    """Rounding of the matrix product cannot push the distance of duplicates below zero."""
    x = np.asarray(distances.unit(normal(7, 64, 512)))
    matrix = np.asarray(distances.pairwise(x, x.copy(), name))
    assert matrix.min() >= 0
    assert np.diag(matrix).max() < 2e-3  # the noise that the module's docstring speaks of


@pytest.mark.parametrize("name", ["l2", "sq_l2", "cosine", "dot"])
def test_products_ask_for_highest_precision(name):
    """The only matrix product is asked for in full float32: accelerators round it otherwise."""
    lowered = jax.jit(distances.pairwise, static_argnums=2).lower(
        jnp.ones((4, 8)), jnp.ones((5, 8)), name
    )
    products = [line for line in lowered.as_text().splitlines() if "dot_general" in line]
    assert len(products) == 1 and "precision = [HIGHEST, HIGHEST]" in products[0]


@pytest.mark.parametrize("name", ["l1", "linf", "l3"])
def test_no_cube_is_kept(name):
    """The gradient of a 64 x 512 matrix of 256 dimensions needs far less than the 32 MiB of one
    [n, m, D] array."""
    slopes = jax.grad(lambda x, y: jnp.sum(distances.pairwise(x, y, name)), (0, 1))
    compiled = jax.jit(slopes).lower(jnp.ones((64, 256)), jnp.ones((512, 256))).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 8 * 2**20


def test_l2_is_root_of_two_minus_two_cosine():
    """For unit vectors L2 = sqrt(2 - 2 cos): the lecture's relation."""
    x, y = distances.unit(normal(8, 9, 20)), distances.unit(normal(9, 11, 20))
    cosine = np.asarray(x, np.float64) @ np.asarray(y, np.float64).T
    np.testing.assert_allclose(
        distances.pairwise(x, y, "l2"), np.sqrt(2 - 2 * cosine), rtol=1e-6, atol=1e-6
    )


def test_zero_vector_has_cosine_similarity_zero():
    """Both forms put a zero vector at cosine distance 1 from everything, itself included."""
    x = np.stack([np.zeros(4), np.ones(4)])
    expected = [[1, 1], [1, 0]]
    np.testing.assert_allclose(distances.pairwise(x, x, "cosine"), expected, atol=1e-6)
    np.testing.assert_allclose(
        distances.rowwise(x[:, None], x[None], "cosine"), expected, atol=1e-6
    )


def test_unit_and_sr_norm_follow_their_formulas():
    """Values are the lecture's formulas in float64; unit does not care about the scale."""
    x = normal(10, 12, 50)
    x[0, :40] = 0
    wide = x.astype(np.float64)
    unit = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    root = np.sign(wide) * np.sqrt(np.abs(wide))
    root /= np.linalg.norm(root, axis=1, keepdims=True)
    np.testing.assert_allclose(distances.unit(x), unit, atol=2e-7)
    np.testing.assert_allclose(distances.sr_norm(x), root, atol=5e-7)
    for scale in (1e-10, 1e30):  # the squares of either leave float32
        np.testing.assert_allclose(distances.unit(x * np.float32(scale)), unit, atol=5e-7)


@pytest.mark.parametrize("norm", [distances.unit, distances.sr_norm])
def test_normalisation_gradients(norm):
    """The gradient is orthogonal to x (no change along x), and finite for zeros, 0 if all are."""
    x, weight = normal(11, 4, 9), normal(12, 4, 9)
    x[1], x[2, :5] = 0, 0
    assert not np.any(norm(x)[1])
    slope = np.asarray(jax.grad(lambda x: jnp.sum(weight * norm(x)))(x))
    assert np.isfinite(slope).all()
    assert not slope[1].any()
    np.testing.assert_allclose((slope[[0, 3]] * x[[0, 3]]).sum(axis=1), 0, atol=1e-5)


def test_normalisations_agree_with_torch():
    """unit has torch's value and gradient."""
    torch = pytest.importorskip("torch")
    x, weight = normal(13, 5, 7), normal(14, 5, 7)
    theirs = torch.tensor(x, requires_grad=True)
    value = (torch.nn.functional.normalize(theirs) * torch.tensor(weight)).sum()
    value.backward()
    ours, slope = jax.value_and_grad(lambda x: jnp.sum(weight * distances.unit(x)))(x)
    np.testing.assert_allclose(ours, value.item(), rtol=1e-5)
    np.testing.assert_allclose(slope, theirs.grad.numpy(), atol=1e-6)


def test_nan_is_not_hidden():
    """A NaN component makes its normalised vector and its distances NaN."""
    x = normal(15, 2, 4)
    x[0, 1] = np.nan
    for norm in (distances.unit, distances.sr_norm):
        assert np.isnan(norm(x)[0]).all() and np.isfinite(norm(x)[1]).all()
    for name in NAMES:
        assert np.isnan(distances.pairwise(x, x, name)[0, 1]), name
        assert np.isnan(distances.rowwise(x[0], x[1], name)), name


@pytest.mark.parametrize("name", ["l0.5", "l0", "euclidean", "inner", "l-2", "lp"])
def test_unknown_distance_is_one_line(name):
    """A name that is no distance is refused with the valid ones."""
    for function in (distances.pairwise, distances.rowwise):
        with pytest.raises(ValueError, match=f"distance='{name}'.*sq_l2.*l<p>") as error:
            function(np.ones((2, 3)), np.ones((2, 3)), name)
        assert "\n" not in str(error.value)
