"""What OpenSSH itself says of its files: `ssh -G` for configuration, `ssh-keygen` for known hosts.

Its files have a language of their own (`Include`, `Match`, tokens, quotes, patterns, hashes), which
grows with every release; a second reader knows half of it. So OpenSSH is asked. Each question is a
process that ends by a deadline; no shell and no terminal is involved, and nothing that is asked
about can be taken for an option.
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from harness.core.errors import ConfigError, DeadlineExpired
from harness.core.polling import readable
from harness.core.timebase import Deadline
from harness.core.trust import refuse_untrusted

USER_CONFIG = Path("~/.ssh/config")
SYSTEM_CONFIG = Path("/etc/ssh/ssh_config")

#: A name server that is asked by CanonicalizeHostname, or a command of `Match exec`, may be slow.
_LIMIT_S = 10.0
_OUTPUT_LIMIT_BYTES = 4 * 1024 * 1024
#: Variables by which OpenSSH would ask a person something.
_NOBODY_IS_ASKED = ("SSH_ASKPASS", "SSH_ASKPASS_REQUIRE", "DISPLAY")
#: How `ssh -v` names a file of configuration.
_FILE_READ = re.compile(r"^debug1: Reading configuration data (.+?)\r?$", re.MULTILINE)
#: What `ssh` takes for an option, a user or a URI, or refuses (OpenSSH: ssh.c, valid_hostname).
_NO_HOST = re.compile(r"^-|^$|^ssh://|[\s\x00-\x1f\x7f@/'`\"$\\;&<>|(){},]")


@dataclass(frozen=True)
class Effective:
    """The configuration that holds for one host; keys are in lower case, as `ssh -G` prints."""

    host: str
    """As OpenSSH was asked for it."""
    values: Mapping[str, tuple[str, ...]]

    def one(self, key: str, default: str = "") -> str:
        """Return the only, or first, value of ``key``."""
        return self.values.get(key, (default,))[0]

    def every(self, key: str) -> tuple[str, ...]:
        """Return all values of ``key``, in order; `none` stands for no value."""
        return tuple(value for value in self.values.get(key, ()) if value.lower() != "none")


@dataclass(frozen=True)
class _Said:
    status: int
    out: str
    errors: str


def is_installed() -> bool:
    """Return whether OpenSSH's client programs are here."""
    return shutil.which("ssh") is not None and shutil.which("ssh-keygen") is not None


def is_host(name: str) -> bool:
    """Return whether `ssh` would take ``name`` for a host, and for nothing else."""
    return _NO_HOST.search(name) is None


def home() -> Path:
    """Return the folder that OpenSSH takes `~` for: that of the account, whatever $HOME says."""
    with suppress(KeyError):
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    return Path("~").expanduser()


def effective(host: str, words: Sequence[str], deadline: Deadline) -> Effective:
    """Return what `ssh WORDS HOST` would go by.

    ``host`` must be one (:func:`is_host`). Raises ConfigError with OpenSSH's own words where it
    refuses, DeadlineExpired.
    """
    with _config_words() as config:
        said = _ask(["ssh", "-G", "-T", *config, *words, "--", host], deadline)
    if said.status != 0:
        raise ConfigError(
            f"ssh refuses its configuration for {host}: {_first_line(said.errors)}",
            file=USER_CONFIG,
            hint=f"see the same with: ssh -G -- {shlex.quote(host)}",
        )
    return _understood(host, said)


def effective_with_files(
    host: str, words: Sequence[str], deadline: Deadline
) -> tuple[Effective, list[str] | None] | None:
    """Return the same, and the text of every file of configuration that OpenSSH read for it.

    None where it refuses; no texts where one of them cannot be read. Raises DeadlineExpired.
    """
    with _config_words() as config:
        said = _ask(["ssh", "-v", "-G", "-T", *config, *words, "--", host], deadline)
        if said.status != 0:
            return None
        texts: list[str] | None = None
        with suppress(OSError, ValueError):
            read = [name for name in _FILE_READ.findall(said.errors) if name not in config]
            texts = [Path(name).read_text() for name in read]
    return _understood(host, said), texts


def _understood(host: str, said: _Said) -> Effective:
    values: dict[str, list[str]] = {}
    for line in said.out.split("\n"):
        key, _, value = line.partition(" ")
        values.setdefault(key, []).append(value)
    return Effective(host, {key: tuple(found) for key, found in values.items()})


def expanded(value: str, of: Effective, deadline: Deadline) -> Path:
    """Return a path with its `~`, `%` tokens and `${VARIABLES}` replaced, by OpenSSH itself.

    `ssh -G` prints some paths as they were written, but ControlPath expanded. Raises ConfigError
    where OpenSSH refuses, DeadlineExpired.
    """
    if not re.search(r"%|\$\{|^~[^/]", value):
        return home() / value[2:] if value.startswith("~/") else Path(value)
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    hostname = of.one("hostname").replace("%", "%%")
    options = [f'ControlPath="{quoted}"', f"HostName={hostname}"]
    if alias := of.one("hostkeyalias"):
        options.append(f"HostKeyAlias={alias}")
    words = ["-F", "none", "-l", of.one("user"), "-p", of.one("port")]
    words += [word for option in options for word in ("-o", option)]
    said = _ask(["ssh", "-G", "-T", *words, "--", of.host], deadline)
    found = re.search(r"^controlpath (.*)$", said.out, re.MULTILINE)
    if said.status != 0 or found is None:
        raise ConfigError(f"{value}: {_first_line(said.errors)}", file=USER_CONFIG)
    return Path(found[1])


def known_lines(file: Path, name: str, deadline: Deadline) -> list[str]:
    """Return the lines of a known_hosts file that hold for ``name``, be they hashed or patterns.

    A file that is not there has none. Raises OSError for one that cannot be read, DeadlineExpired.
    """
    try:
        file.open("rb").close()
    except FileNotFoundError:
        return []
    said = _ask(["ssh-keygen", "-F", name, "-f", os.fspath(file.absolute())], deadline)
    return [line for line in said.out.split("\n") if line and not line.startswith("# Host ")]


def is_revoked(krl: Path, public_key: str, deadline: Deadline) -> bool:
    """Return whether a key revocation list revokes ``public_key``, or cannot be asked.

    Raises DeadlineExpired.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".pub") as file:
        file.write(f"{public_key}\n")
        file.flush()
        query = ["ssh-keygen", "-Q", "-f", os.fspath(krl.absolute()), file.name]
        return _ask(query, deadline).status != 0


@contextmanager
def _config_words() -> Iterator[list[str]]:
    """Name the user's configuration where $HOME is not the account's home.

    OpenSSH does not look at $HOME. With `-F` alone it would forget the system's configuration.
    """
    mine = USER_CONFIG.expanduser()
    if mine == home() / ".ssh/config" or not mine.is_file():
        yield []
        return
    refuse_untrusted(mine)  # as OpenSSH does with its own; `Match exec` in it runs commands
    with tempfile.NamedTemporaryFile("w", prefix="harness-ssh-") as both:
        for file in (mine, SYSTEM_CONFIG):
            name = re.sub(r'([\\"*?\[\]{}])', r"\\\1", os.fspath(file.absolute()))
            both.write(f'Include "{name}"\n')
        both.flush()
        yield ["-F", both.name]


def _ask(words: list[str], deadline: Deadline) -> _Said:
    """Run a program of OpenSSH to its end. Raises DeadlineExpired, having ended it."""
    deadline = deadline.sooner(_LIMIT_S)
    environment = {**os.environ, "LC_ALL": "C"}
    for name in _NOBODY_IS_ASKED:
        environment.pop(name, None)
    # Not pipes: what a command of `Match exec` leaves in the background would hold them open.
    with _memory("out") as out, _memory("errors") as errors:
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                env=environment,
                start_new_session=True,  # no terminal to ask at
            )
        except (OSError, ValueError) as error:  # it was removed just now; a name with a NUL in it
            raise ConfigError(f"{words[0]} cannot be asked: {error}") from error
        return _Said(_status(process, words, deadline), _read(out), _read(errors))


def _status(process: subprocess.Popen[bytes], words: list[str], deadline: Deadline) -> int:
    """Wait for the end of a process. It shows at once; ``wait(timeout)`` only looks at times."""
    ending = os.pidfd_open(process.pid)
    try:
        if readable([ending], deadline):
            return process.wait()
    finally:
        os.close(ending)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    what = f"asking OpenSSH ({' '.join(words[:2])} … {words[-1]})"
    raise DeadlineExpired(what, deadline.limit_s)


def _memory(name: str) -> BinaryIO:
    return os.fdopen(os.memfd_create(name), "w+b")


def _read(file: BinaryIO) -> str:
    file.seek(0)
    return os.fsdecode(file.read(_OUTPUT_LIMIT_BYTES))


def _first_line(errors: str) -> str:
    return next((line.strip() for line in errors.splitlines() if line.strip()), "without a word")
