"""Agents: the exact planner and the tabular learners."""
