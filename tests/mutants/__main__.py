"""Apply every mutant to a copy of the repository and demand that the test named for it fails.

    python -m tests.mutants [NAME ...] [--jobs N]

Exit status 0 only if the copy without a mutant passes every named test and no mutant survives.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.probe import ASSERTED, OUTCOMES, PASSED
from tests.mutants.table import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("flowsim", "tests", "scenarios", "pyproject.toml")
UNCHANGED = "(no mutant)"


@dataclass(frozen=True)
class Result:
    """What became of the named tests in one copy; `wrong` says what should have been otherwise."""

    name: str
    tests: tuple[str, ...]
    wrong: str
    seconds: float


def copy_to(folder: Path) -> None:
    """Copy what the tests need, without bytecode: a mutant of equal size and time would be hidden by it."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / name, folder / name)


def outcomes(folder: Path, tests: Sequence[str]) -> tuple[int, dict[str, str], str]:
    """Run tests in a copy: pytest's exit status, what became of each test, and the output."""
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "PYTEST_ADDOPTS": ""}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.mutants.probe", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    file = folder / OUTCOMES
    found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return done.returncode, found, done.stdout + done.stderr


def fate(found: dict[str, str], test: str, wanted: str) -> str:
    """What is wrong with a test, empty if nothing: of a parametrised one any instance may assert, all must pass."""
    own = [outcome for name, outcome in found.items() if name == test or name.startswith(f"{test}[")]
    strange = [outcome for outcome in own if outcome not in (PASSED, wanted)]
    if wanted in own and not strange and (wanted == ASSERTED or set(own) == {wanted}):
        return ""
    return f"{test}: {strange[0] if strange else 'passes' if own else 'is not run'}"


def tried(name: str, tests: Sequence[str], status: int, outcome: str, mutant: Mutant | None = None) -> Result:
    """Run tests in a fresh copy, mutated or not, and hold them against the wanted status and outcome."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy_to(Path(folder))
        if mutant is not None:
            file = Path(folder) / mutant.file
            file.write_text(mutant.applied(file.read_text(encoding="utf-8")), encoding="utf-8")
        code, found, output = outcomes(Path(folder), tests)
    wrong = [one for test in tests if (one := fate(found, test, outcome))]
    if code != status or not found:
        wrong += [f"exit status {code}", output[-2000:]]
    return Result(name, tuple(tests), "\n".join(wrong), time.perf_counter() - began)


def run(mutants: Sequence[Mutant], jobs: int) -> list[Result]:
    """The unchanged copy first, on which every named test must pass, then each mutant, whose tests must all fail."""
    with ThreadPoolExecutor(jobs) as pool:
        every = list(dict.fromkeys(test for mutant in mutants for test in mutant.tests))
        futures = [pool.submit(tried, UNCHANGED, every, 0, PASSED)]
        futures += [pool.submit(tried, one.name, one.tests, 1, ASSERTED, one) for one in mutants]
        return [future.result() for future in futures]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument("names", nargs="*", metavar="NAME", help="mutants to try; all if none is named")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args(arguments)
    unknown = set(given.names) - {one.name for one in MUTANTS}
    if unknown:
        parser.error(f"no such mutant: {', '.join(sorted(unknown))}")
    chosen = [one for one in MUTANTS if not given.names or one.name in given.names]
    for one in chosen:
        one.applied((ROOT / one.file).read_text(encoding="utf-8"))  # a stale table is known before anything runs
    results = run(chosen, given.jobs)
    for one in results:
        shown = f"{len(one.tests)} tests pass" if one.name == UNCHANGED else ", ".join(one.tests)
        print(f"{one.name:32} {one.seconds:6.1f} s  {shown.replace('tests/', '')}")
    survivors = [one for one in results if one.wrong]
    for one in survivors:
        print(f"\n{'NOT AS IT SHOULD BE' if one.name == UNCHANGED else 'SURVIVES'}: {one.name}\n{one.wrong}")
    print(f"\n{len(results) - 1} mutants, {sum(one.name != UNCHANGED for one in survivors)} survive")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
