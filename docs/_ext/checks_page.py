"""What each check states, and what its verdicts mean."""

from __future__ import annotations

from tables import code, plain, table

from flowsim.checks import CHECKS
from flowsim.checks.base import Verdict


def checks() -> str:
    """One section for each check."""
    return "\n".join(
        "\n".join(
            [
                f"### {name}",
                "",
                f"{plain(one.statement[0].upper() + one.statement[1:])}.",
                "",
                "```{math}",
                one.formula,
                "```",
                "",
                f"- Speaks of: {code(one.objective) if one.objective else 'both objectives'}.",
                f"- Observed: {plain(one.measures)}.",
                f"- Reference: {plain(one.reference)}.",
                "",
            ]
        )
        for name, one in CHECKS.items()
    )


def verdicts() -> str:
    """The words of a verdict, from the best to the worst."""
    return table(["verdict", "meaning"], [[code(one), one.meaning] for one in Verdict])
