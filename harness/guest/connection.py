"""Opens an SSH connection: connect, host key, login, each step by the same deadline.

Built on ``paramiko.Transport`` rather than ``SSHClient``, because every step must end by one
deadline even when the peer is frozen, and no credential may leave before the host key is checked.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from harness.core.errors import HarnessError, ShellUnreachable
from harness.core.fanout import fan_out
from harness.core.timebase import Deadline
from harness.guest.hostkeys import HostKeyCheck, KnownHosts, look_up, preferred
from harness.guest.identities import Identities, identities
from harness.guest.lean_paramiko import paramiko
from harness.guest.link import Link, by_jump, by_program, by_tcp
from harness.guest.protocol import Way
from harness.guest.shared_way import by_turns
from harness.guest.ssh_settings import RSA_ALGORITHMS, SshSettings
from harness.guest.translate import NoBanner, translated

_CLOSE_S = 2.0
#: So many keys are named in an error; an agent may hold dozens.
_NAMED = 8
_HINT = "which user and key work with ssh? put them into ~/.ssh/config or harness.toml"

# It reports every refused key and dropped connection; we raise what matters.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)


class _Transport(paramiko.Transport):
    """Asks for host keys in our order; paramiko's puts certificates last."""

    #: How often its thread looks whether it should end, or whether a timeout of its own is over. We
    #: end it by its socket, and wait by our deadlines: each look is 50 µs of work, for every guest.
    _active_check_timeout = 1.0
    host_key_order: tuple[str, ...] = ()

    @property
    def preferred_keys(self) -> tuple[str, ...]:
        return self.host_key_order or tuple(super().preferred_keys)


class Connection:
    """An authenticated connection, and that of the jump host that it goes through."""

    def __init__(
        self, transport: paramiko.Transport, way: Way, link: Link, through: Connection | None
    ) -> None:
        self.transport = transport
        self.way = way
        self._link = link
        self._through = through

    @classmethod
    def open(
        cls,
        guest: str,
        address: str,
        settings: SshSettings,
        deadline: Deadline,
        *,
        shared: bool = False,
    ) -> Connection:
        """Connect, check the host key, log in; by turns where guests share the way.

        ``shared``: other guests log in there too, to jump. Raises ShellUnreachable,
        HostKeyRejected, ConfigError or DeadlineExpired.
        """
        jump = settings.jump
        through = None
        if jump is not None:
            try:
                through = cls.open(guest, jump.address, jump.settings, deadline, shared=True)
            except HarnessError as error:
                error.message = f"jump host {jump.host}: {error.message}"
                raise
        log_in = partial(cls._over, guest, address, settings, through, deadline)
        try:
            way: tuple[object, ...] = (address, settings.port) if shared else ()
            way = settings.proxy_command[:1] or way  # one jump host may be behind all of them
            if way:
                return by_turns(way, guest, settings.connect_timeout_s, deadline, log_in)
            return log_in()
        except HarnessError:
            if through is not None:
                through.close()
            raise

    @classmethod
    def _over(
        cls,
        guest: str,
        address: str,
        settings: SshSettings,
        through: Connection | None,
        deadline: Deadline,
    ) -> Connection:
        deadline = deadline.sooner(settings.connect_timeout_s)
        known = look_up(settings, deadline)
        doing = f"connecting to {address} port {settings.port}"
        with translated(guest, doing, deadline):
            link = open_link(guest, address, settings, through, deadline)
        transport: _Transport | None = None
        try:
            with translated(guest, doing, deadline):
                transport = exchange_keys(link, settings, known, deadline)
                key = transport.get_remote_server_key()
            judge = HostKeyCheck(guest, address, settings, known).judge
            doubt = judge(key, deadline, by_loopback=link.is_loopback)
            with translated(guest, f"logging in as {settings.user}", deadline):
                _log_in(guest, transport, settings, deadline)
        except HarnessError as error:
            error.message += link.last_words()
            close(transport, link)
            raise
        doubt = doubt or (through.way.doubt if through else None)
        way = replace(link.way, host_key=key.fingerprint, doubt=doubt)
        return cls(transport, way, link, through)

    def close(self) -> None:
        """Close it, and that of the jump host; never raises."""
        close(self.transport, self._link)
        if self._through is not None:
            self._through.close()


def close(transport: paramiko.Transport | None, link: Link) -> None:
    """Close in bounded time: paramiko joins its thread, which a frozen peer may hold up."""

    def both() -> None:
        link.end()  # so that paramiko's thread ends, and the peer hears of it, at once
        if transport is not None:
            transport.close()
        link.close()  # which paramiko leaves open if it has not begun to talk

    fan_out({"": both}, Deadline.after(_CLOSE_S), what="closing")


def open_link(
    guest: str,
    address: str,
    settings: SshSettings,
    through: Connection | None,
    deadline: Deadline,
) -> Link:
    """Open what a connection runs over. Raises ConfigError, OSError and paramiko's exceptions."""
    if through is not None:
        return by_jump(through.transport, through.way, address, settings.port, deadline)
    if settings.proxy_command:
        return by_program(guest, address, settings)
    return by_tcp(address, settings, deadline)


def exchange_keys(
    link: Link,
    settings: SshSettings,
    known: KnownHosts,
    deadline: Deadline,
    kinds: Sequence[str] = (),
) -> _Transport:
    """Agree on algorithms and exchange keys; nothing is logged in to.

    ``kinds``: the only algorithms of host keys that may be used; none: all that are configured.
    Raises paramiko's exceptions, IncompatiblePeer where the server has a key of no such kind.
    """
    transport = _Transport(link.stream, disabled_algorithms=_ruled_out(settings))
    transport.daemon = True
    for name in ("banner_timeout", "handshake_timeout", "auth_timeout", "channel_timeout"):
        setattr(transport, name, deadline.timeout_s())
    _restrict(transport, settings)
    usable = tuple(one for one in transport.preferred_keys if not kinds or one in kinds)
    if not usable:
        raise paramiko.ssh_exception.IncompatiblePeer(f"{', '.join(kinds)}: ruled out")
    transport.host_key_order = preferred(known, usable)
    try:
        transport.start_client(timeout=deadline.timeout_s())
    except BaseException as error:
        transport.close()
        if isinstance(error, Exception) and not transport.remote_version:
            raise NoBanner(str(error) or type(error).__name__) from error
        raise
    return transport


def _ruled_out(settings: SshSettings) -> dict[str, Sequence[str]]:
    """The ways for an RSA key to sign that `PubkeyAcceptedAlgorithms` does not name."""
    allowed = settings.algorithms.get("pubkeys", RSA_ALGORITHMS)
    return {"pubkeys": [one for one in RSA_ALGORITHMS if one not in allowed]}


def _restrict(transport: _Transport, settings: SshSettings) -> None:
    """Use no algorithm that the configuration rules out. Raises SSHException if none is left."""
    options = transport.get_security_options()
    for kind, name in (("kex", "kex"), ("ciphers", "ciphers"), ("macs", "digests")):
        allowed = settings.algorithms.get(kind)
        if allowed is None:
            continue
        left = tuple(one for one in getattr(options, name) if one in allowed)
        if not left:
            raise paramiko.SSHException(f"harness has none of the {kind} that are configured")
        setattr(options, name, left)
    allowed = settings.algorithms.get("keys")
    if allowed is not None:
        transport.host_key_order = tuple(one for one in transport.preferred_keys if one in allowed)
        if not transport.host_key_order:
            raise paramiko.SSHException("harness has none of the HostKeyAlgorithms configured")


def _log_in(guest: str, transport: _Transport, settings: SshSettings, deadline: Deadline) -> None:
    """Offer keys one by one until one is taken. Raises ShellUnreachable that tells of each key.

    An exception of paramiko that is no refusal comes out as it is.
    """
    refused: list[str] = []
    with identities(settings, deadline) as found:
        for identity in found.offered:
            transport.auth_timeout = deadline.timeout_s()
            try:
                wanted = transport.auth_publickey(settings.user, identity.key)
            except paramiko.AuthenticationException as error:
                refused.append(f"{identity.name}: {identity.refusal or _refusal(error)}")
            else:
                if transport.is_authenticated():
                    return
                refused.append(f"{identity.name}: taken, but {' or '.join(wanted)} is wanted too")
            if not transport.is_active():
                refused.append("then the server closed the connection")
                break  # it has had enough of us
        refused += _without_a_key(transport, settings.user)
        if not transport.is_authenticated():
            raise _login_refused(guest, settings, refused, found)


def _without_a_key(transport: _Transport, user: str) -> list[str]:
    """A server may want none; ssh asks so first, and harness last. Else it says what it wants."""
    if not transport.is_active():
        return []
    try:
        transport.auth_none(user)
    except paramiko.BadAuthenticationType as error:
        return [f"the server takes: {', '.join(error.allowed_types)}"]
    except paramiko.AuthenticationException:
        return []
    return []


def _refusal(error: paramiko.AuthenticationException) -> str:
    if isinstance(error, paramiko.BadAuthenticationType):
        return "refused by the server, which takes no more keys"
    return "refused by the server" if str(error) == "Authentication failed." else str(error)


def _login_refused(
    guest: str, settings: SshSettings, refused: list[str], found: Identities
) -> ShellUnreachable:
    """Say what became of each key that might have been meant, and of none that is secret."""
    said = [*refused[:_NAMED], *([f"{len(refused) - _NAMED} more"] if refused[_NAMED:] else ())]
    if not found.offered:
        said.insert(0, "no key to offer")
    over = found.passed_over
    more = [f"{len(over) - _NAMED} more"] if over[_NAMED:] else []
    parts = ["; ".join(said)]
    if over:
        parts.append(f"passed over: {'; '.join([*over[:_NAMED], *more])}")
    return ShellUnreachable(
        f"logging in as {settings.user}: the login was refused ({'. '.join(parts)})",
        guest=guest,
        hint=_HINT,
    )
