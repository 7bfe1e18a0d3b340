"""flowsim against general engines on one piece of work, side by side and at no larger error.

The baseline runs first, on the number of threads that is faster on a short part of the work. flowsim's rtol is then
the loosest of `TOLERANCES` at which its error is no larger than the bound (the baseline's error), found on the number
of threads that is faster for it; neither search is timed. Then baseline and flowsim run in turn, each in a process of
its own, and the least time of each counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tests.benchmarks import child
from tests.benchmarks.child import Child, Failed, Timing, TooSlow
from tests.benchmarks.engines import BASELINE, Sample, Setting, missing
from tests.benchmarks.lines import Line, extrapolated
from tests.benchmarks.work import Work

TOLERANCES = (1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6, 3e-7, 1e-7, 3e-8, 1e-8)
ATOL_SHARE = 1e-3  # atol/rtol, as for the baseline
REPEATS = 5
SCOUTED = 1e-5  # rtol at which flowsim's thread counts are compared
LONG = 15.0  # seconds: what takes longer runs once
COUNTS = (1, 2)

ALL = Sample()

Say = Callable[[str], None]


@dataclass(frozen=True)
class Race:
    """One piece of work and how it is run.

    Attributes
    ----------
    baseline : Sample or None
        The trajectories that the baseline runs; its time is extrapolated to all of them. None: no baseline.
    part : float
        Share of the horizon that the baseline runs; its time is divided by it (a stiff flow needs as many steps a
        unit of time early as late).
    bound : float
        Largest error allowed of flowsim, whatever the baseline's is.
    factors : bool
        Whether A and B themselves are compared, or BA.
    save : str
        What flowsim's dataset holds: `states` or `functions` of them.
    peers : tuple of str
    wanted : float
        Least ratio asked for.
    most : float
        Most seconds asked for.
    slow : bool
        Left out by --quick.
    """

    title: str
    work: Work
    baseline: Sample | None = ALL
    part: float = 1.0
    bound: float = float("inf")
    factors: bool = False
    save: str = "states"
    peers: tuple[str, ...] = ()
    wanted: float | None = None
    most: float | None = None
    slow: bool = False


def run(race: Race, folder: Path, say: Say, limit: float = 60.0) -> list[Line]:
    """The lines of one race: the baseline, flowsim, peers."""
    work, lines = race.work, []
    judged = race.baseline or ALL
    with Child(max(COUNTS)) as solver:
        solver.ask(child.solve_references, work, judged, folder)
    first, error, bound = None, None, race.bound
    shorter = replace(work, horizon=work.horizon * race.part, saves=2) if race.part < 1 else work
    if race.baseline is not None:
        threads = _better(BASELINE, work, race.baseline)
        say(f"  {BASELINE}: {threads} thread(s) better")
        host = _warm(BASELINE, shorter, Setting(), threads)
        first = _asked(host, BASELINE, shorter, race.baseline, Setting())
        say(f"  {BASELINE}: {first.total:.3f} s")
        if race.part == 1:
            error = host.ask(child.errors, work, race.baseline, folder)[race.factors]
            bound = min(bound, error)
    own, threads = _loosest(race, judged, bound, folder, say)
    with _warm("flowsim", work, own, threads) as ours:
        best, base = _side_by_side(race, own, ours, None if first is None else host, first, shorter)
        seen = _error_of(ours, race, judged, own, folder)
    baseline_seconds = None
    if base is not None:
        host.close()
        baseline_seconds, note = _whole(race, base)
        lines.append(
            Line(race.title, BASELINE, host.threads, baseline_seconds, sum(base.evaluations.values()), error,
                 race.factors, base.peak, 1.0, None, note)
        )  # fmt: skip
    ratio = None if baseline_seconds is None else baseline_seconds / best.total
    note = f"rtol {own.rtol:g}, {best.stepper}"
    note += "" if race.most is None else f"; at most {race.most:g} s wanted"
    note += "" if seen <= bound else f"; NO rtol reaches {bound:.1e}"
    lines.append(
        Line(race.title, "flowsim", threads, best.total, sum(best.evaluations.values()), seen, race.factors,
             best.peak, ratio, race.wanted, note)
    )  # fmt: skip
    for peer in race.peers:
        lines.append(_peer(peer, race, baseline_seconds, folder, limit))
        say(f"  {peer}: {lines[-1].seconds} s {lines[-1].note}")
    return lines


def _warm(engine: str, work: Work, setting: Setting, threads: int) -> Child:
    host = Child(threads)
    host.ask(child.warm, engine, work, setting)
    return host


def _asked(
    host: Child, engine: str, work: Work, sample: Sample, setting: Setting, limit: float | None = None
) -> Timing:
    timing: Timing = host.ask(child.run, engine, work, sample, setting, limit=limit)
    return timing


def _better(engine: str, work: Work, sample: Sample) -> int:
    """The number of threads with which a short part of the work, its largest rank, is faster."""
    ranks, _ = sample.of(work)
    short = replace(work, horizon=work.horizon / 50, ranks=ranks[-1:], seeds=1, saves=2)
    seconds = {}
    for threads in COUNTS:
        with _warm(engine, short, Setting(), threads) as host:
            seconds[threads] = min(_asked(host, engine, short, ALL, Setting()).total for _ in range(2))
    return min(seconds, key=lambda threads: seconds[threads])


def _loosest(race: Race, judged: Sample, bound: float, folder: Path, say: Say) -> tuple[Setting, int]:
    """flowsim's loosest setting within the bound (the last one tried if none is), and its better thread count."""
    setting = Setting(SCOUTED, ATOL_SHARE * SCOUTED, error="factors" if race.factors else "product", save=race.save)
    seconds = {}
    for threads in COUNTS:
        with _warm("flowsim", race.work, setting, threads) as host:
            seconds[threads] = min(_asked(host, "flowsim", race.work, ALL, setting).total for _ in range(2))
    say("  flowsim: " + ", ".join(f"{value:.4f} s with {threads} thread(s)" for threads, value in seconds.items()))
    best = min(seconds, key=lambda threads: seconds[threads])
    with _warm("flowsim", race.work, setting, best) as scout:
        for rtol in TOLERANCES:
            setting = replace(setting, rtol=rtol, atol=ATOL_SHARE * rtol)
            seen = _error_of(scout, race, judged, setting, folder)
            say(f"  flowsim: rtol {rtol:g} has error {seen:.2e} (bound {bound:.2e})")
            if seen <= bound:
                break
    return setting, best


def _side_by_side(
    race: Race, own: Setting, ours: Child, host: Child | None, first: Timing | None, shorter: Work
) -> tuple[Timing, Timing | None]:
    """The best run of flowsim and of the baseline, in turn; what is long has run once already."""
    mine = [_asked(ours, "flowsim", race.work, ALL, own)]
    theirs = [] if first is None else [first]
    for _ in range(REPEATS - 1):
        if host is not None and race.baseline is not None and first is not None and first.total < LONG:
            theirs.append(_asked(host, BASELINE, shorter, race.baseline, Setting()))
        if sum(one.total for one in mine) < LONG:
            mine.append(_asked(ours, "flowsim", race.work, ALL, own))
    return best_of(mine), best_of(theirs) if theirs else None


def best_of(timings: list[Timing]) -> Timing:
    """The fastest run, with the peak memory of the first: later ones find memory already taken."""
    return replace(min(timings, key=lambda one: one.total), peak=timings[0].peak)


def _error_of(host: Child, race: Race, judged: Sample, own: Setting, folder: Path) -> float:
    """Error of flowsim, with its states, which functions of them do not give."""
    _asked(host, "flowsim", race.work, judged, replace(own, save="states"))
    seen: float = host.ask(child.errors, race.work, judged, folder)[race.factors]
    return seen


def _whole(race: Race, base: Timing) -> tuple[float, str]:
    """Seconds of the baseline for all of the work, and what was extrapolated."""
    assert race.baseline is not None
    ranks, members = race.baseline.of(race.work)
    seconds, note = base.total, ""
    if ranks != race.work.ranks or members != race.work.seeds:
        seconds = extrapolated(base.seconds, race.work.ranks, race.work.seeds / members)
        note = f"EXTRAPOLATED from {len(ranks) * members} of {len(race.work.ranks) * race.work.seeds} trajectories"
        note += f" ({base.total:.1f} s)"
    if race.part < 1:
        seconds /= race.part
        note += f"EXTRAPOLATED from {race.part:.0%} of the horizon ({base.total:.1f} s)"
    return seconds, note


def _peer(peer: str, race: Race, baseline_seconds: float | None, folder: Path, limit: float) -> Line:
    absent = missing(peer)
    if absent:
        return Line(race.title, peer, note=absent)
    timings = {}
    try:
        for threads in COUNTS:
            with _warm(peer, race.work, Setting(), threads) as host:
                runs = [_asked(host, peer, race.work, ALL, Setting(), limit)]
                while len(runs) < REPEATS and sum(one.total for one in runs) < LONG:
                    runs.append(_asked(host, peer, race.work, ALL, Setting(), limit))
                seen = host.ask(child.errors, race.work, ALL, folder)[race.factors]
                timings[threads] = best_of(runs)
    except TooSlow as slow:
        if not timings:
            return Line(race.title, peer, note=str(slow))
    except Failed as failed:
        return Line(race.title, peer, note=str(failed).strip().splitlines()[-1])
    threads = min(timings, key=lambda one: timings[one].total)
    best = timings[threads]
    ratio = None if baseline_seconds is None else baseline_seconds / best.total
    note = f"compiled in {best.compiling:.1f} s, not counted" if best.compiling else ""
    return Line(
        race.title, peer, threads, best.total, sum(best.evaluations.values()), seen, race.factors, best.peak, ratio,
        None, note,
    )  # fmt: skip
