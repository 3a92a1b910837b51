"""One look at a running guest: what tells whether its QEMU can be replaced."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import libvirt

from harness.core.errors import HypervisorError
from harness.core.process_stat import PROC
from harness.host.luo.held_ram import is_held
from harness.host.mounts import file_system
from harness.host.parking import ProcessIdentity, QemuLook, RamBacking
from harness.host.qemu_memory import maps_files, resident
from harness.host.ram_links import identity
from harness.host.start_commands import CAPABILITY
from harness.host.translate import translated
from harness.host.vhost import agreed

#: So much of a guest's name is in the names of libvirt's folders (virDomainDefGetShortName).
_SHORT = 20
#: Of its seclabel; libvirt writes it so.
_CONFINED = "model='apparmor'"
_LIVE = libvirt.VIR_DOMAIN_XML_SECURE | libvirt.VIR_DOMAIN_XML_MIGRATABLE


def _without_rules() -> tuple[str, ...]:
    from harness.host.resident_setup import Host  # who brings guests back has no use for it

    return tuple(Host.this().without_rules())


def look(
    domain: libvirt.virDomain,
    connection: libvirt.virConnect,
    process: ProcessIdentity | None,
    ask: Callable[..., Any],
) -> QemuLook:
    """Return what is seen of a running guest; ``ask`` is QEMU's monitor.

    Raises HypervisorError.
    """
    name = domain.name()
    with translated("looking at the QEMU", name):
        others = [one for one in connection.listAllDomains() if one.UUID() != domain.UUID()]
        names = [one.name() for one in others]
        highest = max(domain.ID(), *(one.ID() for one in others), 0)
        version = ask(domain, "query-version")
        migrate = ask(domain, "query-migrate")
        jobs = ask(domain, "query-block-jobs")
        capabilities = ask(domain, "query-migrate-capabilities")
        description = domain.XMLDesc(_LIVE)
        return QemuLook(
            name=name,
            uuid=domain.UUIDString(),
            description=description,
            present=domain.XMLDesc(0),
            persistent=bool(domain.isPersistent()),
            number=domain.ID(),
            highest_id=highest,
            process=process,
            version=_version(version),
            libvirt=_numbers(connection.getLibVersion()),
            backings=backings(process) if process is not None else (),
            same_short_name=tuple(n for n in names if n[:_SHORT] == name[:_SHORT]),
            blocked=tuple(migrate.get("blocked-reasons", ())),
            jobs=tuple(str(job.get("device", job)) for job in jobs),
            tainted=_tainted(domain),
            capable=any(c["capability"] == CAPABILITY and c["state"] for c in capabilities),
            without_rules=_without_rules() if _CONFINED in description else (),
            memory_bytes=domain.maxMemory() * 1024,
            used_bytes=_used(process),
            vhost=agreed(partial(ask, domain)),
        )


def _tainted(domain: libvirt.virDomain) -> tuple[str, ...]:
    """Nothing where libvirt is too old to say."""
    with suppress(libvirt.libvirtError):
        return tuple(domain.messages(libvirt.VIR_DOMAIN_MESSAGE_TAINTING))
    return ()


def backings(process: ProcessIdentity, proc: Path = PROC) -> tuple[RamBacking, ...]:
    """Return the RAM of a QEMU by the arguments that it was started with.

    Raises HypervisorError if the process is gone, or may not be looked at.
    """
    try:
        words = (proc / str(process.pid) / "cmdline").read_bytes().split(b"\0")
    except OSError as error:
        message = f"process {process.pid} cannot be looked at: {error.strerror}"
        raise HypervisorError(message, operation="looking at the QEMU") from error
    found = []
    for word in words:
        if not word.startswith(b"{"):
            continue
        with suppress(ValueError):
            told = json.loads(word)
            kind = str(told.get("qom-type", ""))
            if kind.startswith("memory-backend"):
                found.append(_backing(kind, told, process, proc))
    return tuple(found)


def _backing(kind: str, told: dict[str, Any], process: ProcessIdentity, proc: Path) -> RamBacking:
    path = str(told.get("mem-path", ""))
    file, links = "", 0
    if path:
        with suppress(OSError):
            about = os.stat(path, follow_symlinks=is_held(Path(path)))
            file, links = identity(about), about.st_nlink
    return RamBacking(
        kind=kind,
        path=path,
        shared=bool(told.get("share")),
        discard=bool(told.get("discard-data")),
        identity=file,
        links=links,
        mapped=bool(file) and maps_files(process.pid, {file}, proc),
        file_system=(file_system(Path(path).parent) or "") if path else "",
    )


def _used(process: ProcessIdentity | None) -> int:
    with suppress(OSError, ValueError):
        return resident(process.pid).rss_bytes if process is not None else 0
    return 0


def _version(said: dict[str, Any]) -> str:
    number = ".".join(str(said["qemu"][part]) for part in ("major", "minor", "micro"))
    package = str(said.get("package", "")).strip(" ()")
    return f"{number} ({package})" if package else number


def _numbers(version: int) -> tuple[int, int, int]:
    """Return the parts of a version that libvirt packed: major·1000000 + minor·1000 + release."""
    return version // 1_000_000, version // 1000 % 1000, version % 1000
