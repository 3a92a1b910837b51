"""What keeps the kernel of an enrolled host from being replaced under its guests. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.core.pasteable import command
from harness.host.region.enrolment import Enrolled
from harness.host.region.facts import HostFacts
from harness.host.region.place import of_memory, regions, words
from harness.host.region.rehearsal import Hardware, Rehearsal, changes

#: The counter goes on over a kexec: the host's clock is set by it before a guest runs.
_STEADY = ("constant_tsc", "nonstop_tsc")
#: By which a person tells the kernel that it does so, although the CPU does not say it.
_RELIABLE = "tsc=reliable"
_SHOWN = 3


@dataclass(frozen=True)
class Lack:
    """One thing that is missing."""

    reason: str
    fix: str

    def __str__(self) -> str:
        """``no region is set up (fix: …)``."""
        return f"{self.reason} (fix: {self.fix})"


def lacks(facts: HostFacts) -> tuple[Lack, ...]:
    """Return everything that this host lacks; empty if its kernel can be replaced."""
    return (*lacks_of_memory(facts), *lacks_of_kernel(facts))


def lacks_of_memory(facts: HostFacts) -> tuple[Lack, ...]:
    """Return what is wrong with the region: now, and in the kernels that the host may boot."""
    if facts.enrolled is None:
        return (
            Lack(
                "no memory of this host is set aside for the RAM of guests",
                "harness setup-host --resident SIZE --region, and a reboot",
            ),
        )
    return (*_region(facts, facts.enrolled), *_loader(facts, facts.enrolled))


def lacks_of_kernel(facts: HostFacts) -> tuple[Lack, ...]:
    """Return what of this kernel, CPU and firmware keeps another kernel from being started."""
    return (*unfit_for_kexec(facts), *_clock(facts), *_daemon(facts), *_rehearsed(facts))


def unfit_for_kexec(facts: HostFacts) -> tuple[Lack, ...]:
    """Return what keeps this host from starting a kernel by another at all, or to any use."""
    return tuple(_kernel(facts))


def _region(facts: HostFacts, enrolled: Enrolled) -> Iterator[Lack]:
    if not facts.set_aside:
        given = enrolled.region in regions(facts.command_line)
        yield Lack(
            f"the kernel that runs has not set aside {enrolled.region}"
            + ("" if given else f": its command line has no {enrolled.argument}"),
            "look at dmesg for memmap" if given else "reboot",
        )
    elif not facts.mounted:
        yield _not_mounted(facts, enrolled)
    if facts.folder != enrolled.folder:
        yield Lack(
            f"libvirt keeps RAM in {facts.folder} by now (memory_backing_dir of "
            f"/etc/libvirt/qemu.conf), and the region is for {enrolled.folder}",
            _again(enrolled),
        )


def _not_mounted(facts: HostFacts, enrolled: Enrolled) -> Lack:
    if facts.folder_on is None:
        where = "which does not exist"
    elif facts.folder_on == "dax":
        where = "which is another file system with DAX"
    else:
        where = f"which is on {facts.folder_on}, without DAX"
    unit = command("systemctl", "status", "harness-region.service")
    return Lack(f"the region is not mounted on {facts.folder}, {where}", f"see {unit}; then reboot")


def _again(enrolled: Enrolled) -> str:
    return f"harness setup-host --resident {enrolled.region.size >> 20}M --region, and a reboot"


def _loader(facts: HostFacts, enrolled: Enrolled) -> Iterator[Lack]:
    """The next boot, be it by a panic, must have the region as this one has."""
    loader = facts.loader
    if not loader.as_written:
        yield Lack(f"{loader.file} is not as harness wrote it", _again(enrolled))
    for line in dict.fromkeys(loader.lines or ()):
        if enrolled.region not in regions(line):
            yield Lack(
                "an entry of the boot loader starts a kernel that takes the RAM of guests for its "
                f"own, as it has no {enrolled.argument}: {line!r}",
                "update-grub",
            )
        elif facts.set_aside and of_memory(line) != of_memory(facts.command_line):
            yield Lack(
                "an entry of the boot loader has other memory than the kernel that runs: "
                f"{_words(of_memory(line))}, not {_words(of_memory(facts.command_line))}",
                "reboot, or change it back",
            )


def _words(found: tuple[str, ...]) -> str:
    return " ".join(found) or "all of it"


def _kernel(facts: HostFacts) -> Iterator[Lack]:
    if not facts.kexec:
        yield Lack(
            "the kernel that runs cannot start another one (CONFIG_KEXEC_FILE)",
            "a kernel of the distribution's",
        )
    if facts.kexec_disabled:
        yield Lack(
            "kexec is switched off until the next boot (kernel.kexec_load_disabled is 1)",
            "take it out of /etc/sysctl.d, and reboot",
        )
    if facts.lockdown != "none":
        yield Lack(
            f"the kernel is locked down ({facts.lockdown}), with which this was never tried",
            "no lockdown= in the command line, and Secure Boot off",
        )
    if facts.secure_boot:
        yield Lack(
            "Secure Boot is on, with which this was never tried", "Secure Boot off, in the firmware"
        )


def _clock(facts: HostFacts) -> Iterator[Lack]:
    missing = [flag for flag in _STEADY if flag not in facts.cpu_flags]
    if missing and _RELIABLE not in words(facts.command_line):
        yield Lack(
            f"the CPU has no {' '.join(missing)}: how long a pause took could not be told, and the "
            "host's clock, by which guests' are set, would be wrong by up to a second",
            f"another host; in a VM, its CPU model with invtsc; or {_RELIABLE} for the kernel, "
            "if you know that its counter goes on at one pace",
        )


def _daemon(facts: HostFacts) -> Iterator[Lack]:
    """The program that brings guests back starts a libvirtd, before any of systemd's."""
    if facts.virtqemud:
        yield Lack(
            "virtqemud has the guests, with which this was never tried",
            "libvirtd in its place: libvirt.org/daemons.html, switching to monolithic",
        )
    elif not facts.libvirtd:
        yield Lack(
            "there is no libvirtd to bring guests back", "install it; Debian's libvirt-daemon"
        )


def _rehearsed(facts: HostFacts) -> Iterator[Lack]:
    fix = "harness setup-host --rehearse-kexec, with no guest running"
    if facts.begun is not None:
        yield Lack(
            f"a kexec was rehearsed ({facts.begun.at}), and the kernel did not come up by it",
            f"look at the host's console log; then {fix}",
        )
    elif facts.rehearsal is None:
        yield Lack("a kexec of this host was never rehearsed", fix)
    else:
        yield from _changed(facts.rehearsal, facts.hardware, fix)


def _changed(before: Rehearsal, now: Hardware, fix: str) -> Iterator[Lack]:
    found = list(changes(before.hardware, now))
    if found:
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        yield Lack(
            f"hardware or firmware has changed since a kexec was rehearsed ({before.at}): "
            f"{'; '.join(found[:_SHOWN])}{more}",
            fix,
        )
