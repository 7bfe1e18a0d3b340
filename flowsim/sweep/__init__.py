"""Carrying a scenario out: the schedules on one clock, then rank by rank."""
