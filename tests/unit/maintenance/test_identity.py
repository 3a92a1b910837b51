"""The evidence that binds a login to a guest, piece by piece, and who is refused by it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.core.errors import PlanError, WrongGuest
from harness.core.identity import boot_id
from harness.core.timebase import Deadline
from harness.guest.facts import GuestFacts
from harness.guest.machine import Machine
from harness.guest.protocol import Way
from harness.host.lifecycle import GuestState
from harness.maintenance.admission import Claims
from harness.maintenance.identity import Found, identify
from harness.testing.clock import FakeClock
from harness.testing.guest import FakeGuest
from harness.testing.host import FakeHost

OTHER_MAC = "02:00:00:00:00:99"


class Scene:
    """Guests web1 and web2 on one host, and what one login to web1 has found."""

    def __init__(self) -> None:
        clock = FakeClock()
        self.web1, self.web2 = (FakeGuest(name, clock=clock) for name in ("web1", "web2"))
        self.web1.guest_agent = False
        self.host = FakeHost(self.web1, self.web2, clock=clock)
        self.deadline = Deadline.after(30, clock)

    def found(
        self,
        *,
        machine_uuid: str | None = None,
        macs: tuple[str, ...] = (),
        boot_id: str = "boot-web1-1",
        guest: str = "web1",
    ) -> Found:
        machine = Machine(machine_uuid, frozenset(macs))
        facts = GuestFacts(boot_id, "6.1", "tsc", 0, ("sh",), None, machine=machine)
        way = Way("10.0.0.1", host_key="SHA256:one")
        return Found(self.host.find(guest, self.deadline), way, facts, machine_uuid)

    def identify(self, **changes):
        return identify(self.found(**changes), self.host, self.deadline)


@pytest.fixture
def scene():
    return Scene()


def test_the_machines_uuid_binds_whatever_its_macs_are(scene):
    """And nobody else is asked."""
    login = scene.found(machine_uuid="uuid-web1", macs=(OTHER_MAC,))
    scene.host.away = True
    found = identify(login, scene.host, scene.deadline)
    assert (found.bound_by, found.machine_uuid) == ("machine-uuid", "uuid-web1")
    assert (found.boot_id, found.host_key) == ("boot-web1-1", "SHA256:one")


def test_a_mac_of_its_own_binds_a_login_that_may_not_read_the_uuid(scene):
    """One of several will do."""
    assert scene.identify(macs=(*scene.web1.macs, OTHER_MAC)).bound_by == "mac"


def test_a_mac_that_two_running_guests_have_binds_nobody(scene):
    """Clones on two networks; one that is shut off is in nobody's way."""
    scene.web2.macs = scene.web1.macs
    assert scene.identify(macs=scene.web1.macs).bound_by is None
    scene.host.states["web2"] = GuestState.SHUT_OFF
    assert scene.identify(macs=scene.web1.macs).bound_by == "mac"


def test_the_boot_id_through_the_guest_agent_binds_what_nothing_else_does(scene):
    """Another channel of this very guest tells the same."""
    scene.web1.guest_agent = True
    found = scene.identify(macs=(OTHER_MAC,))
    assert (found.bound_by, "boot-web1-1" in found.detail) == ("guest-agent", True)


def test_what_nothing_binds_is_told_with_the_reasons(scene):
    """Never a pass, and no refusal: nothing says that it is another machine."""
    found = scene.identify(macs=(OTHER_MAC,))
    assert found.bound_by is None
    assert "machine UUID cannot be read" in found.detail
    assert OTHER_MAC in found.detail
    assert "shows no MAC" in scene.identify().detail
    scene.web1.macs = ()
    assert "libvirt knows no MAC" in scene.identify(macs=(OTHER_MAC,)).detail


@pytest.mark.parametrize(
    ("changes", "evidence"),
    [
        ({"machine_uuid": "uuid-web2"}, "machine UUID is uuid-web2"),
        ({"macs": ("web2",)}, "by its MAC"),
    ],
)
def test_another_guest_of_the_host_is_refused_by_its_name(scene, changes, evidence):
    """By its UUID for root, by its MAC for anybody; both guests are named."""
    if "macs" in changes:
        changes = {"macs": scene.web2.macs}
    with pytest.raises(WrongGuest, match="10.0.0.1 is guest web2, not web1") as caught:
        scene.identify(**changes)
    assert evidence in str(caught.value)
    assert "address" in (caught.value.hint or "")


def test_a_machine_that_is_no_guest_of_the_host_is_refused_by_its_uuid(scene):
    """A stale address that another host's guest has by now, even if it has our MAC."""
    with pytest.raises(WrongGuest, match="another machine, and no guest of this host"):
        scene.identify(machine_uuid="uuid-elsewhere", macs=scene.web1.macs)


def test_the_machine_that_harness_runs_on_is_no_guest(scene):
    """A forwarded port that leads to its own sshd; also where it is itself a guest of the host."""
    with pytest.raises(WrongGuest, match="is the machine that harness runs on, not web1"):
        scene.identify(machine_uuid="uuid-web1", boot_id=boot_id())


def test_a_guest_agent_that_tells_another_boot_proves_another_machine(scene):
    """Though nothing else can be told."""
    scene.web1.guest_agent = True
    with pytest.raises(WrongGuest, match="guest agent of web1 tells another boot id"):
        scene.identify(boot_id="boot-elsewhere", macs=(OTHER_MAC,))


def test_a_uuid_that_the_description_overrides_is_settled_by_the_guest_agent(scene):
    """``qemu:commandline`` may have given the firmware another UUID."""
    scene.web1.guest_agent = True
    assert scene.identify(machine_uuid="uuid-override").bound_by == "guest-agent"


@pytest.mark.parametrize(
    ("boot_id", "way", "said", "hint"),
    [
        ("boot-web1-1", Way("10.0.0.2", host_key="SHA256:two"), "one machine", "address"),
        ("boot-2", Way("10.0.0.1", host_key="SHA256:two"), "both reached at 10.0.0.1", "address"),
        ("boot-2", Way("10.0.0.2", host_key="SHA256:one"), "one SSH host key", "ssh-keygen -A"),
    ],
)
def test_two_logins_that_are_not_known_apart_are_both_refused(scene, boot_id, way, said, hint):
    """By boot id, address or host key; the message names both, whoever came first."""
    one, claims = scene.found(), Claims()
    other = replace(scene.found(guest="web2", boot_id=boot_id), way=way)
    claims.claim(one)
    with pytest.raises(PlanError, match=f"web1 and web2 .*{said}") as caught:
        claims.claim(other)
    assert hint in (caught.value.hint or "")
    assert set(claims.refused) == {"web1", "web2"}


@pytest.mark.parametrize(
    "way",
    [
        Way("10.0.0.1", 2222, host_key="SHA256:two"),
        Way("10.0.0.1", 22, ("bastion",), host_key="SHA256:two"),
        Way("web2", 22, peer="10.0.0.2", host_key="SHA256:two"),
        Way("10.0.0.3", host_key=""),
    ],
)
def test_another_port_another_jump_or_another_peer_is_another_guest(scene, way):
    """Forwarded ports share an address, private networks behind two jump hosts an address each."""
    claims = Claims()
    claims.claim(scene.found())
    claims.claim(replace(scene.found(guest="web2", boot_id="boot-2"), way=way))
    assert claims.refused == {}


def test_two_names_of_one_address_are_one_place(scene):
    """What counts is where the connections ended."""
    claims = Claims()
    claims.claim(replace(scene.found(), way=Way("web1", peer="10.0.0.1", host_key="SHA256:1")))
    other = scene.found(guest="web2", boot_id="boot-2")
    with pytest.raises(PlanError, match="both reached"):
        claims.claim(replace(other, way=Way("alias", peer="10.0.0.1", host_key="SHA256:2")))
