"""The commands of ``harness``, one module each, loaded when asked for (see ``harness.cli.main``)."""
