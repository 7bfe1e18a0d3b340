"""Which module may import which, and what the quick commands must not import at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

#: Each takes a good part of a second or more; a command that computes nothing does without them.
HEAVY = ["torch", "torchdiffeq", "xarray", "h5netcdf", "pandas", "matplotlib", "scipy"]

SCENARIO = """\
name: tiny
objective: {kind: frobenius}
pretrained: {kind: gaussian, shape: [4, 3], std: 1.0, seed: 0}
adapter: {ranks: [1]}
time: {stop: 1.0}
"""


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Hold a package ``flowsim`` below `folder` against the contract of this project."""
    command = [
        sys.executable,
        "-c",
        "import sys; from importlinter.cli import lint_imports_command as run; run()",
    ]
    return subprocess.run(
        [*command, "--config", str(ROOT / "pyproject.toml"), "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_imports_go_one_way() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_import_against_the_order_is_noticed(tmp_path: Path) -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    [contract] = config["tool"]["importlinter"]["contracts"]
    package = tmp_path / "flowsim"
    package.mkdir()
    for name in ("__init__", *contract["layers"]):
        (package / f"{name}.py").touch()
    assert lint_imports(tmp_path).returncode == 0
    (package / "scenario.py").write_text("def late():\n    import flowsim.cli\n")
    done = lint_imports(tmp_path)
    assert done.returncode == 1
    assert "flowsim.scenario -> flowsim.cli" in done.stdout


@pytest.mark.parametrize(
    "args",
    [
        ["--help"],
        ["--version"],
        ["run", "--help"],
        ["show", "--help"],
        ["validate", "tiny.yaml"],
        ["schema"],
        ["new", "mine"],
        ["completion", "bash"],
    ],
    ids=" ".join,
)
def test_quick_commands_import_nothing_heavy(tmp_path: Path, args: list[str]) -> None:
    (tmp_path / "tiny.yaml").write_text(SCENARIO, encoding="utf-8")
    program = (
        "import json, sys\n"
        "from flowsim.cli import main\n"
        "try:\n"
        f"    main({args!r}, prog_name='flowsim')\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    modules = json.loads(done.stderr.splitlines()[-1])
    assert "flowsim.cli" in modules
    assert set(HEAVY) & set(modules) == set()


def test_the_package_itself_imports_nothing_heavy() -> None:
    program = "import json, sys, flowsim, flowsim.scenario; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(HEAVY) & set(json.loads(done.stdout)) == set()
