"""AppArmor: what the next QEMU of a parked guest may open beyond what libvirt allows it.

libvirt confines each guest by a profile of its own, ``libvirt-UUID``, whose file is there for rules
of the host's owner. It allows a guest the folder of its RAM only if it has made that folder itself.
So a block of rules stands in that file while a guest is being replaced, for this guest and no
other: RAM under any id that libvirt may give it, its commands, its state, and a QEMU that is not
installed.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from pathlib import Path

from harness.core.errors import InfrastructureError
from harness.core.files import write_atomically
from harness.host.parking import Parking
from harness.host.start_commands import commands_file

PROFILES = Path("/etc/apparmor.d/libvirt")
BEGIN, END = "  # harness: begin", "  # harness: end"
_BLOCK = re.compile(f"^{BEGIN}\n.*?^{END}\n", re.MULTILINE | re.DOTALL)
_READABLE = 0o644
#: A star would match more than a number.
_NUMBER = "{" + ",".join("[0-9]" * digits for digits in range(1, 9)) + "}"
_PLAIN = string.ascii_letters + string.digits + "/._:+-"


def admit(parking: Parking) -> None:
    """Allow the guest's next QEMU what it needs; nothing where AppArmor does not confine it.

    Raises InfrastructureError.
    """
    rules = "".join(f"  {rule},\n" for rule in _rules(parking))
    _put(parking, f"{BEGIN}\n{rules}{END}\n")


def dismiss(parking: Parking) -> None:
    """Take that away again. Raises InfrastructureError."""
    _put(parking, "")


def _put(parking: Parking, block: str) -> None:
    profile = PROFILES / f"libvirt-{parking.uuid}"
    try:
        before = profile.read_text()
        head, brace, tail = _BLOCK.sub("", before).rpartition("}")
        after = f"{head}{block}{brace}{tail}"
        if after != before:
            write_atomically(profile, after, mode=_READABLE)
    except FileNotFoundError:
        return
    except OSError as error:
        raise InfrastructureError(f"{profile}: {error.strerror}") from error


def _rules(parking: Parking) -> Iterator[str]:
    folder = pattern(parking.ram_folder)
    if parking.copied:
        yield f'"{pattern(parking.state)}" r'
    else:
        yield f'"{folder}/{_NUMBER}-{pattern(parking.short_name)}/{{,**}}" rwk'
        yield f'"{pattern(str(commands_file(parking.commands)))}" rw'
    for tree in parking.trees:
        yield '"/var/lib/libvirt/harness/emulators/*/qemu-system-*" rmix'
        yield "/{usr/,}bin/{dash,bash,sh} rmix"
        yield f'"{pattern(tree)}/{{,**}}" rm'
        yield f'"{pattern(tree)}/usr/bin/qemu-system-*" rmix'


def pattern(path: str) -> str:
    """Return what matches ``path`` in a rule: it is data, and a rule knows signs of its own."""
    return "".join(chr(byte) if chr(byte) in _PLAIN else "?" for byte in path.encode())
