"""What a guest tells about the machine that it is; all of it is data."""

from __future__ import annotations

import pytest

from harness.guest.machine import Machine, is_uuid, known_uuid, parse, same_address

UUID = "00112233-4455-6677-8899-aabbccddeeff"
#: As an old SMBIOS has it: the first three fields in the other byte order.
SWAPPED = "33221100-5544-7766-8899-AABBCCDDEEFF"


def test_every_line_has_its_place():
    """Lines of others are passed over."""
    told = parse(
        [
            ("machine", UUID.upper()),
            ("mac", "52:54:00:AA:00:01"),
            ("mac", "52:54:00:aa:00:02"),
            ("ssh", "10.0.0.1 40000 10.0.0.9 22"),
            ("uid", "0"),
        ]
    )
    macs = frozenset({"52:54:00:aa:00:01", "52:54:00:aa:00:02"})
    assert told == Machine(UUID, macs, "10.0.0.9")


@pytest.mark.parametrize(
    "nothing",
    ["", "00000000-0000-0000-0000-000000000000", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF", "\0"],
)
def test_firmware_that_was_given_no_uuid_tells_none(nothing):
    """All nought and all ones are what boards without one say."""
    assert known_uuid(nothing) is None
    assert parse([("machine", nothing)]).uuid is None


def test_the_first_source_that_tells_counts():
    """A device tree beside an SMBIOS without a UUID."""
    assert parse([("machine", "0" * 32), ("machine", UUID + "\0")]).uuid == UUID


@pytest.mark.parametrize(
    ("told", "same"),
    [
        (UUID, True),
        (UUID.upper(), True),
        (UUID.replace("-", ""), True),
        (SWAPPED, True),
        (UUID[:-1] + "0", False),
        (SWAPPED[:-1] + "0", False),
        (UUID[:8], False),
        ("nonsense", False),
        ("", False),
    ],
)
def test_a_uuid_is_known_in_either_byte_order(told, same):
    """SMBIOS before 2.6 was not clear about it."""
    assert is_uuid(told, UUID) is same


def test_the_mac_that_qemu_gives_everybody_names_nobody():
    """52:54:00:12:34:56, where the command line gave none."""
    assert parse([("mac", "52:54:00:12:34:56"), ("mac", "")]).macs == frozenset()


@pytest.mark.parametrize("said", ["", "10.0.0.1", "10.0.0.1 4000"])
def test_a_login_that_does_not_say_where_it_arrived(said):
    """Some servers set no SSH_CONNECTION."""
    assert parse([("ssh", said)]).ssh_address is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.9", "10.0.0.9", True),
        ("10.0.0.9", "10.0.0.8", False),
        ("fe80::1%eth0", "fe80::1%virbr0", True),
        ("fe80::0001", "fe80::1", True),
        ("::ffff:10.0.0.9", "10.0.0.9", True),
        ("web1", "web1", False),
        ("", "", False),
    ],
)
def test_addresses_are_compared_as_addresses(one, other, same):
    """A name is no address: what it leads to is another question."""
    assert same_address(one, other) is same
