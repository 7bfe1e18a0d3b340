"""What computed a result: everything here depends on the machine's software, nothing on the moment."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version

import torch

from flowsim import __version__
from flowsim.errors import InputError
from flowsim.trajectory.store import FORMAT

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


def root_attributes(
    *, name: str, title: str, text: str, resolved: dict[str, object], digest: str, weights: dict[str, str],
    device: torch.device, shape: tuple[int, int],
) -> dict[str, object]:  # fmt: skip
    """Root attributes of a result file."""
    solver = resolved["solver"]
    objective = resolved["objective"]
    assert isinstance(solver, dict) and isinstance(objective, dict)
    compute = resolved["compute"]
    assert isinstance(compute, dict)
    return {
        "Conventions": "CF-1.11",
        "title": title or name,
        "name": name,
        "source": f"flowsim {__version__}",
        "flowsim_version": __version__,
        "format": FORMAT,
        "digest": digest,
        "scenario": text,
        "resolved_scenario": json.dumps(resolved, sort_keys=True),
        "versions": json.dumps(software(), sort_keys=True),
        "weights_sha256": json.dumps(weights, sort_keys=True),
        "device": device.type,
        "dtype": str(compute["dtype"]),
        "rtol": float(solver["rtol"]),
        "atol": float(solver["atol"]),
        "reach": float(resolved["reach"]),  # type: ignore[arg-type]
        "objective": str(objective["kind"]),
        "coefficient": float(objective["coefficient"]),
        "rows": shape[0],
        "columns": shape[1],
    }
