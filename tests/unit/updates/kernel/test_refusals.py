"""Why a host's kernel is not replaced: each reason, alone, with its fix."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from harness.host.luo import facts as luo_facts
from harness.host.luo.abi import Abi
from harness.host.luo.facts import LuoFacts
from harness.host.region.place import GIB, Region, regions
from harness.host.watchdogs import Watchdog
from harness.updates.kernel.candidate import Candidate, look
from harness.updates.kernel.refusals import luo_refusals, others, refusals, without_room
from tests.unit.host.region.test_facts import ARGUMENT, FIT, LINE

KERNEL, INITRD = Path("/boot/vmlinuz-6.12"), Path("/boot/initrd.img-6.12")
CONFIG = {"CONFIG_X86_PMEM_LEGACY": "m", "CONFIG_BLK_DEV_PMEM": "m", "CONFIG_FS_DAX": "y"}
NEW = Candidate(
    release="6.12",
    kernel=KERNEL,
    initrd=INITRD,
    unreadable={},
    modules=frozenset({"nd_e820", "nd_pmem", "kvm_amd", "ext4"}),
    config=CONFIG,
    command_line=LINE,
)
RUNNING = frozenset({"kvm_amd", "kvm", "nd_pmem", "nvme"})
SILENT_S = 130.0
ARMED = Watchdog("watchdog0", "iTCO_wdt", "iTCO_wdt", timeout_s=260, armed=True, outlasts=True)


def test_a_kernel_that_can_take_over_is_not_refused():
    """Also one whose build nobody tells."""
    assert refusals(FIT, NEW, RUNNING, SILENT_S) == ()
    assert refusals(FIT, replace(NEW, config=None), RUNNING, SILENT_S) == ()
    assert (
        refusals(FIT, replace(NEW, command_line=f"{LINE} init=/thaw x=y"), RUNNING, SILENT_S) == ()
    )


@pytest.mark.parametrize(
    ("watchdog", "reasons"),
    [
        (ARMED, []),
        (replace(ARMED, timeout_s=259), ["it waits 259 s for a sign of life, and 260 s"]),
        (replace(ARMED, timeout_s=259, outlasts=None), ["it waits 259 s for a sign of life"]),
        (replace(ARMED, timeout_s=30, armed=False, module="other"), []),
        (replace(ARMED, timeout_s=30, outlasts=False, module="other"), []),
        (replace(ARMED, module="other"), ["the new kernel 6.12 has no module other"]),
        (replace(ARMED, module=""), []),
    ],
)
def test_a_watchdog_must_not_reset_the_host_while_guests_wait(watchdog, reasons):
    """Half of its time may be over when this kernel ends; and the next one has to know it."""
    host = replace(FIT, watchdogs=(watchdog,))
    known = {"iTCO_wdt"}
    new = replace(NEW, modules=NEW.modules | known)
    found = [one.reason for one in refusals(host, new, RUNNING, SILENT_S)]
    assert len(found) == len(reasons)
    assert all(said in one for said, one in zip(reasons, found, strict=True))
    host, new = replace(host, enrolled=None), replace(LUO_NEW, modules=LUO_NEW.modules | known)
    found = [one.reason for one in luo_refusals(host, LUO, new, RUNNING, SILENT_S)]
    assert len(found) == len(reasons)


def without(line: str, word: str) -> str:
    return " ".join(one for one in line.split() if one != word)


@pytest.mark.parametrize(
    ("changed", "reason", "fix"),
    [
        (
            {"command_line": without(LINE, ARGUMENT)},
            "take the RAM of guests for its own: its command line does not set aside 1024 MiB at "
            "0x140000000, it has no memmap=",
            ARGUMENT,
        ),
        (
            {"command_line": LINE.replace(ARGUMENT, "memmap=1G!4G")},
            "it has 1024 MiB at 0x100000000 in its place",
            ARGUMENT,
        ),
        (
            {"command_line": LINE.replace(ARGUMENT, "memmap=512M!5G")},
            "it has 512 MiB at 0x140000000 in its place",
            ARGUMENT,
        ),
        (
            {"command_line": f"{without(LINE, ARGUMENT)} -- {ARGUMENT}"},
            "take the RAM of guests for its own",
            ARGUMENT,
        ),
        ({"command_line": f"{LINE} memmap=1G@5G"}, "has other memory than this one", "order"),
        ({"command_line": f"{LINE} mem=4G"}, "has other memory than this one", "order"),
        ({"command_line": ARGUMENT}, "names no root=", "root=/dev/vda"),
        ({"command_line": f"{LINE} {'x' * 2048}"}, "and a kernel takes 2047", "shorter"),
        (
            {"unreadable": {KERNEL: "No such file"}},
            "vmlinuz-6.12 cannot be read: No such",
            "install",
        ),
        ({"unreadable": {INITRD: "it is empty"}}, "initrd.img-6.12 cannot be read", "install"),
        ({"modules": None}, "/lib/modules/6.12 is not there", "package"),
        ({"modules": NEW.modules - {"nd_pmem"}}, "has no module nd_pmem", "all of its modules"),
        ({"modules": NEW.modules - {"nd_e820"}}, "has no module nd_e820", "all of its modules"),
        ({"modules": NEW.modules - {"kvm_amd"}}, "has no module kvm_amd", "all of its modules"),
        (
            {"config": {**CONFIG, "CONFIG_FS_DAX": "n"}},
            "built without CONFIG_FS_DAX",
            "distribution",
        ),
        (
            {"config": {"CONFIG_FS_DAX": "y", "CONFIG_BLK_DEV_PMEM": "m"}},
            "built without CONFIG_X86_PMEM_LEGACY",
            "distribution",
        ),
    ],
)
def test_each_reason_of_the_new_kernel_is_told_with_its_fix(changed, reason, fix):
    """And no other."""
    (found,) = refusals(FIT, replace(NEW, **changed), RUNNING, SILENT_S)
    assert reason in found.reason
    assert fix in found.fix


def test_what_the_host_lacks_is_a_reason_too():
    """All of it at once, so that a person comes once."""
    host = replace(FIT, rehearsal=None, lockdown="integrity", secure_boot=True)
    found = refusals(host, replace(NEW, modules=None), RUNNING, SILENT_S)
    assert len(found) == 4


@given(
    some.lists(some.sampled_from([ARGUMENT, "memmap=1G!4G", "memmap=1G@5G", "mem=1G", "--", "a"]))
)
def test_no_line_that_differs_in_memory_from_this_one_is_let_through(more):
    """Whatever is made of it: the same region and nothing that takes it back."""
    line = " ".join(["root=/dev/vda", *more])
    if not refusals(FIT, replace(NEW, command_line=line), RUNNING, SILENT_S):
        assert regions(line) == [Region(5 * GIB, GIB)]
        assert more[: more.index("--") if "--" in more else None].count(ARGUMENT) == 1


def test_a_guest_that_is_not_in_the_run_would_end():
    """Each is named, with a command that can be pasted."""
    assert others({"u1": "web1"}, {"u1"}) == ()
    db, odd = others({"u1": "web1", "u3": "x; reboot", "u2": "db"}, {"u1"})
    assert "db is not in the run" in db.reason
    assert "'x; reboot'" in odd.fix


def test_states_need_room_beside_the_ram():
    """A little, but some."""
    assert without_room(None, ["a", "b"]) == ()
    assert without_room(16 << 20, ["a", "b"]) == ()
    (found,) = without_room((16 << 20) - 1, ["a", "b"])
    assert "15 MiB left" in found.reason


def test_a_kernels_files_are_looked_at(tmp_path):
    """Its own name of a module has underscores; its build is told beside it or with its modules."""
    home, kernel, initrd = tmp_path / "modules/6.12", tmp_path / "vmlinuz", tmp_path / "initrd"
    kernel.write_bytes(b"MZ")
    initrd.touch()

    def looked() -> Candidate:
        return look("6.12", kernel, initrd, "quiet", boot=tmp_path, modules=tmp_path / "modules")

    assert looked().modules is None
    assert looked().config is None
    assert looked().unreadable == {initrd: "it is empty"}
    kernel.unlink()
    assert looked().unreadable[kernel] == "No such file or directory"
    home.mkdir(parents=True)
    (home / "modules.dep").write_text(
        "kernel/drivers/nvdimm/nd_pmem.ko.xz: kernel/drivers/nvdimm/nd_btt.ko.xz kernel/x.ko\n"
        "kernel/arch/x86/kvm/kvm-amd.ko: kernel/a/kvm.ko\n"
    )
    (home / "modules.builtin").write_text("kernel/fs/ext4/ext4.ko\n")
    assert looked().modules == {"nd_pmem", "kvm_amd", "ext4"}
    (home / "config").write_text("CONFIG_FS_DAX=y\n# CONFIG_X is not set\n")
    assert looked().config == {"CONFIG_FS_DAX": "y"}
    (tmp_path / "config-6.12").write_text("CONFIG_A=m\n")
    assert looked().config == {"CONFIG_A": "m"}


WORDS = Abi({"kho": "kho-v4", "luo": "luo-v5", "memfd": "memfd-v2"})
LUO = LuoFacts(device=True, running=WORDS, next=WORDS)
LUO_CONFIG = {f"CONFIG_{one}": "y" for one in ("KEXEC_HANDOVER", "LIVEUPDATE", "LIVEUPDATE_MEMFD")}
LUO_LINE = f"{without(LINE, ARGUMENT)} kho=on liveupdate=on"
LUO_NEW = replace(NEW, modules=frozenset({"kvm_amd"}), config=LUO_CONFIG, command_line=LUO_LINE)
NO_REGION = replace(FIT, enrolled=None, set_aside=False)


def test_a_kernel_that_speaks_the_same_words_takes_ram_over_without_a_region():
    """Also one whose build nobody tells, and one that hands memory over without being told to."""
    for new in (
        LUO_NEW,
        replace(LUO_NEW, config=None),
        replace(LUO_NEW, command_line=LUO_LINE.replace("kho=on", "kho=off kho=1")),
        replace(
            LUO_NEW,
            config=LUO_CONFIG | {"CONFIG_KEXEC_HANDOVER_ENABLE_DEFAULT": "y"},
            command_line=without(LUO_LINE, "kho=on"),
        ),
    ):
        assert luo_refusals(NO_REGION, LUO, new, RUNNING, SILENT_S) == ()


@pytest.mark.parametrize(
    ("luo", "new", "reason", "fix"),
    [
        ({"device": False}, {}, "has no /dev/liveupdate", "CONFIG_LIVEUPDATE"),
        (
            {"next": Abi({**WORDS.words, "luo": "luo-v6"})},
            {},
            "6.12 would panic, or lose the RAM: it takes memory over as kho-v4, luo-v6, memfd-v2, "
            "and the kernel that runs hands it over as kho-v4, luo-v5, memfd-v2",
            "ordinary reboot",
        ),
        (
            dict.fromkeys(("running", "next"), Abi({**WORDS.words, "memfd": "memfd-v1"})),
            {},
            "may lose what guests write: as memfd-v1",
            "a kernel of memfd-v2",
        ),
        (
            {"running": None, "why_running": "no file"},
            {},
            "in which words the kernel that runs hands memory over cannot be told: no file",
            "/boot",
        ),
        (
            {"next": None, "why_next": "not known"},
            {},
            "in which words 6.12 takes memory over cannot be told: not known",
            "/boot",
        ),
        (
            {"next": None, "why_next": "lz4 is not installed", "fix_next": "apt install lz4"},
            {},
            "6.12 takes memory over cannot be told: lz4 is not installed",
            "apt install lz4",
        ),
        (
            {"running": Abi({}), "next": Abi({})},
            {},
            "6.12 takes memory over in words that are not known, or not at all (none of them)",
            "CONFIG_LIVEUPDATE",
        ),
        (
            {},
            {"command_line": without(LUO_LINE, "kho=on")},
            "take the RAM of guests for its own: its command line has no kho=on",
            "add kho=on",
        ),
        (
            {},
            {"command_line": f"{LUO_LINE} liveupdate=off"},
            "its command line has no liveupdate=on",
            "add liveupdate=on",
        ),
        (
            {},
            {"config": {**LUO_CONFIG, "CONFIG_LIVEUPDATE_MEMFD": "n"}},
            "built without CONFIG_LIVEUPDATE_MEMFD, so that it takes over no memory",
            "a kernel with it",
        ),
        ({}, {"modules": frozenset({"ext4"})}, "has no module kvm_amd", "all of its modules"),
        ({}, {"command_line": "kho=on liveupdate=on"}, "names no root=", "root=/dev/vda"),
        ({}, {"command_line": f"{LUO_LINE} {'x' * 2048}"}, "a kernel takes 2047", "shorter"),
        ({}, {"unreadable": {KERNEL: "it is empty"}}, "cannot be read", "install"),
    ],
)
def test_a_kernel_that_would_not_take_the_ram_is_refused(luo, new, reason, fix):
    """Each by its own reason, with what helps."""
    found = luo_refusals(NO_REGION, replace(LUO, **luo), replace(LUO_NEW, **new), RUNNING, SILENT_S)
    assert any(reason in one.reason and fix in one.fix for one in found), found


def test_what_keeps_any_kernel_from_being_replaced_keeps_it_here_too():
    """A kexec that was never tried, for one."""
    found = luo_refusals(replace(NO_REGION, rehearsal=None), LUO, LUO_NEW, RUNNING, SILENT_S)
    assert ["never rehearsed" in one.reason for one in found] == [True]


def test_kvm_that_starts_before_the_counters_rate_is_known_is_refused():
    """Guests' timers ended late, or never; a CPU that says that the rate stays has no such KVM."""
    hidden = replace(NO_REGION, cpu_flags=frozenset(), command_line=f"{LINE} tsc=reliable")
    built_in = replace(LUO_NEW, config={**LUO_CONFIG, "CONFIG_KVM": "y"})
    assert luo_refusals(NO_REGION, LUO, built_in, RUNNING, SILENT_S) == ()
    for config in (None, {**LUO_CONFIG, "CONFIG_KVM": "m"}):
        assert luo_refusals(hidden, LUO, replace(LUO_NEW, config=config), RUNNING, SILENT_S) == ()
    (found,) = luo_refusals(hidden, LUO, built_in, RUNNING, SILENT_S)
    assert "6.12 has KVM built in, and this CPU does not say constant_tsc" in found.reason
    assert "invtsc" in found.fix
    on_region = replace(FIT, cpu_flags=frozenset(), command_line=f"{LINE} tsc=reliable")
    (same,) = refusals(
        on_region, replace(NEW, config={**CONFIG, "CONFIG_KVM": "y"}), RUNNING, SILENT_S
    )
    assert same == found


def test_what_two_kernels_say_is_looked_up_in_their_files(tmp_path):
    """What is not there is told as such."""
    found = luo_facts.look(tmp_path / "none", device=tmp_path, boot=tmp_path)
    assert (found.device, found.running, found.next) == (True, None, None)
    assert "vmlinuz-" in found.why_running
    assert "none" in found.why_next
    assert "not at all (none of them)" not in found.why_next


def test_a_program_that_unpacks_the_kernel_is_named_with_how_it_is_installed(tmp_path, monkeypatch):
    """Debian 12 packs its kernels by lz4, and has no lz4."""
    image = bytearray(b"\0" * 0x400 + b"\x02\x21\x4c\x18" + b"\0" * 64)
    image[0x1F1] = 1
    image[0x24C:0x250] = (68).to_bytes(4, "little")
    (tmp_path / "vmlinuz").write_bytes(image)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = luo_facts.look(tmp_path / "vmlinuz", device=tmp_path, boot=tmp_path)
    assert (found.why_next, found.fix_next) == (
        "lz4, by which this kernel is packed, is not installed",
        "apt install lz4",
    )
