"""What it costs to ask OpenSSH how guests are logged in to.

    .venv/bin/python -P -m benchmarks.ssh_access [GUESTS]

No guest is needed. A configuration as people have it is put into a home of its own, and the
settings of so many guests are found out one after the other, and at once as in a run.
"""

from __future__ import annotations

import os
import sys
import tempfile
from functools import partial
from pathlib import Path

from harness.core.fanout import fan_out
from harness.core.settings import SshSection
from harness.core.timebase import Deadline, Stopwatch
from harness.guest.access import Access
from harness.guest.hostkeys import look_up

_CONFIG = """
Host web*
  User root
  IdentityFile ~/.ssh/lab
Host 192.168.*
  StrictHostKeyChecking yes
Host *
  ServerAliveInterval 30
  ControlPath ~/.ssh/cm-%C
"""
_KINDS = {
    "by name, HostName configured": "web1",
    "by name, address of libvirt": "web2",
    "by address only": "db1",
    "singled out by nothing": "db2",
}


def _settle(access: Access, guest: str, address: str, known: Path) -> None:
    deadline = Deadline.after(60)
    configured = access.configured_address(guest, deadline)
    section = SshSection(known_hosts=known)
    settings = access.settings(guest, configured or address, section, SshSection(), deadline)
    look_up(settings, deadline)


def _measure(count: int, folder: Path) -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINysRy43gPkbJB2DOsVcyi0AK2UklrX0NigUOCf5mVn0"
    known = folder / "known"
    known.write_text("".join(f"192.168.1.{number % 250} {key}\n" for number in range(count)))
    blocks = [f"Host web1-{n}\n  HostName 192.168.1.{n % 250}\n" for n in range(count)]
    (folder / ".ssh").mkdir()
    (folder / ".ssh/config").write_text("".join(blocks) + _CONFIG)
    print(f"{count} guests, {os.cpu_count()} CPUs; milliseconds a guest")
    print(f"{'':32} {'one by one':>12} {'at once':>12}")
    for kind, name in _KINDS.items():
        net = "10.0.0" if name == "db2" else "192.168.1"
        guests = {f"{name}-{n}": f"{net}.{n % 250}" for n in range(count)}
        watch, access = Stopwatch(), Access()
        for guest, address in guests.items():
            _settle(access, guest, address, known)
        one_by_one_s = watch.elapsed_s()
        watch, access = Stopwatch(), Access()
        calls = {
            guest: partial(_settle, access, guest, address, known)
            for guest, address in guests.items()
        }
        for answer in fan_out(calls, Deadline.after(120), what="asking").values():
            answer.get()
        at_once_s = watch.elapsed_s()
        print(f"{kind:32} {one_by_one_s / count * 1e3:12.1f} {at_once_s / count * 1e3:12.1f}")


def main() -> None:
    """Measure, and print a table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HOME"] = folder
        _measure(count, Path(folder))


if __name__ == "__main__":
    main()
