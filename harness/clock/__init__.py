"""Measuring a guest's clock against the host's, and putting it right."""
