"""A block of steps as one CUDA graph: captured once, replayed with one launch.

Small factors leave a GPU waiting for its next launch; a graph of the whole block needs one. The graph works on tensors
of its own, into which each batch is copied; it is captured anew where the batch has become smaller or the stepper has
another setting.
"""

from __future__ import annotations

from collections.abc import Hashable

import torch

from flowsim.integrators.adaptive.driver import Batch, Path, Solve

WARM_UPS = 2  # blocks before a capture: libraries allocate their workspaces in the first


class Captured:
    """Blocks of a solve on a CUDA device, replayed from a graph."""

    def __init__(self, solve: Solve) -> None:
        self._solve = solve
        self._key: Hashable = None
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, batch: Batch) -> tuple[Batch, Path]:
        """A block of steps from this batch; the result is overwritten by the next call."""
        key = (len(batch.place), self._solve.length, self._solve.stepper.setting)
        if self._graph is None or key != self._key:
            self._capture(batch)
            self._key = key
        self._given.take(batch)
        assert self._graph is not None
        self._graph.replay()
        return self._done

    def _capture(self, batch: Batch) -> None:
        self._given = batch.clone()
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                self._solve.block(self._given)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._done = self._solve.block(self._given)
