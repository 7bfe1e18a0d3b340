"""The mutants: what each gets wrong, where, and the one test that must notice; for some also a check's verdict."""

from __future__ import annotations

from dataclasses import dataclass

VERDICTS = "tests/mutants/test_verdicts.py::test_no_finding_fails"


@dataclass(frozen=True)
class Mutant:
    """One mistake.

    Attributes
    ----------
    name, what : str
    file : str
        Relative to the repository.
    old, new : str
        `old` occurs exactly once in the file.
    test : str
        The test that must fail, `file::function`, below `tests`; of a parametrised one any instance.
    verdict : str
        `run-check`: the check of a small run that must have a finding that fails. Empty where none can: where the
        mistake is in what the run and all its judges share, only a test that knows the answer sees it.
    """

    name: str
    what: str
    file: str
    old: str
    new: str
    test: str
    verdict: str = ""

    @property
    def tests(self) -> tuple[str, ...]:
        """The tests that must fail, as pytest wants them."""
        own = f"tests/{self.test}"
        return (own, f"{VERDICTS}[{self.verdict}]") if self.verdict else (own,)

    def applied(self, text: str) -> str:
        """The file with the mistake in it.

        Raises
        ------
        ValueError
            If the old text is not there exactly once: the table is stale.
        """
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: the old text occurs {text.count(self.old)} times in {self.file}")
        return text.replace(self.old, self.new)


COORDINATES, LANDSCAPE = "flowsim/dynamics/coordinates.py", "flowsim/dynamics/landscape.py"
DESCENT, WINDOWS = "flowsim/dynamics/descent.py", "flowsim/dynamics/sequential.py"
SOLVE, BALANCED = "flowsim/integrators/solve.py", "flowsim/integrators/exact/balanced.py"
INITIAL, EXECUTE = "flowsim/problem/initial.py", "flowsim/sweep/execute.py"
DRIVER = "flowsim/integrators/adaptive/driver.py"
THEORY, RATES = "flowsim/theory/frobenius.py", "flowsim/theory/rates.py"

ORDERS = '"a_first": a_first, "b_first": b_first'
SWAPPED = '"a_first": b_first, "b_first": a_first'
SGD = "test_library.py::test_descent_is_an_autograd_lora_layer_trained_with_sgd"
DOP853 = "test_library.py::test_frobenius_flow_is_that_of_dop853"

EULER = """\
def euler(start, times):
            states, steps = [], 0
            for span in times.diff(prepend=times.new_zeros(1)).tolist():
                count = max(1, round(span / 0.01))
                for _ in range(count):
                    start = start + span / count * field(start)
                states, steps = [*states, start], steps + count
            size = len(start)
            done = [engine.Status.COMPLETED] * size
            return engine.Integrated(torch.stack(states), done, [steps] * size, [steps] * size)

        result = euler(start, clock)"""

SUBTRACTED = """\
whole = self.sigma.square().sum() - 2 * inner(self.sigma[:, None] * B, C) + inner(B.mT @ B, C.mT @ C)
        return 0.5 * whole - self.floor(B.shape[-1])
"""

MUTANTS = (
    # The clock, and the scale in it.
    Mutant(
        "clock_doubled", "twice the flow time, everywhere",
        COORDINATES, "return self.scale * self.curvature", "return 2 * self.scale * self.curvature",
        DOP853,
    ),
    Mutant(
        "clock_doubled_exact", "twice the flow time in the closed forms",
        SOLVE, "clock = problem.clock * times.to(problem", "clock = 2 * problem.clock * times.to(problem",
        "integrators/test_solve.py::test_every_method_solves_and_names_itself", "frobenius_run-closed_form",
    ),
    Mutant(
        "clock_doubled_integrated", "twice the flow time in the integrator",
        SOLVE, "problem.clock * times.to(torch.float64)", "2 * problem.clock * times.to(torch.float64)",
        "integrators/test_solve.py::test_every_method_solves_and_names_itself", "frobenius_run-descent_follows_flow",
    ),
    Mutant(
        "scale_on_the_output_only", "gradients of A and B without the factor s",
        COORDINATES, "return self.scale * self.curvature", "return self.curvature",
        SGD,
    ),
    Mutant(
        "scale_on_the_output_only_exact", "the closed forms move A and B as if s were 1, at the scaled update",
        SOLVE, "clock = problem.clock * times.to(problem", "clock = problem.curvature * times.to(problem",
        DOP853, "frobenius_run-closed_form",
    ),
    Mutant(
        "scale_ignored", "every run solved with s = 1",
        "flowsim/sweep/starts.py", "self._tensor(start.B), start.scale)", "self._tensor(start.B), 1.0)",
        "sweep/test_execute.py::test_recorded_losses_are_those_of_the_recorded_factors", "frobenius_run-conservation",
    ),
    # Orders of updates.
    Mutant(
        "stale_gradient_a_first", "B moves by the gradient at the old A",
        DESCENT, "C = advance(C, B)\n        return advance(B, C), C", "return advance(B, C), advance(C, B)",
        SGD, "trace_run-equivalence",
    ),
    Mutant(
        "stale_gradient_b_first", "A moves by the gradient at the old B",
        DESCENT, "B = advance(B, C)\n        return B, advance(C, B)", "return advance(B, C), advance(C, B)",
        SGD, "frobenius_run-equivalence",
    ),
    Mutant(
        "order_swapped_descent", "descent: a_first does b_first, and the reverse",
        DESCENT, ORDERS, SWAPPED,
        SGD, "frobenius_run-equivalence",
    ),
    Mutant(
        "order_swapped_flow", "sequential flow: a_first does b_first, and the reverse",
        WINDOWS, ORDERS, SWAPPED,
        "test_library.py::test_windows_are_dense_matrix_exponentials", "frobenius_run-equivalence",
    ),
    Mutant(
        "symmetric_by_halves", "the last half window of the symmetric composition is a whole one",
        WINDOWS, "return B, relax(C, B, window / 2)", "return B, relax(C, B, window)",
        "dynamics/test_sequential.py::test_order_by_slope", "frobenius_run-equivalence",
    ),
    # Where a run starts.
    Mutant(
        "seed_ignored", "every seed draws what seed 0 draws",
        INITIAL, "stream(seed, purpose) if init.nested", "stream(0, purpose) if init.nested",
        "problem/test_initial.py::test_a_draw_depends_on_its_seed_alone", "trace_run-inverse_sqrt_rank",
    ),
    Mutant(
        "init_replaced", "ones in place of the drawn A",
        "flowsim/sweep/starts.py", "Adapter(self._tensor(start.A),", "Adapter(torch.ones_like(self._tensor(start.A)),",
        "sweep/test_execute.py::test_descent_in_the_file_is_a_plain_loop", "trace_run-inverse_sqrt_rank",
    ),
    Mutant(
        "ranks_not_nested", "each rank draws from a stream of its own where one draw is to be shared",
        INITIAL, "stream(seed, purpose) if init.nested", "stream(seed, purpose, rank) if init.nested",
        "problem/test_initial.py::test_nested_ranks_share_one_draw",
    ),
    Mutant(
        "haar_without_signs", "LAPACK's convention decides the sign of det Q",
        "flowsim/problem/spectra.py", "np.where(np.diagonal(upper) < 0.0, -1.0, 1.0)", "np.ones(cols)",
        "problem/test_spectra.py::test_haar_determinant_takes_both_signs",
    ),
    Mutant(
        "pissa_freezes_without_scale", "the frozen residual is W0 − BA, not W0 − s·BA",
        INITIAL, "pretrained - scale * (one[1] @ one[0])", "pretrained - one[1] @ one[0]",
        "problem/test_initial.py::test_pissa_starts_at_pretrained",
    ),
    Mutant(
        "lora_scale_of_rslora", "α/√r where α/r is asked for",
        INITIAL, "return float(scaling.alpha) / rank", "return float(scaling.alpha) / math.sqrt(rank)",
        "problem/test_initial.py::test_adapter_scale",
    ),
    # Euler's method in place of the flow.
    Mutant(
        "euler_integrator", "steps of 0.01 without error control in place of the adaptive integrator",
        SOLVE, "result = integrate(stepper, start, clock, max_steps=max_steps)", EULER,
        DOP853, "frobenius_run-accuracy",
    ),
    Mutant(
        "euler_window", "one Euler step in place of the exact sub-flow",
        LANDSCAPE, "torch.where(tiny, torch.full_like(values, window), -torch.expm1(-values * window) / values)",
        "torch.full_like(values, window)",
        "dynamics/test_landscape.py::test_relax_is_the_flow_of_one_factor", "frobenius_run-equivalence",
    ),
    Mutant(
        "euler_window_trace", "the same for trace-squared",
        LANDSCAPE, "torch.where(tiny, torch.full_like(b, window), -torch.expm1(-b * window) / b)",
        "torch.full_like(b, window)",
        "dynamics/test_landscape.py::test_relax_is_the_flow_of_one_factor",
    ),
    # The floor of another rank, in the recorded loss and in what it is held against.
    Mutant(
        "floor_of_the_next_rank", "½Σσ² over i > r + 1 in the loss",
        LANDSCAPE, "self.sigma[rank:].square()", "self.sigma[rank + 1 :].square()",
        "dynamics/test_landscape.py::test_excess_and_floor_make_the_loss", "frobenius_run-eckart_young",
    ),
    Mutant(
        "floor_of_the_rank_before", "½Σσ² over i > r − 1 in the loss",
        LANDSCAPE, "self.sigma[rank:].square()", "self.sigma[rank - 1 :].square()",
        "dynamics/test_landscape.py::test_excess_and_floor_make_the_loss", "frobenius_run-eckart_young",
    ),
    Mutant(
        "theory_of_the_next_rank", "½Σσ² over i > r + 1 as the limit that theory gives",
        THEORY, "torch.where(ranks > problem.rank,", "torch.where(ranks > problem.rank + 1,",
        "theory/test_limits.py::test_the_floor_is_eckart_and_young_s", "frobenius_run-eckart_young",
    ),
    Mutant(
        "theory_of_the_rank_before", "½Σσ² over i ≥ r as the limit that theory gives",
        THEORY, "torch.where(ranks > problem.rank,", "torch.where(ranks >= problem.rank,",
        "theory/test_limits.py::test_the_floor_is_eckart_and_young_s", "frobenius_run-eckart_young",
    ),
    Mutant(
        "excess_by_subtraction", "loss minus floor: rounding of the size of the loss",
        LANDSCAPE, "return 0.5 * gap\n", SUBTRACTED,
        "dynamics/test_landscape.py::test_excess_has_digits_far_below_the_floor",
    ),
    # λ, and the closed forms.
    Mutant(
        "lambda_flipped_in_the_modes", "cos θ and sin θ exchanged: the modes of −λ",
        BALANCED, "positive = value >= 0", "positive = value <= 0",
        "integrators/exact/test_balanced.py::test_the_product_has_all_digits",
    ),
    Mutant(
        "lambda_flipped", "AAᵀ − BᵀB for λ",
        BALANCED, "torch.where(value.abs() <= noise, torch.zeros_like(value), value)",
        "torch.where(value.abs() <= noise, torch.zeros_like(value), -value)",
        "integrators/exact/test_balanced.py::test_the_product_has_all_digits", "frobenius_run-closed_form",
    ),
    Mutant(
        "rotation_left_out", "the symmetric root alone: the right product of wrong factors",
        BALANCED, "state @ (root @ _rotation(state, rates, h, fastest))", "state @ root",
        "integrators/exact/test_balanced.py::test_the_factors_are_those_of_the_flow",
    ),
    Mutant(
        "riccati_for_the_other_sign", "P and M exchanged: the solution for −w",
        "flowsim/integrators/exact/trace_squared.py", "if bool(w >= 0)", "if bool(w <= 0)",
        "integrators/exact/test_trace_squared.py::test_the_trace_has_its_digits_at_any_size", "trace_run-closed_form",
    ),
    Mutant(
        "trace_of_the_other_sign", "−tr W0 for w",
        COORDINATES, "w = diagonal.sum()", "w = -diagonal.sum()",
        "dynamics/test_coordinates.py::test_trace_squared_keeps_its_coordinates",
    ),
    # What is measured, and what it is held against.
    Mutant(
        "baseline_from_pretrained", "full fine-tuning from W0, not from W(0)",
        EXECUTE, "landscape.excess(batch.B, batch.C)", "landscape.excess(0 * batch.B, 0 * batch.C)",
        "sweep/test_layout.py::test_the_baseline_has_ranks_and_seeds_where_the_start_depends_on_them",
    ),
    Mutant(
        "error_from_pretrained", "the relative error measured from W0, not from W(0)",
        "flowsim/trajectory/measure.py", "products.distance(B, C, B0.expand_as(B), C0.expand_as(C))",
        "products.product_norm(B, C)",
        "trajectory/test_measure.py::test_scalars_against_dense_matrices",
    ),
    Mutant(
        "round_late", "the next round in place of the nearest",
        "flowsim/dynamics/rounds.py", "np.ceil(position - 0.5 - slack)", "np.ceil(position - slack)",
        "dynamics/test_rounds.py::test_rounds_are_nearest_in_exact_arithmetic",
    ),
    Mutant(
        "kurtosis_of_the_gaussian", "the uniform law without its excess kurtosis",
        "flowsim/theory/ensemble.py", "UNIFORM_KURTOSIS = -1.2", "UNIFORM_KURTOSIS = 0.0",
        "theory/test_ensemble.py::test_the_uniform_law_against_draws",
    ),
    Mutant(
        "effective_rank_of_the_lengths", "only the lengths of the rows of A0 count, not the angles between them",
        "flowsim/dynamics/halves.py", "return matrix_norm(u.mT @ u)",
        "return torch.linalg.vector_norm(u.square().sum(-2), dim=-1)",
        "theory/test_trace_squared.py::test_one_zero_factor_gives_the_effective_rank_law",
    ),
    Mutant(
        "variation_without_inner_steps", "the first variation of Euler's method as if k were 1",
        "flowsim/dynamics/flow.py", "1.0 / (2 * inner_steps)", "1.0 / 2",
        "checks/test_step_checks.py::test_more_inner_steps_have_their_own_coefficient",
    ),
    Mutant(
        "commutator_flipped", "the sign of ½(F_B'F_A − F_A'F_B) for A first",
        "flowsim/dynamics/flow.py", "return (-euler, -euler, -0.5, 0.5)", "return (-euler, -euler, 0.5, -0.5)",
        "dynamics/test_flow.py::test_windows_leave_the_flow_along_the_first_variation", "frobenius_run-equivalence",
    ),
    Mutant(
        "rate_of_the_deviation", "ν for 2ν: the factors approach half as fast as the loss falls",
        RATES, "nu = candidates.min()", "nu = candidates.min() / 2",
        "theory/test_frobenius.py::test_the_excess_falls_at_the_predicted_rate",
    ),
    Mutant(
        "sharpness_of_lambda_zero", "2σ1 in place of √(4σ1² + λ²)",
        RATES, "half = row_imbalance(problem.B, problem.C) / 2", "half = 0 * row_imbalance(problem.B, problem.C)",
        "theory/test_frobenius.py::test_descent_is_stable_below_the_limit_and_leaves_the_minimum_above",
    ),
    Mutant(
        "norm_of_the_mean_member", "the batch's mean error decides the step, not its largest",
        "flowsim/integrators/engine.py", "(error.square().sum(dims).sqrt() / tolerance).max()",
        "(error.square().sum(dims).sqrt() / tolerance).mean()",
        "integrators/test_engine.py::test_the_tolerance_is_held_by_the_hardest_member",
    ),
    Mutant(
        "estimate_of_the_luckier", "the smaller of two error estimates",
        "flowsim/sweep/companions.py", "torch.maximum(near, far / FALL)", "torch.minimum(near, far / FALL)",
        "sweep/test_execute.py::test_the_flow_estimate_is_what_its_looser_companions_say",
    ),
    Mutant(
        "loss_below_the_floor_passes", "a loss below the lowest possible value is let through",
        "flowsim/checks/limit_checks.py", "if last < floor - error - rounding:", "if False:",
        "checks/test_limit_checks.py::test_a_loss_off_the_floor_fails",
    ),
    # The resident integrator and its steppers.
    Mutant(
        "every_step_accepted", "the driver accepts whatever the error is",
        DRIVER, "accept = running & (ratio <= 1)", "accept = running & (ratio < HOPELESS)",
        "integrators/adaptive/test_driver.py::test_a_step_that_errs_too_much_is_taken_again",
    ),
    Mutant(
        "hardest_member_decides", "the largest error of the batch decides for all of its members",
        DRIVER, "ratio = torch.where(finite, ratio, HOPELESS)",
        "ratio = torch.where(finite, ratio, HOPELESS).amax().expand_as(ratio)",
        "integrators/adaptive/test_driver.py::test_one_hard_member_costs_the_easy_ones_nothing",
    ),
    Mutant(
        "coefficient_of_the_pair", "one coefficient of Tsitouras' pair off in its fourth digit",
        "flowsim/integrators/adaptive/tsit5.py", "0.335480655492357)", "0.335580655492357)",
        "integrators/adaptive/test_tsit5.py::test_the_orders_of_the_pair",
    ),
    Mutant(
        "kick_of_the_wrong_sign", "the splitting's linear part moves B by e^(-Et/2)",
        "flowsim/integrators/adaptive/splitting.py", "angle = (0.25 * spans", "angle = (-0.25 * spans",
        "integrators/adaptive/test_splitting.py::test_the_order_in_the_product_and_in_the_factors",
    ),
    Mutant(
        "rest_before_arrival", "a state rests a thousand tolerances before it has arrived",
        "flowsim/integrators/adaptive/standing.py", "REST = 0.5", "REST = 500.0",
        "integrators/adaptive/test_splitting.py::test_a_flow_that_has_arrived_rests",
    ),
    Mutant(
        "leak_of_one_side", "the certificate of small spaces forgets what Δᵀ takes out of them",
        "flowsim/dynamics/reduction.py", "torch.linalg.matrix_norm(self.leak_c @ C)",
        "0 * torch.linalg.matrix_norm(self.leak_c @ C)",
        "dynamics/test_reduction.py::test_velocity_is_the_user_s_but_for_the_leak",
    ),
    # Tiles: what is stored, taken up again and put together.
    Mutant(
        "hash_unread", "a tile is believed whatever its hash",
        "flowsim/sweep/slabs.py", "if hashlib.sha256(rest).digest() != content[:HASH_BYTES]:", "if not content:",
        "sweep/test_slabs.py::test_any_damage_is_found",
    ),
    Mutant(
        "anyones_tile", "a tile of another scenario or version is taken",
        "flowsim/sweep/ledger.py", "if found != about:", "if not found:",
        "sweep/test_ledger.py::test_anything_else_is_damage",
    ),
    Mutant(
        "everything_again", "a run that goes on computes every tile again",
        "flowsim/sweep/campaign.py", "if tile.index not in campaign.finished", "if tile.index is not None",
        "test_resume.py::test_ctrl_c_keeps_what_is_finished",
    ),
    Mutant(
        "blocks_in_one_place", "every block of seeds is written where the first belongs",
        "flowsim/sweep/assemble.py", '"seed": slice(first.first, first.last)', '"seed": slice(0, first.seeds)',
        "sweep/test_sweeps.py::test_many_seeds_make_several_tiles_and_one_result",
    ),
    Mutant(
        "first_axis_fastest", "the points of a sweep are stored in the other order",
        "flowsim/sweep/layout.py", "np.unravel_index(tile.point, self.points)",
        'np.unravel_index(tile.point, self.points, order="F")',
        "sweep/test_sweeps.py::test_every_point_is_the_scenario_run_alone",
    ),
    Mutant(
        "lost_for_good", "a tile whose worker is lost is not tried again",
        "flowsim/sweep/carry_out.py", "tries[job.tile.index] < ATTEMPTS", "tries[job.tile.index] < 1",
        "sweep/test_carry_out.py::test_a_lost_worker_is_forgiven_once",
    ),
    Mutant(
        "silent_failure", "a tile that failed counts as one that was not asked for",
        "flowsim/sweep/assemble.py", 'slabs["final/outcome"][:] = Outcome.FAILED.value',
        'slabs["final/outcome"][:] = Outcome.REACHED.value',
        "test_resume.py::test_a_failed_tile_is_recorded_and_tried_again_by_the_next_run",
    ),
    Mutant(
        "same_seeds_for_all", "every block of seeds draws the seeds of the first",
        "flowsim/sweep/work.py", "problem.seeds[tile.first : tile.last]", "problem.seeds[: tile.seeds]",
        "sweep/test_sweeps.py::test_many_seeds_make_several_tiles_and_one_result",
    ),
)  # fmt: skip
