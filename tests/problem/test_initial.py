"""The adapter at time 0: distributions, nesting, exact identities, and what a draw depends on."""

from __future__ import annotations

from types import SimpleNamespace as Spec

import numpy as np
import pytest

from flowsim.errors import InputError
from flowsim.problem.initial import adapter_scale, draw, is_deterministic, starts_at_pretrained
from flowsim.problem.spectra import SVD

EPS = np.finfo(np.float64).eps
SHAPES = [(7, 5), (5, 7), (6, 6)]
RANDOM = ["kaiming", "gaussian", "orthogonal"]


def weight(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def random_init(kind, *, zero="B", nested=True, **more):
    extra = {"kaiming": {}, "gaussian": {"std": 0.5}, "orthogonal": {"scale": 2.0}}[kind]
    return Spec(kind=kind, zero=zero, nested=nested, **{**extra, **more})


def spectral(of="pretrained", power=0.5, scale=1.0, b=0.0):
    return Spec(kind="spectral", of=of, power=power, scale=scale, b=b)


def start(init, rank, seeds=(0,), *, shape=(7, 5), scale=1.0, pretrained=None, difference=None):
    matrices = {"pretrained": weight(shape) if pretrained is None else pretrained, "difference": difference}
    return draw(init, rank, seeds, scale, matrices["pretrained"], lambda name: SVD.of(matrices[name]))


def no_svd(name):
    raise AssertionError(f"the SVD of {name} is not needed")


# Random kinds: what a draw depends on


@pytest.mark.parametrize("kind", RANDOM)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("zero", ["A", "B", "none"])
def test_shapes_dtype_and_which_factor_is_zero(kind, shape, zero):
    n, m = shape
    pretrained = weight(shape)
    got = draw(random_init(kind, zero=zero), 3, (4, 9), 2.0, pretrained, no_svd)
    assert (got.rank, got.scale) == (3, 2.0)
    assert got.A.shape == (2, 3, m)
    assert got.B.shape == (2, n, 3)
    assert got.A.dtype == got.B.dtype == got.pretrained.dtype == np.float64
    assert got.A.flags.writeable and got.B.flags.writeable
    assert got.pretrained is pretrained
    for name, factor in [("A", got.A), ("B", got.B)]:
        assert np.all(factor == 0) if zero == name else np.all(np.any(factor != 0, axis=(1, 2)))


@pytest.mark.parametrize("kind", RANDOM)
@pytest.mark.parametrize("nested", [True, False])
def test_a_draw_depends_on_its_seed_alone(kind, nested):
    init = random_init(kind, zero="none", nested=nested)
    alone = start(init, 3, (11,))
    among = start(init, 3, (5, 11, 2, 11))
    for position in (1, 3):
        assert np.array_equal(alone.A[0], among.A[position])
        assert np.array_equal(alone.B[0], among.B[position])
    for position in (0, 2):
        assert not np.allclose(alone.A[0], among.A[position])
        assert not np.allclose(alone.B[0], among.B[position])


@pytest.mark.parametrize("kind", RANDOM)
def test_zeroing_one_factor_does_not_change_the_other(kind):
    both = start(random_init(kind, zero="none"), 3)
    assert np.array_equal(both.A, start(random_init(kind, zero="B"), 3).A)
    assert np.array_equal(both.B, start(random_init(kind, zero="A"), 3).B)


@pytest.mark.parametrize("kind", RANDOM)
def test_factors_are_independent_of_each_other(kind):
    got = start(random_init(kind, zero="none"), 3, shape=(6, 6))
    assert not np.allclose(got.A[0], got.B[0].T)


@pytest.mark.parametrize("kind", RANDOM)
def test_nested_ranks_share_one_draw(kind):
    """Bit for bit, but for the QR factorisation, which rounds its columns together."""
    init = random_init(kind, zero="none")
    large = start(init, 5, (0, 7))
    for rank in range(1, 5):
        small = start(init, rank, (0, 7))
        if kind == "orthogonal":
            # A Gaussian 5 x 5 block has condition number 1e2 or so: Q moves by that many roundings.
            np.testing.assert_allclose(small.A, large.A[:, :rank], rtol=0, atol=1e5 * EPS)
            np.testing.assert_allclose(small.B, large.B[:, :, :rank], rtol=0, atol=1e5 * EPS)
        else:
            assert np.array_equal(small.A, large.A[:, :rank])
            assert np.array_equal(small.B, large.B[:, :, :rank])


@pytest.mark.parametrize("kind", RANDOM)
def test_ranks_that_are_not_nested_are_independent(kind):
    init = random_init(kind, zero="none", nested=False)
    small, large = start(init, 2), start(init, 4)
    assert np.array_equal(small.A, start(init, 2).A)
    assert not np.allclose(small.A, large.A[:, :2])
    assert not np.allclose(small.B, large.B[:, :, :2])
    assert not np.allclose(small.A, start(random_init(kind, zero="none"), 2).A)


def test_nested_gaussian_shares_its_draw_at_unit_scale():
    """With the default std 1/r the draw is shared, the size is not."""
    init = random_init("gaussian", std=None)
    np.testing.assert_allclose(4 * start(init, 4).A[:, :2], 2 * start(init, 2).A, rtol=4 * EPS)


# Random kinds: distributions, with standard errors derived from the distribution's own moments


def moments(sample, std, kurtosis, eighth):
    """Mean 0, variance std^2 and the given E z^4, each within four standard errors (E z^8 gives the last)."""
    z = sample.ravel() / std
    assert abs(np.mean(z)) < 4 / np.sqrt(z.size)
    assert abs(np.mean(z**2) - 1) < 4 * np.sqrt((kurtosis - 1) / z.size)
    assert abs(np.mean(z**4) - kurtosis) < 4 * np.sqrt((eighth - kurtosis**2) / z.size)


def test_kaiming_is_uniform_on_one_over_root_width():
    n, m = 50, 80
    got = start(random_init("kaiming", zero="none"), 20, range(10), shape=(n, m))
    for factor, width in [(got.A, m), (got.B, n)]:
        bound = 1 / np.sqrt(width)
        assert np.max(np.abs(factor)) <= bound
        assert np.max(np.abs(factor)) > 0.99 * bound
        # z uniform on +-sqrt(3): E z^4 = 9/5, E z^8 = 9.
        moments(factor, bound / np.sqrt(3), 9 / 5, 9)


@pytest.mark.parametrize(("std", "expected"), [(0.3, 0.3), (None, 1 / 20)])
def test_gaussian_has_its_std(std, expected):
    got = start(random_init("gaussian", zero="none", std=std), 20, range(10), shape=(50, 80))
    moments(got.A, expected, 3, 105)
    moments(got.B, expected, 3, 105)


@pytest.mark.parametrize("shape", SHAPES)
def test_orthogonal_has_orthonormal_directions(shape):
    got = start(random_init("orthogonal", zero="none"), 4, (0, 1), shape=shape)
    for A, B in zip(got.A, got.B, strict=True):
        np.testing.assert_allclose(A @ A.T, 4 * np.eye(4), rtol=0, atol=200 * EPS)
        np.testing.assert_allclose(B.T @ B, 4 * np.eye(4), rtol=0, atol=200 * EPS)


def test_rank_above_the_shape():
    """Independent vectors may be as many as one likes, orthonormal ones may not."""
    assert start(random_init("gaussian", zero="none"), 9, shape=(3, 4)).A.shape == (1, 9, 4)
    assert start(random_init("kaiming", zero="none"), 9, shape=(3, 4)).B.shape == (1, 3, 9)
    assert start(random_init("orthogonal", zero="B"), 4, shape=(3, 4)).A.shape == (1, 4, 4)
    for zero in ["A", "none"]:
        with pytest.raises(InputError, match="orthonormal vectors of length 3"):
            start(random_init("orthogonal", zero=zero), 4, shape=(3, 4))


# Deterministic kinds


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("power", [0, 0.5])
@pytest.mark.parametrize("of", ["pretrained", "difference"])
def test_spectral_is_made_of_singular_vectors(shape, power, of):
    pretrained, difference = weight(shape), weight(shape, 1)
    got = start(spectral(of, power, 3.0, 0.5), 2, (0, 1), pretrained=pretrained, difference=difference)
    U, S, Vt = np.linalg.svd(pretrained if of == "pretrained" else difference, full_matrices=False)
    for A, B in zip(got.A, got.B, strict=True):
        np.testing.assert_allclose(A, 3.0 * np.diag(S[:2] ** power) @ Vt[:2], rtol=0, atol=50 * EPS)
        np.testing.assert_allclose(B, 0.5 * U[:, :2] @ np.diag(S[:2] ** power), rtol=0, atol=50 * EPS)
    assert got.pretrained is pretrained


def test_spectral_leaves_b_at_zero_by_default_and_keeps_vectors_of_zero_singular_values():
    got = start(spectral(power=0), 3, pretrained=np.diag([2.0, 0.0, 0.0]))
    assert not got.B.any()
    np.testing.assert_allclose(got.A[0] @ got.A[0].T, np.eye(3), rtol=0, atol=10 * EPS)
    assert not start(spectral(power=0.5), 3, pretrained=np.diag([2.0, 0.0, 0.0])).A[0, 1:].any()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rank", [1, 3, 5])
@pytest.mark.parametrize("scale", [1.0, 0.25, 16.0])
def test_pissa_starts_at_pretrained(shape, rank, scale):
    pretrained = weight(shape)
    got = start(Spec(kind="pissa"), rank, (0, 1), scale=scale, pretrained=pretrained)
    U, S, Vt = np.linalg.svd(pretrained, full_matrices=False)
    tolerance = 50 * EPS * S[0]
    for A, B in zip(got.A, got.B, strict=True):
        product = scale * (B @ A)
        np.testing.assert_allclose(got.pretrained + product, pretrained, rtol=0, atol=tolerance)
        np.testing.assert_allclose(product, (U[:, :rank] * S[:rank]) @ Vt[:rank], rtol=0, atol=tolerance)
        # Equal shares: both Gram matrices are S_r / s, so the imbalance is zero.
        for gram in (A @ A.T, B.T @ B):
            np.testing.assert_allclose(scale * gram, np.diag(S[:rank]), rtol=0, atol=tolerance)
    tail = np.linalg.svd(got.pretrained, compute_uv=False)
    np.testing.assert_allclose(tail[: min(shape) - rank], S[rank:], rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("init", "scale"),
    [
        (random_init("gaussian", std=1e308), 1.0),
        (spectral(scale=1e308, power=0.5), 1.0),
        (Spec(kind="pissa"), 1e-320),
    ],
)
def test_factors_beyond_float64_are_refused(init, scale):
    with pytest.raises(InputError, match="not finite"):
        start(init, 3, range(20), scale=scale, pretrained=100 * weight((7, 5)))


def test_values_take_first_rows_and_columns():
    A, B = np.arange(6.0).reshape(3, 2), np.arange(12.0).reshape(4, 3)
    init = Spec(kind="values", A=A.tolist(), B=B.tolist())
    got = start(init, 2, (0, 3), shape=(4, 2))
    assert np.array_equal(got.A, [A[:2], A[:2]])
    assert np.array_equal(got.B, [B[:, :2], B[:, :2]])
    with pytest.raises(InputError, match="3 directions"):
        start(init, 4, shape=(4, 2))
    with pytest.raises(InputError, match="do not fit"):
        start(init, 2, shape=(2, 4))


@pytest.mark.parametrize("init", [spectral(), Spec(kind="pissa")])
def test_singular_vectors_run_out(init):
    assert start(init, 5).A.shape == (1, 5, 5)
    with pytest.raises(InputError, match="5 directions"):
        start(init, 6)


@pytest.mark.parametrize("init", [spectral(b=1.0), Spec(kind="pissa")])
def test_seeds_of_a_deterministic_init_are_equal_but_separate(init):
    got = start(init, 2, (0, 1))
    assert np.array_equal(got.A[0], got.A[1])
    got.A[0] += 1
    assert not np.allclose(got.A[0], got.A[1])


# What is known without drawing


@pytest.mark.parametrize(
    ("init", "expected"),
    [
        *[(random_init(kind, zero=zero), zero != "none") for kind in RANDOM for zero in ["A", "B", "none"]],
        (random_init("gaussian", zero="none", std=0.0), True),
        (random_init("orthogonal", zero="none", scale=0.0), True),
        (spectral(), True),
        (spectral(b=0.1), False),
        (spectral(b=0.1, scale=0.0), True),
        (Spec(kind="values", A=[[1, 0], [0, 1]], B=[[0, 0], [0, 0]]), True),
        (Spec(kind="values", A=[[1, 0], [0, 1]], B=[[0, 1], [0, 0]]), False),
        (Spec(kind="values", A=[[0, 0], [0, 1]], B=[[1, 0], [1, 0]]), True),
    ],
)
def test_starts_at_pretrained_says_whether_the_product_is_zero(init, expected):
    assert starts_at_pretrained(init, (1, 2), (0, 1)) is expected
    products = [start(init, rank, (0, 1), shape=(2, 2)) for rank in (1, 2)]
    assert all(not np.any(got.B @ got.A) for got in products) is expected


def test_starts_at_pretrained_looks_at_the_ranks_asked_for():
    init = Spec(kind="values", A=[[1, 0], [0, 1]], B=[[0, 1], [0, 0]])
    assert starts_at_pretrained(init, (1,), (0,))
    assert starts_at_pretrained(Spec(kind="pissa"), (1, 2), (0,))


def test_is_deterministic():
    assert not any(is_deterministic(random_init(kind)) for kind in RANDOM)
    assert all(is_deterministic(init) for init in [spectral(), Spec(kind="pissa"), Spec(kind="values")])


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        (Spec(kind="constant", value=3), 3.0),
        (Spec(kind="lora", alpha=16), 4.0),
        (Spec(kind="rslora", alpha=16), 8.0),
    ],
)
def test_adapter_scale(scaling, expected):
    assert adapter_scale(scaling, 4) == expected
    assert isinstance(adapter_scale(scaling, 4), float)
