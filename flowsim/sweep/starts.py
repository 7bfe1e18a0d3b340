"""The starts of a problem on a device: canonical batches, one per rank, that share one SVD of the difference."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from flowsim.dynamics.coordinates import Canonical, canonical
from flowsim.errors import HypothesisError
from flowsim.integrators.solve import EXACT_HINT, NOT_BALANCED, closed_form_holds
from flowsim.problem.assemble import Problem
from flowsim.problem.objectives import Adapter, Frobenius, Objective, TraceSquared


@dataclass
class Starts:
    """All ranks of one problem, in the scenario's dtype, on one device."""

    problem: Problem
    device: torch.device
    _shared: Objective | None = field(default=None, repr=False)

    def batch(self, rank: int) -> Canonical:
        """The canonical batch of one rank: all its seeds."""
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
        return Frobenius(weight, self._tensor(target), self.problem.coefficient)

    def _tensor(self, array: np.ndarray) -> Tensor:
        dtype = torch.float64 if self.problem.document.scenario.compute.dtype == "float64" else torch.float32
        return torch.as_tensor(array).to(device=self.device, dtype=dtype)
