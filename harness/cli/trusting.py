"""Guests' host keys, one guest after the other: shown, confirmed, added, and looked at again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from harness import api
from harness.core.errors import HarnessError, HostKeyRejected
from harness.core.settings import Config
from harness.maintenance.host_keys import GuestKeys

#: Jump hosts on the way to one guest, each of which may have to be trusted first.
_MOST_HOPS = 8


class Trust(StrEnum):
    """What became of one guest's host keys."""

    KNOWN = "known"
    ADDED = "added"
    UNKNOWN = "unknown"  # not confirmed
    REFUSED = "refused"  # changed, revoked, or not the configured one
    FAILED = "failed"


@dataclass(frozen=True)
class Decision:
    """One guest, or a jump host on the way to it, and what became of its keys."""

    keys: GuestKeys
    trust: Trust
    error: HarnessError | None = None

    @property
    def is_known(self) -> bool:
        """Whether a login gets past the host key now."""
        return self.trust in (Trust.KNOWN, Trust.ADDED)

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        shown = self.keys.shown
        return {
            "name": self.keys.info.name,
            "uuid": self.keys.info.uuid,
            "trust": self.trust.value,
            "address": shown.address if shown else None,
            "port": shown.port if shown else None,
            "address_from": self.keys.address_from or None,
            "jump_host": shown.jump_host if shown else None,
            "known_as": shown.name if shown else None,
            "known_hosts": str(shown.file) if shown and shown.file else None,
            "keys": [
                {"kind": key.kind, "fingerprint": key.fingerprint}
                for key in (shown.keys if shown else ())
            ],
            "problem": str(self.error) if self.error else None,
        }


def decide(
    config: Config,
    guests: Sequence[str],
    agree: Callable[[GuestKeys], bool],
    backend: api.Backend,
) -> Iterator[Decision]:
    """Yield what becomes of each guest's keys; ``agree`` is asked about those not known yet.

    A key that has changed is never asked about. Raises HypervisorError.
    """
    for keys in api.host_keys(config, guests, backend=backend):
        for _ in range(_MOST_HOPS):
            decision = _decided(config, keys, agree, backend)
            yield decision
            jumped = decision.trust is Trust.ADDED and keys.shown and keys.shown.jump_host
            if not jumped:
                break
            (keys,) = api.host_keys(config, [keys.info.uuid], backend=backend)


def _decided(
    config: Config, keys: GuestKeys, agree: Callable[[GuestKeys], bool], backend: api.Backend
) -> Decision:
    if keys.error is not None:
        refused = isinstance(keys.error, HostKeyRejected)
        return Decision(keys, Trust.REFUSED if refused else Trust.FAILED, keys.error)
    if not keys.unknown:
        return Decision(keys, Trust.KNOWN)
    if not agree(keys):
        return Decision(keys, Trust.UNKNOWN)
    try:
        api.trust(keys, backend=backend)
    except HarnessError as error:
        return Decision(keys, Trust.FAILED, error)
    (now,) = api.host_keys(config, [keys.info.uuid], backend=backend)
    hop = keys.shown.jump_host if keys.shown else None
    same = now.shown is not None and now.shown.jump_host == hop
    if now.error is not None or (same and now.unknown):
        why = now.error or HostKeyRejected(
            "its keys were added, but are not accepted", guest=keys.info.name
        )
        return Decision(keys, Trust.FAILED, why)
    return Decision(keys, Trust.ADDED)
