"""The databases of harness: one way to open, migrate and fail. Needs [events] or [history]."""
