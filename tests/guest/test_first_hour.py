"""A person's first hour with guests that are there already: trust and init, on real ones.

Requires: the session's lab. Leaves behind: nothing.
"""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.conftest import HOSTILE


@pytest.fixture
def stranger(lab, tmp_path):
    """A configuration by which the lab's guests can be logged in to, but none is known."""
    text = lab.config_file.read_text()
    for name in ("identity_file", "known_hosts"):
        text = "\n".join(line for line in text.splitlines() if not line.startswith(f"{name} = "))
    folder = lab.config_file.parent
    ssh = f'identity_file = "{folder}/id_ed25519"\nknown_hosts = "{tmp_path}/known_hosts"\n'
    file = tmp_path / "strangers.toml"
    file.write_text(text.replace("[ssh]\n", f"[ssh]\n{ssh}"))
    return str(file)


def test_keys_that_are_trusted_let_a_maintenance_in(lab, harness, stranger, tmp_path):
    """Their fingerprints are those of the lab's own keys; before that nobody was logged in to."""
    refused = harness("clock", "show", "-c", stranger, "tiny-1")
    assert refused.code == 3
    assert "its host key" in refused.out + refused.err
    assert "harness trust tiny-1" in refused.out + refused.err
    done = harness("trust", "-c", stranger, "--yes", "--json", "tiny-1", HOSTILE)
    assert done.code == 0, done.err
    shown = {guest["name"]: guest for guest in done.record["guests"]}
    listed = ["ssh-keygen", "-l", "-f", lab.known_hosts]
    known = subprocess.run(listed, check=True, capture_output=True, text=True).stdout
    for name in ("tiny-1", HOSTILE):
        assert shown[name]["trust"] == "added"
        assert shown[name]["keys"]
        assert all(key["fingerprint"] in known for key in shown[name]["keys"])
    measured = harness("clock", "show", "-c", stranger, "tiny-1", HOSTILE, "--json")
    assert [one["problem"] for one in measured.record["guests"]] == [None, None]
    one, other = (shown[name]["keys"][0] for name in ("tiny-1", HOSTILE))
    assert one["fingerprint"] != other["fingerprint"]
    (tmp_path / "known_hosts").write_text(_swapped((tmp_path / "known_hosts").read_text()))
    changed = harness("trust", "-c", stranger, "--yes", "--json", "tiny-1")
    assert (changed.code, json.loads(changed.out)["guests"][0]["trust"]) == (3, "refused")


def test_init_writes_what_a_maintenance_needs(lab, harness, tmp_path):
    """Of a user who has a key and an empty known_hosts; the file is never overwritten."""
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "config").write_text(
        f"IdentityFile {lab.identity_file}\nUserKnownHostsFile {tmp_path}/known\nUser nobody\n"
    )
    words = ("init", "--uri", lab.uri, "-o", "first.toml", "--json")
    refused = harness(*words, "tiny-1", HOME=str(home))
    assert refused.code == 3
    assert "its host key" in (tmp_path / "first.toml").read_text()
    (tmp_path / "first.toml").unlink()
    done = harness(*words, "--yes", "tiny-1", "debian-1", HOME=str(home))
    assert done.code == 0, (done.out, done.err)
    assert [(one["user"], one["may_set_clock"]) for one in done.record["guests"]] == [
        ("root", True),
        ("root", True),
    ]
    assert "is not overwritten" in harness(*words, "--yes", HOME=str(home)).err
    planned = harness("plan", "-c", "first.toml", "--json", HOME=str(home))
    assert planned.code == 0, planned.err
    text = (tmp_path / "first.toml").read_text()
    assert 'update_domain = "0"  # from its metadata' in text


def _swapped(text: str) -> str:
    """Each line's name with another line's key."""
    lines = [line.partition(" ") for line in text.splitlines()]
    keys = [key for _, _, key in lines]
    return "".join(f"{name} {key}\n" for (name, _, _), key in zip(lines, keys[::-1], strict=True))
