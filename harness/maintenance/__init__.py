"""Whole maintenances: plan, before the pause, the pause window, clocks, verdicts, recovery."""
