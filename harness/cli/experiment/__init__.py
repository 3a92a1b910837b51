"""Experiments: a grid of maintenances in random order, tidy results, a picture a question."""
