"""What the kinds that change this host itself ask of it before anything is paused.

And how they ask its programs questions.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from urllib.parse import urlsplit

from harness.core.errors import ConfigError, MissingCapability, UpdateFailed
from harness.core.settings import Scope, UpdateSection
from harness.core.timebase import Deadline
from harness.updates.protocol import Site

#: For questions at plan time; apt's on a slow machine takes seconds.
ASK_S = 60.0


def host_scope(settings: UpdateSection) -> Scope:
    """Scope host: it changes the host of every guest. Raises ConfigError for another scope."""
    if settings.scope is Scope.GUEST:
        raise ConfigError(
            f"an update of kind {settings.kind} changes the whole host, so its scope is host",
            key="update.scope",
        )
    return Scope.HOST


def require_this_host(kind: str, site: Site) -> None:
    """Raises ConfigError if the guests run elsewhere, MissingCapability if we are not root."""
    if urlsplit(site.uri).netloc:
        raise ConfigError(
            f"an update of kind {kind} changes this machine, but the guests are at {site.uri}",
            key="update.kind",
            hint="run harness on their host, or use kind command",
        )
    if os.geteuid() != 0:
        raise MissingCapability(
            "root", f"an update of kind {kind} needs root", hint="run harness as root"
        )


def require_program(name: str, package: str) -> None:
    """Raises MissingCapability if ``name`` is not in the PATH."""
    if shutil.which(name) is None:
        raise MissingCapability(name, f"{name} is not installed", hint=f"it is in {package}")


def ask(words: Sequence[str], deadline: Deadline, *, refusal_is: str | None = None) -> str:
    """What a program answers on stdout, in English.

    A non-zero status is UpdateFailed with the program's last words, or, where ``refusal_is`` names
    a key, ConfigError of that key. No answer by the deadline is UpdateFailed.
    """
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=deadline.timeout_s(),
            env=environment,
        )
    except OSError as error:
        raise UpdateFailed(f"cannot start {words[0]}: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise UpdateFailed(f"{words[0]} did not answer in time") from error
    if done.returncode == 0:
        return done.stdout
    said = _last_words(done.stderr or done.stdout) or f"status {done.returncode}"
    if refusal_is is not None:
        raise ConfigError(f"{words[0]}: {said}", key=refusal_is)
    raise UpdateFailed(f"{words[0]}: {said}", returncode=done.returncode)


def _last_words(text: str) -> str:
    """Its errors, else its last line; apt marks the former."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("E: ") for line in lines if line.startswith("E: ")]
    return "; ".join(errors or lines[-1:])


def assignments(words: Sequence[str], key: str) -> dict[str, str]:
    """``["a=1", "b=2"]`` as a mapping. Raises ConfigError for what is none, or is there twice."""
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = (part.strip() for part in word.partition("="))
        if not name or not equals or not value:
            raise ConfigError(f"{word!r} is not name=value", key=key)
        if name in found:
            raise ConfigError(f"{name} is there twice", key=key)
        found[name] = value
    return found
