"""What computed a result, and devices that are not here."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch

from flowsim import __version__
from flowsim.errors import InputError
from flowsim.scenario.read import parse_scenario
from flowsim.trajectory.provenance import PACKAGES, choose_device, root_attributes, software, stamp


def test_auto_is_a_device_that_is_here() -> None:
    wanted = "cuda" if torch.cuda.is_available() else "cpu"
    assert choose_device("auto") == torch.device(wanted)
    assert choose_device("cpu") == torch.device("cpu")


ABSENT = ["cuda:99", "gpu", "", "cpu:zero", *([] if torch.cuda.is_available() else ["cuda", "cuda:0"])]
ABSENT += [] if torch.backends.mps.is_available() else ["mps"]


@pytest.mark.parametrize("name", ABSENT)
def test_a_device_that_is_not_here_is_refused_in_two_lines(name: str) -> None:
    with pytest.raises(InputError) as caught:
        choose_device(name)
    lines = caught.value.lines()
    assert len(lines) == 2 and all("\n" not in line for line in lines)
    assert lines[0].startswith(f"device {name!r}: not available here")
    assert caught.value.exit_code == 2


def test_versions_are_those_of_the_environment() -> None:
    versions = software()
    assert set(versions) == {"python", *PACKAGES}
    assert versions["python"] == platform.python_version()
    assert versions["xarray"] == version("xarray")


TEXT = """\
name: mine # as written
objective: {kind: frobenius, coefficient: 2}
pretrained: {kind: file, path: w.npy}
adapter: {ranks: [1]}
time: {stop: 1}
solver: {rtol: 1e-9, atol: 0}
compute: {dtype: float32}
"""


def test_root_attributes_are_plain_and_say_everything(tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", np.eye(3, 2))
    document = parse_scenario(TEXT, name="s.yaml", folder=tmp_path)
    attrs = root_attributes(document, "ab12", stamp(torch.device("cpu")), 3)
    assert all(type(value) in (str, int, float) for value in attrs.values())
    assert attrs["title"] == attrs["name"] == "mine"
    assert attrs["scenario"] == TEXT
    assert json.loads(str(attrs["resolved_scenario"])) == document.scenario.model_dump(mode="json")
    assert json.loads(str(attrs["weights_sha256"])) == {"pretrained": document.weights[0].sha256}
    assert json.loads(str(attrs["versions"])) == software()
    assert (attrs["flowsim_version"], attrs["digest"], attrs["device"]) == (__version__, "ab12", "cpu")
    assert (attrs["dtype"], attrs["rtol"], attrs["atol"], attrs["reach"]) == ("float32", 1e-9, 0.0, 1e-6)
    assert (attrs["objective"], attrs["coefficient"], attrs["rows"], attrs["columns"]) == ("frobenius", 2.0, 3, 2)
    assert (attrs["sweep"], attrs["points"], attrs["failed_tiles"]) == ("[]", "[[3, 2]]", 3)


def test_a_sweep_says_what_it_sweeps(tmp_path: Path) -> None:
    for name in ("w.npy", "v.npy"):
        np.save(tmp_path / name, np.full((3, 2), ord(name[0])))
    sweep = "sweep: {pretrained.path: [w.npy, v.npy], objective.coefficient: [1, 3]}\n"
    document = parse_scenario(TEXT + sweep, name="s.yaml", folder=tmp_path)
    attrs = root_attributes(document, "ab12", stamp(torch.device("cpu")), 0)
    assert json.loads(str(attrs["sweep"])) == [
        {"path": "pretrained.path", "name": "path", "values": ["w.npy", "v.npy"]},
        {"path": "objective.coefficient", "name": "coefficient", "values": [1, 3]},
    ]
    assert json.loads(str(attrs["points"])) == [[3, 2]] * 4 and attrs["coefficient"] == 1.0
    assert len(set(json.loads(str(attrs["weights_sha256"]))["pretrained"])) == 2
    # The order of the axes is that of the result, and part of its digest.
    assert list(json.loads(str(attrs["resolved_scenario"]))["sweep"]) == ["pretrained.path", "objective.coefficient"]
