"""Why this host's kernel cannot be replaced by that one: every reason, each with its fix. Pure.

The worst of them all is a command line without the region: the new kernel would take guests' RAM
for its own, in silence.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from harness.core.pasteable import command
from harness.host.region.facts import HostFacts
from harness.host.region.lacks import Lack, lacks
from harness.host.region.place import Region, of_memory, regions, words
from harness.updates.kernel.candidate import Candidate

#: What brings the region back: its device, and its file system on it.
_OF_REGION = ("nd_e820", "nd_pmem")
_OPTIONS = ("CONFIG_X86_PMEM_LEGACY", "CONFIG_BLK_DEV_PMEM", "CONFIG_FS_DAX")
#: x86's kernels take a longer one for none.
_LONGEST_LINE = 2047
#: Of each guest: its state, and what libvirt writes about it.
STATE_BYTES = 8 << 20


def refusals(host: HostFacts, new: Candidate, running_modules: Collection[str]) -> tuple[Lack, ...]:
    """Return why ``new`` cannot take over from the kernel that runs; empty if it can.

    ``running_modules``: what this kernel has loaded; guests need what the new one has of KVM.
    """
    return (*lacks(host), *_files(new), *_built(new, running_modules), *_line(host, new))


def others(running: Mapping[str, str], in_run: Collection[str]) -> tuple[Lack, ...]:
    """Return which guests of this host are not in the run: all end with its kernel.

    ``running``: name by UUID of every guest that has a QEMU, paused ones as well.
    """
    return tuple(
        Lack(
            f"{name} is not in the run, and would end with this kernel",
            f"name it too, or {command('virsh', 'shutdown', name)}",
        )
        for uuid, name in sorted(running.items(), key=lambda one: one[1])
        if uuid not in in_run
    )


def without_room(free: int | None, guests: Sequence[str]) -> tuple[Lack, ...]:
    """Return whether the region has no room for the guests' states; bytes, None: no limit."""
    needed = STATE_BYTES * len(guests)
    if free is None or free >= needed:
        return ()
    return (
        Lack(
            f"the region has {free >> 20} MiB left, and the states of {len(guests)} guests may "
            f"take {needed >> 20} MiB",
            "a larger region, or fewer guests on it",
        ),
    )


def _files(new: Candidate) -> Iterator[Lack]:
    for path, why in new.unreadable.items():
        yield Lack(f"{path} cannot be read: {why}", "install that kernel, or name another")


def _built(new: Candidate, running_modules: Collection[str]) -> Iterator[Lack]:
    if new.modules is None:
        yield Lack(
            f"/lib/modules/{new.release} is not there: the new kernel has no modules",
            "install its package as a whole",
        )
    else:
        kvm = {one for one in running_modules if one.startswith("kvm_")}
        for name in sorted({*_OF_REGION, *kvm} - new.modules):
            yield Lack(
                f"the new kernel {new.release} has no module {name}",
                "a kernel of the distribution's, with all of its modules",
            )
    for option in _OPTIONS if new.config is not None else ():
        if new.config is not None and new.config.get(option) not in ("y", "m"):
            yield Lack(
                f"the new kernel {new.release} was built without {option}, so that the region is "
                "no memory there",
                "a kernel of the distribution's",
            )


def _line(host: HostFacts, new: Candidate) -> Iterator[Lack]:
    line, now = new.command_line, host.command_line
    if len(line.encode()) > _LONGEST_LINE:
        yield Lack(
            f"the new command line has {len(line.encode())} bytes, and a kernel takes "
            f"{_LONGEST_LINE}",
            "a shorter update.cmdline",
        )
    if host.enrolled is not None:
        yield from _memory(host.enrolled.region, host.enrolled.argument, line, now)
    root = next((one for one in words(now) if one.startswith("root=")), None)
    if root is not None and not any(one.startswith("root=") for one in words(line)):
        yield Lack("the new command line names no root=", f"add {root} to update.cmdline")


def _memory(region: Region, argument: str, line: str, now: str) -> Iterator[Lack]:
    given = regions(line)
    if region not in given:
        has = f"has {', '.join(map(str, given))} in its place" if given else "has no memmap="
        yield Lack(
            "the new kernel would take the RAM of guests for its own: its command line does not "
            f"set aside {region}, it {has}",
            f"add {argument} to update.cmdline",
        )
    elif of_memory(line) != of_memory(now):
        yield Lack(
            "the new command line has other memory than this one: "
            f"{' '.join(of_memory(line))}, not {' '.join(of_memory(now))}",
            "give it the memmap= and mem= of /proc/cmdline, in their order",
        )
