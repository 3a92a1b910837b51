"""Hosts of which OpenSSH's configuration says the same: for all of them one question is enough.

Of a file of configuration only this is read here: which hosts a `Host` line might single out. What
is configured for them, OpenSSH is asked. Wherever that is in any doubt, each host is asked for by
itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address

from harness.guest.openssh import Effective
from harness.guest.plain_config import matches

_KEYWORD = re.compile(r"\s*([A-Za-z0-9]+)[\s=]\s*(.*)")
#: Signs by which words are more than they look like: quotes, tokens, variables.
_MORE = re.compile(r"[\"'\\%$]")
#: A name that the resolver takes for no number, in the form that OpenSSH would print.
_NAME = re.compile(r"[a-z][a-z0-9._-]*")


@dataclass(frozen=True)
class Alike:
    """What OpenSSH said of a host that no configuration names, and which others are not like it."""

    stranger: str
    answer: Effective
    patterns: tuple[str, ...]

    @classmethod
    def of(cls, answer: Effective, files: Sequence[str] | None) -> Alike | None:
        """Return what ``answer`` shows of other hosts; None: nothing for sure.

        ``files``: the text of each file of configuration that was read for it; None: unknown.
        """
        patterns: list[str] = []
        for text in files or ():
            found = _patterns(text)
            if found is None:
                return None
            patterns += found
        said = cls(answer.host, answer, tuple(patterns))
        by_dns = answer.one("canonicalizehostname", "no") not in ("no", "false")
        return None if by_dns or not files or not said.includes(answer.host) else said

    def includes(self, host: str) -> bool:
        """Return True if the same is surely said of ``host``, but for its name."""
        return is_canonical(host) and not any(matches((one,), host) for one in self.patterns)

    def answer_for(self, host: str) -> Effective:
        """Return what OpenSSH would say of ``host``, which is included."""
        values = {
            key: tuple(value.replace(self.stranger, host) for value in values)
            for key, values in self.answer.values.items()
        }
        return Effective(host, values)


def is_canonical(host: str) -> bool:
    """Return True if OpenSSH has no other way to write ``host``."""
    if _NAME.fullmatch(host):
        return True
    with suppress(ValueError):
        # Of addresses that begin with zeros, some hold one of IPv4 and are written otherwise.
        return str(ip_address(host)) == host and not host.startswith("::") and "%" not in host
    return False


def _patterns(text: str) -> list[str] | None:
    """The patterns of `Host` lines, without those that fit every host; None: not for sure."""
    patterns = []
    for line in text.split("\n"):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _KEYWORD.fullmatch(line)
        if found is None:
            return None
        keyword, rest = found[1].lower(), found[2]
        if keyword in ("host", "match", "include") and _MORE.search(rest):
            return None  # an included file may be another one for each host
        if keyword == "match" and rest.lower().split() != ["all"]:
            return None
        if keyword == "host":
            patterns += [one.removeprefix("!") for one in rest.split() if one != "*"]
    return patterns
