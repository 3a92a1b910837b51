"""The hosts of `ProxyJump`, as OpenSSH splits them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from harness.core.errors import ConfigError

_HOP = re.compile(r"(?:(?P<user>.+)@)?(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:\[\]]+))(?::(?P<port>.*))?")


@dataclass(frozen=True)
class Hop:
    """One host to jump through; what is None the configuration for that host says."""

    host: str
    user: str | None
    port: int | None
    before: str | None
    """The hosts to jump through on the way to this one, with commas."""

    @property
    def words(self) -> tuple[str, ...]:
        """What `ssh` would be called with to reach it."""
        words: tuple[str, ...] = ("-l", self.user) if self.user else ()
        words += ("-p", str(self.port)) if self.port else ()
        return (*words, "-o", f"ProxyJump={self.before}") if self.before else words


def last_hop(proxy_jump: str, guest: str) -> Hop | None:
    """Return the host that leads to the guest; None: there is none to jump through.

    ``proxy_jump`` is `[user@]host[:port]` or `ssh://…`, several with commas. Raises ConfigError.
    """
    if proxy_jump.lower() in ("", "none"):
        return None
    before, _, last = proxy_jump.replace(" ", "").rpartition(",")
    is_uri = last.startswith("ssh://")
    found = _HOP.fullmatch(last.removeprefix("ssh://").rstrip("/") if is_uri else last)
    if found is None:
        # An IPv6 address without brackets has no port.
        found = re.fullmatch(r"(?:(?P<user>.+)@)?(?P<v6>[0-9a-fA-F:]+)(?P<host>)(?P<port>)", last)
    if found is None:
        raise ConfigError(f"ProxyJump: {last!r} is no [user@]host[:port]", guest=guest)
    user, port = found["user"], found["port"]
    if port and not (port.isdecimal() and 0 < int(port) < 65536):
        raise ConfigError(f"ProxyJump: {port!r} is no port", guest=guest)
    return Hop(
        host=found["v6"] or found["host"],
        user=unquote(user) if user and is_uri else user,
        port=int(port) if port else None,
        before=before or None,
    )
