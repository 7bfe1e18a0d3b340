"""The starts of a problem on a device: canonical batches, one per rank, that share one SVD of the difference.

Where the ranks are nested in one λ-balanced start they share the flow as well (`exact.nested`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from flowsim.dynamics.coordinates import Canonical, canonical
from flowsim.dynamics.landscape import FrobeniusLandscape
from flowsim.errors import HypothesisError
from flowsim.integrators.base import Solution
from flowsim.integrators.exact import nested
from flowsim.integrators.selection import EXACT_HINT, NOT_BALANCED, closed_form_holds, closed_forms
from flowsim.integrators.solve import solve_flow
from flowsim.problem.assemble import Problem
from flowsim.problem.objectives import Adapter, Decompose, Frobenius, Objective, TraceSquared, thin_svd


@dataclass
class Starts:
    """All ranks of one problem, in the scenario's dtype, on one device.

    Attributes
    ----------
    problem : Problem
    device : torch.device
    decompose : callable
        How the difference is decomposed: `objectives.thin_svd`, or a `svd_cache.SvdCache` that remembers it.
    """

    problem: Problem
    device: torch.device
    decompose: Decompose = thin_svd
    _shared: Objective | None = field(default=None, repr=False)
    _nested: Solution | None = field(default=None, repr=False)

    def batch(self, rank: int) -> Canonical:
        """The canonical batch of one rank: all its seeds."""
        if self._largest is not None:
            whole = self._largest
            return replace(whole, B=whole.B[..., :rank], C=whole.C[..., :rank])
        return self._canonical(rank)

    def flow(self, rank: int, times: Tensor) -> Solution:
        """The simultaneous flow of one rank at flow times (T,), always the same ones, by the scenario's solver."""
        solver, save = self.problem.document.scenario.solver, self.problem.document.scenario.save.factors
        if self._largest is not None and save == "none":
            whole, clock = self._largest, self._largest.clock * times.to(self._largest.B.dtype)
            assert isinstance(whole.landscape, FrobeniusLandscape)
            if self._nested is None and nested.one_pass(whole.landscape, whole.B, whole.C, clock):
                self._nested = nested.solve(whole.landscape, whole.B, whole.C, clock)
            if self._nested is not None:
                return nested.leading(self._nested, rank)
        return solve_flow(
            self.batch(rank), times, method=solver.method, rtol=solver.rtol, atol=solver.atol, factors=save != "none"
        )

    @cached_property
    def _largest(self) -> Canonical | None:
        """The batch of the largest rank where every rank is its leading part and it is λ-balanced, else None."""
        ranks, solver = self.problem.ranks, self.problem.document.scenario.solver
        if self.problem.target is None or len(ranks) == 1 or solver.method not in ("auto", "exact"):
            return None
        large = self.problem.start(max(ranks))
        for rank in ranks:
            small = self.problem.start(rank)
            same = _equal(small.A, large.A[:, :rank]) and _equal(small.B, large.B[..., :rank])
            if not (same and small.scale == large.scale and small.pretrained is large.pretrained):
                return None
        batch = self._canonical(max(ranks))
        return batch if closed_forms(batch) == ["balanced"] * len(self.problem.seeds) else None

    def _canonical(self, rank: int) -> Canonical:
        start = self.problem.start(rank)
        adapter = Adapter(self._tensor(start.A), self._tensor(start.B), start.scale)
        return canonical(self._objective(start.pretrained), adapter)

    def refuse_inexact(self) -> None:
        """Refuse `solver: exact` before anything runs, naming every rank for which no closed form holds.

        Raises
        ------
        HypothesisError
        """
        failing = [str(rank) for rank in self.problem.ranks if not all(closed_form_holds(self.batch(rank)))]
        if failing:
            named = f"rank{'s' if len(failing) > 1 else ''} {', '.join(failing)}"
            raise HypothesisError(f"solver exact: {named}: {NOT_BALANCED}", EXACT_HINT)

    def _objective(self, pretrained: np.ndarray) -> Objective:
        """The objective of a frozen weight; one object, hence one SVD, for all ranks that freeze the same."""
        if pretrained is not self.problem.pretrained:
            return self._new_objective(pretrained)
        if self._shared is None:
            self._shared = self._new_objective(pretrained)
        return self._shared

    def _new_objective(self, pretrained: np.ndarray) -> Objective:
        weight, target = self._tensor(pretrained), self.problem.target
        if target is None:
            return TraceSquared(weight, self.problem.coefficient)
        return Frobenius(weight, self._tensor(target), self.problem.coefficient, decompose=self.decompose)

    def _tensor(self, array: np.ndarray) -> Tensor:
        dtype = torch.float64 if self.problem.document.scenario.compute.dtype == "float64" else torch.float32
        return torch.as_tensor(array).to(device=self.device, dtype=dtype)


def _equal(first: np.ndarray, second: np.ndarray) -> bool:
    """Equal up to the last bits that products of another shape may round differently."""
    return np.allclose(first, second, rtol=0.0, atol=8 * np.finfo(np.float64).eps * np.abs(second).max())
