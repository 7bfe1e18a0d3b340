"""Block Krylov spaces of Δ that hold a flow: the same flow with a few rows, and no SVD of Δ.

The flow B' = ΔC − B(CᵀC), C' = ΔᵀB − C(BᵀB) moves B and C by products of Δ with their own columns. With orthonormal
bases U ⊇ range B0 and V ⊇ range C0 the flow of Δ̃ = UᵀΔV is a flow of the same kind, and B = Ub, C = Vc misses the true
one by what leaves the spaces,

    leak² = ‖(I − UUᵀ)ΔVc‖² + ‖(I − VVᵀ)ΔᵀUb‖².

Block Golub–Kahan (Golub, Luk & Overton 1981), from both starts at once: U_{j+1} spans what ΔV_j has outside U, V_{j+1}
what ΔᵀU_j has outside V. Only the newest blocks leak then, through one small matrix each. A few random columns beside
the start's make the spaces see what a start has nothing of: the singular values of Δ̃ are then those of Δ from the
largest down (Halko, Martinsson & Tropp 2011), not only of the part that the start can reach.

Bases are kept as rows: products of a few long rows with a dense matrix run at twice the speed of products with columns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from flowsim.dynamics.coordinates import Canonical, pad, start_rounding
from flowsim.dynamics.landscape import FrobeniusLandscape
from flowsim.problem.objectives import Adapter, Frobenius

PROBES = 2  # random columns: they find a value that the start misses, and its copies in a tie up to this number
DIRECTION_LOST = 512  # units of rounding of σ1 below which a new direction is made of rounding
BLUR = 32  # residuals within which Ritz values may be a part of one cluster
RESIDUAL_ENTRIES = 4_000_000  # entries of Δ − UΔ̃Vᵀ held at once
FLOOR_DIGITS = 1e-11  # relative rounding of the floor above which it is summed from the residual itself


@dataclass(frozen=True)
class Side:
    """One of the two spaces.

    Attributes
    ----------
    basis : Tensor, (q, n)
        Orthonormal rows.
    image : Tensor, (q, m)
        basis·Δ (left) or basis·Δᵀ (right, with n and m exchanged).
    fresh : int
        Rows at the end whose image is not yet in the other space.
    """

    basis: Tensor
    image: Tensor
    fresh: int

    @property
    def newest(self) -> Tensor:
        """The image of the fresh rows, (fresh, m)."""
        return self.image[len(self.image) - self.fresh :]

    def with_rows(self, rows: Tensor, delta: Tensor, older: int = 0) -> Side:
        """The side with fresh rows at its end, beside `older` ones that are fresh still."""
        return Side(torch.cat([self.basis, rows]), torch.cat([self.image, rows @ delta]), len(rows) + older)


@dataclass(frozen=True)
class Block:
    """What fresh rows of one side have outside the other space: coupling·rows, and directions of norm `lost`."""

    rows: Tensor
    coupling: Tensor
    lost: float


@dataclass
class Spaces:
    """The two spaces of a difference and the blocks that come next.

    Attributes
    ----------
    delta : Tensor, (n, m)
    left, right : Side
    probes : int
        Random columns on a side that has any.
    dropped : float
        Frobenius norm of the directions left out as rounding: they leak too.
    next_left, next_right : Block
        What the fresh rows of the other side would add.
    """

    delta: Tensor
    left: Side
    right: Side
    probes: int
    dropped: float = 0.0
    next_left: Block = field(init=False)
    next_right: Block = field(init=False)

    def __post_init__(self) -> None:
        self._look_ahead()

    @classmethod
    def of(cls, delta: Tensor, B: Tensor, C: Tensor, probes: int = PROBES) -> Spaces:
        """The first blocks, from the columns of factors (S, n, r) and (S, m, r) of all members at once.

        Random columns go to every side that has any of its own, so that both spaces grow alike; to the right where
        both factors are zero.
        """
        starts = [start_rows(X.mT.flatten(0, 1)) for X in (B, C)]
        wanted = [len(starts[0]) > 0, len(starts[1]) > 0 or not len(starts[0])]
        left, right = (
            torch.cat([basis, random_rows(probes if own else 0, basis)])
            for basis, own in zip(starts, wanted, strict=True)
        )
        return cls(delta, Side(left, left @ delta, len(left)), Side(right, right @ delta.mT, len(right)), probes)

    @property
    def rows(self) -> int:
        """q, the larger of the two dimensions."""
        return max(len(self.left.basis), len(self.right.basis))

    @property
    def whole(self) -> bool:
        """Whether one of the spaces is all there is."""
        return len(self.left.basis) == self.delta.shape[0] or len(self.right.basis) == self.delta.shape[1]

    @property
    def closed(self) -> bool:
        """Whether nothing leaks but what was dropped."""
        return not len(self.next_left.rows) and not len(self.next_right.rows)

    def grow(self) -> None:
        """The next blocks, until both sides have as many rows: a start with one zero factor fills them in turn."""
        for _ in range(2):
            if self.closed:
                return
            self.dropped = math.hypot(self.dropped, self.next_left.lost, self.next_right.lost)
            self.left = self.left.with_rows(self.next_left.rows, self.delta)
            self.right = self.right.with_rows(self.next_right.rows, self.delta.mT)
            self._look_ahead()
            if len(self.left.basis) == len(self.right.basis):
                return

    def probe(self, count: int) -> None:
        """More random rows on the right."""
        rows = random_rows(count, self.right.basis)
        self.right = self.right.with_rows(rows, self.delta.mT, older=self.right.fresh)
        self.probes += count
        self._look_ahead()

    def core(self) -> Tensor:
        """Δ̃ = UᵀΔV, (q_left, q_right)."""
        return self.left.basis @ self.right.image.mT

    def _look_ahead(self) -> None:
        lengths = torch.cat([torch.linalg.vector_norm(side.image, dim=-1) for side in (self.left, self.right)])
        cutoff = DIRECTION_LOST * torch.finfo(self.delta.dtype).eps * float(lengths.max())
        self.next_left = new_block(self.right.newest, self.left.basis, cutoff)
        self.next_right = new_block(self.left.newest, self.right.basis, cutoff)


def outside(rows: Tensor, basis: Tensor) -> Tensor:
    """What rows have outside the span of an orthonormal basis."""
    return rows - (rows @ basis.mT) @ basis


def orthonormal(rows: Tensor, cutoff: float) -> tuple[Tensor, Tensor, float]:
    """Orthonormal Q and coupling K with rows = K·Q but for directions of size ≤ cutoff, and the norm of these."""
    if not len(rows):
        return rows, rows.new_zeros(0, 0), 0.0
    Q, R = torch.linalg.qr(rows.mT)
    P, values, Wh = torch.linalg.svd(R, full_matrices=False)
    count = int((values > cutoff).sum())
    lost = float(torch.linalg.vector_norm(values[count:]))
    return P[:, :count].mT @ Q.mT, Wh[:count].mT * values[:count], lost


def new_block(image: Tensor, basis: Tensor, cutoff: float) -> Block:
    """What an image adds to a space.

    A direction near the cutoff is known to few digits, and most of its error lies in the basis: it is removed again.
    """
    rows, coupling, lost = orthonormal(outside(image, basis), cutoff)
    if len(rows):
        Q, R = torch.linalg.qr(outside(rows, basis).mT)
        rows, coupling = Q.mT.contiguous(), coupling @ R.mT
    return Block(rows, coupling, lost)


def start_rows(X: Tensor) -> Tensor:
    """Orthonormal rows that span rows X, each scaled to length 1 first: small columns count as much as large ones."""
    length = torch.linalg.vector_norm(X, dim=-1, keepdim=True)
    scaled = X[length[:, 0] > 0] / length[length[:, 0] > 0]
    rows, _, _ = orthonormal(scaled, DIRECTION_LOST * torch.finfo(X.dtype).eps)
    return torch.linalg.qr(rows.mT).Q.mT.contiguous() if len(rows) else rows


def random_rows(count: int, basis: Tensor) -> Tensor:
    """Orthonormal random rows outside a basis, the same at every call of the same sizes; as many as there is room."""
    length = basis.shape[-1]
    count = min(count, length - len(basis))
    generator = torch.Generator().manual_seed(len(basis))
    rows = torch.randn(count, length, generator=generator, dtype=basis.dtype).to(basis.device)
    for _ in range(2):
        rows = torch.linalg.qr(outside(rows, basis).mT).Q.mT
    return rows.contiguous()


@dataclass(frozen=True, eq=False)
class Ritz:
    """The flow in two spaces, in the singular basis of Δ̃ = P·diag(s)·Oᵀ, and how far it can be trusted.

    Attributes
    ----------
    P, O : Tensor, (q_left, q_left) and (q_right, q_right)
    s : Tensor, (q,)
        Singular values of Δ̃, none larger than that of Δ of the same place.
    values : Tensor, (q,)
        The same with the zeros and ties of `objectives.SingularSystem`.
    lost : Tensor, 0-d
        The size at or below which they are zero.
    B, C : Tensor, (S, q, r)
        Canonical factors at time 0.
    leak_b, leak_c : Tensor, (w, q)
        leak² = ‖leak_b·B‖² + ‖leak_c·C‖² of canonical factors.
    dropped : float
        Leaks besides, per unit of ‖Z‖.
    values_error : float
        Bound on |s_i − σ_i| of the first r + 1 values.
    copies : int
        Random columns that are missing before these values have all their copies; 0 if none is.
    doubtful : bool
        Whether a start has so little of one of these modes that it may have nothing: their vectors must converge first.
    """

    P: Tensor
    O: Tensor  # noqa: E741
    s: Tensor
    values: Tensor
    lost: Tensor
    B: Tensor
    C: Tensor
    leak_b: Tensor
    leak_c: Tensor
    dropped: float
    values_error: float
    copies: int
    doubtful: bool

    @classmethod
    def of(cls, objective: Frobenius, adapter: Adapter, spaces: Spaces) -> Ritz:
        """The spaces as they are."""
        P, s, Oh = torch.linalg.svd(spaces.core(), full_matrices=True)
        q, rank, shape = spaces.rows, adapter.rank, objective.shape
        start_b, start_c = scaled_start(adapter)
        B = pad(P.mT @ (spaces.left.basis @ start_b), q, -2)
        C = pad(Oh @ (spaces.right.basis @ start_c), q, -2)
        leak_b = pad(spaces.next_right.coupling.mT @ P[len(P) - spaces.left.fresh :], q, 1)
        leak_c = pad(spaces.next_left.coupling.mT @ Oh.mT[len(Oh) - spaces.right.fresh :], q, 1)
        dropped = math.hypot(spaces.dropped, spaces.next_left.lost, spaces.next_right.lost)
        s = pad(s, q, 0)
        lost = torch.maximum(objective.lost(s[0]), start_rounding(start_b, start_c, shape))
        values = objective.numerical(s)
        values = torch.where(values > lost, values, torch.zeros_like(values))
        squares = (leak_b.square().sum(0) + leak_c.square().sum(0) + dropped**2) / 2
        count = min(rank + 1, *shape)
        copies, resolved = 0, True
        if count > q and not (spaces.closed or spaces.whole):
            error = math.inf
        else:
            if not spaces.whole:
                copies, resolved = _copies(values, squares, B, C, count, spaces.probes)
            error = values_error(s, squares, count, resolved=resolved)
        doubtful = _doubtful(values, B, C, count)
        return cls(P, Oh.mT, s, values, lost, B, C, leak_b, leak_c, dropped, error, copies, doubtful)

    def leak(self, B: Tensor, C: Tensor) -> Tensor:
        """How far the velocity at states (..., q, r) is from that of the true flow, in the norm of Z, (...)."""
        own = torch.hypot(torch.linalg.matrix_norm(self.leak_b @ B), torch.linalg.matrix_norm(self.leak_c @ C))
        return own + self.dropped * torch.hypot(torch.linalg.matrix_norm(B), torch.linalg.matrix_norm(C))

    def end_leak(self) -> float:
        """Leak of the balanced factors of Δ̃_r relative to their norm: late states leak about as much."""
        s = self.s[: self.B.shape[-1]]
        squares = (self.leak_b.square().sum(0) + self.leak_c.square().sum(0))[: len(s)]
        size = (2 * s.sum()).clamp_min(torch.finfo(s.dtype).tiny)
        return float(((s * squares).sum() / size).sqrt()) + self.dropped

    def trusted(self, shape: tuple[int, int]) -> bool:
        """Whether the first r + 1 values are as good as an SVD of Δ has them; excess loss and alignment rest on it."""
        rounding = torch.finfo(self.s.dtype).eps * max(shape) * float(self.s[0])
        return not self.copies and not self.doubtful and self.values_error <= rounding

    def canonical(self, objective: Frobenius, scale: float, spaces: Spaces) -> Canonical:
        """The problem as `coordinates.canonical` gives it, with fewer rows.

        The loss keeps what is outside the spaces, ‖Δ‖² − Σs², as a constant. Rows of one side alone count as pairs
        where Δ has a partner for them.
        """
        q, (n, m) = len(self.s), objective.shape
        rest = outside_square(spaces, self.s, self.B.shape[-1])
        rest = torch.where(rest > min(n, m) * self.lost.square(), rest, torch.zeros_like(rest))
        left = pad(spaces.left.basis.mT @ self.P, q, 1)
        right = pad(spaces.right.basis.mT @ self.O, q, 1)
        landscape = FrobeniusLandscape(self.values, min(q, n, m), rest)
        return Canonical(landscape, self.B, self.C, scale, objective.curvature, left, right)


def scaled_start(adapter: Adapter) -> tuple[Tensor, Tensor]:
    """√s·B (S, n, r) and √s·Aᵀ (S, m, r)."""
    A, B = (X if adapter.batched else X[None] for X in (adapter.A, adapter.B))
    return adapter.scale**0.5 * B, adapter.scale**0.5 * A.mT


def values_error(s: Tensor, squares: Tensor, count: int, *, resolved: bool) -> float:
    """Bound on |s_i − σ_i| of the first `count` Ritz values s (q,), from the squared residuals (q,) of their vectors.

    Each lies within its residual of some σ. Where the first j ≥ count are apart from all others by a gap, the errors
    are quadratic, Σ_{i≤j} residual²/gap (Parlett 1998, ch. 11); not where values within the blur of the last ones may
    be `resolved` no further.
    """
    linear = squares[:count].max().sqrt()
    if not resolved:
        return BLUR * float(linear)
    following = pad(s, len(s) + 1, 0)[1:] + pad(squares, len(s) + 1, 0)[1:].sqrt()
    gap = (s - following)[count - 1 :]
    total = squares.cumsum(0)[count - 1 :]
    quadratic = torch.where(gap > 0, total / gap.clamp_min(torch.finfo(s.dtype).tiny), torch.inf)
    return float(torch.minimum(linear, quadratic.min()) if len(quadratic) else linear)


def _copies(values: Tensor, squares: Tensor, B: Tensor, C: Tensor, count: int, probes: int) -> tuple[int, bool]:
    """Random columns that lack before the first `count` values have all their copies, and whether the last is resolved.

    Of a tie, the spaces hold as many copies as the start has directions in it, and one for every random column
    besides: where fewer than all random columns were used, there is no further copy. Copies beyond the first `count`
    values do not matter, but then those that are there may be a part only of a cluster. Values that are closer than
    their residuals can tell, count as a tie.
    """
    host = values.tolist()
    blur = BLUR * float(squares[:count].max().sqrt())
    size = math.hypot(float(B.norm()), float(C.norm()))
    seen = torch.cat([B, C], dim=-1).movedim(0, 1).flatten(1)
    first = 0
    while first < min(count, len(host)) and host[first] > 0:
        last = first + 1
        while last < len(host) and host[last - 1] - host[last] <= blur:
            last += 1
        directions = torch.linalg.svdvals(seen[first:last])
        absent = last - first - int((directions > torch.finfo(seen.dtype).eps ** 0.5 * size).sum())
        if absent >= probes:
            return (0, False) if last >= count else (absent, True)
        first = last
    return 0, True


def _doubtful(values: Tensor, B: Tensor, C: Tensor, count: int) -> bool:
    """Whether any of the first `count` rows of a start is small, and yet above the rounding of its singular vector.

    A start that has nothing of a mode never learns it. Its row is as large as the error of the Ritz vector then, and
    what looks like the seed of a mode would grow. No vector is known better than to rounding over the gap of its value.
    """
    rows = torch.linalg.vector_norm(torch.cat([B, C], dim=-1)[:, :count], dim=-1)
    size = torch.hypot(torch.linalg.matrix_norm(B), torch.linalg.matrix_norm(C))[:, None]
    steps = torch.nn.functional.pad(values[:-1] - values[1:], (1, 1), value=torch.inf)
    gap = torch.minimum(steps[:-1], steps[1:])[:count]
    eps = torch.finfo(values.dtype).eps
    rounding = eps * (B.shape[-2] + B.shape[-1]) * values[0] / gap
    return bool(((rows <= eps**0.5 * size) & (rows > rounding * size) & (values[:count] > 0)).any())


def outside_square(spaces: Spaces, s: Tensor, rank: int) -> Tensor:
    """‖Δ‖² − Σs², 0-d: from Δ − UΔ̃Vᵀ itself, a few rows at a time, where the difference has too few digits."""
    delta = spaces.delta
    total = torch.linalg.vector_norm(delta, dim=-1).square().sum()
    squares = s.square().flip(0)
    rest = (total - squares.sum()).clamp_min(0.0)
    tail = squares[: len(s) - rank].sum() if len(s) > rank else squares.new_zeros(())
    if float(4 * torch.finfo(s.dtype).eps * total) <= FLOOR_DIGITS * float(rest + tail):
        return rest
    inner = spaces.core() @ spaces.right.basis
    block = max(1, RESIDUAL_ENTRIES // delta.shape[1])
    parts = [
        (delta[i : i + block] - spaces.left.basis[:, i : i + block].mT @ inner).square().sum()
        for i in range(0, len(delta), block)
    ]
    return torch.stack(parts).sum()
