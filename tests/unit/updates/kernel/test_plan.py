"""The thaw plan: what one kernel writes, the next reads; nothing of it is guessed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from harness.core.errors import InfrastructureError
from harness.host.parking import Parking, ProcessIdentity
from harness.updates.kernel.plan import LUO, Preserved, ThawPlan, read

GUEST = Parking(
    name="web 1",
    uuid="uuid-1",
    persistent=True,
    keep="/ram/harness-keep/uuid-1",
    files="/ram/harness-states/uuid-1",
    ram_folder="/ram",
    short_name="web 1",
    ram={"pc.ram": "259:7"},
    commands="/c/uuid-1",
    highest_id=4,
    process=ProcessIdentity(3, 4),
    lasting=True,
)
PLAN = ThawPlan(
    run_id="run-1",
    folder="/state/runs/run-1",
    uri="qemu:///system",
    boot_id="one",
    release="6.12",
    magic="magic\n",
    region_start=1 << 32,
    region_size=1 << 30,
    ram_folder="/ram",
    guests=(GUEST,),
    bridges=("br0",),
    modules=("kvm_amd",),
    known={"a.xml": "<a/>"},
    limit_s=60.0,
)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "new" / "handover"
    PLAN.write(path)
    return path


def test_what_is_written_is_read(file):
    """But for the process of the boot that wrote it; for root alone."""
    assert read(file) == replace(PLAN, guests=(replace(GUEST, process=None),))
    assert file.stat().st_mode & 0o077 == 0


def test_ram_that_is_preserved_is_read_as_it_was_written(file):
    """Each file by its number; half of one is none."""
    one = Preserved("uuid-1", "pc.ram", 1, 1 << 30, 64055, 108)
    plan = replace(PLAN, resident=LUO, session="harness-1", preserved=(one,), ram_options="size=1")
    plan.write(file)
    assert read(file) == replace(plan, guests=(replace(GUEST, process=None),))
    said = json.loads(file.read_text())
    del said["preserved"][0]["size"]
    file.write_text(json.dumps(said))
    with pytest.raises(InfrastructureError, match="is damaged"):
        read(file)


def test_what_a_newer_one_adds_is_ignored_and_what_an_older_one_lacks_has_its_default(file):
    """Fields may be added with a default."""
    said = json.loads(file.read_text())
    said["new"] = 1
    del said["bridges"], said["guests"][0]["lasting"]
    file.write_text(json.dumps(said))
    found = read(file)
    assert (found.bridges, found.guests[0].lasting) == ((), False)


DAMAGE = {
    "version": ("version", 2),
    "no version": ("version", None),
    "a number as text": ("region_start", "4294967296"),
    "truth as a number": ("region_size", True),
    "guests that are none": ("guests", ["web"]),
    "no list": ("guests", {}),
    "words that are none": ("known", {"a": 1}),
    "one bridge": ("bridges", "br0"),
    "no run": ("run_id", ...),
    "no folder": ("folder", None),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_plan_that_is_not_whole_is_refused(file, name):
    """By its name, and without a traceback."""
    key, value = DAMAGE[name]
    said = json.loads(file.read_text())
    if value is ...:
        del said[key]
    else:
        said[key] = value
    file.write_text(json.dumps(said))
    with pytest.raises(InfrastructureError) as refused:
        read(file)
    assert str(file) in refused.value.message
    assert key in refused.value.message or "guests" in key


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"version": 1}'])
def test_what_is_no_plan_is_refused(tmp_path, text):
    """A torn file, for one."""
    path = tmp_path / "handover"
    path.write_text(text)
    with pytest.raises(InfrastructureError):
        read(path)
    with pytest.raises(InfrastructureError, match="No such file"):
        read(tmp_path / "none")


def test_a_guest_without_what_brings_it_back_is_refused(file):
    """Half a guest is none."""
    said = json.loads(file.read_text())
    del said["guests"][0]["ram"]
    file.write_text(json.dumps(said))
    with pytest.raises(InfrastructureError, match="ram"):
        read(file)
