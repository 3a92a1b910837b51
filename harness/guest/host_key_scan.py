"""Which host keys a guest shows before a login, and what is known of them."""

from __future__ import annotations

from dataclasses import replace

from harness.core.errors import ConfigError, HarnessError, HostKeyUnknown, ShellUnreachable
from harness.core.timebase import Deadline
from harness.guest.connection import Connection, close, exchange_keys, open_link
from harness.guest.hostkeys import HostKeyCheck, KnownHosts, look_up
from harness.guest.lean_paramiko import paramiko
from harness.guest.protocol import HostKey, ShownKeys
from harness.guest.ssh_settings import Jump, SshSettings
from harness.guest.translate import translated

#: Kinds of host keys, each with the algorithms by which it is asked for.
_ECDSA = ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")
_KINDS = (
    (("ssh-ed25519",), ("ssh-ed25519",)),
    (_ECDSA, _ECDSA),
    (("ssh-rsa",), ("rsa-sha2-512", "rsa-sha2-256")),
)


def scan(guest: str, address: str, settings: SshSettings, deadline: Deadline) -> ShownKeys:
    """Return the keys of the first host on the way to the guest that is not known yet.

    That is a jump host, else the guest itself; if all of them are known, what the guest shows. No
    user name and no key of the user is sent to a host that is not known. Raises HostKeyRejected if
    a key has changed, is revoked, or is not the one that is configured; ShellUnreachable,
    ConfigError, DeadlineExpired.
    """
    through = None
    if settings.jump is not None:
        hop = settings.jump
        try:
            found = _of_jump(guest, hop, deadline)
            if not found.known:
                return found
            through = Connection.open(guest, hop.address, hop.settings, deadline)
        except HarnessError as error:
            error.message = f"jump host {hop.host}: {error.message}"
            raise
    try:
        return _scan(guest, address, settings, through, deadline)
    finally:
        if through is not None:
            through.close()


def _of_jump(guest: str, hop: Jump, deadline: Deadline) -> ShownKeys:
    found = scan(guest, hop.address, hop.settings, deadline)
    return replace(found, jump_host=found.jump_host or hop.host)


def _scan(
    guest: str,
    address: str,
    settings: SshSettings,
    through: Connection | None,
    deadline: Deadline,
) -> ShownKeys:
    settings = replace(settings, strict="yes")  # what lets a stranger in makes it no less of one
    known = look_up(settings, deadline)
    judge = HostKeyCheck(guest, address, settings, known).judge
    shown, by_loopback = _shown(guest, address, settings, through, known, deadline)
    file = next(iter(settings.known_hosts), None)
    found = ShownKeys(
        guest,
        address,
        settings.port,
        name=next(iter(settings.known_names), address),
        file=file,
        keys=(_told(shown),),
        hashed=settings.hash_known_hosts,
    )
    try:
        judge(shown, deadline, by_loopback=by_loopback)
    except HostKeyUnknown:
        if file is None:
            raise ConfigError(
                "UserKnownHostsFile is none, so there is no file that could know its key",
                guest=guest,
                hint="name one: known_hosts in [ssh] of harness.toml",
            ) from None
    else:
        return replace(found, known=True)
    every = {shown.get_name(): shown}
    for kinds, algorithms in _KINDS:
        if shown.get_name() in kinds:
            continue
        try:
            other, _ = _shown(guest, address, settings, through, known, deadline, algorithms)
        except ShellUnreachable:  # no key of this kind: some servers say so, others hang up
            continue
        every[other.get_name()] = other
    return replace(found, keys=tuple(_told(key) for key in every.values()))


def _shown(
    guest: str,
    address: str,
    settings: SshSettings,
    through: Connection | None,
    known: KnownHosts,
    deadline: Deadline,
    algorithms: tuple[str, ...] = (),
) -> tuple[paramiko.PKey, bool]:
    """The key that the server proves to hold, and whether it is this machine's loopback."""
    deadline = deadline.sooner(settings.connect_timeout_s)
    doing = f"asking {address} port {settings.port} for its host key"
    with translated(guest, doing, deadline):
        link = open_link(guest, address, settings, through, deadline)
    transport = None
    try:
        with translated(guest, doing, deadline):
            transport = exchange_keys(link, settings, known, deadline, algorithms)
            return transport.get_remote_server_key(), link.is_loopback
    except HarnessError as error:
        error.message += link.last_words()
        raise
    finally:
        close(transport, link)


def _told(key: paramiko.PKey) -> HostKey:
    return HostKey(key.get_name(), key.get_base64(), key.fingerprint)
