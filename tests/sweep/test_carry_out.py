"""Jobs and workers: few at a time, lost ones again, and one that fails takes no other along."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest

from flowsim.errors import InputError
from flowsim.sweep import carry_out as module
from flowsim.sweep.carry_out import carry_out
from flowsim.sweep.tiles import Tile
from flowsim.sweep.work import Job
from flowsim.sweep.workers import NotStarted


def jobs(count: int) -> Iterator[Job]:
    for index in range(count):
        yield Job(None, Tile(index, 0, 0, 1, 0, 1), "ab", "cpu", None)  # type: ignore[arg-type]


class Fake:
    """Workers that answer as they are told, the oldest job last."""

    def __init__(self, most: int, answer: Callable[[int, int], Any]) -> None:
        self.most, self.answer = most, answer
        self.tries: dict[int, int] = {}
        self.running = self.worst = 0
        self.given_up: list[int] = []
        self.told: list[str] = []

    def stamp(self, device: str) -> dict[str, str]:
        return {}

    def trouble(self) -> str:
        return "nobody is there"

    def submit(self, job: Job) -> Future[bytes]:
        index = job.tile.index
        self.tries[index] = self.tries.get(index, 0) + 1
        self.running += 1
        self.worst = max(self.worst, self.running)
        future: Future[bytes] = Future()
        answer = self.answer(index, self.tries[index])
        if isinstance(answer, BaseException):
            future.set_exception(answer)
        else:
            future.set_result(answer)
        return future


def carry(fake: Fake, count: int) -> tuple[list[int], dict[int, str]]:
    seen: list[int] = []

    def done(job: Job, content: bytes) -> None:
        assert content == bytes([job.tile.index])
        fake.running -= 1
        seen.append(job.tile.index)

    return seen, carry_out(jobs(count), fake, done, lambda job: fake.given_up.append(job.tile.index), fake.told.append)


def test_every_job_is_done_once() -> None:
    fake = Fake(3, lambda index, _: bytes([index]))
    seen, failures = carry(fake, 20)
    assert sorted(seen) == list(range(20)) and failures == {} and set(fake.tries.values()) == {1}
    assert fake.worst == 3  # no more than asked for are in flight


def test_nothing_to_do() -> None:
    assert carry(Fake(2, lambda *_: b""), 0) == ([], {})


@pytest.mark.parametrize("error", [BrokenProcessPool("gone"), MemoryError()])
def test_a_lost_worker_is_forgiven_once(error: Exception) -> None:
    fake = Fake(2, lambda index, attempt: error if index == 3 and attempt == 1 else bytes([index]))
    seen, failures = carry(fake, 6)
    assert sorted(seen) == list(range(6)) and failures == {} and fake.tries[3] == 2


def test_a_job_that_loses_every_worker_fails_and_the_rest_goes_on() -> None:
    fake = Fake(2, lambda index, _: BrokenProcessPool("gone") if index == 3 else bytes([index]))
    seen, failures = carry(fake, 6)
    assert sorted(seen) == [0, 1, 2, 4, 5] and fake.tries[3] == 2
    assert fake.given_up == [3]
    assert failures[3].startswith("its worker was lost 2 times (BrokenProcessPool: gone")


def test_an_error_of_the_work_itself_is_not_tried_again() -> None:
    fake = Fake(2, lambda index, _: ZeroDivisionError("a\nb") if index == 0 else bytes([index]))
    seen, failures = carry(fake, 4)
    assert sorted(seen) == [1, 2, 3] and fake.tries[0] == 1
    assert failures == {0: "unexpected error: ZeroDivisionError: a b"}


def test_what_is_wrong_with_the_scenario_ends_the_run() -> None:
    fake = Fake(2, lambda index, _: InputError("no such init", "take another") if index == 2 else bytes([index]))
    with pytest.raises(InputError, match="no such init"):
        carry(fake, 9)
    assert max(fake.tries) < 8


def test_a_disk_that_is_full_ends_the_run() -> None:
    def done(job: Job, content: bytes) -> None:
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        carry_out(jobs(9), Fake(2, lambda index, _: b"x"), done, lambda job: None, print)


def test_a_process_that_never_started_says_nothing_of_its_job() -> None:
    fake = Fake(2, lambda index, attempt: NotStarted() if index == 3 and attempt < 6 else bytes([index]))
    seen, failures = carry(fake, 6)
    assert sorted(seen) == list(range(6)) and failures == {} and fake.tries[3] == 6


def test_a_silence_is_explained_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that may come back are waited for, but not without a word."""
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.05)
    late: Future[bytes] = Future()
    fake = Fake(2, lambda index, _: bytes([index]))
    submit = fake.submit

    def silent(job: Job) -> Future[bytes]:
        if job.tile.index != 1:
            return submit(job)
        threading.Timer(0.4, late.set_result, [bytes([1])]).start()
        return late

    monkeypatch.setattr(fake, "submit", silent)
    seen, failures = carry(fake, 2)
    assert sorted(seen) == [0, 1] and failures == {} and fake.told == ["nobody is there"]
