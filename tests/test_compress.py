"""PCA, prefixes and codes, against scikit-learn, the definitions and counting by hand."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from sbir_jax import compress, distances


def embeddings(n: int = 200, dim: int = 24, seed: int = 0) -> np.ndarray:
    """Unit vectors that vary more in some directions than in others, around a common mean."""
    rng = np.random.default_rng(seed)
    spread = rng.standard_normal((dim, dim)) * np.geomspace(1, 0.05, dim)
    x = rng.standard_normal((n, dim)) @ spread.T + rng.standard_normal(dim)
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("dim", [1, 5, 24])
def test_pca_is_scikit_learns(dim, whiten):
    """Components of new rows equal sklearn's, up to the sign of each direction, once normalised."""
    from sklearn.decomposition import PCA

    train, new = embeddings(), embeddings(n=30, seed=1)
    theirs = PCA(n_components=dim, whiten=whiten, svd_solver="full").fit(train.astype(np.float64))
    expected = theirs.transform(new)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    pca = compress.fit_pca(train)
    found = compress.project(pca, new, dim, whiten=whiten)
    flips = np.sign((pca.directions[:dim] * theirs.components_).sum(axis=1))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found * flips, expected, atol=2e-6)
    np.testing.assert_allclose(pca.variance[:dim], theirs.explained_variance_, rtol=1e-9)


def test_all_components_keep_centred_distances():
    """PCA in every dimension is a rotation: cosines of centred rows are unchanged."""
    x = embeddings()
    centred = x - x.mean(axis=0, dtype=np.float64)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    rotated = compress.project(compress.fit_pca(x), x, 24)
    np.testing.assert_allclose(rotated @ rotated.T, centred @ centred.T, atol=1e-6)


def test_whitened_components_have_unit_variance_before_the_norm():
    """Covariance of the whitened training rows, undoing the L2 norm, is the identity."""
    x = embeddings().astype(np.float64)
    pca = compress.fit_pca(x)
    length = np.linalg.norm(
        (x - pca.mean) @ pca.directions.T / np.sqrt(pca.variance), axis=1, keepdims=True
    )
    whitened = compress.project(pca, x, 24, whiten=True) * length
    np.testing.assert_allclose(np.cov(whitened.T), np.eye(24), atol=1e-5)


def test_pca_of_few_rows_has_few_directions():
    """Ten rows differ in nine directions; asking for a tenth is refused, not made of noise."""
    pca = compress.fit_pca(embeddings(n=10))
    assert pca.directions.shape == (9, 24)
    assert np.isfinite(compress.project(pca, embeddings(n=5, seed=2), 9, whiten=True)).all()
    with pytest.raises(ValueError, match=r"dim=10: valid from 1 to 9"):
        compress.project(pca, embeddings(), 10)


def test_pca_refuses_rows_without_directions():
    """Collapsed embeddings and NaN are named instead of giving arbitrary directions."""
    with pytest.raises(ValueError, match="rows are all equal"):
        compress.fit_pca(np.ones((5, 3)))
    with pytest.raises(ValueError, match="all finite"):
        compress.fit_pca(np.full((5, 3), np.nan))


def test_a_prefix_is_cut_and_normalised():
    """(3, 4, 12) cut to two dimensions is (0.6, 0.8); a zero prefix stays zero."""
    x = np.float32([[3, 4, 12], [0, 0, 5]])
    np.testing.assert_allclose(compress.prefix(x, 2), [[0.6, 0.8], [0, 0]], rtol=1e-7)
    for dim in (0, 4):
        with pytest.raises(ValueError, match=f"dim={dim}: valid from 1 to 3"):
            compress.prefix(x, dim)


def test_int8_is_within_half_a_step():
    """Every component comes back within half of its row's scale, in -127..127; zeros stay zeros."""
    x = np.concatenate([embeddings(), np.zeros((1, 24), np.float32)])
    codes, scale = compress.int8(x)
    assert codes.dtype == np.int8 and scale.dtype == np.float32
    assert np.abs(codes.astype(int)).max() == 127 and not codes[-1].any()
    for row, code, step in zip(x, codes, scale, strict=True):
        for value, steps in zip(row, code, strict=True):
            assert abs(float(value) - int(steps) * float(step)) <= 0.5001 * step


@pytest.mark.parametrize("dim", [8, 13])
def test_binary_codes_are_signs(dim):
    """Bits, distances and sizes equal those counted component by component, also in part bytes."""
    x, y = embeddings(n=20, dim=dim), embeddings(n=7, dim=dim, seed=1)
    x[0, 0] = 0.0  # not above 0
    codes = [compress.binary(side) for side in (x, y)]
    assert codes[0].shape == (20, compress.bytes_per_photo(dim, "binary")) == (20, (dim + 7) // 8)
    expected = [[sum((a > 0) != (b > 0) for a, b in zip(p, q, strict=True)) for q in y] for p in x]
    found = compress.hamming(*codes)
    np.testing.assert_array_equal(found, expected)
    planes = [compress.signs(code, dim) for code in codes]
    np.testing.assert_array_equal(planes[0], np.where(x > 0, 1, -1))
    squares = distances.pairwise(*map(jnp.asarray, planes), "sq_l2")
    np.testing.assert_array_equal(squares, 4 * found)


def test_bytes_are_those_of_the_arrays():
    """What a photo is said to take is what its row takes, whatever the code."""
    x = embeddings(n=3, dim=13)
    stored = {"float32": x, "int8": compress.int8(x)[0], "binary": compress.binary(x)}
    for code, rows in stored.items():
        assert compress.bytes_per_photo(13, code) == rows[0].nbytes
