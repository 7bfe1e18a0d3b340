"""The table of stored variables: meaning, unit and formula of each, in one place.

Units: weights carry the unit "weight"; a loss is coefficient × weight². Flow time has the unit "time".
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Variable:
    """One stored variable.

    Attributes
    ----------
    long_name : str
        What it is, for axis labels.
    units : str
        "1" for pure numbers.
    formula : str
        How it is computed.
    extra : str or None
        A dimension after (rank, seed, time): `mode` or `side`.
    """

    long_name: str
    units: str
    formula: str
    extra: str | None = None

    def attrs(self) -> dict[str, str]:
        """The netCDF attributes of the variable."""
        return {"long_name": self.long_name, "units": self.units, "formula": self.formula}


LOSS = "coefficient weight2"

TRAJECTORY = {
    "loss": Variable("loss", LOSS, "f(W), W = W0 + s B A"),
    "excess_loss": Variable(
        "excess loss above the floor of its rank", LOSS, "f(W) - inf over rank r, without subtraction"
    ),
    "gradient_norm": Variable("gradient norm", "coefficient weight1.5", "sqrt(|df/dA|_F^2 + |df/dB|_F^2)"),
    "relative_error": Variable(
        "relative error of the update", "1", "|dW - dW_full(inf)|_F / |dW_full(inf)|_F, dW = W - W(0)"
    ),
    "imbalance_drift": Variable("drift of the imbalance", "weight", "|Q - Q0|_F, Q = B^T B - A A^T"),
    "flow_gap": Variable(
        "distance from the simultaneous flow",
        "1",
        "|s (B A - B A_flow)|_F / max_t |s B A_flow|_F at the same flow time",
    ),
    "update_order_gap": Variable(
        "sequential against simultaneous descent",
        "1",
        "|s (B A_sequential - B A_simultaneous)|_F / max_t |s B A_flow|_F at the same learning rate and inner steps",
    ),
    "predicted_gap": Variable(
        "predicted distance from the simultaneous flow",
        "1",
        "h |e1_B A + B e1_A|_F s / max_t |s B A_flow|_F, e1 from the first variation, h = window or k eta",
    ),
    "predicted_order_gap": Variable(
        "predicted distance of sequential from simultaneous descent",
        "1",
        "as predicted_gap for the difference of the two",
    ),
    "richardson_residual": Variable(
        "flow gap beyond its leading term",
        "1",
        "|(q d(h/q) - d(h))/(q - 1) - e1|_F, d(h) = s (B A - B A_flow)/(h max_t |s B A_flow|_F), "
        "h/q the next smaller step of the family",
    ),
    "richardson_drift": Variable(
        "change of the extrapolated gap coefficient", "1", "extrapolant of (h, h/q) minus that of (h/q, h/q^2)"
    ),
    "richardson_order_drift": Variable(
        "change of the extrapolated update-order coefficient",
        "1",
        "as richardson_drift for sequential minus simultaneous descent",
    ),
    "richardson_order_residual": Variable(
        "update-order gap beyond its leading term",
        "1",
        "as richardson_residual for sequential minus simultaneous descent",
    ),
    "estimated_error": Variable(
        "estimated error of the solver", "1", "bound on |s (B A - B A_true)|_F / max_t |s B A_flow|_F"
    ),
    "factor_norm": Variable("norm of the factors", "weight0.5", "sqrt(|A|_F^2 + |B|_F^2)"),
    "product_norm": Variable("norm of the update factor", "weight", "|s B A|_F"),
    "gram_sum_norm": Variable("norm of the sum of Grams", "weight", "|B^T B + A A^T|_F"),
    "singular_value": Variable("singular value of s B A", "weight", "i-th singular value of s B A", "mode"),
    "alignment": Variable(
        "alignment of the leading singular subspaces with the difference's", "1", "|U_r^T U_hat|_F^2 / r", "side"
    ),
}

BASELINE = {
    "loss": Variable("loss of full fine-tuning", LOSS, "f(W), W' = -grad f(W), W(0) = W0 + s B0 A0"),
    "relative_error": Variable(
        "relative error of full fine-tuning", "1", "|dW_full - dW_full(inf)|_F / |dW_full(inf)|_F"
    ),
}

THEORY = {
    "loss_floor": Variable("lowest loss of this rank", LOSS, "c sum_{i>r} sigma_i^2 (trace-squared: 0)"),
    "loss_limit": Variable("limit of the loss from this start", LOSS, "f at t = inf, from the closed form"),
    "loss_reachable": Variable(
        "lowest loss that this start can reach",
        LOSS,
        "the limit where known; else without the modes absent at the start",
    ),
    "excess_rounding": Variable(
        "what rounding leaves of an excess loss of zero", LOSS, "below it a loss counts as reached"
    ),
    "escape_time": Variable(
        "time at which rounding leaves the limit of this start", "time", "NaN where nothing is missing, inf where never"
    ),
    "relative_error_limit": Variable("limit of the relative error", "1", "relative error at t = inf"),
    "relative_error_horizon": Variable("exact relative error at the last time", "1", "closed form at t = stop"),
    "relative_error_rounding": Variable(
        "rounding of the square of the exact relative error", "1", "64 eps x sum of terms"
    ),
    "effective_rank": Variable("effective rank of the start", "1", "|A0|_F^4 / |A0 A0^T|_F^2 where one factor is zero"),
    "orthonormal_error": Variable(
        "exact relative error at the last time with orthonormal rows",
        "1",
        "of the companion orthonormal: the start's polar part, of the same size",
    ),
    "overlap": Variable(
        "overlap of the start with the leading directions of its limit",
        "1",
        "smallest singular value of the growing parts of the leading modes / |(A0, B0)|_2 (trace-squared: of the "
        "direction that leaves the saddle A = B = 0)",
    ),
    "convergence_rate": Variable("asymptotic rate of the excess loss", "1/time", "excess loss ~ C exp(-rate t)"),
    "convergence_power": Variable(
        "power of the decay of the excess loss where it is algebraic", "1", "excess loss ~ C t^(-power)"
    ),
    "excess_constant": Variable("constant C of the decay", LOSS, "with convergence_rate or convergence_power"),
    "stability_limit": Variable(
        "largest stable learning rate", "time", "2 / lambda_max at the limit, simultaneous descent"
    ),
    "sequential_stability_limit": Variable(
        "largest stable learning rate of sequential descent",
        "time",
        "multipliers of A then B (or B then A) at the limit, one step on each",
    ),
    "parameters": Variable("trainable parameters", "1", "r (n + m)"),
    "spectral_gap": Variable(
        "gap of the squared singular values of the difference at this rank", "weight2", "sigma_r^2 - sigma_{r+1}^2"
    ),
    "energy": Variable("energy of the first r singular values", "1", "sum_{i<=r} sigma_i^2 / sum_i sigma_i^2"),
}

THEORY_WORDS = {
    "missing_modes": Variable("leading modes that the limit of this start lacks", "", "list, 1 is the strongest"),
}

FINAL_NUMBERS = {
    "steps": Variable("accepted steps, windows or rounds", "1", "count"),
    "evaluations": Variable("evaluations of the gradient", "1", "count"),
    "local_rate": Variable(
        "local rate of the excess loss at the end", "1/time", "2 nu, nu the smallest excited Hessian eigenvalue"
    ),
    "sharpness": Variable("sharpness at the end", "1/time", "largest Hessian eigenvalue, s kappa (|A|_2^2 + |B|_2^2)"),
    "multiplier": Variable(
        "predicted growth of a deviation per round of descent",
        "1",
        "largest multiplier of the linearised round at the flow's minimum, gauge removed; NaN for k > 1",
    ),
    "end_multiplier": Variable(
        "growth of a deviation per round at the descent's own minimum", "1", "as multiplier, at the end of the descent"
    ),
    "further_time": Variable("further flow time until reached", "time", "ln(excess/(reach excess0)) / rate"),
    "reach_time": Variable(
        "flow time at which the floor was reached", "time", "first excess <= reach excess0, ln excess linear in between"
    ),
}

FINAL_WORDS = {
    "outcome": Variable("how the trajectory ended", "", "see the glossary of outcomes"),
    "method": Variable("method of solution", "", "exact, adaptive, a torchdiffeq method, window or descent"),
    "stepper": Variable("formula that stepped it", "", "name"),
    "choice": Variable("why this method", "", "sentence"),
    "reason": Variable("why it ended so", "", "sentence"),
}

COMPANIONS = {
    "distance": Variable(
        "distance between a companion and what it is held against",
        "1",
        "|s (B A - B A_other)|_F / max_t |s B A_flow|_F",
    ),
    "factor_distance": Variable(
        "distance of the factors from those it is held against",
        "weight0.5",
        "sqrt(|A - A_other|_F^2 + |B - B_other|_F^2)",
    ),
    "estimated_error": TRAJECTORY["estimated_error"],
    "loss": TRAJECTORY["loss"],
    "excess_loss": TRAJECTORY["excess_loss"],
    "relative_error": TRAJECTORY["relative_error"],
    "imbalance_drift": TRAJECTORY["imbalance_drift"],
    "gram_sum_norm": TRAJECTORY["gram_sum_norm"],
    "factor_norm": TRAJECTORY["factor_norm"],
    "product_norm": TRAJECTORY["product_norm"],
}

#: In the dataset of `simulate` for an objective of one's own alone: a result file holds none of these tables.
OF_ANY_OBJECTIVE = {
    name: TRAJECTORY[name]
    for name in (
        "loss", "excess_loss", "gradient_norm", "imbalance_drift",
        "factor_norm", "product_norm", "gram_sum_norm", "estimated_error",
    )
} | {
    "loss_error": Variable(
        "estimated error of the loss", LOSS, "|grad f| d + L d^2 / 2, d the error of s B A, L the largest secant"
    ),
    "distance": COMPANIONS["distance"],
    "factor_distance": COMPANIONS["factor_distance"],
    "companion_error": Variable(
        "estimated error of a companion", "1", "bound on |s (B A - B A_true)|_F / max_t |s B A_flow|_F"
    ),
    "companion_status": Variable("how a companion's solve ended", "", "empty where none was made"),
}  # fmt: skip
