"""Benchmarks: flowsim beside general engines, everything included, at no larger error.

    make bench                                     # everything
    python -m tests.benchmarks NAME ... [--quick]  # some; --quick leaves out what takes more than about a minute

How to read the table
---------------------
work
    Frobenius with σ_i = 1/i, float64 and starts A0, B0 ~ N(0, 1e-4/n) unless it says otherwise; 50 wanted times,
    equally spaced up to T.
engine, threads
    The baseline is torchdiffeq's dopri5 with a dense right-hand side as people write it, rtol 1e-6, atol 1e-9 and its
    default norm; peers have the same tolerances. Every engine runs in a process of its own, on the number of threads
    (1 or 2) that is faster for it. flowsim runs at the loosest rtol at which its error is no larger than the
    baseline's; the note names it.
seconds
    The least of several runs in which engines take turns; runs of more than 15 s are not repeated. flowsim's seconds
    go from arrays to the finished dataset: singular value decomposition or reduction, conversion, loss, gradient norm,
    outcome. A peer's are its solver alone. Imports, a small run that warms up, and jax's compiling are not counted.
evaluations
    Right-hand sides, or exact sub-flows, of all trajectories; 0 for a closed form.
error
    Largest relative error over wanted times and trajectories, each relative to the size at its own time:
    max ‖BA − BA_ref‖_F/‖BA_ref‖_F, with (A, B) behind it that of the factors. The reference is SciPy's DOP853 at rtol
    1e-11 in singular coordinates, kept below `results/benchmarks/references` under the hash of what it solves.
memory
    Largest resident memory of the engine's process during the run, libraries and problem included.
ratio
    Seconds of the baseline over seconds of this line, both from this run; behind it the least that was asked for.
EXTRAPOLATED
    Not all of the baseline was run: the note says how much. Its seconds and ratios are estimates.

Machines that do something else at the same time give useless numbers: look at the load before.
"""
