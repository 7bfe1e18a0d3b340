"""The main job: same bytes every time, complete or not there at all, readable without flowsim."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from flowsim import pipeline
from flowsim.checks import verdict_table
from flowsim.errors import HypothesisError, InputError, OutputError, ResultError, ScenarioError
from flowsim.scenario.digest import digest_of
from flowsim.scenario.read import parse_scenario
from flowsim.sweep.plan import plan
from flowsim.trajectory.store import load

SMALL = """\
# The comment stays.
name: small
objective: {kind: frobenius}
pretrained: {kind: gaussian, shape: [5, 4], std: 0.6, seed: 2}
adapter: {ranks: [1, 2], seeds: 2, init: {kind: gaussian, std: 0.5}}
schedules:
  - {kind: flow, update: a_first, windows: [0.2]}
  - {kind: descent, learning_rates: [0.05]}
time: {stop: 1.0, points: 5}
solver: {rtol: 1e-5, atol: 1e-8}
save: {factors: ends}
"""


def document(text: str, folder: Path) -> Any:
    return parse_scenario(text, name="s.yaml", folder=folder)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_result_folder(run_text: Any, tmp_path: Path) -> None:
    done = run_text(SMALL)
    digest = digest_of(document(SMALL, tmp_path))
    assert done.folder == tmp_path / f"small-{digest[:8]}" and not done.already_complete
    assert files(done.folder) == ["report.html", "run.json", "scenario.yaml", "small.nc"]
    assert (done.folder / "scenario.yaml").read_text() == SMALL
    assert done.tree.attrs["digest"] == digest
    moment = json.loads((done.folder / "run.json").read_text())
    assert {"started", "seconds", "host", "platform", "device", "flowsim"} <= set(moment)
    xr.testing.assert_identical(load(done.folder), done.tree)


def test_two_runs_give_the_same_bytes(run_text: Any, tmp_path: Path, sha256: Any) -> None:
    """In two folders, with two and with one thread: everything but run.json."""
    one = run_text(SMALL, out=tmp_path / "one")
    time.sleep(0.01)
    two = run_text(SMALL, out=tmp_path / "deep" / "two")
    assert one.folder.name == two.folder.name and files(one.folder) == files(two.folder)
    for name in ("small.nc", "scenario.yaml"):
        assert sha256(one.folder / name) == sha256(two.folder / name)
    moments = [json.loads((run.folder / "run.json").read_text()) for run in (one, two)]
    assert moments[0].keys() == moments[1].keys() and moments[0]["flowsim"] == moments[1]["flowsim"]


@pytest.mark.slow
def test_another_process_gives_the_same_bytes(run_text: Any, tmp_path: Path, sha256: Any) -> None:
    (tmp_path / "s.yaml").write_text(SMALL)
    here = run_text(SMALL, out=tmp_path / "here")
    program = "import sys; from flowsim.pipeline import run; run(sys.argv[1], out=sys.argv[2], plots=False)"
    environment = {**os.environ, "PYTHONHASHSEED": "77", "OMP_NUM_THREADS": "2"}
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "s.yaml"), str(tmp_path / "there")], check=True, env=environment
    )
    assert sha256(here.folder / "small.nc") == sha256(tmp_path / "there" / here.folder.name / "small.nc")


def test_a_second_run_finds_it_complete(
    run_text: Any, monkeypatch: pytest.MonkeyPatch, sha256: Any, request: pytest.FixtureRequest
) -> None:
    first = run_text(SMALL)
    before = {path.name: (path.stat().st_mtime_ns, sha256(path)) for path in first.folder.iterdir()}
    request.getfixturevalue("no_solving")
    second = run_text(SMALL)
    assert second.already_complete and second.folder == first.folder
    assert {path.name: (path.stat().st_mtime_ns, sha256(path)) for path in first.folder.iterdir()} == before
    xr.testing.assert_identical(second.tree, first.tree)


def test_comments_and_the_device_ask_for_nothing_new(run_text: Any) -> None:
    first = run_text(SMALL)
    assert run_text("# another comment\n" + SMALL + "compute: {device: cpu}\n").already_complete
    assert not run_text(SMALL + "reach: 1e-5\n").already_complete
    assert first.folder.parent.joinpath(first.folder.name).is_dir()


def test_force_computes_the_same_again(run_text: Any, sha256: Any) -> None:
    first = run_text(SMALL)
    file = first.folder / "small.nc"
    digest, stamp = sha256(file), file.stat().st_mtime_ns
    again = run_text(SMALL, force=True)
    assert not again.already_complete and again.folder == first.folder
    assert sha256(file) == digest and file.stat().st_mtime_ns > stamp


def test_a_file_of_another_scenario_is_not_overwritten(run_text: Any, tmp_path: Path) -> None:
    other = run_text(SMALL.replace("seed: 2", "seed: 3"))
    wanted = tmp_path / pipeline.folder_name(document(SMALL, tmp_path))
    (other.folder).rename(wanted)
    before = (wanted / "small.nc").read_bytes()
    with pytest.raises(ResultError) as caught:
        run_text(SMALL)
    assert "belongs to another scenario" in caught.value.lines()[0] and len(caught.value.lines()) == 2
    assert (wanted / "small.nc").read_bytes() == before


def test_progress_counts_up_to_its_total(run_text: Any) -> None:
    told: list[tuple[str, int, int]] = []
    run_text(SMALL, progress=lambda what, done, total: told.append((what, done, total)))
    """In trajectories: two seeds at a time in this process, and each tile once more when it is stored."""
    assert {total for *_, total in told} == {2 * 3 * 2}
    assert [done for _, done, _ in told] == [0, 2, 4, 6, 6, 8, 10, 12, 12, 12, 12]
    assert told[1][0] == "rank 1: flow" and told[-4][0] == "rank 2: descent/simultaneous/learning_rate=0.05"
    assert [what for what, *_ in told[-2:]] == ["writing and judging the result", "reporting"]


READER = """
import sys, json
import xarray
tree = xarray.open_datatree(sys.argv[1], engine="h5netcdf")
assert "flowsim" not in sys.modules and "torch" not in sys.modules
t = tree["trajectory"]
flow = t["loss"].sel(schedule="flow", rank=2, seed=1)
words = sorted(set(tree["final"]["outcome"].values.ravel().tolist()))
said = {"long_name", "units", "formula"}
bad = [f"{n.path}/{v}" for n in tree.subtree for v, x in n.data_vars.items() if not said <= set(x.attrs)]
print(json.dumps({
    "groups": sorted(n.path for n in tree.subtree), "bad": bad, "words": words, "attrs": sorted(tree.attrs),
    "dims": {n.path: {d: int(s) for d, s in n.sizes.items()} for n in tree.subtree}, "last": float(flow[-1]),
    "coords": sorted(t.coords), "schedules": t["schedule"].values.tolist(),
    "verdicts": tree["checks"]["verdict"].values.tolist(),
}))
"""


def test_it_opens_without_flowsim(frobenius_run: Any, tmp_path: Path) -> None:
    """In an isolated interpreter, in a strange folder, with xarray and h5netcdf alone."""
    file = next(frobenius_run.folder.glob("*.nc"))
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error::UserWarning", "-c", READER, str(file)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    names = ["baseline", "checks", "companions", "factors", "final", "theory", "trajectory"]
    assert seen["groups"] == ["/", *sorted([*(f"/{name}" for name in names), "/factors/rank_1", "/factors/rank_2"])]
    assert seen["bad"] == []
    sizes = {"schedule": 13, "rank": 2, "seed": 2, "time": 6, "mode": 2, "side": 2}
    assert seen["dims"]["/trajectory"] == sizes
    assert seen["dims"]["/final"] == {name: size for name, size in sizes.items() if name != "time"}
    assert seen["dims"]["/theory"] == {"rank": 2, "seed": 2} and seen["dims"]["/baseline"] == {"time": 6}
    assert seen["dims"]["/factors/rank_2"] == {
        "schedule": 13, "seed": 2, "time": 6, "factor": 2, "column": 5, "row": 6
    }  # fmt: skip
    assert set(seen["coords"]) >= {
        "schedule", "kind", "update", "window", "learning_rate", "inner_steps", "rank", "seed", "time", "mode", "side"
    }  # fmt: skip
    assert seen["schedules"][0] == "flow" and set(seen["words"]) <= {"reached", "not_yet"}
    assert seen["last"] == float(frobenius_run.tree["trajectory"]["loss"].values[0, 1, 1, -1])
    assert set(seen["attrs"]) >= {
        *("flowsim_version", "scenario", "resolved_scenario", "digest", "versions", "device", "dtype"),
        *("rtol", "atol", "weights_sha256"),
    }
    assert seen["verdicts"] == [row["verdict"] for row in verdict_table(frobenius_run.tree)]


def test_the_file_holds_the_scenario_that_made_it(frobenius_run: Any) -> None:
    attrs = load(frobenius_run.folder).attrs
    assert frobenius_run.folder.name == f"tiny-{attrs['digest'][:8]}"
    again = document(str(attrs["scenario"]), Path("."))
    assert digest_of(again) == attrs["digest"]
    assert json.loads(attrs["resolved_scenario"]) == again.scenario.model_dump(mode="json")


# Refusals


def refused(run_text: Any, out: Path, error: type[Exception], text: str, **options: Any) -> Any:
    """It is refused, in two lines, and nothing is left in `out`."""
    with pytest.raises(error) as caught:
        run_text(text, out=out, **options)
    assert len(caught.value.lines()) == 2  # type: ignore[attr-defined]
    return caught.value


def test_exact_without_a_closed_form_is_refused_before_anything_is_written(
    run_text: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue("no_solving")
    text = SMALL.replace("solver: {", "solver: {method: exact, ")
    error = refused(run_text, tmp_path / "out", HypothesisError, text)
    assert error.exit_code == 2 and error.lines()[0].startswith("solver exact: rank 2: ")
    assert files(tmp_path) == []


def test_a_device_that_is_not_here_is_refused_before_anything_is_written(run_text: Any, tmp_path: Path) -> None:
    error = refused(run_text, tmp_path / "out", InputError, SMALL, device="cuda:99")
    assert error.exit_code == 2 and files(tmp_path) == []


def test_an_output_below_a_file_cannot_be_written(
    run_text: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue("no_solving")
    (tmp_path / "file").write_text("in the way")
    for out in (tmp_path / "file", tmp_path / "file" / "deep"):
        error = refused(run_text, out, OutputError, SMALL)
        assert error.exit_code == 4 and "cannot be written" in error.lines()[0]
    assert files(tmp_path) == ["file"]


def test_threads_are_set_and_given_back(run_text: Any) -> None:
    import torch

    before, during = torch.get_num_threads(), []

    def progress(what: str, done: int, total: int) -> None:
        if ":" in what:  # a schedule of a tile, told from within
            during.append(torch.get_num_threads())

    run_text(SMALL + "compute: {threads: 2}\n", progress=progress)
    assert set(during) == {2} and torch.get_num_threads() == before


# The library's entry, and the plan


def test_run_reads_a_file(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    tree = pipeline.run(tmp_path / "small.yaml", out=tmp_path / "out", overrides=["adapter.ranks=[1]"], plots=False)
    assert list(tree["trajectory"]["rank"].values) == [1]
    [folder] = (tmp_path / "out").iterdir()
    assert (folder / "scenario.yaml").read_text() == SMALL
    with pytest.raises(ScenarioError):
        pipeline.run(tmp_path / "small.yaml", out=tmp_path / "out", overrides=["adapter.ranks=[0]"])
    with pytest.raises(InputError):
        pipeline.run(tmp_path / "none.yaml", out=tmp_path / "out")
    assert len(files(tmp_path / "out")) == 1 + len(list(folder.iterdir()))


def test_figures_are_drawn_when_asked(run_text: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from flowsim.report import plots

    seen: list[Path] = []
    monkeypatch.setattr(plots, "draw", lambda tree, folder, **_: seen.append(folder))
    done = run_text(SMALL, plots=True)
    assert seen == [done.folder / "figures"]


def test_a_plan_solves_and_writes_nothing(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    text = SMALL.replace("ranks: [1, 2]", "ranks: [1, 2, 3]")
    request.getfixturevalue("no_solving")
    planned = plan(document(text, tmp_path), "cpu")
    assert (planned.name, planned.digest) == ("small", digest_of(document(text, tmp_path)))
    assert planned.folder_name == pipeline.folder_name(document(text, tmp_path))
    assert (planned.ranks, planned.seeds, planned.trajectories) == ([1, 2, 3], [0, 1], 3 * 3 * 2)
    assert planned.schedules == ["flow", "flow/a_first/window=0.2", "descent/simultaneous/learning_rate=0.05"]
    first, *others = planned.methods
    assert first[:2] == (1, "exact (balanced)") and "multiple of the identity" in first[2]
    assert [rank for rank, *_ in others] == [2, 3]
    assert all(method.startswith("adaptive (") and reason for _, method, reason in others)
    assert (planned.points, planned.tiles) == (1, 3) and planned.jobs >= 1
    assert 0 < planned.sizes.states < planned.sizes.worker and 0 < planned.sizes.tiles < planned.sizes.file
    longer = plan(document(text.replace("points: 5", "points: 5005"), tmp_path), "cpu")
    assert longer.sizes.tiles - planned.sizes.tiles >= 5000 * 8 * planned.trajectories  # the loss alone
    with pytest.raises(InputError):
        plan(document(text, tmp_path), "cuda:99")
    assert files(tmp_path) == []


def test_methods_of_a_plan_are_those_of_the_run(run_text: Any, tmp_path: Path) -> None:
    for method in ("auto", "dopri8", "exact"):
        text = SMALL.replace("solver: {", f"solver: {{method: {method}, ").replace("gaussian, std: 0.5", "orthogonal")
        planned = plan(document(text, tmp_path), "cpu").methods
        final = run_text(text).tree["final"].isel(schedule=0, seed=0)
        names = zip(final["method"].values, final["stepper"].values, strict=True)
        assert [name for _, name, _ in planned] == [f"{method} ({stepper})" for method, stepper in names]
        assert [reason for *_, reason in planned] == final["choice"].values.tolist()


def test_a_weight_file_is_part_of_the_digest(run_text: Any, tmp_path: Path) -> None:
    text = SMALL.replace("{kind: gaussian, shape: [5, 4], std: 0.6, seed: 2}", "{kind: file, path: w.npy}")
    np.save(tmp_path / "w.npy", np.arange(20.0).reshape(5, 4) / 20)
    first = run_text(text, out=tmp_path)
    stored = json.loads(first.tree.attrs["weights_sha256"])
    import hashlib

    assert stored == {"pretrained": hashlib.sha256((tmp_path / "w.npy").read_bytes()).hexdigest()}
    np.save(tmp_path / "w.npy", np.arange(20.0).reshape(5, 4) / 21)
    second = run_text(text, out=tmp_path)
    assert second.folder != first.folder and not second.already_complete
