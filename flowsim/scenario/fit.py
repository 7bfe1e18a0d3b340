"""Whether the parts of a scenario fit each other and the machine, and the defaults that follow from that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from flowsim.scenario.array_files import WeightError
from flowsim.scenario.memory import MOST_PAIRS, available_memory, needed_memory, size_text
from flowsim.scenario.model import FileInit, FlatValues, Scenario, ShiftTarget, ZerosMatrix
from flowsim.scenario.parts import Parts
from flowsim.scenario.tree import Tree, dotted
from flowsim.scenario.types import Path as KeyPath
from flowsim.scenario.weight_files import WeightFile, WeightFiles

__all__ = ["Look", "resolve"]

Shape = tuple[int, int]

# The steps of a descent that take minutes; more may be meant, but is worth a word.
MANY_ROUNDS = 10_000_000
MOST_ROUNDS = 2.0**53  # beyond, neighbouring rounds are one number
_EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23}


@dataclass
class Look:
    """What a look at all parts together has found.

    Attributes
    ----------
    shape : tuple of int or None
        (n, m), once known.
    warnings : list of str
        What is allowed but worth saying.
    weights : list of WeightFile
        Files that were read.
    """

    shape: Shape | None = None
    warnings: list[str] = field(default_factory=list)
    weights: list[WeightFile] = field(default_factory=list)

    def fill(self, scenario: Scenario) -> Scenario:
        """The scenario with every default that depends on the shape written out."""
        target = scenario.target
        if target is None and scenario.objective.kind == "frobenius":
            target = ZerosMatrix(kind="zeros", shape=self.shape)
        elif isinstance(target, ShiftTarget):
            target = target.model_copy(update={"by": self._filled(target.by)})
        return scenario.model_copy(
            update={"pretrained": self._filled(scenario.pretrained), "target": self._filled(target)}
        )

    def _filled(self, spec: Any) -> Any:
        if isinstance(spec, ZerosMatrix):
            return spec.model_copy(update={"shape": self.shape})
        values = getattr(spec, "singular_values", None)
        if isinstance(values, FlatValues) and values.count is None:
            counted = values.model_copy(update={"count": min(spec.shape)})
            return spec.model_copy(update={"singular_values": counted})
        return spec


def resolve(parts: Parts, tree: Tree, files: WeightFiles) -> Look:
    """Check everything that concerns more than one part, and read the weight files.

    Parameters
    ----------
    parts : Parts
        The valid parts; nothing is said about the others.
    tree : Tree
        Where mistakes are added.
    files : WeightFiles
        Reads them.

    Returns
    -------
    Look
        The shape, the warnings and the weight files.
    """
    look = Look()
    look.shape = _common_shape(parts, tree, files, look)
    _check_objective(parts, tree, look.shape)
    _check_init(parts, tree, files, look)
    _check_schedules(parts, tree, look)
    _check_precision(parts, look)
    _check_number(parts, tree)
    if look.shape is not None:
        _check_memory(parts, tree, look.shape, look)
    return look


def _matrices(parts: Parts) -> Iterator[tuple[KeyPath, Any]]:
    """The matrices of a scenario with their places; None for one that is not valid."""
    yield ("pretrained",), parts.get("pretrained")
    target = parts.get("target")
    if target is not None:
        yield (("target", "by"), target.by) if target.kind == "shift" else (("target",), target)


def _common_shape(parts: Parts, tree: Tree, files: WeightFiles, look: Look) -> Shape | None:
    """The shape that all matrices share; None if it is not known or they disagree."""
    shapes: list[tuple[KeyPath, Shape]] = []
    free = True
    for path, spec in _matrices(parts):
        shape = _shape_of(path, spec, tree, files, look)
        free = free and spec is not None and spec.kind == "zeros" and shape is None
        if shape is not None:
            shapes.append((path, shape))
    if not shapes:
        # With a target that is not valid, the shape may stand there.
        if free and "target" in parts.sections:
            hint = "Give pretrained a shape, such as shape: [64, 48]."
            tree.add(("pretrained",), "its shape is not known: no matrix of the scenario has one", hint)
        return None
    first, shape = shapes[0]
    for path, other in shapes[1:]:
        if other != shape:
            what = f"is {other[0]} x {other[1]}, but {dotted(first)} is {shape[0]} x {shape[1]}"
            at = (*path, "shape") if (*path, "shape") in tree.places else path
            tree.add(at, what, "Give both matrices the same shape.")
            return None
    return shape


def _shape_of(path: KeyPath, spec: Any, tree: Tree, files: WeightFiles, look: Look) -> Shape | None:
    if spec is None:
        return None
    shape: Shape | None
    if spec.kind != "file":
        shape = spec.shape
        return shape
    try:
        shape, file = files.matrix(spec, dotted(path))
    except WeightError as error:
        tree.add((*path, error.key), error.message, error.hint)
        return None
    look.weights.append(file)
    return shape


def _check_objective(parts: Parts, tree: Tree, shape: Shape | None) -> None:
    if parts.get("objective.kind") != "trace_squared":
        return
    if parts.get("target") is not None:
        hint = "Remove target, or choose the frobenius objective."
        tree.add(("target",), "trace_squared has no target", hint, key=True)
    if shape is not None and shape[0] != shape[1]:
        at: KeyPath = ("pretrained", "shape") if ("pretrained", "shape") in tree.places else ("pretrained",)
        what = f"trace_squared needs a square matrix, not {shape[0]} x {shape[1]}"
        tree.add(at, what, "Give pretrained as many rows as columns.")
    init = parts.get("adapter.init")
    if init is not None and init.kind == "spectral" and init.of == "difference":
        what = "trace_squared has no target, and so no difference"
        tree.add(("adapter", "init", "of"), what, "Write of: pretrained.")


def _check_init(parts: Parts, tree: Tree, files: WeightFiles, look: Look) -> None:
    init, ranks, seeds = (parts.get(f"adapter.{name}") for name in ("init", "ranks", "seeds"))
    if init is None:
        return
    if init.kind in ("spectral", "pissa", "values") and seeds is not None and len(seeds) > 1:
        look.warnings.append(
            f"adapter.seeds: the init {init.kind} draws nothing, so all {len(seeds)} seeds are the same run"
        )
    if init.kind == "values":
        _check_values(init, ranks, look.shape, tree)
    if init.kind == "file":
        _check_start_file(init, parts, tree, files, look)
    if ranks is None or look.shape is None:
        return
    n, m = look.shape
    above = [rank for rank in ranks if rank > min(n, m)]
    if init.kind in ("spectral", "pissa"):
        _refuse_ranks(
            tree,
            ranks,
            min(n, m),
            f"the init {init.kind} is made of min(n, m) = {min(n, m)} singular vectors",
        )
        return
    if init.kind == "orthogonal":
        limit = {"B": m, "A": n, "none": min(n, m)}[init.zero]
        _refuse_ranks(tree, ranks, limit, f"there are only {limit} orthonormal vectors for the init orthogonal")
        above = [rank for rank in above if rank <= limit]
    if above:
        names = ", ".join(map(str, above[:5])) + (" ..." if len(above) > 5 else "")
        look.warnings.append(
            f"adapter.ranks: {names} above min(n, m) = {min(n, m)}: more than any {n} x {m} matrix can use"
        )


def _refuse_ranks(tree: Tree, ranks: tuple[int, ...], limit: int, why: str) -> None:
    for index, rank in enumerate(ranks):
        if rank > limit:
            tree.add(("adapter", "ranks", index), f"rank {rank} is too large: {why}", f"Use ranks up to {limit}.")


def _check_values(init: Any, ranks: tuple[int, ...] | None, shape: Shape | None, tree: Tree) -> None:
    at: KeyPath = ("adapter", "init")
    rows, columns = len(init.A), len(init.B[0])
    if rows != columns:
        what = f"B has {columns} columns, but A has {rows} rows"
        tree.add((*at, "B"), what, "Give B as many columns as A has rows.")
    if shape is not None and len(init.A[0]) != shape[1]:
        what = f"A has {len(init.A[0])} columns, but the weight has {shape[1]}"
        tree.add((*at, "A"), what, f"Give every row of A {shape[1]} entries.")
    if shape is not None and len(init.B) != shape[0]:
        tree.add((*at, "B"), f"B has {len(init.B)} rows, but the weight has {shape[0]}", f"Give B {shape[0]} rows.")
    if ranks is not None:
        _refuse_ranks(tree, ranks, min(rows, columns), f"the init has {min(rows, columns)} rows of A and columns of B")


def _check_start_file(init: FileInit, parts: Parts, tree: Tree, files: WeightFiles, look: Look) -> None:
    try:
        form, file = files.start(init)
    except WeightError as error:
        tree.add(("adapter", "init", error.key), error.message, error.hint)
        return
    look.weights.append(file)
    if look.shape is not None and (refusal := form.shape_refusal(look.shape)):
        tree.add(("adapter", "init", "path"), *refusal)
    ranks, seeds = parts.get("adapter.ranks") or (), parts.get("adapter.seeds") or ()
    for index, rank in enumerate(ranks):
        if refusal := form.rank_refusal(rank):
            tree.add(("adapter", "ranks", index), *refusal)
    there = [rank for rank in ranks if form.has_rank(rank)]
    refusals = [form.seed_refusal(rank, max(seeds)) for rank in there] if seeds else []
    for refusal in dict.fromkeys(refusals):
        if refusal is not None:
            tree.add(("adapter", "seeds"), *refusal)
    if len(seeds) > 1 and there and all(form.seeds(rank) is None for rank in there):
        look.warnings.append(
            f"adapter.seeds: {form.file} has no axis of seeds, so all {len(seeds)} seeds are the same run"
        )


def _check_schedules(parts: Parts, tree: Tree, look: Look) -> None:
    stop = parts.get("time.stop")
    first: dict[str, int] = {}
    for index, schedule in sorted(parts.schedules.items()):
        at: KeyPath = ("schedules", index)
        for label, _, _ in schedule.labels():
            if first.setdefault(label, index) != index:
                what = f"{label} is asked for by schedules.{first[label]} already"
                tree.add(at, what, "Remove one of the two.")
        if stop is None:
            continue
        if schedule.kind == "flow":
            for entry, window in enumerate(schedule.windows or ()):
                if window > stop:
                    what = f"a window of {window:g} is longer than the whole time, stop = {stop:g}"
                    tree.add((*at, "windows", entry), what, "Choose a smaller window or a larger stop.")
                elif stop / window > MOST_ROUNDS:
                    what = f"{stop / window:.0e} windows are more than can be counted"
                    tree.add((*at, "windows", entry), what, "Choose a larger window or a smaller stop.")
        else:
            _check_rounds(schedule, stop, at, tree, look)


def _check_rounds(schedule: Any, stop: float, at: KeyPath, tree: Tree, look: Look) -> None:
    k = schedule.inner_steps
    for entry, rate in enumerate(schedule.learning_rates):
        if rate * k > stop:
            what = f"a round of learning_rate * inner_steps = {rate * k:g} is longer than stop = {stop:g}"
            tree.add((*at, "learning_rates", entry), what, "Choose a smaller learning rate or a larger stop.")
        elif stop / (rate * k) > MOST_ROUNDS:
            what = f"{stop / (rate * k):.0e} rounds are more than can be counted"
            tree.add((*at, "learning_rates", entry), what, "Choose a larger learning rate or a smaller stop.")
        elif stop / (rate * k) > MANY_ROUNDS:
            where = dotted((*at, "learning_rates", entry))
            look.warnings.append(f"{where}: {stop / (rate * k):.0e} rounds of descent will take long")


def _check_precision(parts: Parts, look: Look) -> None:
    rtol, dtype = parts.get("solver.rtol"), parts.get("compute.dtype")
    if rtol is not None and dtype is not None and rtol < 4 * _EPSILON[dtype]:
        look.warnings.append(f"solver.rtol: {rtol:g} is below what {dtype} can resolve")


def _check_memory(parts: Parts, tree: Tree, shape: Shape, look: Look) -> None:
    ranks, points = parts.get("adapter.ranks"), parts.get("time.points")
    if ranks is None or points is None:
        return
    count = max(1, sum(len(schedule.labels()) for schedule in parts.schedules.values()))
    keep = parts.get("save.factors") == "all"
    needed = needed_memory(shape, max(ranks), points, count, keep_factors=keep)
    needed += sum(file.size for file in look.weights if file.where == "adapter.init")
    free = available_memory()
    if needed > free:
        dense = needed_memory(shape, 1, 2, 1, keep_factors=False)
        at: KeyPath = ("pretrained",) if dense > free else ("time", "points")
        what = f"the scenario needs at least {size_text(needed)} of memory, {size_text(free)} is free"
        tree.add(at, what, "Use fewer points, smaller ranks, a smaller matrix, or another machine.")


def _check_number(parts: Parts, tree: Tree) -> None:
    ranks, seeds = parts.get("adapter.ranks"), parts.get("adapter.seeds")
    if ranks is not None and seeds is not None and len(ranks) * len(seeds) > MOST_PAIRS:
        what = f"{len(ranks)} ranks with {len(seeds)} seeds each are more than {MOST_PAIRS:,} pairs"
        tree.add(("adapter", "seeds"), what, "Use fewer seeds or ranks, or several scenarios.")
