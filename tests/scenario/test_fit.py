"""What concerns several parts of a scenario: shapes, ranks, schedules, memory, warnings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flowsim.scenario import Document
from flowsim.scenario import fit as fit_module
from flowsim.scenario.memory import available_memory, needed_memory, size_text

Read = Callable[..., Document]
Refused = Callable[..., list[str]]

W0 = "{kind: gaussian, shape: [6, 4], std: 1.0, seed: 0}"
INIT = "{kind: gaussian, std: 0.1}"
SQUARE = ("[6, 4]", "[4, 4]")
TRACE = (("kind: frobenius", "kind: trace_squared"), ("target: {kind: zeros}\n", ""))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("target: {kind: zeros}", "target: {kind: gaussian, shape: [4, 6]}",
         "4:33: target.shape: is 4 x 6, but pretrained is 6 x 4"),
        ("target: {kind: zeros}", "target: {kind: zeros, shape: [6, 5]}",
         "4:30: target.shape: is 6 x 5, but pretrained is 6 x 4"),
        ("target: {kind: zeros}", "target: {kind: values, values: [[1, 2]]}",
         "4:9: target: is 1 x 2, but pretrained is 6 x 4"),
        ("target: {kind: zeros}", "target: {kind: shift, by: {kind: gaussian, shape: [1, 1]}}",
         "4:51: target.by.shape: is 1 x 1, but pretrained is 6 x 4"),
        ("target: {kind: zeros}", "target: {kind: values, values: [[1, 2], [3]]}",
         "4:41: target.values.1: row 1 has 1 entries, row 0 has 2"),
        ("target: {kind: zeros}", "target: {kind: values, values: []}", "4:32: target.values: must not be e"),
        ("target: {kind: zeros}", "target: {kind: values, values: [[]]}", "4:33: target.values.0: must not "),
        ("target: {kind: zeros}", "target: {kind: values, values: [[.nan]]}",
         "4:34: target.values.0.0: must be finite, not nan"),
        ("target: {kind: zeros}", "target: {kind: values, values: [[x]]}",
         "4:34: target.values.0.0: should be a number, not the text 'x'"),
        (W0, "{kind: zeros}", "3:13: pretrained: its shape is not known"),
        (W0, "{kind: spectrum, shape: [6, 4], singular_values: [1, 2, 3, 4, 5]}",
         "3:62: pretrained.singular_values: 5 singular values, but a matrix of this shape has 4"),
        (W0, "{kind: spectrum, shape: [6, 4], singular_values: {kind: flat, value: 1, count: 5}}",
         "3:92: pretrained.singular_values.count: 5 singular values, but"),
        (W0, "{kind: spectrum, shape: [6, 4], singular_values: [1, -1]}",
         "3:66: pretrained.singular_values.1: must be at least 0, not -1"),
        (W0, "{kind: spectrum, shape: [6, 4], singular_values: []}",
         "3:62: pretrained.singular_values: must not be empty"),
        (W0, "{kind: spectrum, shape: [6, 4], singular_values: 3}",
         "3:62: pretrained.singular_values: should be a list or a section {kind: ...}, not 3"),
        (W0, "{kind: spectrum, shape: [6, 4], singular_values: {kind: geometrc, ratio: 1}}",
         "3:69: pretrained.singular_values.kind: 'geometrc' is not known here (did you mean geometric?)"),
        (W0, "{kind: spectrum, shape: [6, 4], singular_values: {kind: geometric, ratio: 1e200}}",
         "3:87: pretrained.singular_values.ratio: the last of 4 singular values is too large"),
        (W0, "{kind: spectrum, shape: [6, 4], singular_values: {kind: power, exponent: -999}}",
         "3:86: pretrained.singular_values.exponent: the last of 4 singular values is too large"),
        (W0, "{kind: spectrum, shape: [6, 4], singular_values: [1], symmetric: true}",
         "3:78: pretrained.symmetric: a symmetric matrix is square, not 6 x 4"),
        ("kind: frobenius", "kind: trace_squared", "4:1: target: trace_squared has no target"),
        ("kind: frobenius", "kind: trace_squared",
         "3:37: pretrained.shape: trace_squared needs a square matrix, not 6 x 4"),
        (INIT, "{kind: values, A: [[1, 2, 3, 4]], B: [[1], [2], [3], [4], [5], [6]]}",
         "6:14: adapter.ranks.1: rank 2 is too large: the init has 1 rows of A and columns of B"),
        (INIT, "{kind: values, A: [[1, 2], [3, 4]], B: [[1, 2], [3, 4]]}",
         "8:27: adapter.init.A: A has 2 columns, but the weight has 4"),
        (INIT, "{kind: values, A: [[1, 2], [3, 4]], B: [[1, 2], [3, 4]]}",
         "8:48: adapter.init.B: B has 2 rows, but the weight has 6"),
        (INIT, "{kind: values, A: [[1, 2], [3, 4]], B: [[1, 2, 3]]}",
         "8:48: adapter.init.B: B has 3 columns, but A has 2 rows"),
        (INIT, "{kind: values, A: [[1, 2], [3]], B: [[1, 2, 3]]}",
         "8:36: adapter.init.A.1: row 1 has 1 entries, row 0 has 2"),
        ("[0.2, 0.1]", "[0.2, 10.5]", "11:50: schedules.1.windows.1: a window of 10.5 is longer than the wh"),
        ("[0.1, 0.05]", "[0.1, 11.0]", "12:43: schedules.2.learning_rates.1: a round of learning_rate * inn"),
        ("[0.1, 0.05]}", "[0.1, 0.05], inner_steps: 110}",
         "12:38: schedules.2.learning_rates.0: a round of learning_rate * inner_steps = 11 is longer"),
        ("- {kind: flow}\n", "- {kind: flow}\n  - {kind: flow, update: simultaneous}\n",
         "11:5: schedules.1: flow is asked for by schedules.0 already"),
        ("[0.1, 0.05]}", "[0.1, 0.05]}\n  - {kind: descent, learning_rates: [0.05]}",
         "13:5: schedules.3: descent/simultaneous/learning_rate=0.05 is asked for by schedules.2 already"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(refused: Refused, old: str, new: str, expected: str) -> None:
    lines = refused((old, new))
    assert any(line.startswith("s.yaml:" + expected) for line in lines), "\n".join(lines)


def test_a_difference_needs_a_target(refused: Refused, read: Read) -> None:
    lines = refused(SQUARE, *TRACE, (INIT, "{kind: spectral, of: difference}"))
    assert lines == [
        "s.yaml:7:30: adapter.init.of: trace_squared has no target, and so no difference",
        "  Write of: pretrained.",
    ]
    assert read(SQUARE, *TRACE, (INIT, "{kind: spectral, of: pretrained}")).scenario.target is None


def test_zeros_take_the_shape_of_the_other_matrix(read: Read) -> None:
    document = read((W0, "{kind: zeros}"), ("target: {kind: zeros}", "target: {kind: gaussian, shape: [3, 5]}"))
    assert document.shape == (3, 5)
    assert document.scenario.pretrained.shape == (3, 5)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("init", "ranks", "bad"),
    [
        ("{kind: pissa}", "[4, 5, 6]", ["adapter.ranks.1", "adapter.ranks.2"]),
        ("{kind: spectral, of: difference}", "[5]", ["adapter.ranks.0"]),
        ("{kind: orthogonal}", "[4, 5]", ["adapter.ranks.1"]),
        ("{kind: orthogonal, zero: A}", "[4, 6, 7]", ["adapter.ranks.2"]),
        ("{kind: orthogonal, zero: none}", "[4, 5]", ["adapter.ranks.1"]),
    ],
)
def test_inits_of_orthonormal_vectors_refuse_large_ranks(
    refused: Refused, init: str, ranks: str, bad: list[str]
) -> None:
    lines = refused((INIT, init), ("ranks: [1, 2]", f"ranks: {ranks}"))
    assert [line.split(": ")[1] for line in lines[::2]] == bad


def test_a_rank_above_the_matrix_is_a_warning(read: Read) -> None:
    (warning,) = read(("ranks: [1, 2]", "ranks: [4, 5, 60]")).warnings
    assert warning.startswith("adapter.ranks: 5, 60 above min(n, m) = 4")
    (warning,) = read(("ranks: [1, 2]", "ranks: [6]"), (INIT, "{kind: orthogonal, zero: A}")).warnings
    assert "6 above" in warning


@pytest.mark.parametrize(
    "init",
    [
        "{kind: pissa}",
        "{kind: spectral, of: difference}",
        "{kind: values, A: [[1, 0, 0, 0], [0, 1, 0, 0]], B: " + str([[0, 0]] * 6) + "}",
    ],
)
def test_seeds_of_an_init_that_draws_nothing_are_a_warning(read: Read, init: str) -> None:
    (warning,) = read((INIT, init)).warnings
    assert warning.startswith("adapter.seeds: ") and "2 seeds" in warning
    assert read((INIT, init), ("seeds: 2", "seeds: 1")).warnings == ()


def test_tolerances_below_the_precision_are_a_warning(read: Read) -> None:
    end = ("points: 11}", "points: 11}\nsolver: {rtol: 1e-9}\ncompute: {dtype: float32}")
    assert read(end).warnings[0].startswith("solver.rtol: 1e-09 is below what float32")


def test_a_descent_of_very_many_rounds_is_a_warning(read: Read) -> None:
    (warning,) = read(("[0.1, 0.05]", "[0.1, 1e-9]")).warnings
    assert warning.startswith("schedules.2.learning_rates.1: 1e+10 rounds")


def test_rounds_beyond_counting_are_refused(refused: Refused) -> None:
    (line, *_) = refused(("[0.1, 0.05]", "[0.1, 1e-20]"))
    assert line.endswith("rounds are more than can be counted") and "schedules.2.learning_rates.1" in line
    (line, *_) = refused(("windows: [", "windows: [1e-20, "))
    assert line.endswith("windows are more than can be counted") and "windows.0" in line


def test_what_cannot_fit_in_memory_is_refused(refused: Refused) -> None:
    lines = refused((W0, "{kind: gaussian, shape: [9000000, 9000000]}"))
    assert lines[0].startswith("s.yaml:3:13: pretrained: the scenario needs at least")
    lines = refused(("points: 11", "points: 10000000"), ("ranks: [1, 2]", "ranks: [1, 2000]"))
    assert lines[0].startswith("s.yaml:13:28: time.points: the scenario needs at least")
    assert lines[1].startswith("  Use fewer points")


def test_seeds_are_solved_one_block_after_the_other(read: Read, refused: Refused) -> None:
    assert len(read(("seeds: 2", "seeds: 1000000")).scenario.adapter.seeds) == 1_000_000
    lines = refused(("seeds: 2", "seeds: 1000000"), ("ranks: [1, 2]", f"ranks: {list(range(1, 12))}"))
    assert lines[0].endswith("adapter.seeds: 11 ranks with 1000000 seeds each are more than 10,000,000 pairs")


def test_stored_factors_count(monkeypatch: pytest.MonkeyPatch, read: Read, refused: Refused) -> None:
    keep = ("points: 11}", "points: 11}\nsave: {factors: all}")
    args = ((6, 4), 2, 11, 5)
    without, with_factors = (needed_memory(*args, keep_factors=flag) for flag in (False, True))
    assert with_factors - without == 5 * 11 * 10 * 2 * 8
    monkeypatch.setattr(fit_module, "available_memory", lambda: (without + with_factors) // 2)
    assert read().shape == (6, 4)
    assert "of memory" in refused(keep)[0]


def test_memory_is_told_in_plain_units() -> None:
    assert available_memory() > 2**20
    assert [size_text(size) for size in (0, 1023, 1024, 2**30, 2**45, 2**80)] == [
        "0 bytes", "1023 bytes", "1.0 KiB", "1.0 GiB", "32.0 TiB", "more than 1000 TiB",
    ]  # fmt: skip


def test_weight_files_are_looked_at(read: Read, refused: Refused, tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", np.ones((6, 4), dtype=np.float32))
    np.save(tmp_path / "t.npy", np.ones((4, 6)))
    document = read((W0, "{kind: file, path: w.npy}"))
    (file,) = document.weights
    assert (file.where, file.path, len(file.sha256)) == ("pretrained", tmp_path / "w.npy", 64)
    assert document.shape == (6, 4)
    document = read(("{kind: zeros}", "{kind: shift, by: {kind: file, path: w.npy}}"))
    assert document.weights[0].where == "target.by"
    lines = refused(("target: {kind: zeros}", "target: {kind: file, path: t.npy}"))
    assert lines[0] == "s.yaml:4:9: target: is 4 x 6, but pretrained is 6 x 4"
    lines = refused((W0, "{kind: file, path: v.npy}"))
    assert lines[0].startswith("s.yaml:3:32: pretrained.path: there is no file")
    assert lines[0].endswith("(did you mean t.npy?)") or lines[0].endswith("(did you mean w.npy?)")
    lines = refused((W0, "{kind: file, path: w.npy, tensor: x}"))
    assert lines[0].startswith("s.yaml:3:47: pretrained.tensor: w.npy holds a single matrix")
    lines = refused((W0, f"{{kind: file, path: w.npy, sha256: {'a' * 64}}}"))
    assert lines[0].startswith("s.yaml:3:47: pretrained.sha256: w.npy has sha256 ")
    lines = refused((W0, "{kind: file, path: w.npy, sha256: abc}"))
    assert lines[0] == "s.yaml:3:47: pretrained.sha256: 'abc' must be 64 hexadecimal digits"
    lines = refused((W0, "{kind: file, path: w.npy, package: no-such-package-here}"))
    assert lines[0].startswith("s.yaml:3:48: pretrained.package: the package no-such-package-here is not installed")
