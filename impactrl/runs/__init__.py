"""Runs: specifications, sweeps, and the store that keeps their results."""
