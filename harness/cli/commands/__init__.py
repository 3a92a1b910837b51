"""The commands of ``harness``, one module each, loaded when asked for."""
