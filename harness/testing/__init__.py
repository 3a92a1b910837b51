"""Fakes and builders that stand in for a host and its guests; for tests."""
