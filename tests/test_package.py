"""What is shipped: versions agree, packages hold what they must and nothing else, and users get the types."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

import flowsim

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
BUILDS = ("build", "hatchling", "check_wheel_contents", "twine")

#: A user's file, in the strictest mode; the last line is wrong on purpose.
CONSUMER = """\
import flowsim
import numpy as np

objective = flowsim.Frobenius(np.eye(3), np.zeros((3, 3)))
adapter = flowsim.Adapter(A=np.ones((1, 3)), B=np.zeros((3, 1)))
reveal_type(flowsim.simulate(objective, adapter, times=[0.0, 1.0]))
reveal_type(flowsim.descend(objective, adapter, learning_rate=0.1, steps=3))
reveal_type(flowsim.load("result"))
reveal_type(flowsim.__version__)
flowsim.Frobenius(1, 2, 3, 4, 5)
"""
SCENARIO = """\
name: tiny
objective: {kind: frobenius}
pretrained: {kind: gaussian, shape: [4, 3], std: 1.0, seed: 0}
adapter: {ranks: [1]}
time: {stop: 1.0, points: 3}
"""


def call(*command: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env={**os.environ, **(env or {})},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tracked() -> set[str]:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("this is no git checkout: nothing says which files belong to it")
    # What is new and not ignored is part of the next commit.
    listed = call("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    return {name for name in listed if name and (ROOT / name).is_file()}


def test_versions_agree() -> None:
    citation: Any = YAML(typ="safe").load(ROOT / "CITATION.cff")
    assert citation["version"] == flowsim.__version__
    first = re.search(r"^## \[(.+?)\](?:: (\S+))?", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert first is not None and flowsim.__version__ in first.groups()
    assert citation["license"] == PROJECT["project"]["license"]
    assert [one["name"] for one in citation["authors"]] == [one["name"] for one in PROJECT["project"]["authors"]]


def test_the_citation_is_one() -> None:
    """Its keys are those of the Citation File Format 1.2.0, and those it demands are there."""
    citation: Any = YAML(typ="safe").load(ROOT / "CITATION.cff")
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert all(isinstance(citation[key], str) and citation[key] for key in ("title", "message", "abstract", "version"))
    assert set(citation) <= {
        "cff-version", "title", "message", "type", "abstract", "version", "license", "authors", "keywords",
        "references", "date-released", "identifiers", "doi", "repository-code", "url",
    }  # fmt: skip
    for work in citation["references"]:
        assert {"type", "title", "authors"} <= set(work) and work["type"] == "article"
        assert set(work) <= {"type", "title", "authors", "year", "identifiers", "notes", "doi", "journal", "url"}
        assert all(set(person) <= {"family-names", "given-names", "name"} for person in work["authors"])
        assert all(one["type"] in ("doi", "url", "swh", "other") and one["value"] for one in work["identifiers"])
    assert "2602.10212" in citation["references"][0]["identifiers"][0]["value"]


def test_the_changelog_has_the_usual_sections() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("# ")] == ["# Changelog"]
    known = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    sections = [line.removeprefix("### ") for line in lines if line.startswith("### ")]
    assert sections and set(sections) <= known


def test_the_sdist_is_to_hold_every_folder_and_page_of_the_repository() -> None:
    wanted = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    missing = [
        name for name in sorted(tracked())
        if not any(f"/{name}" == one or f"/{name}".startswith(f"{one}/") for one in wanted)
    ]  # fmt: skip
    # hatchling adds these by itself.
    assert set(missing) <= {".gitignore", "pyproject.toml"}
    assert all((ROOT / one.lstrip("/")).exists() for one in wanted)


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "flowsim" / "py.typed").is_file()
    assert "Typing :: Typed" in PROJECT["project"]["classifiers"]


@dataclass(frozen=True)
class Packages:
    """Both packages, and the files that they were made from."""

    wheel: Path
    sdist: Path
    files: frozenset[str]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    """The wheel and the sdist of this checkout, built from a copy of its files and without a network."""
    missing = [name for name in BUILDS if find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)}: not installed; make dist installs them")
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    files = frozenset(tracked())
    for name in files:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name)
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, cwd=source)
    return Packages(next(out.glob("*.whl")), next(out.glob("*.tar.gz")), files)


@pytest.mark.slow  # builds both packages
def test_the_wheel_holds_the_package_and_nothing_else(packages: Packages) -> None:
    names = {name for name in zipfile.ZipFile(packages.wheel).namelist() if ".dist-info/" not in name}
    assert names == {name for name in packages.files if name.startswith("flowsim/")}
    assert {"flowsim/py.typed", "flowsim/report/style.mplstyle", "flowsim/cli/templates/scenario.yaml"} <= names
    call(sys.executable, "-m", "check_wheel_contents", packages.wheel)


@pytest.mark.slow
def test_the_sdist_holds_the_repository(packages: Packages) -> None:
    with tarfile.open(packages.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names == packages.files | {"PKG-INFO"}


@pytest.mark.slow
def test_twine_finds_nothing_wrong(packages: Packages) -> None:
    call(sys.executable, "-m", "twine", "check", "--strict", packages.wheel, packages.sdist)


@pytest.mark.slow
def test_tests_run_from_an_unpacked_sdist(packages: Packages, tmp_path: Path) -> None:
    with tarfile.open(packages.sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    [folder] = tmp_path.iterdir()
    env = {"PYTHONPATH": str(folder)}
    pytest_here = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    # Fails where a file that a test module needs is missing.
    assert collected(call(*pytest_here, "--collect-only", cwd=folder, env=env)) > 1000
    quick = ["tests/test_imports.py", "tests/test_package.py", "tests/scenario/test_schema.py", "tests/cli/test_new.py"]
    assert "failed" not in call(*pytest_here, *quick, cwd=folder, env=env)


def collected(text: str) -> int:
    found = re.search(r"^(\d+)(?:/\d+)? tests collected", text, re.MULTILINE)
    assert found is not None, text[-500:]
    return int(found.group(1))


@pytest.fixture(scope="module")
def installed(packages: Packages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment in which the wheel is installed beside this one's packages."""
    folder = tmp_path_factory.mktemp("user") / "venv"
    call(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    [site] = (folder / "lib").glob("python*/site-packages")
    # Behind its own site-packages, so that the flowsim that is found is the wheel's.
    others = [path for path in sys.path if path.endswith("site-packages")]
    (site / "others.pth").write_text("\n".join(others) + "\n", encoding="utf-8")
    with zipfile.ZipFile(packages.wheel) as archive:
        archive.extractall(site)
    return python


def outside(*command: str | Path, cwd: Path) -> str:
    return call(*command, cwd=cwd, env={"PYTHONPATH": "", "MYPYPATH": ""})


@pytest.mark.slow
def test_the_installed_wheel_runs(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(SCENARIO, encoding="utf-8")
    where = outside(installed, "-c", "import flowsim; print(flowsim.__file__)", cwd=tmp_path)
    assert where.startswith(str(installed.parents[1]))
    assert outside(installed, "-m", "flowsim", "--version", cwd=tmp_path) == f"flowsim {flowsim.__version__}\n"
    outside(installed, "-m", "flowsim", "new", "mine", cwd=tmp_path)  # the template is there
    folder = Path(outside(installed, "-m", "flowsim", "run", "tiny.yaml", "--quiet", cwd=tmp_path).strip())
    assert (tmp_path / folder / "tiny.nc").is_file()
    assert list((tmp_path / folder / "figures").glob("*.svg"))  # the style is there


@pytest.mark.slow  # most of a minute: mypy reads torch and xarray
def test_users_get_types(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "consumer.py").write_text(CONSUMER, encoding="utf-8")
    text = type_check(tmp_path, ["--python-executable", str(installed)])
    revealed = re.findall(r'Revealed type is "(.+)"', text)
    assert revealed == [
        "xarray.core.dataset.Dataset",
        "xarray.core.dataset.Dataset",
        "xarray.core.datatree.DataTree",
        "str",
    ]
    errors = re.findall(r"consumer\.py:(\d+): error: (.+)", text)
    assert {line for line, _ in errors} == {str(len(CONSUMER.splitlines()))}, text


@pytest.mark.slow
def test_without_the_marker_users_get_none(installed: Path, tmp_path: Path) -> None:
    """The negative control of the test above: it looks at what is installed, and at its marker."""
    [marker] = installed.parents[1].glob("lib/python*/site-packages/flowsim/py.typed")
    marker.rename(marker.with_suffix(".away"))
    try:
        (tmp_path / "consumer.py").write_text("import flowsim\nreveal_type(flowsim.__version__)\n", encoding="utf-8")
        text = type_check(tmp_path, ["--python-executable", str(installed)])
    finally:
        marker.with_suffix(".away").rename(marker)
    assert "import-untyped" in text and 'Revealed type is "Any"' in text


def type_check(folder: Path, options: Sequence[str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", str(folder / "cache"),
         *options, "consumer.py"],
        cwd=folder, env={**os.environ, "PYTHONPATH": "", "MYPYPATH": ""}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == "", done.stderr
    return done.stdout
