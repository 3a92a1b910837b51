"""Scheduled Events: guests learn of a pause beforehand, and may approve it."""
