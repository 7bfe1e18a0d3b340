"""What computed a result: everything here depends on the machine's software, nothing on the moment."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from typing import TYPE_CHECKING

import torch

from flowsim import __version__
from flowsim.errors import InputError
from flowsim.trajectory.store import FORMAT

if TYPE_CHECKING:
    from flowsim.scenario.read import Document

PACKAGES = ("numpy", "scipy", "torch", "torchdiffeq", "xarray", "h5netcdf", "h5py")


def choose_device(wanted: str) -> torch.device:
    """`auto` is a CUDA device when there is one, the CPU otherwise.

    Raises
    ------
    InputError
        If a device is named that this machine does not have.
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise InputError(
            f"device {wanted!r}: not available here ({str(error).splitlines()[0]})", "Use device cpu or auto."
        ) from error
    return device


def software() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def stamp(device: torch.device) -> dict[str, str]:
    """What numbers may differ by that belong to one result: tiles of different stamps are not mixed."""
    return {"flowsim": __version__, "format": str(FORMAT), "device": device.type, **software()}


def root_attributes(document: Document, digest: str, stamp: dict[str, str], failed: int) -> dict[str, object]:
    """Root attributes of a result file.

    Parameters
    ----------
    document : Document
        Of a sweep: single numbers that it changes are those of its first point.
    stamp : dict
        As `stamp` gives it.
    failed : int
        Tiles that could not be computed.
    """
    scenario = document.scenario
    axes = [{"path": axis.path, "name": axis.name, "values": list(axis.values)} for axis in document.axes]
    return {
        "Conventions": "CF-1.11",
        "title": scenario.title or scenario.name,
        "name": scenario.name,
        "source": f"flowsim {__version__}",
        "flowsim_version": __version__,
        "format": FORMAT,
        "digest": digest,
        "scenario": document.text,
        "overrides": json.dumps(list(document.overrides)),
        "resolved_scenario": json.dumps(scenario.model_dump(mode="json")),
        "sweep": json.dumps(axes),
        "points": json.dumps([list(point.shape) for point in document.points]),
        "failed_tiles": failed,
        "versions": json.dumps({name: stamp[name] for name in ("python", *PACKAGES)}, sort_keys=True),
        "weights_sha256": json.dumps(_weights(document), sort_keys=True),
        "device": stamp["device"],
        "dtype": scenario.compute.dtype,
        "rtol": float(scenario.solver.rtol),
        "atol": float(scenario.solver.atol),
        "reach": float(scenario.reach),
        "objective": scenario.objective.kind,
        "coefficient": float(scenario.objective.coefficient),
        "rows": document.shape[0],
        "columns": document.shape[1],
    }


def _weights(document: Document) -> dict[str, str | list[str]]:
    """The sha256 of each weight file by the matrix that it is; a list where a sweep takes several."""
    found: dict[str, list[str]] = {}
    for one in document.weights:
        found.setdefault(one.where, []).append(one.sha256)
    return {where: hashes if len(hashes) > 1 else hashes[0] for where, hashes in found.items()}
