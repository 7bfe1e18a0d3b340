"""Problems drawn at random for every family of closed forms, and how many of them are tried.

A problem is drawn as a few whole numbers and decades; its matrices follow from the seed. Frobenius problems are built
in the singular basis of Δ (exactly) and turned into the user's coordinates by random rotations (to rounding).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from flowsim.dynamics.coordinates import Canonical, canonical
from flowsim.dynamics.landscape import FrobeniusLandscape
from flowsim.problem.objectives import Adapter, Frobenius, TraceSquared
from tests.oracles import reference as ref
from tests.oracles.reference import Array

many = settings(
    max_examples=int(os.environ.get("FLOWSIM_PROBLEMS", "20")), derandomize=True, deadline=None, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)  # fmt: skip


def finds(test: Callable[..., None], *drawn: st.SearchStrategy[Any]) -> None:
    """Try a property again without shrinking: for negative controls, which expect it to fail."""
    again = given(*drawn)(test.hypothesis.inner_test)  # type: ignore[attr-defined]
    settings(many, max_examples=20, phases=[Phase.generate])(again)()


def tensor(X: Any) -> torch.Tensor:
    return torch.as_tensor(np.ascontiguousarray(X), dtype=torch.float64)


@dataclass(frozen=True)
class Problem:
    """What all families share: shape, seed, and the user's own scale s, coefficient c and frozen weight."""

    n: int
    m: int
    r: int
    seed: int
    scale: float
    coefficient: float
    frozen: bool  # whether W0 ≠ 0

    def rng(self, purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, purpose])


@dataclass(frozen=True)
class FrobeniusProblem(Problem):
    """Singular values and factors in the singular basis, (q,) and (q, r), q = max(n, m)."""

    spectrum: str
    rank: int
    top: float  # decades of σ1
    size: float  # decades of the factors over √σ1

    @cached_property
    def sigma(self) -> Array:
        rng, k = self.rng(0), self.rank
        values = {
            "spread": (k - np.arange(k) - 0.5 * rng.random(k)) / max(k, 1),
            "ties": np.sort(rng.choice([1.0, 0.5, 0.25], k))[::-1],
            "graded": 10.0 ** (-2.0 * np.arange(k)),
        }[self.spectrum]
        return np.append(10.0**self.top * values, np.zeros(max(self.n, self.m) - k))

    @cached_property
    def start(self) -> tuple[Array, Array]:
        """B and C, with zeros in the rows that only the other one has."""
        B, C = self.draw(self.rng(1), 10.0 ** (self.size + self.top / 2))
        q = max(self.n, self.m)
        return tuple(np.vstack([X, np.zeros((q - len(X), self.r))]) for X in (B, C))

    def draw(self, rng: np.random.Generator, size: float) -> tuple[Array, Array]:
        raise NotImplementedError

    @cached_property
    def value(self) -> float:
        """λ, where there is one for all modes; zero where it is meant to be."""
        B, C = self.start
        return float(np.sum((B - C) * (B + C)) / self.r) * (getattr(self, "sign", 1) != 0)

    @property
    def fastest(self) -> float:
        """The largest rate ω; where all are zero, the algebraic one of the factors."""
        B, C = self.start
        return float(np.hypot(self.sigma[0], self.value / 2)) or float(np.sum(B**2 + C**2)) or 1.0

    @property
    def landscape(self) -> FrobeniusLandscape:
        return FrobeniusLandscape(tensor(self.sigma), min(self.n, self.m))

    def batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        B, C = self.start
        return tensor(B)[None], tensor(C)[None]

    def dense(self) -> tuple[ref.Loss, Array, Array]:
        """The same problem in the user's coordinates: the loss, A0 and B0."""
        rng = self.rng(2)
        U, V = ref.haar(rng, self.n, self.n), ref.haar(rng, self.m, self.m)
        p = min(self.n, self.m)
        W0 = self.sigma[0] * rng.standard_normal((self.n, self.m)) * self.frozen
        B, C = self.start
        root = np.sqrt(self.scale)
        loss = ref.Loss(W0, W0 + (U[:, :p] * self.sigma[:p]) @ V[:, :p].T, self.coefficient, self.scale)
        return loss, (V @ C[: self.m]).T / root, U @ B[: self.n] / root


@dataclass(frozen=True)
class BalancedProblem(FrobeniusProblem):
    """BᵀB − CᵀC = λI: λ = sign·10^decades·size²; `kept` is the rank of the start (λ = 0) or of the smaller factor."""

    sign: int
    decades: float
    kept: int
    turned: bool  # whether a start of low rank has no zero columns

    def draw(self, rng: np.random.Generator, size: float) -> tuple[Array, Array]:
        n, m, r, k = self.n, self.m, self.r, self.kept
        if self.sign == 0:
            values = size * (0.5 + rng.random(k))
            gauge = ref.haar(rng, r, k) if self.turned else np.eye(r, k)
            return (ref.haar(rng, n, k) * values) @ gauge.T, (ref.haar(rng, m, k) * values) @ gauge.T
        value = 10.0**self.decades * size**2
        rows, other = (n, m) if self.sign > 0 else (m, n)
        small = size * rng.standard_normal((other, k)) @ rng.standard_normal((k, r)) / np.sqrt(max(k, 1) * r)
        squares, vectors = np.linalg.eigh(small.T @ small + value * np.eye(r))
        large = ref.haar(rng, rows, r) @ (vectors * np.sqrt(squares)) @ vectors.T
        return (large, small) if self.sign > 0 else (small, large)


@dataclass(frozen=True)
class RankOneProblem(FrobeniusProblem):
    """Any two vectors, of sizes `size` and `size + decades`; either may be zero."""

    decades: float
    without: str

    def draw(self, rng: np.random.Generator, size: float) -> tuple[Array, Array]:
        B = size * rng.standard_normal((self.n, 1)) * (self.without != "B")
        C = size * 10.0**self.decades * rng.standard_normal((self.m, 1)) * (self.without != "A")
        return B, C


@dataclass(frozen=True)
class AlignedProblem(FrobeniusProblem):
    """At most r of the modes, each with a direction of its own and amplitudes b and a of its kind."""

    kinds: tuple[str, ...]
    turned: bool

    @cached_property
    def amplitudes(self) -> tuple[Array, Array]:
        """b and a of each mode, (q,)."""
        rng, q = self.rng(3), max(self.n, self.m)
        size = 10.0 ** (self.size + self.top / 2)
        b, a = np.zeros(q), np.zeros(q)
        modes = np.sort(rng.permutation(min(self.n, self.m))[: len(self.kinds)])
        for mode, kind in zip(modes, self.kinds, strict=True):
            x, y = size * rng.choice([-1.0, 1.0], 2) * 10.0 ** rng.uniform(-2, 0, 2)
            b[mode], a[mode] = {
                "any": (x, y), "b only": (x, 0.0), "a only": (0.0, y), "equal": (x, x), "anti": (x, -x),
                "nearly anti": (x, -x * (1 + 1e-9)),
            }[kind]  # fmt: skip
        return b, a

    def draw(self, rng: np.random.Generator, size: float) -> tuple[Array, Array]:
        b, a = self.amplitudes
        present = np.flatnonzero((b != 0) | (a != 0))
        gauge = np.zeros((len(b), self.r))
        gauge[present] = (ref.haar(rng, self.r, len(present)) if self.turned else np.eye(self.r, len(present))).T
        return (b[:, None] * gauge)[: self.n], (a[:, None] * gauge)[: self.m]

    @property
    def fastest(self) -> float:
        b, a = self.amplitudes
        return float(np.hypot(self.sigma, (b - a) * (b + a) / 2).max()) or float((b**2 + a**2).max()) or 1.0


@dataclass(frozen=True)
class TraceProblem(Problem):
    """w = sign·10^weight; `kind` says which of u0 = B + C and v0 = B − C, B and C vanish, exactly or nearly."""

    sign: int
    weight: float
    size: float
    kind: str

    @cached_property
    def start(self) -> tuple[Array, Array]:
        """B and C, (n, r)."""
        B, C = 10.0**self.size * self.rng(0).standard_normal((2, self.n, self.r))
        return {
            "any": (B, C), "B=0": (0 * B, C), "A=0": (B, 0 * C), "nothing": (0 * B, 0 * B), "far": (B, 1e-8 * C),
            "U=0": (B, -B), "V=0": (B, B), "nearly U=0": (B, -B * (1 + 1e-10)), "nearly V=0": (B, B * (1 + 1e-10)),
        }[self.kind]  # fmt: skip

    @property
    def w(self) -> float:
        return self.sign * 10.0**self.weight

    @property
    def rate(self) -> float:
        """D; where it is zero, the algebraic one of the factors."""
        B, C = self.start
        return float(np.hypot(2 * self.w, np.linalg.norm(B + C) * np.linalg.norm(B - C))) or float(np.sum(B**2)) or 1.0

    def dense(self) -> tuple[ref.Loss, Array, Array]:
        """The same problem in the user's coordinates; the parts of the trace have one sign, hence no cancellation."""
        rng, root = self.rng(1), np.sqrt(self.scale)
        shares = 0.5 + rng.random(self.n)
        W0 = rng.standard_normal((self.n, self.n)) * abs(self.w)
        np.fill_diagonal(W0, self.w * shares / shares.sum())
        B, C = self.start
        return ref.Loss(W0, None, self.coefficient, self.scale), C.T / root, B / root


def into_canonical(loss: ref.Loss, A: Array, B: Array) -> Canonical:
    """What the package makes of a problem in the user's coordinates."""
    objective = TraceSquared(loss.W0, loss.c) if loss.target is None else Frobenius(loss.W0, loss.target, loss.c)
    return canonical(objective, Adapter(A, B, loss.s))


decade = st.integers(-2, 2).map(lambda k: 10.0**k)
sides = st.integers(1, 7)
seeds = st.integers(0, 2**32 - 1)
spectra = st.sampled_from(["spread", "ties", "graded"])

KINDS = ("any", "any", "b only", "a only", "equal", "anti", "nearly anti")


def sizes(low: float = -12.0, high: float = 3.0) -> st.SearchStrategy[float]:
    """Decades, often of order 1."""
    return st.one_of(st.floats(-1, 1), st.floats(low, high))


@st.composite
def balanced(draw: Any) -> BalancedProblem:
    n, m, sign = draw(sides), draw(sides), draw(st.sampled_from([-1, 0, 1]))
    r = draw(st.integers(1, {-1: m, 0: max(n, m) + 1, 1: n}[sign]))
    limit = min(n, m, r) if sign == 0 else min(r, m if sign > 0 else n)
    return BalancedProblem(
        n, m, r, draw(seeds), draw(decade), draw(decade), draw(st.booleans()), draw(spectra),
        draw(st.integers(0, min(n, m))), draw(st.integers(-6, 6)), draw(sizes()), sign, draw(sizes(-4, 4)),
        limit - draw(st.integers(0, limit)), draw(st.booleans()),
    )  # fmt: skip


@st.composite
def rank_one(draw: Any) -> RankOneProblem:
    n, m = draw(sides), draw(sides)
    return RankOneProblem(
        n, m, 1, draw(seeds), draw(decade), draw(decade), draw(st.booleans()), draw(spectra),
        draw(st.integers(0, min(n, m))), draw(st.integers(-6, 6)), draw(sizes()), draw(sizes(-4, 4)),
        draw(st.sampled_from(["none", "none", "A", "B", "both"])),
    )  # fmt: skip


@st.composite
def aligned(draw: Any, kinds: tuple[str, ...] = KINDS, separate: bool = False) -> AlignedProblem:
    """`separate`: only modes that a singular value decomposition finds again, Δ regular and its values apart."""
    n, m = draw(sides), draw(sides)
    r = draw(st.integers(1, 8))
    present = tuple(draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=min(n, m, r))))
    rank = min(n, m) - (0 if separate else draw(st.integers(0, min(n, m))))
    return AlignedProblem(
        n, m, r, draw(seeds), draw(decade), draw(decade), False, "spread" if separate else draw(spectra),
        rank, draw(st.integers(-6, 6)), draw(sizes()), present, draw(st.booleans()),
    )  # fmt: skip


@st.composite
def traces(draw: Any, moderate: bool = False) -> TraceProblem:
    """`moderate`: w of a size that does not leave the factors, or itself, without any influence."""
    n, size = draw(sides), draw(sizes())
    kinds = ["any", "any", "B=0", "A=0", "U=0", "V=0", "nothing", "nearly U=0", "nearly V=0", "far"]
    weight = 2 * size + draw(st.floats(-8, 4)) if moderate else draw(st.one_of(sizes(), st.floats(-200, 100)))
    return TraceProblem(
        n, n, draw(st.integers(1, 8)), draw(seeds), draw(decade), draw(decade), True,
        draw(st.sampled_from([-1, 0, 1])), weight, size, draw(st.sampled_from(kinds)),
    )  # fmt: skip


def within(error: Any, allowed: Any, what: str) -> None:
    """error ≤ allowed, number by number; NaN fails."""
    error, allowed = np.broadcast_arrays(np.asarray(error, dtype=float), np.asarray(allowed, dtype=float))
    assert (error <= allowed).all(), f"{what}: {error} > {allowed}"
