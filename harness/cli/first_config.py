"""The text of a first ``harness.toml``: what was found, and what it could say besides. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.core.config_text import toml_value
from harness.maintenance.find_login import FoundLogin

_HEAD = """\
# Written by `harness init`. Every key, its unit and its default: docs/reference/settings.md.
# What is in force, and where it came from: harness run --show-config
"""
_COMMON = """
# The longest that a guest may be paused, and what of it is kept to resume all of them.
# budget_s = "30s"
# resume_reserve_s = "2s"

# How far a guest's clock may be off after its pause. Default: what its interpreter can keep.
# [clock]
# tolerance_s = "10ms"

# What is done to the host while its guests are paused; without it, a stand-in that changes nothing
# of yours. Other kinds: docs/how-to/updates.md.
# [update]
# kind = "command"
# command = ["./apply-patch.sh", "--now"]
# expected_s = "12s"
# scope = "guest"          # each guest by itself; default: the whole host at once
"""


def first_config(uri: str, found: Sequence[FoundLogin]) -> str:
    """Return a configuration with these guests; names in it are data."""
    lines = [_HEAD, f"uri = {toml_value(uri)}", _COMMON]
    for one in found:
        lines += ["[[guest]]", *_guest(one), ""]
    return "\n".join(lines)


def _guest(one: FoundLogin) -> Iterator[str]:
    info = one.info
    yield f"name = {toml_value(info.name)}"
    if one.error is not None:
        yield from _comment(f"no login was found: {one.error.message}")
        yield '# ssh.user = "root"'
    if one.address:
        origin = _plain(one.address_from)
        yield f"address = {toml_value(one.address)}  # from: {origin}; else looked up"
    if one.access == "agent":
        yield 'access = "agent"  # no login by SSH was found; see docs/how-to/agent.md'
    if one.user:
        yield f"ssh.user = {toml_value(one.user)}"
    if one.sudo:
        yield "ssh.sudo = true  # it is not root, and sudo asks for no password"
    if one.error is None and not one.may_set_clock:
        yield "# it may not set the guest's clock: log in as root, or let it use sudo -n"
    yield from _label("update_domain", info.update_domain, "guests of one are paused together")
    yield from _label("availability_set", info.availability_set, "its members are kept apart")


def _label(key: str, value: str | None, meaning: str) -> Iterator[str]:
    if value is None:
        yield f'# {key} = "0"  # {meaning}'
    else:
        yield f"{key} = {toml_value(value)}  # from its metadata; {meaning}"


def _comment(text: str) -> Iterator[str]:
    yield f"# {_plain(text)}"


def _plain(text: str) -> str:
    """One line of a comment, whatever a guest has said."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)
