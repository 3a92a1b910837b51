"""Why this host's kernel cannot be replaced by that one: every reason, each with its fix. Pure.

The worst of them all is a command line without the region, or without ``kho=on``: the new kernel
would take guests' RAM for its own, in silence.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence

from harness.core.pasteable import command
from harness.host.luo.facts import LuoFacts
from harness.host.region.facts import HostFacts
from harness.host.region.lacks import Lack, lacks, lacks_of_kernel
from harness.host.region.place import Region, of_memory, regions, words
from harness.host.vhost import SINCE
from harness.updates.kernel.candidate import Candidate
from harness.updates.kernel.next_kernel import is_older

#: What brings the region back: its device, and its file system on it.
_OF_REGION = ("nd_e820", "nd_pmem")
_OPTIONS = ("CONFIG_X86_PMEM_LEGACY", "CONFIG_BLK_DEV_PMEM", "CONFIG_FS_DAX")
#: By which a kernel hands files in memory over, and takes them.
_OF_LUO = ("CONFIG_KEXEC_HANDOVER", "CONFIG_LIVEUPDATE", "CONFIG_LIVEUPDATE_MEMFD")
_SWITCHES = ("kho=on", "liveupdate=on")
_KHO_DEFAULT = "CONFIG_KEXEC_HANDOVER_ENABLE_DEFAULT"
#: KVM in the kernel starts before the counter's rate is measured well. On a CPU that does not say
#: that the rate stays, it gives guests the first guess, and goes wrong where that is far off.
_KVM, _RATE_STAYS = "CONFIG_KVM", "constant_tsc"
#: As the kernel's kstrtobool has it, by the first letters.
_ON = frozenset({"on", "1", "y", "yes", "true"})
#: Of files in memory: Linux 6.19's, which looked whether a page is empty when it is preserved, and
#: not when it is handed over. It was corrected without another word, and got one later.
_LOSES = frozenset({"memfd-v1"})
#: x86's kernels take a longer one for none.
_LONGEST_LINE = 2047
#: systemd tells a watchdog of itself when half of its time is over: so much may be gone already.
_SIGN_OF_LIFE = 2
#: Of each guest: its state, and what libvirt writes about it.
STATE_BYTES = 8 << 20


def refusals(
    host: HostFacts, new: Candidate, running_modules: Collection[str], silent_s: float
) -> tuple[Lack, ...]:
    """Return why ``new`` cannot take over from the kernel that runs; empty if it can.

    ``running_modules``: what this kernel has loaded; guests need what the new one has of KVM.
    ``silent_s``: for how long no systemd may run.
    """
    return (
        *lacks(host),
        *_files(new),
        *_built(new, running_modules),
        *_counter(host, new),
        *_line(host, new),
        *_watchdogs(host, new, silent_s),
    )


def luo_refusals(
    host: HostFacts,
    luo: LuoFacts,
    new: Candidate,
    running_modules: Collection[str],
    silent_s: float,
) -> tuple[Lack, ...]:
    """Return why ``new`` cannot be handed guests' RAM by live update; empty if it can."""
    return (
        *_device(luo),
        *lacks_of_kernel(host),
        *_files(new),
        *_modules(new, _kvm(running_modules)),
        *_options(new, _OF_LUO, "so that it takes over no memory"),
        *_counter(host, new),
        *_words_of(luo, new.release),
        *_length(new.command_line),
        *_switches(new),
        *_root(host, new),
        *_watchdogs(host, new, silent_s),
    )


def _watchdogs(host: HostFacts, new: Candidate, silent_s: float) -> Iterator[Lack]:
    """One that is armed resets the host in the midst of it, unless it waits for that long."""
    needed_s = math.ceil(_SIGN_OF_LIFE * silent_s)
    for one in host.watchdogs:
        if not one.armed or one.outlasts is False:
            continue
        if one.timeout_s < needed_s:
            yield Lack(
                f"{one} may reset this host while guests wait: it waits {one.timeout_s} s for a "
                f"sign of life, and {needed_s} s are needed until systemd gives one again",
                f"RuntimeWatchdogSec={needed_s} in /etc/systemd/system.conf, or off; then "
                "systemctl daemon-reexec",
            )
        if one.module:
            yield from _modules(new, {one.module})


def _device(luo: LuoFacts) -> Iterator[Lack]:
    if not luo.device:
        yield Lack(
            "the kernel that runs has no /dev/liveupdate",
            f"a kernel that was built with {', '.join(_OF_LUO)}, booted with "
            f'{" ".join(_SWITCHES)}; or resident = "dax"',
        )


def _words_of(luo: LuoFacts, release: str) -> Iterator[Lack]:
    """A kernel that is handed sessions in other words than its own panics.

    One that is handed memory so takes no notice, and has that memory for its own.
    """
    for whose, said, why, fix in (
        ("the kernel that runs hands", luo.running, luo.why_running, luo.fix_running),
        (f"{release} takes", luo.next, luo.why_next, luo.fix_next),
    ):
        if said is None:
            yield Lack(
                f"in which words {whose} memory over cannot be told: {why}",
                fix or "a kernel of which the file is in /boot as it was built",
            )
        elif not said.whole:
            yield Lack(
                f"{whose} memory over in words that are not known, or not at all ({said})",
                f"a kernel that was built with {', '.join(_OF_LUO)}",
            )
    if luo.running is not None and luo.next is not None and luo.running != luo.next:
        yield Lack(
            f"{release} would panic, or lose the RAM: it takes memory over as {luo.next}, and the "
            f"kernel that runs hands it over as {luo.running}",
            "a kernel with the same words; else an ordinary reboot",
        )
    if luo.running is not None and luo.running.words.get("memfd") in _LOSES:
        yield Lack(
            f"the kernel that runs may lose what guests write: as {luo.running.words['memfd']}, it "
            "hands pages over as empty that a guest has first written to since",
            "an ordinary reboot into a kernel of memfd-v2 or later",
        )


def _switches(new: Candidate) -> Iterator[Lack]:
    """Each has to be said on: the last one of a name counts, as for the kernel."""
    for switch in _SWITCHES:
        name, _, _ = switch.partition("=")
        said = [
            one.partition("=")[2] for one in words(new.command_line) if one.startswith(f"{name}=")
        ]
        default = name == "kho" and (new.config or {}).get(_KHO_DEFAULT) == "y"
        if not (said[-1] in _ON if said else default):
            yield Lack(
                f"the new kernel would take the RAM of guests for its own: its command line has no "
                f"{switch}",
                f"add {switch} to update.cmdline",
            )


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


def beyond_vhost(agreed: Collection[str], release: str) -> tuple[Lack, ...]:
    """Return what a guest's NICs have agreed on that the vhost of an older kernel has not."""
    return tuple(
        Lack(
            f"a NIC of it uses {name}, which vhost has since Linux {SINCE[name]}: under {release} "
            "QEMU would refuse its state",
            f"a kernel from {SINCE[name]} on; or shut the guest down for this, and start it there",
        )
        for name in sorted(agreed)
        if is_older(release, SINCE[name])
    )


def without_room(
    free: int | None, guests: Sequence[str], where: str = "the region"
) -> tuple[Lack, ...]:
    """Return whether there is no room for the guests' states; bytes, None: no limit."""
    needed = STATE_BYTES * len(guests)
    if free is None or free >= needed:
        return ()
    return (
        Lack(
            f"{where} has {free >> 20} MiB left, and the states of {len(guests)} guests may "
            f"take {needed >> 20} MiB",
            "a larger region, or fewer guests on it" if where == "the region" else "make room",
        ),
    )


def _files(new: Candidate) -> Iterator[Lack]:
    for path, why in new.unreadable.items():
        yield Lack(f"{path} cannot be read: {why}", "install that kernel, or name another")


def _built(new: Candidate, running_modules: Collection[str]) -> Iterator[Lack]:
    yield from _modules(new, {*_OF_REGION, *_kvm(running_modules)})
    yield from _options(new, _OPTIONS, "so that the region is no memory there")


def _kvm(running_modules: Collection[str]) -> set[str]:
    return {one for one in running_modules if one.startswith("kvm_")}


def _modules(new: Candidate, needed: Collection[str]) -> Iterator[Lack]:
    if new.modules is None:
        yield Lack(
            f"/lib/modules/{new.release} is not there: the new kernel has no modules",
            "install its package as a whole",
        )
    else:
        for name in sorted(set(needed) - new.modules):
            yield Lack(
                f"the new kernel {new.release} has no module {name}",
                "a kernel of the distribution's, with all of its modules",
            )


def _options(new: Candidate, options: Sequence[str], so_that: str) -> Iterator[Lack]:
    for option in options if new.config is not None else ():
        if new.config is not None and new.config.get(option) not in ("y", "m"):
            yield Lack(
                f"the new kernel {new.release} was built without {option}, {so_that}",
                "a kernel of the distribution's" if options is _OPTIONS else "a kernel with it",
            )


def _counter(host: HostFacts, new: Candidate) -> Iterator[Lack]:
    if (new.config or {}).get(_KVM) == "y" and _RATE_STAYS not in host.cpu_flags:
        yield Lack(
            f"{new.release} has KVM built in, and this CPU does not say {_RATE_STAYS}: KVM would "
            "go by a first guess of its counter's rate, and timers of guests end late, or never",
            "another host; in a VM, its CPU model with invtsc; or a kernel with KVM as a module",
        )


def _line(host: HostFacts, new: Candidate) -> Iterator[Lack]:
    line, now = new.command_line, host.command_line
    yield from _length(line)
    if host.enrolled is not None:
        yield from _memory(host.enrolled.region, host.enrolled.argument, line, now)
    yield from _root(host, new)


def _length(line: str) -> Iterator[Lack]:
    if len(line.encode()) > _LONGEST_LINE:
        yield Lack(
            f"the new command line has {len(line.encode())} bytes, and a kernel takes "
            f"{_LONGEST_LINE}",
            "a shorter update.cmdline",
        )


def _root(host: HostFacts, new: Candidate) -> Iterator[Lack]:
    root = next((one for one in words(host.command_line) if one.startswith("root=")), None)
    if root is not None and not any(one.startswith("root=") for one in words(new.command_line)):
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
