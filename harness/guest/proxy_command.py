"""`ProxyCommand`: a program whose standard input and output are the connection."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from harness.core.errors import ConfigError
from harness.core.trust import refuse_untrusted
from harness.guest.openssh import USER_CONFIG, home

_CLOSE_S = 1.0
#: What only a shell makes anything of, outside of single quotes.
_EXPANDED = re.compile(r"[$`]")
_PUNCTUATION = frozenset("();<>|&")


def words_of(command: str, tokens: Mapping[str, str], guest: str) -> tuple[str, ...]:
    """Return a ProxyCommand as words, its ``%`` tokens replaced.

    `ssh` has the user's shell run it. Here none does, so ConfigError is raised for what would need
    one.
    """
    if _EXPANDED.search(re.sub(r"'[^']*'", "", command)):
        raise _refused(command, "it needs a shell", guest)
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        words = list(lexer)
    except ValueError as error:
        raise _refused(command, str(error), guest) from error
    if any(set(word) <= _PUNCTUATION for word in words if word):
        raise _refused(command, "it needs a shell", guest)
    if not words or not words[0]:
        raise _refused(command, "it names no program", guest)

    def value(found: re.Match[str]) -> str:
        try:
            return tokens[found[1]]
        except KeyError:
            raise _refused(command, f"{found[0]} is no token", guest) from None

    words = [f"{home()}{word[1:]}" if re.match("~(/|$)", word) else word for word in words]
    return tuple(re.sub("%(.?)", value, word) for word in words)


def _refused(command: str, why: str, guest: str) -> ConfigError:
    return ConfigError(
        f"ProxyCommand {command!r}: {why}",
        file=USER_CONFIG,
        guest=guest,
        hint="put it into a script of its own, or use ProxyJump",
    )


class Proxy:
    """A running ProxyCommand; ``connection`` is our end of it."""

    def __init__(self, words: tuple[str, ...], guest: str) -> None:
        """Start it. Raises ConfigError where there is no such program, or another user's."""
        program = shutil.which(words[0])
        if program is None:
            raise _refused(shlex.join(words), f"there is no program {words[0]}", guest)
        refuse_untrusted(Path(program), file=USER_CONFIG, key="ProxyCommand")
        self.connection, theirs = socket.socketpair()
        self._errors = os.fdopen(os.memfd_create("errors"), "w+b")
        try:
            self._process = subprocess.Popen(
                [program, *words[1:]],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=self._errors,
                start_new_session=True,  # it has no terminal, and an interrupt is ours to answer
            )
        except OSError as error:
            self.connection.close()
            self._errors.close()
            raise _refused(shlex.join(words), str(error.strerror), guest) from error
        finally:
            theirs.close()

    def last_words(self) -> str:
        """Return the last line of its standard error; empty if it said nothing."""
        self._errors.seek(0)
        lines = self._errors.read(1 << 16).decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def close(self) -> None:
        """End it and all that it has started, by force if it takes over a second; never raises."""
        self.connection.close()
        for how in (signal.SIGHUP, signal.SIGKILL):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, how)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_CLOSE_S)
                break
        self._errors.close()
