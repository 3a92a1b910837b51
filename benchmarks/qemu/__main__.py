"""What replacing a guest's QEMU costs its guest, beside other ways, in turn on this machine.

    make bench-qemu             # a quarter of an hour on 2 cores
    .venv/bin/python -P -m benchmarks.qemu 12 --without-libvirt    # some minutes, as any user

For each size of memory: one resident guest, two fifths of its memory in use, whose QEMU is replaced
by harness, by libvirt's bare calls with nothing around them, by ``virsh save`` and ``restore``, by
libvirt-guests, and beside it QEMU without libvirt: by hand, by ``cpr-transfer`` where the second
QEMU is there, and by ``cpr-exec`` where ``scripts/qemu-matrix`` has made its Debian 13, whose
backports have a QEMU that is new enough. A B C C B A …, because others may use the machine. Keeps
everything in ``benchmarks/results/`` and writes a part of ``docs/explanation/performance.md`` and a
picture from it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.compare.lab import Bench, bench
from benchmarks.document import machine as this_machine
from benchmarks.qemu.by_hand import Machine, execute, hand, transfer
from benchmarks.qemu.page import write_part
from benchmarks.qemu.raw import EMULATOR, by_libvirt_guests, harness, raw, virsh
from benchmarks.qemu.steps import Pause
from harness.core.paths import cache_dir
from harness.core.timebase import Deadline, utc_now
from harness.host.driver import LibvirtHypervisor
from harness.lab.images import ensure
from harness.lab.specs import GuestSpec
from harness.updates.qemu import programs

MEMORY_MIB = (256, 1024, 4096)
#: Those that copy RAM are slow, and their order of magnitude is all that is asked for.
RARE, EVERY = ("virsh save, restore", "libvirt-guests"), 4
RESULTS = Path(__file__).parents[1] / "results"
#: So much of the guest's memory is in use: its own root file system takes no more than a half.
_USED = 0.4
#: Not compressible to pages of zeros, which no save writes out.
_FILL = """dd if=/dev/urandom of=/blob bs=1M count=4 2>/dev/null; n=0
while [ $n -lt {times} ]; do cat /blob; n=$((n+1)); done >/fill"""

Sample = dict[str, Any]


def main() -> None:
    """``python -P -m benchmarks.qemu [REPEATS [RESULT]]``; of a RESULT only the page is written.

    ``--without-libvirt`` instead of a RESULT: medians of those ways alone are printed.
    """
    if sys.argv[2:] == ["--without-libvirt"]:
        _without_libvirt(int(sys.argv[1]))
        return
    if len(sys.argv) > 2:
        file = Path(sys.argv[2])
        write_part(json.loads(file.read_text()), file.name)
        return
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 12
    samples: list[Sample] = []
    for transient, mib in [(True, MEMORY_MIB[0]), *((False, mib) for mib in MEMORY_MIB)]:
        samples += _one_guest(mib, repeats, transient=transient)
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"qemu-{utc_now():%Y%m%dT%H%M%SZ}.json"
    facts = {"at": utc_now().isoformat(timespec="seconds"), "repeats": repeats,
             "machine": this_machine(), **_versions()}  # fmt: skip
    result = {"facts": facts, "samples": samples}
    file.write_text(json.dumps(result, indent=1) + "\n")
    write_part(result, file.name)


def _one_guest(mib: int, repeats: int, *, transient: bool) -> list[Sample]:
    spec = GuestSpec("bench", "tiny", update_domain="0", memory_mib=mib, resident=True)
    found: list[Sample] = []
    with bench([spec], persistent=not transient) as guests, _by_hand(mib, transient) as others:
        _fill(guests, round(mib * _USED))
        hypervisor = LibvirtHypervisor.open("qemu:///system", Deadline.after(30))
        contenders: dict[str, Callable[[], Pause]] = {
            "libvirt, bare": partial(raw, hypervisor, guests.connection, spec.uuid),
            "harness": partial(harness, spec.name),
            **others,
        }
        if not transient:
            contenders[RARE[0]] = partial(virsh, spec.name)
            contenders[RARE[1]] = partial(by_libvirt_guests, spec.name)
        for number in range(repeats):
            turn = list(contenders.items())
            for name, pause in turn if number % 2 else reversed(turn):
                if name in RARE and number % EVERY:
                    continue
                sample = {"contender": name, "memory": mib, "transient": transient,
                          "load": os.getloadavg()[0], **asdict(pause())}  # fmt: skip
                print(f"{number + 1} of {repeats}: {sample}", flush=True)
                found.append(sample)
        hypervisor.close()
    return found


@contextmanager
def _by_hand(mib: int, transient: bool) -> Iterator[dict[str, Callable[[], Pause]]]:
    """Guests without libvirt of the same size; none beside the transient one."""
    if transient:
        yield {}
        return
    image = ensure("tiny", print)
    assert image.kernel is not None
    assert image.initrd is not None
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        files = (image.kernel, image.initrd, mib, folder)
        found = {"by hand": stack.enter_context(hand(Machine([str(EMULATOR)], *files))).pause}
        if second := _second(folder):
            newer = Machine([str(second.emulator)], *files)
            found["cpr-transfer"] = stack.enter_context(transfer(newer)).pause
        if third := _third():
            newest = Machine(third, *files)
            found["cpr-exec"] = stack.enter_context(execute(newest)).pause
        yield found


def _without_libvirt(repeats: int) -> None:
    for mib in MEMORY_MIB:
        with _by_hand(mib, transient=False) as ways:
            taken: dict[str, list[float]] = {name: [] for name in ways}
            for number in range(repeats):
                turn = list(ways.items())
                for name, pause in turn if number % 2 else reversed(turn):
                    taken[name].append(pause().total_ms)
        for name, times in taken.items():
            print(f"{mib} MiB, {name}: median {statistics.median(times):.0f} ms, "
                  f"worst {max(times):.0f}, load {os.getloadavg()[0]:.0f}", flush=True)  # fmt: skip


def _second(folder: Path) -> programs.Program | None:
    tree = cache_dir() / "second-qemu"
    if not (tree / "complete").exists():
        return None
    program = programs.in_tree(tree, EMULATOR.name, Deadline.after(30), wrappers=folder)
    programs.write_wrapper(program)
    return program


def _third() -> list[str] | None:
    """Return the QEMU of the Debian 13 that ``scripts/qemu-matrix`` has made, with its own libc."""
    root = cache_dir() / "matrix" / "trixie"
    if not (root / "complete").exists():
        return None
    libraries = root / "usr/lib/x86_64-linux-gnu"
    files = ("qemu", "seabios")
    return [
        "/usr/bin/env", f"QEMU_MODULE_DIR={libraries / 'qemu'}",
        str(root / "lib64/ld-linux-x86-64.so.2"), "--library-path", str(libraries),
        str(root / "usr/bin" / EMULATOR.name),
        *(word for name in files for word in ("-L", str(root / "usr/share" / name))),
    ]  # fmt: skip


def _version(command: list[str]) -> str:
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    return done.stdout.split("version ")[1].splitlines()[0]


def _versions() -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        second = _second(Path(folder))
    first = programs.version_of(EMULATOR, Deadline.after(30))
    third = _third()
    return {
        "qemu": first,
        "second": second.version if second else "",
        "third": _version(third) if third else "",
    }


def _fill(guests: Bench, mib: int) -> None:
    (session,) = guests.sessions.values()
    session.shell.run(_FILL.format(times=max(1, mib // 4 - 1)), Deadline.after(300))


if __name__ == "__main__":
    main()
