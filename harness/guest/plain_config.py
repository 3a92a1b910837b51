"""The user's SSH configuration and known hosts where OpenSSH is not installed to be asked.

A small part of the language, read strictly: whatever else stands there is named, never passed over,
for a login with half of a configuration may be one to the wrong machine.
"""

from __future__ import annotations

import base64
import getpass
import hashlib
import hmac
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fnmatch import translate
from glob import glob
from pathlib import Path

from harness.core.errors import ConfigError
from harness.core.timebase import Deadline
from harness.guest.openssh import SYSTEM_CONFIG, USER_CONFIG, Effective

_KNOWN = frozenset(
    """addressfamily certificatefile connecttimeout globalknownhostsfile gssapiauthentication
    hostbasedauthentication hostkeyalias hostname identitiesonly identityagent identityfile port
    proxyjump stricthostkeychecking user userknownhostsfile verifyhostkeydns""".split()  # noqa: SIM905  a table of words
)
#: No part in the login: its machine, its user, its way.
_HARMLESS = frozenset(
    """addkeystoagent batchmode checkhostip clearallforwardings compression connectionattempts
    controlmaster controlpath controlpersist dynamicforward enableescapecommandline escapechar
    exitonforwardfailure forkafterauthentication forwardagent forwardx11 forwardx11timeout
    forwardx11trusted gatewayports hashknownhosts ipqos kbdinteractiveauthentication localforward
    loglevel numberofpasswordprompts passwordauthentication permitlocalcommand rekeylimit
    remoteforward requesttty sendenv serveralivecountmax serveraliveinterval setenv
    streamlocalbindmask streamlocalbindunlink tcpkeepalive tunnel updatehostkeys visualhostkey
    xauthlocation""".split()  # noqa: SIM905  a table of words
)
_LISTS = ("identityfile", "certificatefile")
_DEFAULTS = {
    "identityfile": ("~/.ssh/id_rsa", "~/.ssh/id_ecdsa", "~/.ssh/id_ed25519"),
    "port": ("22",),
    "stricthostkeychecking": ("ask",),
    "userknownhostsfile": ("~/.ssh/known_hosts ~/.ssh/known_hosts2",),
    "globalknownhostsfile": ("/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2",),
}
_HINT = "install OpenSSH's client, which is asked for its configuration"
#: Files that include each other, as in OpenSSH (readconf.c).
_DEEPEST = 16
_SWITCHES = {"-l": "user", "-p": "port"}


def effective(host: str, words: Sequence[str], deadline: Deadline) -> Effective:
    """Return what holds for ``host``, as :func:`harness.guest.openssh.effective` does.

    Raises ConfigError that names the file, the line and the word that is not understood.
    """
    values = dict(_from_words(words))
    for file in (USER_CONFIG.expanduser(), SYSTEM_CONFIG):
        for key, value in _lines_for(host, file, holds=True, depth=0):
            if key in _LISTS:
                values[key] = (*values.get(key, ()), value)
            else:
                values.setdefault(key, (value,))
    values = {**_DEFAULTS, "user": (getpass.getuser(),), "hostname": (host,), **values}
    return Effective(host, {**values, "hostname": (values["hostname"][0].replace("%h", host),)})


def known_lines(file: Path, name: str, deadline: Deadline) -> list[str]:
    """Return the lines of a known_hosts file that hold for ``name``.

    Raises OSError for a file that cannot be read; one that is not there has no lines.
    """
    try:
        lines = file.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    return [line for line in lines if _holds_for(line, name)]


def _from_words(words: Sequence[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for switch, value in zip(words[::2], words[1::2], strict=True):
        if switch == "-o":
            key, _, value = value.partition("=")
            yield key.lower(), (value.replace("%%", "%"),)
        else:
            yield _SWITCHES[switch], (value,)


def _lines_for(host: str, file: Path, *, holds: bool, depth: int) -> Iterator[tuple[str, str]]:
    """The lines of the blocks that hold for ``host``; those of the others are looked at too."""
    for number, words in _read(file):
        key = words[0].lower()
        if key == "host":
            holds = matches(words[1:], host)
        elif key == "include":
            if depth >= _DEEPEST:
                raise _not_understood("too many files include each other", number, file)
            for included in _included(words[1:]):
                yield from _lines_for(host, included, holds=holds, depth=depth + 1)
        elif key not in _KNOWN and key not in _HARMLESS:
            raise _not_understood(f"{words[0]} is not supported without OpenSSH", number, file)
        elif holds and key in _KNOWN:
            yield key, _value(key, words[1:], number, file)


def _read(file: Path) -> Iterator[tuple[int, list[str]]]:
    """The lines that say anything, as words, with their numbers."""
    try:
        lines = file.read_text().splitlines()
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", file=file) from error
    for number, line in enumerate(lines, 1):
        if words := _words(line, number, file):
            yield number, words


def _included(patterns: Sequence[str]) -> list[Path]:
    """The files that `Include` names; it looks beside the user's configuration."""
    beside = USER_CONFIG.parent.expanduser()
    return [
        Path(name)
        for pattern in patterns
        for name in sorted(glob(os.fspath(beside / Path(pattern).expanduser())))
    ]


def _words(line: str, number: int, file: Path) -> list[str]:
    keyword, _, rest = re.sub(r"^\s*(\w+)\s*=?\s*", r"\1\0", line).partition("\0")
    try:
        words = shlex.split(rest, comments=True)
    except ValueError as error:
        raise _not_understood(str(error), number, file) from error
    keyword = keyword.strip()
    if not keyword or keyword.startswith("#"):
        return []
    if not words:
        raise _not_understood(f"{keyword} has no value", number, file)
    return [keyword, *words]


def _value(key: str, words: list[str], number: int, file: Path) -> str:
    value = " ".join(words)
    allowed = "%h" if key == "hostname" else ""
    if "${" in value or "%" in value.replace(allowed or "\0", ""):
        raise _not_understood(f"{value}: tokens are not supported without OpenSSH", number, file)
    return value


def _not_understood(what: str, number: int, file: Path) -> ConfigError:
    return ConfigError(f"line {number}: {what}", file=file, hint=_HINT)


def matches(patterns: Sequence[str], name: str) -> bool:
    """Return True if one of the patterns fits ``name``, and none with a `!` before it."""
    found = False
    for pattern in patterns:
        # Of fnmatch's signs OpenSSH knows * and ? only.
        shape = translate(pattern.removeprefix("!").lower().replace("[", "[[]"))
        if re.fullmatch(shape, name.lower()):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def _holds_for(line: str, name: str) -> bool:
    words = line.split()
    if not words or words[0].startswith("#"):
        return False
    names = words[1] if words[0].startswith("@") and len(words) > 1 else words[0]
    if not names.startswith("|1|"):
        return matches(names.split(","), name)
    with suppress(ValueError):  # what looks like a hash and is none
        salt, known = (base64.b64decode(part, validate=True) for part in names[3:].split("|"))
        return hmac.compare_digest(hmac.digest(salt, name.encode(), hashlib.sha1), known)
    return False
