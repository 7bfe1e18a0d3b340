"""The problem of a scenario in numbers: objective, W0, W*, and the adapter at time 0. NumPy only."""
