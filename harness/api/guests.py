"""What is asked of guests without a pause: their clocks, their host keys, a login that works."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.api.backend import Backend
from harness.core.errors import UsageError
from harness.core.settings import Config
from harness.core.timebase import Deadline

if TYPE_CHECKING:
    from harness.maintenance.clocks import ClockReport
    from harness.maintenance.find_login import FoundLogin
    from harness.maintenance.host_keys import GuestKeys


def read_clocks(
    config: Config, guests: Sequence[str] = (), *, backend: Backend | None = None
) -> tuple[ClockReport, ...]:
    """Measure the clocks of running guests against the host's; no guest is paused.

    Args:
        config: ``clock.*`` says how many samples, which tolerance, and how long to watch.
        guests: libvirt names or UUIDs, or patterns for those that are up (``web*``); one that
            begins with ``!`` leaves guests out. None: the guests of the configuration.
        backend: None: libvirt and SSH.

    Returns:
        One outcome a guest, in that order; ERROR with ``problem`` for one that cannot be read.

    Raises:
        HypervisorError: The hypervisor does not answer, or a guest is not there.
    """
    return _clocks(config, guests, backend, correct=False)


def correct_clocks(
    config: Config, guests: Sequence[str] = (), *, backend: Backend | None = None
) -> tuple[ClockReport, ...]:
    """Set the clocks of running guests to the host's and measure again; no guest is paused.

    As ``read_clocks``; a clock is corrected only by ``clock.methods``, and set back only with
    ``clock.allow_backward``.
    """
    return _clocks(config, guests, backend, correct=True)


def _clocks(
    config: Config, guests: Sequence[str], backend: Backend | None, *, correct: bool
) -> tuple[ClockReport, ...]:
    from harness.maintenance.clocks import settle_clocks
    from harness.maintenance.named import wanted

    backend = backend or Backend.real()
    names = wanted(guests, [guest.name for guest in config.guest])
    limit_s = config.prepare_timeout_s + config.clock.watch_s
    with backend.connect(config) as hypervisor:
        return settle_clocks(
            names,
            hypervisor,
            backend.connector,
            Deadline.after(limit_s, backend.clock),
            guests=config.guest,
            ssh=config.ssh,
            access=config.access,
            settings=config.clock,
            correct=correct,
        )


def host_keys(
    config: Config, guests: Sequence[str] = (), *, backend: Backend | None = None
) -> tuple[GuestKeys, ...]:
    """Ask guests for their SSH host keys; changes nothing, and logs in to no unknown host.

    Args:
        config: ``[[guest]]`` and ``[ssh]`` say how guests are reached.
        guests: libvirt names or UUIDs; none: the guests of the configuration, else all that run.
        backend: None: libvirt and SSH.

    Returns:
        One answer a guest, in that order: its keys with their fingerprints and whether they are
        known, or the error: HostKeyRejected for a key that has changed.

    Raises:
        HypervisorError: The hypervisor does not answer, or a guest is not there.
    """
    from harness.maintenance.host_keys import look_at_keys
    from harness.maintenance.named import chosen

    backend = backend or Backend.real()
    deadline = Deadline.after(config.prepare_timeout_s, backend.clock)
    with backend.connect(config) as hypervisor:
        known = hypervisor.guests(deadline)
        infos = chosen(known, guests, [one.name for one in config.guest], hypervisor.uri)
        return look_at_keys(
            infos, hypervisor, backend.connector, deadline, guests=config.guest, ssh=config.ssh
        )


def trust(keys: GuestKeys, *, backend: Backend | None = None) -> None:
    """Add host keys that ``host_keys`` returned to known_hosts; a person has confirmed them.

    Args:
        keys: Those of one guest, or of the jump host before it, that are not known yet.
        backend: None: libvirt and SSH.

    Raises:
        UsageError: They are known already, have changed, or were not shown.
        InfrastructureError: The file of known hosts cannot be written.
    """
    if keys.shown is None or keys.shown.known:
        raise UsageError("there is no unknown host key to trust", guest=keys.info.name)
    (backend or Backend.real()).connector.trust(keys.shown)


def find_logins(
    config: Config,
    guests: Sequence[str] = (),
    *,
    users: Sequence[str] = (),
    backend: Backend | None = None,
) -> tuple[FoundLogin, ...]:
    """Find a login for each guest that works, and may set its clock; changes nothing.

    Args:
        config: ``uri``, ``prepare_timeout_s`` and ``[clock]`` count.
        guests: libvirt names or UUIDs; none: all that run.
        users: Tried first; then the user of the SSH configuration, and a few likely ones.
        backend: None: libvirt and SSH.

    Returns:
        One answer a guest, in that order, with its address and user, or the error.

    Raises:
        HypervisorError: The hypervisor does not answer, or a guest is not there.
    """
    from harness.maintenance.find_login import find_logins as find
    from harness.maintenance.named import chosen

    backend = backend or Backend.real()
    deadline = Deadline.after(config.prepare_timeout_s, backend.clock)
    with backend.connect(config) as hypervisor:
        infos = chosen(hypervisor.guests(deadline), guests, (), hypervisor.uri)
        connector = backend.connector
        return find(infos, hypervisor, connector, deadline, users=users, settings=config.clock)
