"""What a lab is made of: descriptions, seeds, image keys and notes. Names are data in all of them.

No guest is booted here; tests/guest/test_lab.py does that.
"""

from __future__ import annotations

import fcntl
import gzip
import io
import ipaddress
import json
import os
import platform
import shutil
import stat
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from xml.etree import ElementTree

import libvirt
import pycdlib
import pytest

from harness.cli.main import run_command_line
from harness.core import config
from harness.core.errors import LabError, UsageError
from harness.core.timebase import Deadline
from harness.host import facts
from harness.host.lock import host_lock
from harness.host.provision import Provisioner
from harness.lab import files, guests, images, state
from harness.lab.daemon import Daemon
from harness.lab.domain import BootFiles, domain_xml
from harness.lab.images import ensure, recipe_key, recipes
from harness.lab.keys import new_key
from harness.lab.network import destinations, free_subnet, host_address, network_xml
from harness.lab.seed import CLOUD_USER, Seed, append_to_initrd, cloud_files, write_cloud_iso
from harness.lab.specs import MOST_GUESTS, GuestSpec, default_specs
from harness.lab.state import LabGuest, LabState
from harness.lab.wait_ssh import wait_for_ssh
from harness.testing.clock import FakeClock
from harness.updates.registry import FULL_CONFIG

HOSTILE = [
    "a; touch x",
    "<&>\"'",
    "$(touch x)`touch x`",
    "]]></name><name>b",
    "../../../etc/passwd",
    "-c",
    "name = 1 # [guest]",
    "ünïcödé \N{SNOWMAN} \N{PILE OF POO}",
]
NET = ipaddress.IPv4Network


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """State and cache of our own."""
    monkeypatch.setenv("HARNESS_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


# -- guests

DIRECT = BootFiles(Path("/run/0.log"), kernel=Path("/k"), initrd=Path("/i"))
CLOUD = BootFiles(Path("/run/0.log"), disk=Path("/d.qcow2"), seed=Path("/seed.iso"))


def tree(spec: GuestSpec, boot: BootFiles = DIRECT, accelerator: str = "tcg"):
    return ElementTree.fromstring(domain_xml(spec, boot, "net", accelerator))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_comes_out_of_the_description_as_it_went_in(name):
    """Name, labels and paths; and there is not one element more than of a harmless name."""
    spec = GuestSpec(name, "tiny", update_domain=name, availability_set=name)
    boot = BootFiles(Path("/run") / name, kernel=Path("/k") / name, initrd=Path("/i") / name)
    root, plain = tree(spec, boot), tree(GuestSpec("web1", "tiny"))
    assert [e.tag for e in root.iter()] == [e.tag for e in plain.iter()]
    assert root.findtext("name") == name
    assert root.findtext("os/kernel") == str(boot.kernel)
    assert root.find("devices/serial/source").get("path") == str(boot.serial_log)
    label = root.find(f"metadata/{{{facts.MAINTENANCE_NAMESPACE}}}maintenance")
    assert label.attrib == {"update-domain": name, "availability-set": name}


def test_the_driver_reads_from_a_description_what_the_lab_wrote():
    """Labels, RTC track, accelerator, size and MAC: both ends of one format."""

    class Domain:
        state = staticmethod(lambda: (libvirt.VIR_DOMAIN_RUNNING, 1))
        XMLDesc = staticmethod(lambda: domain_xml(spec, DIRECT, "net", "tcg"))
        name = staticmethod(lambda: spec.name)
        UUIDString = staticmethod(lambda: spec.uuid)
        maxMemory = staticmethod(lambda: spec.memory * 1024)

    spec = GuestSpec(HOSTILE[1], "tiny", update_domain="7", rtc_track="guest")
    info = facts.guest_info(Domain)
    assert (info.update_domain, info.availability_set) == ("7", "lab")
    assert (info.rtc_track, info.accelerator, info.vcpus) == ("guest", "tcg", 1)
    assert (info.memory_bytes, info.macs) == (128 << 20, (spec.mac,))


def test_a_guest_without_an_availability_set_has_no_such_label():
    """None is not a set called None."""
    root = tree(GuestSpec("web1", "tiny", availability_set=None))
    label = root.find(f"metadata/{{{facts.MAINTENANCE_NAMESPACE}}}maintenance")
    assert label.attrib == {"update-domain": "0"}


def test_a_guest_has_its_own_uuid_and_the_labs_network():
    """By its UUID it is found and removed again, and nobody else's guest."""
    spec = GuestSpec("web1", "tiny")
    root = tree(spec)
    assert root.findtext("uuid") == spec.uuid
    interfaces = root.findall("devices/interface")
    assert [i.get("type") for i in interfaces] == ["network"]
    assert interfaces[0].find("source").attrib == {"network": "net"}


def test_a_guest_is_destroyed_by_whatever_ends_it():
    """A lab guest never comes back by itself under another RAM."""
    root = tree(GuestSpec("web1", "tiny"))
    ends = [root.findtext(event) for event in ("on_poweroff", "on_reboot", "on_crash")]
    assert ends == ["destroy"] * 3


@pytest.mark.parametrize(("accelerator", "kind", "cpu"), [("kvm", "kvm", 1), ("tcg", "qemu", 0)])
def test_the_accelerator_chooses_type_and_cpu(accelerator, kind, cpu):
    """The host's CPU can only be passed through by KVM."""
    root = tree(GuestSpec("web1", "tiny"), accelerator=accelerator)
    assert (root.get("type"), len(root.findall("cpu"))) == (kind, cpu)


@pytest.mark.parametrize(("accelerator", "mode"), [("kvm", "host-passthrough"), ("tcg", "maximum")])
def test_a_cloud_image_gets_all_a_cpu_can(accelerator, mode):
    """QEMU's default has no x86-64-v2, without which RHEL 9's glibc ends."""
    root = tree(GuestSpec("web1", "x.qcow2"), CLOUD, accelerator)
    assert root.find("cpu").get("mode") == mode


def test_a_cloud_image_boots_from_its_disk_with_a_seed():
    """No kernel is given to it; all it needs a driver for is virtio; the seed is read-only."""
    root = tree(GuestSpec("web1", "x.qcow2"), CLOUD)
    assert root.find("os/kernel") is None
    disk, seed = root.findall("devices/disk")
    assert [d.find("source").get("file") for d in (disk, seed)] == ["/d.qcow2", "/seed.iso"]
    assert [d.find("target").attrib for d in (disk, seed)] == [
        {"dev": "vda", "bus": "virtio"},
        {"dev": "vdb", "bus": "virtio"},
    ]
    assert seed.find("readonly") is not None
    assert disk.find("readonly") is None
    assert [d.find("driver").get("type") for d in (disk, seed)] == ["qcow2", "raw"]


def test_guests_are_spread_over_update_domains_in_turn():
    """And every one has its own name, UUID and MAC."""
    specs = default_specs(5, "tiny", update_domains=2)
    assert [spec.name for spec in specs] == ["lab-1", "lab-2", "lab-3", "lab-4", "lab-5"]
    assert [spec.update_domain for spec in specs] == ["0", "1", "0", "1", "0"]
    assert len({spec.uuid for spec in specs}) == len({spec.mac for spec in specs}) == 5


def test_a_mac_is_a_unicast_address_of_qemus():
    """Locally administered, so it is nobody's."""
    first, *rest = (int(byte, 16) for byte in GuestSpec("a", "tiny").mac.split(":"))
    assert (first & 0b11, len(rest)) == (0b10, 5)


@pytest.mark.parametrize("count", [-1, 0, MOST_GUESTS + 1])
def test_a_lab_of_no_guests_or_too_many_is_refused(count):
    """Before anything is made."""
    with pytest.raises(UsageError, match=f"{count} guests; a lab has 1 to {MOST_GUESTS}"):
        default_specs(count, "tiny")
    assert [len(default_specs(number, "tiny")) for number in (1, MOST_GUESTS)] == [1, MOST_GUESTS]


@pytest.mark.parametrize(
    ("image", "mib", "memory"),
    [("tiny", None, 128), ("debian", None, 512), ("x.qcow2", None, 1024), ("tiny", 99, 99)],
)
def test_memory_follows_the_image_unless_it_is_given(image, mib, memory):
    """In MiB, and it says so in the description."""
    spec = GuestSpec("a", image, memory_mib=mib)
    found = tree(spec).find("memory")
    assert (spec.memory, found.get("unit"), found.text) == (memory, "MiB", str(memory))


class Host:
    """A Provisioner that has these guests."""

    def __init__(self, *names: str) -> None:
        self.guest_names = lambda: set(names)


@pytest.mark.parametrize(
    ("wanted", "taken"), [(["a", "b"], ["b", "c"]), (["a", "a"], []), (HOSTILE[:2], HOSTILE[1:2])]
)
def test_a_name_that_is_taken_is_refused(wanted, taken):
    """By somebody's guest, or twice by the same lab: it is never replaced."""
    specs = [GuestSpec(name, "tiny") for name in wanted]
    with pytest.raises(UsageError) as caught:
        guests._refuse_taken_names(cast(Any, Host(*taken)), specs)
    assert "already a guest called" in str(caught.value)
    assert wanted[-1] in str(caught.value)
    assert caught.value.exit_code == 2
    guests._refuse_taken_names(cast(Any, Host("other", "A")), [GuestSpec("a", "tiny")])


# -- network


def test_the_network_forwards_nothing_and_knows_every_guest():
    """No <forward>: no packet leaves. A MAC has its address before it boots."""
    hosts = {"52:54:00:00:00:01": "192.168.160.10", "52:54:00:00:00:02": "192.168.160.11"}
    root = ElementTree.fromstring(network_xml("n", "hl1", NET("192.168.160.0/24"), hosts))
    assert (root.findtext("name"), root.find("bridge").get("name")) == ("n", "hl1")
    assert root.find("forward") is None
    assert (root.find("ip").get("address"), root.find("ip").get("prefix")) == (
        "192.168.160.1",
        "24",
    )
    assert {h.get("mac"): h.get("ip") for h in root.iterfind("ip/dhcp/host")} == hosts


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_network_name_is_data_too(name):
    """Nothing is added to the description."""
    described = network_xml(name, name, NET("10.0.0.0/24"), {name: name}, metadata=False)
    root = ElementTree.fromstring(described)
    assert [e.tag for e in root.iter()] == [
        "network",
        "name",
        "bridge",
        "ip",
        "dhcp",
        *("range", "host"),
    ]
    assert (root.findtext("name"), root.find("bridge").get("name")) == (name, name)


def test_the_bridge_carries_the_metadata_address_and_dhcp_tells_the_way_there():
    """Lab guests have no default route."""
    root = ElementTree.fromstring(network_xml("n", "b", NET("10.0.0.0/24"), {}))
    found = [(ip.get("address"), ip.get("prefix")) for ip in root.iterfind("ip")]
    assert found == [("10.0.0.1", "24"), ("169.254.169.254", "32")]
    assert 'value="dhcp-option=121,169.254.169.254/32,10.0.0.1"' in ElementTree.tostring(
        root, encoding="unicode"
    )


def test_every_guest_has_an_address_within_the_range():
    """The last one too; none is the host's own."""
    subnet = NET("192.168.160.0/24")
    root = ElementTree.fromstring(network_xml("n", "b", subnet, {}))
    span = root.find("ip/dhcp/range")
    addresses = [host_address(subnet, number) for number in range(MOST_GUESTS)]
    assert len(set(addresses)) == MOST_GUESTS
    low, high = (ipaddress.IPv4Address(span.get(end)) for end in ("start", "end"))
    assert all(low <= ipaddress.IPv4Address(address) <= high for address in addresses)
    assert str(subnet[1]) not in addresses


@pytest.mark.parametrize(
    ("taken", "free"),
    [
        ([], "192.168.160.0/24"),
        (["192.168.160.0/24"], "192.168.161.0/24"),
        (["192.168.160.128/25", "192.168.162.7/32"], "192.168.161.0/24"),
        (["192.168.160.0/22"], "192.168.164.0/24"),
        (["10.0.0.0/8", "172.16.0.0/12"], "192.168.160.0/24"),
    ],
)
def test_the_first_subnet_that_overlaps_nothing_is_taken(taken, free):
    """Larger and smaller neighbours count."""
    assert free_subnet(map(NET, taken)) == NET(free)


@pytest.mark.parametrize("all_of_it", ["192.168.0.0/16", "0.0.0.0/0", "192.168.160.0/19"])
def test_no_free_subnet_is_an_error(all_of_it):
    """Nobody's network is overlaid."""
    with pytest.raises(LabError, match="no free /24"):
        free_subnet([NET(all_of_it)])


def test_routes_are_read_as_ip_prints_them():
    """Single addresses and networks count, the default route does not."""
    routes = [
        {"dst": "default", "gateway": "10.0.0.1"},
        {"dst": "10.0.0.0/24", "dev": "eth0"},
        {"dst": "192.168.7.9", "dev": "wg0"},
        {"type": "blackhole", "dst": "172.16.0.0/12"},
        {},
    ]
    assert destinations(routes) == [
        NET("10.0.0.0/24"),
        NET("192.168.7.9/32"),
        NET("172.16.0.0/12"),
    ]


# -- seeds


@pytest.fixture(scope="module")
def seed():
    """One guest's identity."""
    return Seed("web1", new_key(), new_key().public)


def unpack(archive: bytes) -> dict[str, tuple[int, int, bytes]]:
    """A cpio archive in the kernel's format: name → mode, uid, content."""
    found: dict[str, tuple[int, int, bytes]] = {}
    at = 0
    while True:
        assert archive[at : at + 6] == b"070701"
        header = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        name = archive[at + 110 : at + 110 + header[11] - 1].decode()
        start = (at + 110 + header[11] + 3) & ~3
        if name == "TRAILER!!!":
            return found
        found[name] = (header[1], header[2], archive[start : start + header[6]])
        at = (start + header[6] + 3) & ~3


@pytest.mark.skipif(shutil.which("cpio") is None, reason="cpio is not installed")
def test_a_seed_is_appended_to_the_initrd(tmp_path, seed):
    """The image's own archive is not changed; the second holds the keys, owned by root."""
    (tmp_path / "initrd").write_bytes(b"the image's own")
    append_to_initrd(tmp_path / "initrd", seed, tmp_path / "made")
    made = (tmp_path / "made").read_bytes()
    assert made.startswith(b"the image's own")
    found = unpack(gzip.decompress(made.removeprefix(b"the image's own")))
    assert stat.S_ISDIR(found["seed"][0])
    assert {name: content.decode() for name, (_, _, content) in found.items() if content} == {
        "seed/hostname": "web1\n",
        "seed/ssh_host_ed25519_key": seed.host_key.private,
        "seed/authorized_keys": seed.authorized_key + "\n",
    }
    assert {uid for _, uid, _ in found.values()} == {0}


def test_no_cpio_is_an_error_of_the_lab(tmp_path, seed, monkeypatch):
    """Not a traceback."""
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "initrd").touch()
    with pytest.raises(LabError, match="cpio"):
        append_to_initrd(tmp_path / "initrd", seed, tmp_path / "made")


def test_a_cloud_image_is_told_its_keys(seed):
    """As JSON, which is YAML, after the line that cloud-init looks for."""
    found = cloud_files(seed)
    first, _, rest = found["user-data"].partition("\n")
    user_data, meta_data = json.loads(rest), json.loads(found["meta-data"])
    assert first == "#cloud-config"
    assert user_data["ssh_keys"] == {
        "ed25519_private": seed.host_key.private,
        "ed25519_public": seed.host_key.public,
    }
    assert user_data["ssh_deletekeys"], "no key of the image's own stays beside ours"
    users = [{"name": CLOUD_USER, "ssh_authorized_keys": [seed.authorized_key]}]
    assert (user_data["users"], user_data["disable_root"]) == (users, False)
    assert meta_data == {"instance-id": "web1", "local-hostname": "web1"}


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_cloud_image_is_told_is_data(seed, text):
    """A host name or key of several lines adds no key to the document."""
    hostile = replace(seed, hostname=f"{text}\nruncmd: [x]", authorized_key=f"{text}\nruncmd: [x]")
    found = cloud_files(hostile)
    user_data = json.loads(found["user-data"].partition("\n")[2])
    assert user_data.keys() == json.loads(cloud_files(seed)["user-data"].partition("\n")[2]).keys()
    assert user_data["users"][0]["ssh_authorized_keys"] == [hostile.authorized_key]
    assert json.loads(found["meta-data"])["local-hostname"] == hostile.hostname


def test_the_seed_iso_is_what_cloud_init_looks_for(tmp_path, seed):
    """Labelled ``cidata``, with both files under their whole names."""
    write_cloud_iso(seed, tmp_path / "seed.iso")
    iso = pycdlib.PyCdlib()
    iso.open(str(tmp_path / "seed.iso"))
    try:
        assert iso.pvd.volume_identifier.decode().strip() == "cidata"
        for name, text in cloud_files(seed).items():
            for place in ({"rr_path": f"/{name}"}, {"joliet_path": f"/{name}"}):
                content = io.BytesIO()
                iso.get_file_from_iso_fp(content, **place)
                assert content.getvalue().decode() == text
    finally:
        iso.close()


@pytest.mark.parametrize("name", [*HOSTILE, "", "-", "a" * 200, "web 1.example", "\n"])
def test_a_host_name_is_made_of_any_guest_name(name):
    """Letters, digits and dashes, as long as the kernel takes; and there always is one."""
    hostname = files._seed(GuestSpec(name, "tiny"), new_key(), new_key()).hostname
    assert 1 <= len(hostname) <= 63
    assert all(c.isascii() and (c.isalnum() or c == "-") for c in hostname)
    assert hostname[0] != "-"


def test_every_key_is_new_and_one_line(seed):
    """Two labs have no key in common."""
    first, second = new_key(), new_key()
    assert first.private != second.private
    assert first.public != second.public
    assert first.public.startswith("ssh-ed25519 ")
    assert "\n" not in first.public
    assert first.private.startswith("-----BEGIN OPENSSH PRIVATE KEY-----")


# -- images


@pytest.fixture
def recipe(tmp_path):
    """A recipe of two files and a README."""
    folder = tmp_path / "recipe"
    (folder / "etc").mkdir(parents=True)
    (folder / "build").write_text("#!/bin/sh\n")
    (folder / "build").chmod(0o755)
    (folder / "etc" / "init").write_text("exec sshd\n")
    (folder / "README.md").write_text("what it is\n")
    return folder


def _change(recipe: Path) -> None:
    (recipe / "etc" / "init").write_text("exec sshd -D\n")


def _empty(recipe: Path) -> None:
    (recipe / "etc" / "init").write_text("")


def _make_executable(recipe: Path) -> None:
    (recipe / "etc" / "init").chmod(0o755)


def _add(recipe: Path) -> None:
    (recipe / "new").touch()


def _remove(recipe: Path) -> None:
    (recipe / "etc" / "init").unlink()


def _rename(recipe: Path) -> None:
    (recipe / "etc" / "init").rename(recipe / "etc" / "run")


def _move(recipe: Path) -> None:
    (recipe / "etc" / "init").rename(recipe / "init")


def _swap(recipe: Path) -> None:
    build, init = recipe / "build", recipe / "etc" / "init"
    texts = build.read_text(), init.read_text()
    init.write_text(texts[0])
    build.write_text(texts[1])


@pytest.mark.parametrize(
    "change", [_change, _empty, _make_executable, _add, _remove, _rename, _move, _swap]
)
def test_a_recipe_that_changes_is_built_anew(recipe, change):
    """Content, executable bit, name and place of every file count."""
    before = recipe_key(recipe)
    change(recipe)
    assert recipe_key(recipe) != before


def test_a_recipe_that_only_says_something_else_is_not_built_anew(recipe, tmp_path):
    """README, time stamps and the place of the whole folder make no difference."""
    before = recipe_key(recipe)
    (recipe / "README.md").write_text("something else\n")
    (recipe / "etc" / "empty").mkdir()
    (recipe / "build").touch()
    assert recipe_key(recipe) == before
    assert recipe_key(shutil.copytree(recipe, tmp_path / "elsewhere")) == before


def test_what_is_no_plain_file_is_no_part_of_a_recipe(recipe):
    """A pipe would be read for ever."""
    before = recipe_key(recipe)
    os.mkfifo(recipe / "pipe")
    assert recipe_key(recipe) == before


def test_another_kind_of_machine_needs_another_image(recipe, monkeypatch):
    """A cache that is shared between machines is not mixed up."""
    before = recipe_key(recipe)
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert recipe_key(recipe) != before


def test_every_recipe_of_ours_is_found_and_has_a_key_of_its_own():
    """Each is a folder with an executable ``build``."""
    found = recipes()
    assert {"tiny", "debian"} <= set(found)
    assert len({recipe_key(folder) for folder in found.values()}) == len(found)


@pytest.mark.parametrize("name", ["", "tinny", "..", "/", "../vm-images/tiny", *HOSTILE])
def test_an_unknown_image_is_refused_and_the_known_are_named(name, folders):
    """A name is looked up and never made into a path."""
    with pytest.raises(UsageError, match="images: .*tiny") as caught:
        ensure(name, lambda line: None)
    assert (repr(name) in str(caught.value), caught.value.exit_code) == (True, 2)
    assert not (folders / "cache").exists()


def test_an_image_that_was_built_is_not_built_again(recipe, folders, monkeypatch):
    """What is in the cache under the recipe's key is taken as it is."""
    monkeypatch.setattr(images, "recipes", lambda: {"small": recipe})
    folder = folders / "cache" / "images" / f"small-{recipe_key(recipe)}"
    folder.mkdir(parents=True)
    (folder / "kernel").touch()
    found = ensure("small", pytest.fail)
    assert (found.kernel, found.initrd, found.disk) == (folder / "kernel", None, None)


def test_a_build_that_fails_leaves_nothing_and_shows_its_last_words(recipe, folders, monkeypatch):
    """The next attempt starts afresh, and no half-built image is ever taken for a whole one."""
    monkeypatch.setattr(images, "recipes", lambda: {"small": recipe})
    monkeypatch.setattr(images, "_CONFINED", ())
    script = 'for n in 1 2 3 4; do echo "line $n"; done\ntouch "$1/kernel"\nexit 7\n'
    (recipe / "build").write_text(f"#!/bin/sh\n{script}")
    with pytest.raises(LabError, match="status 7: line 2 / line 3 / line 4"):
        ensure("small", lambda line: None)
    assert [path.name for path in (folders / "cache" / "images").iterdir()] == [".lock"]


def test_a_build_that_works_is_there_under_its_key(recipe, folders, monkeypatch):
    """Leftovers of a build that was cut off are cleared away; its output may be any bytes."""
    monkeypatch.setattr(images, "recipes", lambda: {"small": recipe})
    monkeypatch.setattr(images, "_CONFINED", ())
    script = '[ "$TMPDIR" = "$1" ]\necho working\nprintf "\\377\\n"\necho new >"$1/disk.img"\n'
    (recipe / "build").write_text(f"#!/bin/sh -e\n{script}")
    key = recipe_key(recipe)
    left = folders / "cache" / "images" / f".small-{key}.building"
    left.mkdir(parents=True)
    (left / "kernel").touch()
    said: list[str] = []
    found = ensure("small", said.append)
    assert (found.kernel, found.disk.read_text()) == (None, "new\n")
    assert found.disk.parent.name == f"small-{key}"
    assert {"  small: working", "  small: \N{REPLACEMENT CHARACTER}"} <= set(said)
    assert not left.exists()


def test_nobody_else_builds_while_one_builds(recipe, folders, monkeypatch):
    """Two runs that need the same image do not build it into the same folder."""
    monkeypatch.setattr(images, "recipes", lambda: {"small": recipe})
    monkeypatch.setattr(images, "_CONFINED", ())
    (recipe / "build").write_text("#!/bin/sh\necho working\n")
    refused = []

    def try_to_build(line: str) -> None:
        with open(folders / "cache" / "images" / ".lock") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                refused.append(line)

    ensure("small", try_to_build)
    assert "  small: working" in refused


# -- notes

STATE = LabState(
    lab_id="abc",
    uri="qemu:///system",
    accelerator="tcg",
    network="harness-lab-abc",
    run_dir="/nonexistent/harness-lab-abc",
    place="boot net:[1]",
    daemons=(Daemon("libvirtd", 42, 777),),
)


def with_guests(*names: str) -> LabState:
    guests = tuple(
        LabGuest(name, f"uuid-{n}", f"192.168.160.{10 + n}", "tiny", name, name, f"/{n}.log")
        for n, name in enumerate(names)
    )
    return replace(STATE, guests=guests)


def test_a_lab_is_found_again_as_it_was_written_down():
    """With all its guests and daemons, whatever they are called; only its owner may look."""
    written = with_guests(*HOSTILE)
    state.save(written)
    assert state.load() == written
    assert stat.S_IMODE(state.lab_dir().stat().st_mode) == 0o700


def test_down_says_whose_run_loses_its_guests(tmp_path, monkeypatch, capsys):
    """Such as one that `harness hold` has left in the background; a lab in no use is just gone."""
    monkeypatch.setenv("HARNESS_LOCK_DIR", str(tmp_path))
    lab = replace(STATE, uri="qemu+unix:///system?socket=/nonexistent/sock", daemons=())
    state.save(lab)
    with host_lock(lab.uri, "maintenance of tiny-1", "20260101T000000Z-aaaaaa"):
        assert run_command_line(["lab", "down"]) == 0
    said = capsys.readouterr().err
    assert "warning: the lab is removed while it is in use: " in said
    assert "maintenance of tiny-1, run 20260101T000000Z-aaaaaa" in said
    assert f"(pid {os.getpid()})" in said
    assert state.load() is None
    state.save(lab)
    assert run_command_line(["lab", "down"]) == 0
    assert "in use" not in capsys.readouterr().err


def test_no_notes_are_no_lab():
    """None, and after ``forget`` none again; forgetting twice is fine."""
    assert state.load() is None
    state.save(STATE)
    state.forget()
    state.forget()
    assert state.load() is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "{}",
        "[]",
        "null",
        "7",
        '"lab"',
        "\xff",
        '{"guests": [], "daemons": []}',
        '{"guests": 3, "daemons": []}',
        '{"guests": [{"name": "a"}], "daemons": []}',
        '{"guests": ["a"], "daemons": []}',
    ],
)
def test_notes_that_are_damaged_are_an_error_and_not_no_lab(text):
    """Something may still be running; the message names the file."""
    state.save(STATE)
    (state.lab_dir() / "lab.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(LabError, match=r"lab\.json is no lab's state"):
        state.load()


def test_notes_of_another_version_are_an_error():
    """A key that is unknown, or one that is missing."""
    state.save(STATE)
    file = state.lab_dir() / "lab.json"
    written = json.loads(file.read_text())
    for changed in ({**written, "new": 1}, {k: v for k, v in written.items() if k != "uri"}):
        file.write_text(json.dumps(changed))
        with pytest.raises(LabError, match="another version"):
            state.load()


@pytest.mark.parametrize("name", HOSTILE)
def test_the_labs_configuration_is_one_for_harness(name):
    """Every guest under its own name, with its labels and address, and nothing else."""
    lab_state = with_guests(name, "plain")
    state.save(lab_state)
    state.write_config(lab_state)
    loaded = config.load(lab_state.config_file, environment={}, flags={}, model=FULL_CONFIG).config
    assert loaded.uri == "qemu:///system"
    assert [guest.name for guest in loaded.guest] == [name, "plain"]
    first = loaded.for_guest(name)
    assert (first.address, first.update_domain) == ("192.168.160.10", name)
    assert first.availability_set == name
    assert loaded.ssh.identity_file == lab_state.identity_file
    assert loaded.ssh.known_hosts == lab_state.known_hosts


def test_a_guest_without_an_availability_set_is_configured_without():
    """TOML has no null."""
    guest = replace(with_guests("a").guests[0], availability_set=None)
    lab_state = replace(STATE, guests=(guest,))
    state.save(lab_state)
    state.write_config(lab_state)
    loaded = config.load(lab_state.config_file, environment={}, flags={}, model=FULL_CONFIG).config
    assert loaded.guest[0].availability_set is None


def test_the_configuration_is_only_used_while_the_lab_is_up():
    """A file without a lab leads nowhere."""
    state.save(STATE)
    assert state.lab_config_file() is None
    state.write_config(STATE)
    assert state.lab_config_file() == STATE.config_file
    (state.lab_dir() / "lab.json").unlink()
    assert state.lab_config_file() is None


def test_keys_are_kept_for_their_owner_and_hosts_by_address():
    """A host key is pinned to an address; names of guests are not in it."""
    state.save(STATE)
    state.write_keys(STATE, "PRIVATE\n", [("192.168.160.10", "ssh-ed25519 AAAA")])
    assert stat.S_IMODE(STATE.identity_file.stat().st_mode) == 0o600
    assert STATE.identity_file.read_text() == "PRIVATE\n"
    assert STATE.known_hosts.read_text() == "192.168.160.10 ssh-ed25519 AAAA\n"


def test_only_one_harness_at_a_time_brings_a_lab_up():
    """The lock is seen by everybody, and is free again afterwards, also after a failure."""
    assert not state.is_held()
    with pytest.raises(ZeroDivisionError), state.claimed():
        assert state.is_held()
        with pytest.raises(UsageError, match="another harness"), state.claimed():
            pytest.fail("claimed twice")
        assert state.is_held(), "asking does not take it away"
        raise ZeroDivisionError
    assert not state.is_held()


def test_a_lab_of_another_boot_is_dead():
    """Nothing of it can be running: its notes are removed, and those of a live one are not."""
    here = replace(STATE, place=state.this_place())
    state.save(here)
    assert guests.existing() == here
    assert state.same_boot(here.place)
    state.save(STATE)
    assert not state.same_boot(STATE.place)
    assert guests.existing() is None
    assert state.load() is None


@pytest.mark.parametrize(
    ("there", "answers", "alive"),
    [("uuid-1", True, True), ("other", True, False), ("", False, False)],
)
def test_a_lab_whose_guests_were_handed_over_to_this_boot_lives(monkeypatch, there, answers, alive):
    """To another kernel of the host: they run, and it is still the one to take down."""
    known = SimpleNamespace(is_there=lambda uuid: uuid == there)
    monkeypatch.setattr("harness.lab.daemon.answers", lambda uri: answers)
    monkeypatch.setattr(Provisioner, "open", lambda uri: nullcontext(known))
    lab = replace(with_guests("a", "b"), daemons=(), borrowed=True)
    state.save(lab)
    here = replace(lab, place=state.this_place()) if alive else None
    assert guests.existing() == here
    assert state.load() == here


@pytest.mark.parametrize("borrowed", [True, False])
def test_a_lab_of_another_namespace_is_left_alone_while_it_may_live(borrowed):
    """Its libvirtd holds the lock; of one on a borrowed libvirtd nobody can tell."""
    elsewhere = replace(STATE, place=f"{state.this_place().split()[0]} net:[1]", borrowed=borrowed)
    state.save(elsewhere)
    with state.claimed(), pytest.raises(LabError, match="another namespace"):
        guests.existing()
    if borrowed:
        with pytest.raises(LabError, match="another namespace"):
            guests.existing()
        assert state.load() == elsewhere
    else:
        assert guests.existing() is None
        assert state.load() is None


def test_a_guest_that_ends_while_it_boots_is_not_waited_for(tmp_path):
    """It will never answer. Its console's last words are told."""
    log = tmp_path / "0.log"
    log.write_text("Loading Linux\nPANIC: early exception\n")
    guest = LabGuest("web1", "uuid-1", "127.0.0.2", "tiny", "0", None, str(log))
    asked = []

    def lives(uuid: str) -> bool:
        asked.append(uuid)
        return False

    with pytest.raises(LabError, match="has ended while it booted.*PANIC: early exception"):
        wait_for_ssh([guest], Deadline.after(20), lives)
    assert asked == ["uuid-1"]


def test_the_time_for_booting_begins_when_the_image_is_there(monkeypatch):
    """A slow mirror must not look like a guest that does not answer."""
    left: list[float] = []
    built: list[str] = []
    clock = FakeClock()

    def slowly(image, say):
        built.append(image)
        clock.advance(1000)
        return "image"

    by_our_clock = SimpleNamespace(after=lambda seconds: Deadline.after(seconds, clock))
    monkeypatch.setattr("harness.cli.commands.lab.Deadline", by_our_clock)
    monkeypatch.setattr("harness.lab.images.ensure", slowly)
    up = lambda specs, deadline, **_: left.append(deadline.remaining_s())  # noqa: E731
    monkeypatch.setattr(guests, "up", up)
    monkeypatch.setattr(guests, "status", lambda: None)
    assert run_command_line(["lab", "up", "--image", "tiny", "--timeout", "60s"]) == 0
    assert (built, left) == (["tiny"], [60.0])
