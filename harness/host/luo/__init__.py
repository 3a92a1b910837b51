"""Guests' RAM over a kexec by the kernel's live update orchestrator, ``/dev/liveupdate``."""
