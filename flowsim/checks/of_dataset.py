"""What holds of the flow of any objective: three checks of a dataset of `simulate`, by the rules of a result."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from flowsim.checks.base import Finding, not_applicable, unresolved
from flowsim.checks.rules import Conserved, bounded, conserved, fall_of, room_for_rise, steepest_rise
from flowsim.checks.view import largest
from flowsim.errors import InputError
from flowsim.integrators.base import Status

ESTIMATES = ("estimated_error", "distance", "factor_distance", "companion_error", "companion_status")
SIZES = ("factor_norm", "product_norm", "gram_sum_norm")
NEEDS = {
    "conservation": ("imbalance_drift", *SIZES, *ESTIMATES),
    "monotone_loss": ("loss", "loss_error"),
    "accuracy": ("product_norm", *ESTIMATES),
}
OF_SIMULATE = ("loss", "imbalance_drift", "outcome", "method", "stepper", "steps", "reason")
HOW = "Of a Custom objective simulate keeps it (companions=True); of the two others a scenario does (flowsim run)"


def judge(dataset: xr.Dataset) -> list[tuple[str, Finding]]:
    """The findings of each check, by its name.

    Parameters
    ----------
    dataset : Dataset
        Of `simulate` or `descend`, with or without `batch`.

    Raises
    ------
    InputError
        If it is not such a dataset.
    """
    missing = [name for name in OF_SIMULATE if name not in dataset]
    if missing or "time" not in dataset.dims or "dtype" not in dataset.attrs:
        what = f"lacks {', '.join(missing)}" if missing else "lacks its times or attributes"
        raise InputError(f"check: the dataset {what}", "Give what simulate returned, or a result of run.")
    whole = dataset if "batch" in dataset.dims else dataset.expand_dims("batch")
    trajectories = [
        _Trajectory(whole.isel(batch=place), _subject(dataset, place)) for place in range(whole.sizes["batch"])
    ]
    return [(name, one) for name in NEEDS for trajectory in trajectories for one in _found(name, trajectory)]


def _subject(dataset: xr.Dataset, place: int) -> str:
    label = "descent" if "step" in dataset.coords else "windows" if "flow_time" in dataset.coords else "flow"
    return f"{label}/batch={place}" if "batch" in dataset.dims else label


@dataclass(frozen=True)
class _Trajectory:
    """One trajectory of a dataset, as arrays."""

    data: xr.Dataset
    subject: str

    def numbers(self, name: str) -> np.ndarray:
        """(T,)."""
        return np.asarray(self.data[name].values, dtype=np.float64)

    def most(self, name: str, companion: str = "") -> float:
        """The largest over time, ignoring NaN."""
        values = self.data[name].sel(companion=companion) if companion else self.data[name]
        return largest(np.asarray(values.values, dtype=np.float64))

    @property
    def epsilon(self) -> float:
        return float(np.finfo(str(self.data.attrs["dtype"])).eps)

    @property
    def moves(self) -> bool:
        return self.most("product_norm") > 0

    def incomplete(self, *labels: str) -> str:
        """Why numbers of the flow or of a companion end early; empty where they do not."""
        if np.isnan(self.numbers("product_norm")).any():
            return f"the flow did not complete: {self.data['reason'].item()}"
        for label in labels:
            status = str(self.data["companion_status"].sel(companion=label).item())
            if status != Status.COMPLETED:
                return f"the companion solve {label} did not complete"
        return ""


def _found(name: str, of: _Trajectory) -> list[Finding]:
    if of.subject.startswith("descent"):
        return [not_applicable(of.subject, "a statement of the flow; this is gradient descent")]
    if of.subject.startswith("windows") and name != "monotone_loss":
        return [not_applicable(of.subject, "a statement of the simultaneous flow; each factor moved alone here")]
    missing = [one for one in NEEDS[name] if one not in of.data]
    if missing:
        return [unresolved(of.subject, f"not in this dataset: {', '.join(missing)}. {HOW}")]
    return {"conservation": _conservation, "monotone_loss": _monotone_loss, "accuracy": _accuracy}[name](of)


def _conservation(of: _Trajectory) -> list[Finding]:
    if why := of.incomplete("loose_10", "loose_100"):
        return [unresolved(of.subject, why)]
    scale = float(of.data.attrs["scale"])
    gram, product = of.numbers("gram_sum_norm") ** 2, of.numbers("product_norm") / scale
    start = gram[0] - 4 * product[0] ** 2  # ‖Q0‖², by the algebraic identity at the first time
    estimate = of.most("estimated_error") * of.most("product_norm") / scale if of.moves else 0.0
    found = Conserved(
        drift=of.most("imbalance_drift"), defect=largest(np.abs(gram - start - 4 * product**2)),
        factors=of.most("factor_norm"), gram=largest(gram), start=float(start),
        near=of.most("factor_distance", "loose_10"), far=of.most("factor_distance", "loose_100"), least=estimate,
        operations=int(of.data.attrs["rows"]) + int(of.data.attrs["rank"]) + int(of.data["steps"].item()),
        epsilon=of.epsilon,
    )  # fmt: skip
    return conserved(of.subject, found)


def _monotone_loss(of: _Trajectory) -> list[Finding]:
    loss, error = of.numbers("loss")[None], of.numbers("loss_error")[None]
    if loss.shape[1] < 2:
        return [not_applicable(of.subject, "there is one time only")]
    room = room_for_rise(loss, error, of.epsilon)
    if of.data.attrs["objective"] not in ("frobenius", "trace_squared"):
        # A function of one's own may subtract terms as large as the loss was: it ends with their rounding.
        room = room + 16 * of.epsilon * np.nanmax(np.abs(loss), initial=0.0)
    return [steepest_rise(loss, room, [of.subject])]


def _accuracy(of: _Trajectory) -> list[Finding]:
    """Against the other method's solve; only the first member of a batch has one, as the first seed of a result."""
    judged_by_other = bool(str(of.data["companion_status"].sel(companion="tight").item()))
    others = ("tight", "tight_10") if judged_by_other else ()
    if why := of.incomplete("loose_10", "loose_100", *others):
        return [unresolved(of.subject, why)]
    if not of.moves:
        return [not_applicable(of.subject, "nothing moves: the update stays zero")]
    if not judged_by_other:
        return []
    near, far = (of.most("distance", label) for label in ("loose_10", "loose_100"))
    fall, why = fall_of(near, far, of.most("companion_error", "loose_10"))
    estimate = of.most("estimated_error") + of.most("companion_error", "tight")
    return [bounded(of.subject, of.most("distance", "tight"), estimate, fall, why)]
