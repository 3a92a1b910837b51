"""Has a process of the guest hold a random pattern in its memory."""

from __future__ import annotations

import hashlib
import secrets

from harness.checks.canary import Canary
from harness.checks.probes.protocol import Probe, Scene
from harness.core.errors import MissingCapability, ProbeError
from harness.core.timebase import Deadline

_PAGE_BYTES = 4096
#: What a shell holds in a variable: so many times a line with the key, a page or a little more
#: each. To tell their digest takes an emulated guest longer than all the rest of its checks.
SHELL_PAGES = 4
_LINES = 64


class CanaryProbe(Probe):
    """Watches a pattern in the guest's memory.

    The pattern is made from a random key that the host knows, so the host also knows what its
    digest must be.
    """

    tells = Canary
    part = "canary"

    def __init__(self) -> None:
        self.key = secrets.token_hex(32)

    def start(self, scene: Scene, deadline: Deadline) -> None:
        """Fill the memory. Raises MissingCapability or ProbeError."""
        self._scene = scene
        self._in_python = "python3" in scene.facts.interpreters
        if self._in_python:
            size = scene.settings.canary_bytes
            held = pattern(bytes.fromhex(self.key), size)
        else:
            size, held = SHELL_PAGES, shell_pattern(self.key)
        self._size = len(held)
        self._ask(f"fill {self.key} {size}", deadline)
        self._before = self._digest(deadline)
        if self._before != hashlib.sha256(held).hexdigest():
            raise ProbeError("the canary was not what it should be before the pause")

    def stop(self, deadline: Deadline) -> Canary:
        """Ask for the digest again."""
        return Canary(self._size, self._before, self._digest(deadline))

    def _digest(self, deadline: Deadline) -> str:
        digest = self._ask("digest", deadline).split(" ")[0]
        if len(digest) != 64:
            raise MissingCapability("sha256sum", "the guest has neither python3 nor sha256sum")
        return digest

    def _ask(self, question: str, deadline: Deadline) -> str:
        if self._in_python:
            return self._scene.ask(question, deadline)
        return " ".join(self._scene.ask_sh(question, deadline))


def pattern(key: bytes, size_bytes: int) -> bytes:
    """What the program in the guest fills its memory with: pages that all differ."""
    pages = range((size_bytes + _PAGE_BYTES - 1) // _PAGE_BYTES)
    return b"".join(hashlib.sha256(key + b"%d" % page).digest() * 128 for page in pages)


def shell_pattern(key: str) -> bytes:
    """What a shell fills its variable with."""
    return b"".join(f"{key} {page};".encode() * _LINES for page in range(SHELL_PAGES))
