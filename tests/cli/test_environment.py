"""``flowsim show --env``: what a report of a defect has to say, also where an installation is broken."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path

import pytest

import flowsim
from flowsim.cli import environment as module
from tests.cli.conftest import Call


def test_as_json(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy
    import torch

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    done = call("show", "--env", "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    facts = json.loads(done.stdout)
    assert facts["flowsim"] == flowsim.__version__
    assert platform.python_version() in facts["python"]
    assert facts["platform"] == platform.platform()
    assert 1 <= facts["cores"]["usable"] <= facts["cores"]["machine"] == os.cpu_count()
    assert 0 < facts["memory"]["free"] <= facts["memory"]["total"]
    assert facts["default_dtype"] == "float64"
    assert facts["packages"]["numpy"] == numpy.__version__
    assert facts["packages"]["torch"] == torch.__version__
    assert {"scipy", "xarray", "h5netcdf", "h5py", "torchdiffeq", "distributed"} <= set(facts["packages"])
    assert "pytest" not in facts["packages"]
    assert facts["torch"]["threads"] == torch.get_num_threads()
    assert len(facts["torch"]["device"]) == torch.cuda.device_count()
    assert "blas" in {library["user_api"] for library in facts["threads"]}
    assert facts["variables"]["OMP_NUM_THREADS"] == "1"
    assert facts["encodings"]["files"] == sys.getfilesystemencoding()


def test_as_text(call: Call) -> None:
    done = call("show", "--env")
    assert (done.exit_code, done.stderr) == (0, "")
    lines = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert lines["flowsim"] == flowsim.__version__
    assert lines["memory total"].endswith("iB")
    assert lines["packages numpy"][0].isdigit()
    assert lines["torch threads"].isdigit()
    assert "num_threads" in lines["threads"]


def test_home_is_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(flowsim.__file__).resolve().parents[1]
    monkeypatch.setenv("HOME", str(folder))
    assert module.environment()["location"] == str(Path("~", "flowsim"))
    monkeypatch.setenv("HOME", str(folder / "elsewhere"))
    assert module.environment()["location"] == str(folder / "flowsim")


def test_a_broken_installation_is_told(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    monkeypatch.setattr(module, "version", lambda _: (_ for _ in ()).throw(module.PackageNotFoundError))
    monkeypatch.setattr(module, "requires", lambda _: (_ for _ in ()).throw(module.PackageNotFoundError))
    monkeypatch.delattr(os, "sysconf")
    done = call("show", "--env")
    assert (done.exit_code, done.stderr) == (0, "")
    lines = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert lines["torch"].startswith("ModuleNotFoundError")
    assert lines["threads"].startswith("ModuleNotFoundError")
    assert (lines["packages torch"], lines["memory total"]) == ("none", "none")


@pytest.mark.parametrize("args", [(), ("x.yaml", "--env"), ("--json",)], ids=str)
def test_a_path_or_the_environment(call: Call, args: tuple[str, ...]) -> None:
    done = call("show", *args)
    assert (done.exit_code, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 2 and "--env" in done.stderr
