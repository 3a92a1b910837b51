"""The lab box without booting one: its image's key, its QEMU's command line, its notes, its way in.

tests/kvm boots it.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.errors import LabError, UsageError
from harness.core.identity import boot_id
from harness.core.process_stat import start_ticks
from harness.lab import images, inputs
from harness.lab.box import machine as boxes
from harness.lab.box import qemu, ssh, state
from harness.lab.box.checkout import PARTS, pack
from harness.lab.images import recipe_key, recipes
from harness.lab.inputs import checkout, inputs_of


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """State and cache of our own."""
    monkeypatch.setenv("HARNESS_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def box(tmp_path) -> state.BoxState:
    """A box's notes; its image is an empty folder, its QEMU nobody's process."""
    state.box_dir().mkdir(parents=True)
    (tmp_path / "image").mkdir()
    return state.BoxState(str(tmp_path / "image"), "tcg", 2, 3072, 2222, boot_id())


@pytest.fixture
def child():
    """A process that waits."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


# -- image


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A recipe ``whole`` that needs a file of the checkout and the image ``part``."""
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "lock").write_text("1")
    for name in ("part", "whole"):
        (tmp_path / "vm-images" / name).mkdir(parents=True)
        build = tmp_path / "vm-images" / name / "build"
        build.write_text(
            f'#!/bin/sh\necho {name} >>"$HARNESS_CACHE_DIR/built"\n'
            'echo "$HARNESS_CHECKOUT $HARNESS_IMAGES" >"$1/kernel"\n'
        )
        build.chmod(0o755)
    folder = tmp_path / "vm-images" / "whole"
    (folder / "inputs").write_text("file lock\nimage part\n")
    found = {name: tmp_path / "vm-images" / name for name in ("part", "whole")}
    monkeypatch.setattr(images, "recipes", lambda: found)
    for module in (images, inputs):
        monkeypatch.setattr(module, "checkout", lambda: tmp_path)
    monkeypatch.setattr(images, "_CONFINED", ())
    return folder


def test_a_file_of_the_checkout_is_part_of_the_key(recipe, tmp_path):
    """Another lock file, another box."""
    before = recipe_key(recipe)
    (tmp_path / "lock").write_text("2")
    assert recipe_key(recipe) != before


def test_an_image_inside_is_part_of_the_key(recipe, tmp_path):
    """Another guest image, another box."""
    before = recipe_key(recipe)
    (tmp_path / "vm-images" / "part" / "init").write_text("new")
    assert recipe_key(recipe) != before


def test_images_inside_are_built_first_and_named_to_the_recipe(recipe, tmp_path):
    """Once each."""
    image = images.ensure("whole", print)
    images.ensure("whole", print)
    assert (tmp_path / "cache" / "built").read_text().split() == ["part", "whole"]
    top, part = image.kernel.read_text().split()
    assert top == str(tmp_path)
    assert Path(part).parent == tmp_path / "cache" / "images"
    assert Path(part).is_dir()


def test_a_line_of_inputs_that_is_neither_is_an_error(recipe):
    """A slip must not silently leave something out of the key."""
    (recipe / "inputs").write_text("fiel lock\n")
    with pytest.raises(LabError, match="neither"):
        recipe_key(recipe)


def test_the_real_recipe_depends_on_what_is_installed_in_the_box():
    """The locked environment, the packages, the guest images."""
    needed = inputs_of(recipes()["labbox"])
    assert {"uv.lock", "scripts/setup"} <= set(needed.files)
    assert set(needed.images) == {"debian", "tiny"}
    assert all((checkout() / name).is_file() for name in needed.files)


# -- QEMU


def test_the_box_listens_on_loopback_only_and_reaches_nobody(box):
    """restrict=on; one forwarded port of 127.0.0.1; no other way in."""
    words = qemu.command(box, Path("/k"), Path("/b"))
    (network,) = [word for word in words if word.startswith("user,")]
    assert network == "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:2222-:22"
    assert not {"-vnc", "-monitor", "-qmp"} & set(words)


@pytest.mark.parametrize(
    ("accelerator", "cpu"), [("kvm", "host"), ("tcg", "max,+svm,+npt,-la57,-erms,-fsrm")]
)
def test_the_guests_in_it_find_virtualisation(box, accelerator, cpu):
    """The CPU passed through, or AMD's SVM with nested paging emulated."""
    words = qemu.command(replace(box, accelerator=accelerator), Path("/k"), Path("/b"))
    assert words[words.index("-cpu") + 1] == cpu


@pytest.mark.parametrize(
    ("said", "accelerator", "cpus"),
    [
        (None, "kvm", 2),
        (None, "tcg", 1),
        (4, "tcg", 4),
    ],
)
def test_an_emulated_box_has_one_cpu_unless_somebody_says(
    said, accelerator, cpus, tmp_path, monkeypatch
):
    """With more of them emulated SVM loses boxes."""
    image = images.Image("labbox", tmp_path / "kernel", tmp_path / "initrd", tmp_path / "disk")
    for part in (image.kernel, image.initrd, image.disk):
        part.touch()
    monkeypatch.setattr(boxes, "ensure", lambda *_: image)
    made = boxes._make(boxes.Size(said), accelerator, print)
    assert made.cpus == cpus


def test_a_folder_with_a_comma_stays_one_value(box):
    """QEMU reads a comma as the next option unless it is doubled."""
    words = qemu.command(box, Path("/k"), Path("/a,id=x"))
    assert any(word.endswith("file=/a,,id=x/disk.qcow2") for word in words)


def test_only_its_very_qemu_is_ended(box, child):
    """A pid that has been given to somebody else is left alone."""
    theirs = replace(box, pid=child.pid, start_ticks=start_ticks(child.pid) - 1)
    qemu.end(theirs)
    assert child.poll() is None
    before_the_boot = replace(box, pid=child.pid, start_ticks=start_ticks(child.pid), boot_id="-")
    qemu.end(before_the_boot)
    assert child.poll() is None
    qemu.end(replace(before_the_boot, boot_id=boot_id()), at_once=True)
    child.wait(5)


# -- notes, keys, way in


def test_notes_are_read_back(box):
    """As they were; nothing where nothing is; an error where they are something else."""
    assert state.load() is None
    state.save(box)
    assert state.load() == box
    (state.box_dir() / "box.json").write_text("{}")
    with pytest.raises(LabError, match="no box's state"):
        state.load()


def test_a_second_box_is_refused_and_the_first_is_left_alone(box, child):
    """One box a state folder."""
    state.save(replace(box, pid=child.pid, start_ticks=start_ticks(child.pid)))
    from harness.core.timebase import Deadline

    with pytest.raises(UsageError, match="up already"):
        boxes.up(boxes.Size(), deadline=Deadline.after(5), progress=print)
    assert child.poll() is None


def test_down_removes_everything_and_can_be_repeated(box, child):
    """QEMU, disk, keys."""
    state.save(replace(box, pid=child.pid, start_ticks=start_ticks(child.pid)))
    boxes.down(print)
    child.wait(5)
    assert not state.box_dir().exists()
    boxes.down(print)


def test_nobody_can_be_reached_without_a_box(box):
    """`ssh` and `cut` say what to do."""
    state.save(box)
    for call in (boxes.running, lambda: boxes.cut(print)):
        with pytest.raises(UsageError, match="no box is up"):
            call()


def test_the_way_in_uses_the_boxs_own_key_and_its_pinned_host_key(box):
    """Nothing of the user's SSH configuration, and never a question."""
    words = ssh.command(box, ["uptime"])
    assert words[:3] == ["ssh", "-F", "/dev/null"]
    assert "StrictHostKeyChecking=yes" in words
    assert f"UserKnownHostsFile={state.known_hosts()}" in words
    assert words[-2:] == ["root@127.0.0.1", "uptime"]


def test_what_the_box_is_given_is_the_checkout_without_its_caches(tmp_path):
    """Owned by root, and no history, environment or bytecode."""
    archive = tmp_path / "checkout.tar"
    pack(checkout(), archive)
    with tarfile.open(archive) as packed:
        members = packed.getmembers()
    names = {member.name for member in members}
    assert {name.partition("/")[0] for name in names} == set(PARTS)
    assert "harness/lab/box/machine.py" in names
    assert not [name for name in names if "__pycache__" in name]
    assert {member.uid for member in members} == {0}


def test_without_a_box_the_command_line_says_so():
    """`status` exits 3, `down` 0."""
    for command, code in (("status", 3), ("down", 0)):
        words = [sys.executable, "-m", "harness", "lab", "box", command]
        assert subprocess.run(words, capture_output=True, timeout=30).returncode == code
