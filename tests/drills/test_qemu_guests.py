"""QEMU is replaced under guests as people have them: UEFI, a TPM.

Requires: the session's lab, whose RAM folder is in memory. The second QEMU is that of
``scripts/second-qemu``; where it is not there, guests are parked and come back in the same one.
Leaves behind: nothing.
"""

from __future__ import annotations

import pytest

from harness.lab.specs import GuestSpec
from harness.testing.required import required
from tests.drills.rich_guests import can_efi_with_tpm, efi_with_tpm
from tests.residents import Residents, residents, second_qemu


@pytest.fixture(scope="module")
def there(lab, libvirt, tmp_path_factory):
    """A guest with UEFI and a TPM."""
    if missing := can_efi_with_tpm():
        (pytest.fail if required("guest") else pytest.skip)(f"{missing} is not installed")
    specs = [GuestSpec("res-efi", "tiny", "0", memory_mib=256, resident=True)]
    folder = tmp_path_factory.mktemp("rich")
    with residents(folder, libvirt, specs=specs, changes={"res-efi": efi_with_tpm}) as found:
        yield found


def hop(there: Residents, harness, name: str, **update) -> dict:
    """A whole maintenance of one guest; how late its timers are is a matter of this machine."""
    config = there.configured(**update)
    with open(config, "a") as file:
        file.write('[checks]\ndisable = ["timers"]\n')
    done = harness("run", name, "-c", config, "--json")
    assert done.code == 0, done.err + done.out
    return done.record


def there_and_back(there: Residents, harness, name: str) -> None:
    """Into the other QEMU and back; each piece of its RAM stays where it is."""
    first = there.look(name)
    other = second_qemu()
    hop(there, harness, name, **other)
    second = there.look(name)
    assert ("tree" not in other) or second.version != first.version
    there.assert_same(name)
    hop(there, harness, name, emulator="/usr/bin/qemu-system-x86_64", again=True)
    third = there.look(name)
    assert third.version == first.version
    assert len({look.process for look in (first, second, third)}) == 3
    there.assert_same(name)
    there.assert_tidy()
    for look in (second, third):
        assert [b.identity for b in look.backings] == [b.identity for b in first.backings]


def test_a_guest_with_uefi_and_a_tpm(there, harness):
    """Its variables stay its own, and so does its TPM."""
    there_and_back(there, harness, "res-efi")
