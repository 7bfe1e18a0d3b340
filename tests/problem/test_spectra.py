"""Matrices of a scenario: their spectrum, their distribution, and what they depend on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace as Spec

import numpy as np
import pytest

from flowsim.errors import InputError
from flowsim.problem.spectra import (
    SVD,
    Purpose,
    build_matrix,
    haar,
    singular_values_of,
    stream,
    target_matrix,
)

HERE = Path()
EPS = np.finfo(np.float64).eps
SHAPES = [(7, 5), (5, 7), (6, 6), (1, 4), (4, 1)]


def spectrum(values, *, symmetric=False, seed=0):
    return Spec(kind="spectrum", singular_values=values, symmetric=symmetric, seed=seed)


def gaussian(std=1.0, seed=0):
    return Spec(kind="gaussian", std=std, seed=seed)


# Streams


def test_streams_differ_by_seed_purpose_and_key_and_by_nothing_else():
    keys = [(0, Purpose.A), (1, Purpose.A), (0, Purpose.B), (0, Purpose.A, 1), (0, Purpose.A, 2)]
    heads = [tuple(stream(*key).standard_normal(3)) for key in keys]
    assert len(set(heads)) == len(keys)
    assert heads == [tuple(stream(*key).standard_normal(3)) for key in keys]


def test_streams_are_frozen():
    """Stored results name seeds only: what a seed draws may never change."""
    assert [int(purpose) for purpose in Purpose] == [0, 1, 2, 3]
    reference = np.random.Generator(np.random.PCG64(np.random.SeedSequence(5, spawn_key=(2, 3))))
    assert stream(5, Purpose.PRETRAINED, 3).bytes(16) == reference.bytes(16)


# Haar factors


@pytest.mark.parametrize(("rows", "cols"), [(6, 6), (9, 4), (5, 1), (1, 1), (3, 0)])
def test_haar_columns_are_orthonormal(rows, cols):
    q = haar(stream(3, Purpose.A), rows, cols)
    assert q.shape == (rows, cols)
    np.testing.assert_allclose(q.T @ q, np.eye(cols), rtol=0, atol=8 * rows * EPS)


def test_haar_has_the_sign_of_the_draw():
    """Q R = G with a positive diagonal of R: the first column is the first draw, normalised."""
    draw = stream(3, Purpose.A).standard_normal((4, 9)).T
    q = haar(stream(3, Purpose.A), 9, 4)
    assert np.all(np.diagonal(q.T @ draw) > 0)
    np.testing.assert_allclose(q[:, 0], draw[:, 0] / np.linalg.norm(draw[:, 0]), rtol=0, atol=8 * EPS)


def test_haar_determinant_takes_both_signs():
    """Uniform on O(n): det = +1 or -1 with probability 1/2. Without the sign fix it is always one of them."""
    signs = [np.sign(np.linalg.det(haar(stream(seed, Purpose.A), 4, 4))) for seed in range(400)]
    assert abs(np.mean(signs)) < 4 / np.sqrt(400)


def test_haar_moments():
    """For a uniform unit vector q in R^n: E q_1^2 = 1/n and E q_1^4 = 3/(n(n+2))."""
    n, count = 5, 2000
    first = np.array([haar(stream(seed, Purpose.B), n, 3)[0, 2] for seed in range(count)])
    eighth = 105 / (n * (n + 2) * (n + 4) * (n + 6))
    for power, mean, square in [(2, 1 / n, 3 / (n * (n + 2))), (4, 3 / (n * (n + 2)), eighth)]:
        error = np.sqrt((square - mean**2) / count)
        assert abs(np.mean(first**power) - mean) < 4 * error
    assert abs(np.mean(first)) < 4 / np.sqrt(n * count)


def test_haar_refuses_more_columns_than_rows():
    with pytest.raises(InputError, match="no 4 orthonormal vectors of length 3"):
        haar(stream(0, Purpose.A), 3, 4)


# Singular values


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ([3.0, 1.0], [3, 1, 0, 0]),
        ((1, 3), [1, 3, 0, 0]),
        (Spec(kind="power", exponent=1.0, scale=12.0), [12, 6, 4, 3]),
        (Spec(kind="power", exponent=0.0, scale=2.0), [2, 2, 2, 2]),
        (Spec(kind="geometric", ratio=0.5, scale=8.0), [8, 4, 2, 1]),
        (Spec(kind="flat", value=2.5, count=3), [2.5, 2.5, 2.5, 0]),
        (Spec(kind="flat", value=2.5, count=None), [2.5, 2.5, 2.5, 2.5]),
    ],
)
def test_singular_values(spec, expected):
    values = singular_values_of(spec, 4)
    assert values.dtype == np.float64
    np.testing.assert_allclose(values, expected, rtol=4 * EPS)


def test_singular_values_may_underflow_but_not_overflow():
    assert singular_values_of(Spec(kind="geometric", ratio=1e-200, scale=1.0), 4)[-1] == 0.0
    steep = Spec(kind="power", exponent=-999.0, scale=1.0)
    for spec in [Spec(kind="geometric", ratio=1e200, scale=1.0), steep]:
        with pytest.raises(InputError, match="not all finite"):
            singular_values_of(spec, 4)
    with pytest.raises(InputError, match="at least 0"):
        singular_values_of([1.0, -1.0], 4)


@pytest.mark.parametrize("spec", [[1.0] * 5, Spec(kind="flat", value=1.0, count=5)])
def test_too_many_singular_values_are_refused(spec):
    with pytest.raises(InputError, match="5 singular values are given for a matrix that has 4"):
        singular_values_of(spec, 4)


# Matrices


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "values",
    [Spec(kind="geometric", ratio=0.6, scale=3.0), Spec(kind="flat", value=2.0, count=1), [0.0], [1.0]],
)
def test_spectrum_is_reproduced(shape, values):
    matrix = build_matrix(spectrum(values), shape, HERE)
    wanted = singular_values_of(values, min(shape))
    assert matrix.shape == shape
    assert matrix.dtype == np.float64
    assert matrix.flags.c_contiguous
    found = np.linalg.svd(matrix, compute_uv=False)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=8 * max(shape) * EPS * wanted[0])


def test_unsorted_list_with_a_gap_is_reproduced():
    found = np.linalg.svd(build_matrix(spectrum([1.0, 0.0, 2.0]), (6, 4), HERE), compute_uv=False)
    np.testing.assert_allclose(found, [2, 1, 0, 0], rtol=0, atol=100 * EPS)


def test_singular_vectors_of_the_two_sides_are_independent():
    matrix = build_matrix(spectrum(Spec(kind="geometric", ratio=0.5, scale=1.0)), (5, 5), HERE)
    svd = SVD.of(matrix)
    assert np.max(np.abs(np.abs(svd.U.T @ svd.Vt.T) - np.eye(5))) > 0.1


@pytest.mark.parametrize("values", [[3.0, 2.0, 0.5], Spec(kind="power", exponent=0.5, scale=1.0)])
def test_symmetric_is_positive_semi_definite_with_this_spectrum(values):
    matrix = build_matrix(spectrum(values, symmetric=True), (6, 6), HERE)
    assert np.array_equal(matrix, matrix.T)
    wanted = np.sort(singular_values_of(values, 6))
    np.testing.assert_allclose(np.linalg.eigvalsh(matrix), wanted, rtol=0, atol=50 * EPS * wanted[-1])


def test_symmetric_must_be_square():
    with pytest.raises(InputError, match="symmetric"):
        build_matrix(spectrum([1.0], symmetric=True), (3, 4), HERE)


@pytest.mark.parametrize("std", [0.0, 0.3])
def test_gaussian_moments(std):
    x = build_matrix(gaussian(std), (150, 100), HERE).ravel()
    if std == 0.0:
        assert not x.any()
        return
    z = x / std
    assert abs(np.mean(z)) < 4 / np.sqrt(x.size)
    assert abs(np.mean(z**2) - 1) < 4 * np.sqrt(2 / x.size)
    assert abs(np.mean(z**4) - 3) < 4 * np.sqrt(96 / x.size)


@pytest.mark.parametrize("make", [gaussian, lambda seed=0: spectrum([2.0, 1.0], seed=seed)])
def test_a_drawn_matrix_depends_on_seed_and_purpose(make):
    first = build_matrix(make(seed=4), (5, 3), HERE)
    assert np.array_equal(first, build_matrix(make(seed=4), (5, 3), HERE))
    assert not np.allclose(first, build_matrix(make(seed=5), (5, 3), HERE))
    assert not np.allclose(first, build_matrix(make(seed=4), (5, 3), HERE, Purpose.TARGET))


def test_zeros_and_values():
    assert np.array_equal(build_matrix(Spec(kind="zeros"), (2, 3), HERE), np.zeros((2, 3)))
    written = build_matrix(Spec(kind="values", values=[[1, 2, 3], [4, 5, 6]]), (2, 3), HERE)
    assert written.dtype == np.float64
    assert written.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_wrong_shape_and_overflow_are_refused():
    with pytest.raises(InputError, match=r"\(1, 2\), but \(2, 1\)"):
        build_matrix(Spec(kind="values", values=[[1, 2]]), (2, 1), HERE)
    with pytest.raises(InputError, match="not finite"):
        build_matrix(gaussian(1e308), (20, 20), HERE)
    huge = Spec(kind="values", values=[[1.5e308]])
    with pytest.raises(InputError, match="not finite"):
        target_matrix(Spec(kind="shift", by=huge), np.array([[1.5e308]]), HERE)


def test_file_is_read_relative_to_the_folder(tmp_path):
    wanted = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.save(tmp_path / "w.npy", wanted)
    spec = Spec(kind="file", path="w.npy", tensor=None, package=None, sha256=None)
    matrix = build_matrix(spec, (2, 3), tmp_path)
    assert matrix.dtype == np.float64
    assert np.array_equal(matrix, wanted)


# Targets


def test_target_and_pretrained_of_one_seed_are_different():
    pretrained = build_matrix(gaussian(), (4, 3), HERE)
    assert not np.allclose(target_matrix(gaussian(), pretrained, HERE), pretrained)


def test_shift_is_added_to_pretrained():
    pretrained = build_matrix(gaussian(), (4, 3), HERE)
    kept = pretrained.copy()
    by = spectrum([2.0, 1.0])
    target = target_matrix(Spec(kind="shift", by=by), pretrained, HERE)
    assert np.array_equal(target, pretrained + build_matrix(by, (4, 3), HERE, Purpose.TARGET))
    assert np.array_equal(pretrained, kept)


@pytest.mark.parametrize("shape", SHAPES)
def test_svd_is_thin_and_exact(shape):
    matrix = build_matrix(gaussian(), shape, HERE)
    svd, k = SVD.of(matrix), min(shape)
    assert (svd.U.shape, svd.S.shape, svd.Vt.shape) == ((shape[0], k), (k,), (k, shape[1]))
    np.testing.assert_allclose((svd.U * svd.S) @ svd.Vt, matrix, rtol=0, atol=50 * EPS * svd.S[0])
