"""Pairs that fulfil the conditions and make the goals small: projection, sequential quadratic steps, and growth."""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular
from scipy.optimize import least_squares

from tests.stabilised.formula import ORDER, Array, Formula, jacobian


def project(formula: Formula, x: Array, tolerance: float = 1e-11, steps: int = 30) -> Array | None:
    """The nearby pair that fulfils the conditions, by damped Newton steps of least norm; None if they lead nowhere."""
    c = formula.conditions(x)
    damping = None
    for _ in range(steps):
        size = c @ c
        if not np.isfinite(size):
            return None
        if np.abs(c).max() < tolerance:
            return x
        J = jacobian(formula.conditions, x)
        if damping is None:
            damping = 1e-6 * float((J * J).sum()) / len(J) * min(1.0, size)
        for _ in range(6):
            stacked = np.vstack([J, np.sqrt(damping) * np.eye(len(x))])
            y = x - np.linalg.lstsq(stacked, np.r_[c, np.zeros(len(x))], rcond=1e-15)[0]
            new = formula.conditions(y)
            if new @ new < size:
                break
            damping = max(8 * damping, 1e-10)
        else:
            break
        damping *= min(0.1, max((new @ new) / size, 1e-3))
        damping = damping if damping > 1e-14 else 0.0
        x, c = y, new
    return x if np.abs(c).max() < max(tolerance, 1e-8) else None


def improve(formula: Formula, x: Array, steps: int = 300) -> tuple[Array, float] | None:
    """A local minimum of the goals on the conditions: damped Gauss–Newton steps along them, then back onto them."""
    start = project(formula, x, steps=60)
    if start is None:
        return None
    x, f, damping, still = start, formula.goals(start), 1e-2, 0
    for _ in range(steps):
        Q, R = np.linalg.qr(jacobian(formula.conditions, x).T, mode="complete")
        m = R.shape[1]
        across, along, R = Q[:, :m], Q[:, m:], R[:m]
        G = jacobian(formula.goals, x) @ along
        H, g = G.T @ G, G.T @ f
        scale = np.diag(np.maximum(np.diag(H), 1e-8 * np.diag(H).max()))
        for _ in range(8):
            y = x + along @ np.linalg.solve(H + damping * scale, -g)
            for _ in range(4):
                c = formula.conditions(y)
                if not np.abs(c).max() < 10 or np.abs(c).max() < 1e-10:
                    break
                y = y - across @ solve_triangular(R, c, trans="T")
            new = formula.goals(y)
            if np.abs(formula.conditions(y)).max() < 1e-7 and new @ new < f @ f:
                break
            damping *= 4
        else:
            break
        still = still + 1 if f @ f - new @ new < 1e-5 * (f @ f) else 0
        x, f, damping = y, new, max(damping / 5, 1e-9)
        if still == 4:
            break
    x = project(formula, x, 1e-14) if project(formula, x, 1e-14) is not None else x
    f = formula.goals(x)
    return x, float(f @ f)


def fresh(formula: Formula, random: np.random.Generator) -> Array:
    """A start out of nothing: conditions and goals together by least squares, the conditions weighted more and more."""
    x = random.normal(size=formula.size) * np.where(np.arange(formula.size) < len(formula.lower[0]), 0.3, 0.1)
    for weight, goals in ((1.0, 1e-4), (1e1, 1e-2), (1e2, 1e-1), (1e4, 1.0)):

        def both(x: Array, weight: float = weight, goals: float = goals) -> Array:
            return np.concatenate([weight * formula.conditions(x), goals * formula.goals(x)], axis=-1)

        x = least_squares(both, x, jac=lambda x, both=both: jacobian(both, x), max_nfev=40).x
    return x


def grown(smaller: Formula, x: Array, formula: Formula, random: np.random.Generator) -> Array | None:
    """A start from a pair with one stage less: a second stage close to the first, then the polynomial bit by bit."""
    A, b, e = smaller.split(x)
    s, part = len(b), random.uniform()
    wide = np.zeros((s + 1, s + 1))
    wide[1, 0] = random.uniform(0.005, 0.06)
    wide[2:, 2:] = A[1:, 1:]
    wide[2:, 0], wide[2:, 1] = A[1:, 0] * (1 - part), A[1:, 0] * part
    wide += np.tril(random.normal(size=wide.shape) * 0.02, -1)
    divided = [np.r_[v[0] * (1 - part), v[0] * part, v[1:]] for v in (b, e)]
    x = formula.join(wide, *divided)
    goal, begin = formula.target.copy(), formula.stability(x)[ORDER:]
    done, step = 0.0, 0.1
    try:
        while done < 1 and step > 1e-3:
            reach = min(1.0, done + step)
            formula.target = goal.copy()
            formula.target[ORDER + 1 :] = (1 - reach) * begin + reach * goal[ORDER + 1 :]
            y = project(formula, x, 1e-8)
            if y is None or np.abs(y - x).max() > 0.5:
                step /= 2
            else:
                x, done, step = y, reach, 1.3 * step
    finally:
        formula.target = goal
    return x if done >= 1 else None
