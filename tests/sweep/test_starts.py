"""A remembered decomposition changes no byte of a result."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flowsim import pipeline
from flowsim.problem import svd_cache
from flowsim.problem.objectives import thin_svd
from flowsim.sweep import work

TEXT = """\
name: tiny
objective: {kind: frobenius}
pretrained: {kind: spectrum, shape: [6, 5], singular_values: [2.0, 1.2, 0.5, 0.2], seed: 3}
adapter: {ranks: [1, 2], seeds: 2, init: {kind: gaussian, std: 0.5}}
solver: {rtol: 1.0e-4}
time: {stop: 2.0, points: 3}
"""


def test_a_run_gives_the_same_bytes_with_and_without_the_cache(
    tmp_path: Path, run_text: Callable[..., Any], sha256: Callable[[Path], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(svd_cache, "SMALLEST", 4)
    files = []
    for name in ("writing", "reading", "without"):
        if name == "without":
            monkeypatch.setattr(work, "SvdCache", lambda folder: thin_svd)
        with monkeypatch.context() as patch:
            if name == "reading":
                patch.setattr(svd_cache, "thin_svd", None)  # nothing may be decomposed any more
            folder = run_text(TEXT, out=tmp_path).folder
        files.append(sha256(folder / "tiny.nc"))
        shutil.rmtree(folder)
    assert len(set(files)) == 1
    # One decomposition for all ranks and seeds, beside the results.
    assert len(list((tmp_path / pipeline.CACHE).glob("*.npz"))) == 1
