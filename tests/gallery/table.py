"""Which scenario stands under which theme, and which of its figures says most."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = ROOT / "scenarios"

#: Left out of the page, and why.
LEFT_OUT = {
    "ten_thousand": "ten thousand trajectories take minutes on all cores; its figure is of the kind above",
}


@dataclass(frozen=True)
class Entry:
    """One scenario of the page: its file below scenarios/ without the suffix, and the figure that is shown."""

    file: str
    figure: str

    @property
    def name(self) -> str:
        return Path(self.file).name

    @property
    def path(self) -> Path:
        return SCENARIOS / f"{self.file}.yaml"

    @property
    def is_small(self) -> bool:
        """Whether the default tests run it."""
        return self.file.startswith("gallery/")


@dataclass(frozen=True)
class Theme:
    """A part of the page."""

    title: str
    sentence: str
    entries: tuple[Entry, ...]


def _theme(title: str, sentence: str, **figures: str) -> Theme:
    """Figures by scenario; a scenario that is not in scenarios/ itself lies in scenarios/gallery/."""
    files = {name: name if (SCENARIOS / f"{name}.yaml").exists() else f"gallery/{name}" for name in figures}
    return Theme(title, sentence, tuple(Entry(files[name], figure) for name, figure in figures.items()))


THEMES = (
    _theme(
        "Rank and floor",
        "A rank-r update can do no better than the r strongest directions of the difference; from the usual starts "
        "the flow finds them, one after the other.",
        frobenius="loss_vs_rank",
        blackboard="singular_values",
        wide="loss_vs_time",
        tall="loss_vs_time",
        rank_above="loss_vs_time",
        rank_above_balanced="loss_vs_time",
        zero_difference="loss_vs_time",
        zero_difference_moving="loss_vs_time",
    ),
    _theme(
        "Plateaus",
        "From a small start the flow waits near a saddle before each direction is learnt; while it waits, loss and "
        "gradient say that it has finished.",
        plateaus="singular_values",
        plateau_short="loss_vs_time",
        plateau_unbalanced="singular_values",
    ),
    _theme(
        "Ties and near ties",
        "Equal singular values leave the best subspace open, nearly equal ones take long to tell apart.",
        tie="loss_vs_time",
        near_tie_short="loss_vs_time",
        near_tie_long="loss_vs_time",
    ),
    _theme(
        "Laws of the relative error",
        "Under the trace-squared objective the loss goes to zero at every rank, by a route that is not that of full "
        "fine-tuning; how far from it depends on the kind of start.",
        trace_squared="relative_error_vs_rank",
        law_gaussian="relative_error_vs_rank",
        law_orthonormal="relative_error_vs_rank",
        law_broken="relative_error_vs_rank",
        law_broken_half="relative_error_vs_rank",
    ),
    _theme(
        "Starts that cannot reach",
        "What the flow conserves can keep a start away from the floor for ever; only rounding may end that.",
        missing_direction="singular_values",
        missing_direction_rotated="singular_values",
        missing_direction_roundoff="loss_vs_time",
        wrong_determinant="loss_vs_time",
        trace_balanced="loss_vs_time",
        trace_zero_start="loss_vs_time",
        trace_pissa="loss_vs_time",
    ),
    _theme(
        "Descent and stability",
        "Gradient descent follows the flow below a learning rate that theory gives; above it, it may stay bounded, "
        "settle elsewhere, or diverge.",
        descent_below="loss_vs_time",
        descent_above="loss_vs_time",
        descent_catapult="loss_vs_time",
        descent_sequential="loss_vs_time",
    ),
    _theme(
        "Orders of update",
        "A and B may be updated together or in turn: as the step goes to zero all orders follow one flow.",
        equivalence="equivalence",
    ),
    _theme(
        "Sweeps",
        "A scenario may run over any of its keys; each combination is a scenario of its own.",
        phase_diagram="phase_diagram",
    ),
    _theme(
        "Real weights",
        "A matrix may come from a file of weights.",
        minilm_query="loss_vs_rank",
    ),
)

ENTRIES = {entry.name: entry for theme in THEMES for entry in theme.entries}
