"""Programs that a configuration names: found, startable, and for root changed by no other user."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.core.errors import ConfigError
from harness.core.trust import refuse_untrusted

#: Programs whose first argument is a program.
_INTERPRETER = re.compile(r"(?:[a-z]*sh|(?:python|perl|ruby|lua|tclsh|node|php)[\d.]*)")


def check_program(command: Sequence[str], key: str) -> None:
    """Raise ConfigError, naming ``key``, unless ``command`` can be started as it is.

    For root no other user may be able to change the program, its interpreter, or a script.
    """
    if any("\0" in word for word in command):
        raise ConfigError("a word of a command cannot hold a NUL character", key=key)
    path = _executable(command[0], key)
    refuse_untrusted(path, key=key)
    for name in _interpreters(path):
        interpreter = shutil.which(name)
        if interpreter is None:
            raise ConfigError(f"{path}: its interpreter {name!r} is missing", key=key)
        refuse_untrusted(Path(interpreter), key=key)
    for script in _scripts(command):
        refuse_untrusted(script, key=key)


def _executable(program: str, key: str) -> Path:
    found = shutil.which(program)
    path = Path(found or program)
    try:
        mode = path.stat().st_mode
    except OSError as error:
        reason = "no such program" if isinstance(error, FileNotFoundError) else error.strerror
        raise ConfigError(f"{program}: {reason}", key=key) from error
    if not stat.S_ISREG(mode):
        raise ConfigError(f"{program} is not a file", key=key)
    if found is None:
        raise ConfigError(f"{program} is not executable", key=key, hint=f"chmod +x {program}")
    return path


def _interpreters(path: Path) -> list[str]:
    """Return the program that a script's ``#!`` line names; after ``env`` also the next word."""
    try:
        with open(path, "rb") as file:
            first = file.readline(256)
    except OSError:
        return []  # a binary may be run without being read
    if not first.startswith(b"#!"):
        return []
    words = [os.fsdecode(word) for word in first[2:].split()] or [""]
    if Path(words[0]).name == "env" and len(words) > 1 and not words[1].startswith("-"):
        return words[:2]
    return words[:1]


def _scripts(command: Sequence[str]) -> Iterator[Path]:
    """Yield files among the arguments that are run: of ``sh x`` and ``nice ./x`` it is ``x``.

    What an interpreter is handed need not be executable: it is the first that is no option.
    """
    words = command[1:]
    plain = [word for word in words if not word.startswith("-")]
    handed = plain[:1] if _INTERPRETER.fullmatch(Path(command[0]).name) else []
    for word in dict.fromkeys([*handed, *words]):
        if os.path.isfile(word) and (word in handed or os.access(word, os.X_OK)):
            yield Path(word)
