"""Nothing inside a block waits for the host, on any device: what can be shown of it without a GPU, and on one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from flowsim.dynamics.flow import velocity
from flowsim.dynamics.landscape import FrobeniusLandscape
from flowsim.integrators.adaptive import driver
from flowsim.integrators.adaptive.driver import Solve, integrate
from flowsim.integrators.adaptive.radius import frobenius_radius
from flowsim.integrators.adaptive.splitting import Splitting
from flowsim.integrators.adaptive.stabilised import Stabilised
from flowsim.integrators.adaptive.stepper import Stepper
from flowsim.integrators.adaptive.tsit5 import Tsit5

SIGMA = [1.0, 0.6, 0.35, 0.2, 0.1, 0.05]
READS = ("_local_scalar_dense", "nonzero", "equal", "masked_select", "is_nonzero", "index_bool")


def landscape(like: Tensor) -> FrobeniusLandscape:
    return FrobeniusLandscape(like.new_tensor(SIGMA), len(SIGMA))


def tsit5(like: Tensor) -> Stepper:
    here = landscape(like)
    return Tsit5(lambda Z: velocity(here, Z), like, rtol=1e-6, atol=1e-9)


def stabilised(like: Tensor) -> Stepper:
    here = landscape(like)
    radius = frobenius_radius(here)
    return Stabilised(lambda Z: velocity(here, Z), like, rtol=1e-6, atol=1e-9, spectral_radius=radius)


def splitting(order: int, factors: bool) -> Callable[[Tensor], Stepper]:
    def make(like: Tensor) -> Stepper:
        return Splitting(like.new_tensor(SIGMA), order=order, rtol=1e-6, atol=1e-9, factors=factors)

    return make


STEPPERS: dict[str, Callable[[Tensor], Stepper]] = {
    "tsit5": tsit5,
    "stabilised": stabilised,
    "splitting4": splitting(4, factors=False),
    "splitting6 of A and B": splitting(6, factors=True),
}


def start(batch: int = 3, rank: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return 0.02 * torch.randn(batch, 2, len(SIGMA), rank, dtype=torch.float64, generator=generator)


def times(like: Tensor, *values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, device=like.device)


class HostReads(TorchDispatchMode):
    """Counts the operations after which the host waits for numbers, and the reads of whole tensors."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self._patch = monkeypatch

    def __enter__(self):  # type: ignore[no-untyped-def]
        right = Tensor.tolist

        def tolist(tensor: Tensor) -> object:
            self.found["tolist"] += 1
            return right(tensor)

        self._patch.setattr(Tensor, "tolist", tolist)
        return super().__enter__()

    def __exit__(self, *given):  # type: ignore[no-untyped-def]
        self._patch.undo()
        return super().__exit__(*given)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = func.__name__.split(".")[0]
        if name in ("index", "index_put_") and any(i is not None and i.dtype == torch.bool for i in args[1]):
            name = "index_bool"  # a mask is turned into positions, whose number the host must know
        if name in READS:
            self.found[name] += 1
        return func(*args, **(kwargs or {}))


def test_the_counter_sees_every_kind_of_read(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.ones(3)
    for read in (lambda: float(x[0]), lambda: bool(x.all()), lambda: x[x > 0], lambda: x.tolist(), x.nonzero):
        with HostReads(monkeypatch) as reads:
            read()
        assert reads.found.total() == 1, reads.found


@pytest.mark.parametrize("name", STEPPERS)
def test_no_read_inside_a_block_and_one_a_block(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Z = start()
    Z[0] *= 10  # the first is done before the others
    solve = Solve(STEPPERS[name](Z), Z, times(Z, 1.0, 10.0, 300.0), 10_000, states=True, record=None, block=4)
    groups, blocks, sizes = solve.begin(), 0, set()
    while groups:
        parts = []
        for group in groups:
            with HostReads(monkeypatch) as reads:

                def block(batch: driver.Batch, reads: HostReads = reads) -> tuple[driver.Batch, driver.Path]:
                    done = Solve.block(solve, batch)
                    assert reads.found.total() == 0, reads.found
                    return done

                parts += solve.advance(group, block)
            assert reads.found.total() <= 1, reads.found
            blocks += 1
            sizes.add(len(group.batch.place))
        groups = solve.sorted(parts)
    assert blocks >= 3 and len(sizes) >= 2  # members left the batch on the way


def in_fake_tensors(name: str, mode: FakeTensorMode) -> tuple[Solve, driver.Batch]:
    """A solve whose tensors have shapes and no numbers: whatever looks at one raises."""
    real = start()
    ready = Solve(STEPPERS[name](real), real, times(real, 1.0, 5.0), 100, states=True, record=None, block=8)
    batch = ready.begin()[0].batch
    with mode:
        fake = mode.from_tensor(real)
        ready.stepper = STEPPERS[name](fake)
        ready.stop, ready.shortest = mode.from_tensor(ready.stop), mode.from_tensor(ready.shortest)
        return ready, batch.each(mode.from_tensor)


@pytest.mark.parametrize("name", STEPPERS)
def test_a_block_runs_without_numbers(name: str) -> None:
    mode = FakeTensorMode()
    ready, batch = in_fake_tensors(name, mode)
    with mode:
        done, path = ready.block(batch)
        assert path.states.shape == (9, *batch.y.shape)
        with pytest.raises(DataDependentOutputException):
            bool((done.t > 0).all())  # so a look at a number would have raised


@pytest.mark.parametrize("name", STEPPERS)
def test_a_block_runs_on_the_meta_device(name: str) -> None:
    real = start()
    ready = Solve(STEPPERS[name](real), real, times(real, 1.0, 5.0), 100, states=True, record=None, block=8)
    batch = ready.begin()[0].batch.each(lambda tensor: tensor.to("meta"))
    ready.stepper = STEPPERS[name](real.to("meta"))
    ready.stop, ready.shortest = ready.stop.to("meta"), ready.shortest.to("meta")
    done, path = ready.block(batch)
    assert done.y.device.type == path.states.device.type == "meta"
    assert done.y.dtype == torch.float64 and done.t.dtype == torch.float64


def run_on(device: str, name: str, **more: bool) -> driver.Integrated:
    Z = start().to(device)
    return integrate(STEPPERS[name](Z), Z, times(Z, 1.0, 10.0, 300.0), max_steps=10_000, **more)


cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.cuda
@cuda
@pytest.mark.parametrize("name", STEPPERS)
def test_cuda_takes_the_steps_of_the_cpu(name: str) -> None:
    here, there = run_on("cpu", name), run_on("cuda", name)
    assert there.states.is_cuda and there.steps == here.steps
    torch.testing.assert_close(there.states.cpu(), here.states, rtol=0, atol=1e-11)


@pytest.mark.cuda
@cuda
@pytest.mark.parametrize("name", STEPPERS)
def test_cuda_does_not_synchronise_inside_a_block(name: str) -> None:
    Z = start().cuda()
    ready = Solve(STEPPERS[name](Z), Z, times(Z, 1.0, 300.0), 100, states=True, record=None, block=8)
    batch, _ = ready.block(ready.begin()[0].batch)  # libraries initialise
    torch.cuda.set_sync_debug_mode("error")
    try:
        ready.block(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.cuda
@cuda
@pytest.mark.parametrize("name", STEPPERS)
def test_a_captured_block_takes_the_same_steps(name: str) -> None:
    plain, captured = run_on("cuda", name), run_on("cuda", name, capture=True)
    assert captured.steps == plain.steps and captured.status == plain.status
    torch.testing.assert_close(captured.states, plain.states, rtol=0, atol=1e-12)
