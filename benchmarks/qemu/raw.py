"""Ways that use libvirt: harness, its bare calls with nothing around them, virsh.

*Raw* is the yardstick of harness: the same calls of libvirt, in the same order, from one warm
process. What can be done before the pause is done before it, and what can be done after it, after
it; nothing is journalled, looked for or compared in between.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import libvirt

from benchmarks.compare.contenders import UPDATE_S, libvirt_guests
from benchmarks.qemu.steps import Laps, Pause
from harness.core.timebase import Deadline, Stopwatch
from harness.host import ram_links
from harness.host.driver import LibvirtHypervisor
from harness.host.parker import monitor
from harness.host.parking import NEW, OLD, STATE, Parking
from harness.host.start_commands import StartCommands, capability
from harness.lab.state import lab_dir
from harness.results.journal import read
from harness.updates.qemu.successor import successor
from harness.updates.qemu.swapping import lay_out
from harness.updates.qemu.update import parking_for

EMULATOR = Path("/usr/bin/qemu-system-x86_64")
_PAUSED = libvirt.VIR_DOMAIN_SAVE_PAUSED
_IDS = 64
_IMAGE = "/var/lib/libvirt/images/bench.save"
#: Lines of the journal → the step that has ended there.
_ENDS = {"paused": "pausing", "parked": "parking", "unparked": "unparking", "resumed": "resuming"}
_BEGINS = {"parking": "parking", "unparking": "unparking", "resuming": "resuming"}


def harness(guest: str) -> Pause:
    """A whole ``harness run`` of kind qemu, in the same QEMU, with all its checks."""
    labs = lab_dir() / "harness.toml"
    config = labs.with_name("bench.toml")
    config.write_text(f'{labs.read_text()}\n[update]\nkind = "qemu"\nagain = true\n')
    command = [sys.executable, "-P", "-m", "harness", "run", guest, "-c", str(config)]
    command += ["--allow-backward", "--no-report", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        print(f"harness run ended with {done.returncode}: {done.stderr[-2000:]}", flush=True)
    record = json.loads(done.stdout)
    (told,) = record["guests"]
    journal = lab_dir().parent / "runs" / record["run_id"] / "journal.jsonl"
    return Pause(1000 * told["pause_window_s"], _steps(journal))


def _steps(journal: Path) -> dict[str, float]:
    """What its journal says; pausing is from the last line before the pause."""
    found, begun_ns = {}, {}
    for line in read(journal).lines:
        if line.event == "pausing":
            begun_ns["pausing"] = line.boottime_ns
        if step := _BEGINS.get(line.event):
            begun_ns[step] = line.boottime_ns
        if (step := _ENDS.get(line.event)) and step in begun_ns:
            found[step] = (line.boottime_ns - begun_ns[step]) / 1e6
    return found


def raw(hypervisor: LibvirtHypervisor, connection: libvirt.virConnect, uuid: str) -> Pause:
    """Pause, save, restore, resume: libvirt's calls, and nothing else."""
    look = hypervisor.parking.look(uuid, _soon())
    parking = parking_for(look)
    xml = successor(look.description, EMULATOR, parking.commands)
    lay_out(parking, {NEW: xml, OLD: xml})
    _prepare(parking)
    state = str(Path(parking.files) / STATE)
    domain = connection.lookupByUUIDString(uuid)
    laps = Laps()
    domain.suspend()
    laps.lap("pausing")
    monitor(domain, "migrate-set-capabilities", **capability(on=True))
    if parking.persistent:
        domain.managedSave(_PAUSED)
        domain.managedSaveDefineXML(xml, _PAUSED)
        laps.lap("parking")
        domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
    else:
        domain.saveFlags(state, xml, _PAUSED)
        laps.lap("parking")
        connection.restoreFlags(state, None, _PAUSED)
    domain = connection.lookupByUUIDString(uuid)
    laps.lap("unparking")
    domain.resume()
    laps.lap("resuming")
    hypervisor.parking.unpark(parking, _soon(), new=True)  # it has its QEMU: capability off, tidy
    hypervisor.parking.settle(parking, _soon())
    return laps.pause


def _prepare(parking: Parking) -> None:
    keep, folder = Path(parking.keep), Path(parking.ram_folder)
    (instance,) = [one for one in folder.iterdir() if _is_instance(one, parking)]
    ram_links.hold(keep, instance, parking.ram)
    owner = (keep / ram_links.RAM / next(iter(parking.ram))).stat()
    StartCommands(Path(parking.commands)).arm(owner.st_uid, owner.st_gid)
    ids = range(1, parking.highest_id + _IDS + 1)
    ram_links.offer(keep, folder, parking.short_name, ids, parking.ram)


def _is_instance(folder: Path, parking: Parking) -> bool:
    return folder.name.partition("-")[2] == parking.short_name


def virsh(guest: str) -> Pause:
    """``virsh save`` and ``virsh restore``: RAM is written to a file on a disk, and read in."""
    laps = Laps()
    subprocess.run(["virsh", "--quiet", "save", guest, _IMAGE], check=True, capture_output=True)
    laps.lap("parking")
    subprocess.run(["virsh", "--quiet", "restore", _IMAGE], check=True, capture_output=True)
    laps.lap("unparking")
    Path(_IMAGE).unlink()
    return laps.pause


def by_libvirt_guests(guest: str) -> Pause:
    """libvirt's own script for a host's reboot; the guest is the only one of this host."""
    watch = Stopwatch()
    libvirt_guests([guest])
    return Pause(1000 * (watch.elapsed_s() - UPDATE_S), {})


def _soon() -> Deadline:
    return Deadline.after(60)
