"""What computed a result, and devices that are not here."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version

import pytest
import torch

from flowsim import __version__
from flowsim.errors import InputError
from flowsim.trajectory.provenance import PACKAGES, choose_device, root_attributes, software


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


def test_root_attributes_are_plain_and_say_everything() -> None:
    resolved = {
        "solver": {"method": "auto", "rtol": 1e-9, "atol": 0},
        "objective": {"kind": "frobenius", "coefficient": 2},
        "compute": {"dtype": "float32"},
        "reach": 1e-6,
    }
    attrs = root_attributes(
        name="mine", title="", text="name: mine # as written\n", resolved=resolved, digest="ab12",
        weights={"pretrained": "cd34"}, device=torch.device("cpu"), shape=(3, 2),
    )  # fmt: skip
    assert all(type(value) in (str, int, float) for value in attrs.values())
    assert attrs["title"] == attrs["name"] == "mine"
    assert attrs["scenario"] == "name: mine # as written\n"
    assert json.loads(str(attrs["resolved_scenario"])) == resolved
    assert json.loads(str(attrs["weights_sha256"])) == {"pretrained": "cd34"}
    assert json.loads(str(attrs["versions"])) == software()
    assert (attrs["flowsim_version"], attrs["digest"], attrs["device"]) == (__version__, "ab12", "cpu")
    assert (attrs["dtype"], attrs["rtol"], attrs["atol"], attrs["reach"]) == ("float32", 1e-9, 0.0, 1e-6)
    assert (attrs["objective"], attrs["coefficient"], attrs["rows"], attrs["columns"]) == ("frobenius", 2.0, 3, 2)
