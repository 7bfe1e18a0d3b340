"""``flowsim show --env``: what a report of a defect has to say of the machine and its software."""

from __future__ import annotations

import locale
import os
import platform
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from flowsim import __version__

#: What an environment may say to the libraries that compute.
_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "LC_ALL",
    "LANG",
)

_BYTES = ("total", "free", "memory")


def environment() -> dict[str, Any]:
    """What flowsim runs on, as plain values in the order in which one reads them.

    Returns
    -------
    dict
        flowsim, python, platform, processor, cores; memory: bytes in all and free; packages: name -> version, None
        where one is missing; torch: default dtype, threads, CUDA build, devices; threads: one entry a library of
        `threadpoolctl`; encodings; variables: those of the environment that are set. What cannot be found out says
        why, as text: a broken installation has to be reported, too.
    """
    from flowsim.scenario.memory import available_memory
    from flowsim.scenario.model import Compute

    return {
        "flowsim": __version__,
        "location": _homeless(Path(__file__).resolve().parents[1]),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "executable": _homeless(Path(sys.executable)),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": {"machine": os.cpu_count(), "usable": _told(_usable_cores)},
        "memory": {"total": _total_memory(), "free": available_memory()},
        "default_dtype": Compute().dtype,
        "packages": {name: _version(name) for name in _packages()},
        "torch": _told(_torch),
        "threads": _told(_threads),
        "encodings": {
            "locale": locale.setlocale(locale.LC_CTYPE),
            "text": locale.getpreferredencoding(False),
            "files": sys.getfilesystemencoding(),
            "stdout": sys.stdout.encoding,
        },
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
    }


def environment_text(facts: Mapping[str, Any]) -> str:
    """`environment` for a reader: a line a fact, as `key: value`."""
    return "\n".join(f"{key}: {value}" for key, value in _lines(facts))


def _lines(facts: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for key, value in facts.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping):
            yield from _lines(value, f"{name} ")
        elif isinstance(value, list):
            for one in value:
                yield name, ", ".join(f"{inner} {_shown(inner, what)}" for inner, what in one.items())
            if not value:
                yield name, "none"
        else:
            yield name, _shown(key, value)


def _shown(key: str, value: Any) -> str:
    from flowsim.cli.tables import size

    if value is None:
        return "none"
    return size(value) if key in _BYTES else str(value)


def _packages() -> list[str]:
    """Names of what flowsim depends on; of an extra only the cluster's, which a run may use."""
    try:
        wanted = requires("flowsim") or []
    except PackageNotFoundError:  # run from a folder that was never installed
        wanted = ["numpy", "scipy", "torch", "xarray", "h5netcdf", "h5py"]
    plain = [name for name in wanted if "extra ==" not in name]
    return sorted({re.split(r"[^\w.-]", name, maxsplit=1)[0] for name in plain} | {"distributed"})


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _told(find: Callable[[], Any]) -> Any:
    """What `find` finds, or why it does not: a library that cannot be imported is part of the answer."""
    try:
        return find()
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _torch() -> dict[str, Any]:
    import torch

    devices = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return {
        "default_dtype": str(torch.get_default_dtype()).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda or "not in this build",
        "device": [{"name": one.name, "memory": one.total_memory} for one in devices],
    }


def _threads() -> list[dict[str, Any]]:
    """BLAS and OpenMP libraries in this process, each with its threads."""
    import scipy.linalg  # noqa: F401  (its BLAS is loaded by the import)
    from threadpoolctl import threadpool_info

    names = ("user_api", "internal_api", "version", "num_threads", "threading_layer", "architecture")
    return [{name: one[name] for name in names if one.get(name) is not None} for one in threadpool_info()]


def _usable_cores() -> int:
    from flowsim.sweep.workers import cores

    return cores()


def _total_memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return None


def _processor() -> str:
    """Its name; Linux tells it in a file of its own."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def _homeless(path: Path) -> str:
    """A path without the home folder, which may say who someone is."""
    try:
        return str(Path("~") / path.relative_to(Path.home()))
    except (ValueError, RuntimeError):
        return str(path)
