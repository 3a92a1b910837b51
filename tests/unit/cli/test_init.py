"""`harness init`: which logins are found, what is written, and what is never overwritten."""

from __future__ import annotations

import tomllib
from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import api
from harness.cli.first_config import first_config
from harness.cli.main import run_command_line
from harness.core.config import load
from harness.core.errors import ShellUnreachable
from harness.core.settings import Config
from harness.host.lifecycle import GuestState, StateReading
from harness.host.protocol import GuestInfo
from harness.maintenance.find_login import FoundLogin
from harness.testing.connector import FakeConnector
from harness.testing.guest import FakeGuest
from harness.testing.host import FakeHost
from harness.updates.registry import FULL_CONFIG


def info(name: str, label: str | None = None) -> GuestInfo:
    state = StateReading(GuestState.RUNNING, "booted")
    return GuestInfo(name, "u", state, "kvm", "wall", 1, 1, label, label)


@pytest.fixture
def there(monkeypatch, tmp_path):
    """Guests web1 and web2 that run, and one that is off; the command line finds them."""
    guests = {name: FakeGuest(name) for name in ("web1", "web2", "off")}
    host = FakeHost(*guests.values())
    host.states["off"] = GuestState.SHUT_OFF
    host.labels["web1"] = ("0", "web")
    backend = api.Backend(lambda config: nullcontext(host), FakeConnector(guests))
    monkeypatch.setattr(api.Backend, "real", lambda: backend)
    monkeypatch.setenv("HARNESS_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("HARNESS_PREPARE_TIMEOUT_S", "10")
    monkeypatch.setenv("HARNESS_CLOCK_TOLERANCE_S", "0.03")
    monkeypatch.chdir(tmp_path)
    return backend


def test_the_first_login_that_may_set_the_clock_is_found(there):
    """Those that a person names come first; then SSH's own, then root."""
    there.connector.lets_in = {"web1": "root", "web2": "admin"}
    one, other = api.find_logins(Config(), users=["admin"], backend=there)
    assert (one.user, one.sudo, one.may_set_clock) == ("root", False, True)
    assert (other.user, other.address) == ("admin", "web2.example")
    (agent,) = api.find_logins(Config(), ["web2"], backend=there)
    assert (agent.access, agent.address) == ("agent", None)
    there.connector.guests["web2"].guest_agent = False
    (lost,) = api.find_logins(Config(), ["web2"], backend=there)
    assert "the login was refused" in str(lost.error)


def test_a_user_who_is_not_root_is_found_with_sudo(there):
    """So that the right to set the clock is there when it is wanted."""
    there.connector.guests["web1"].uid = 1000
    (found,) = api.find_logins(Config(), ["web1"], backend=there)
    assert (found.user, found.sudo, found.uid, found.may_set_clock) == (None, True, 1000, True)


def test_a_host_key_that_is_not_known_is_tried_once(there):
    """Another user changes nothing about it."""
    there.connector.strangers = {"web1"}
    (found,) = api.find_logins(Config(), ["web1"], backend=there)
    assert "host key" in str(found.error)
    assert len(there.connector.logins) == 1


def test_what_is_written_is_read_again(there, tmp_path, capsys):
    """Guests that run, with address, update domain and set; doctor looks at them in the end."""
    there.connector.lets_in = {"web1": "root"}
    there.connector.strangers = {"web2"}
    assert run_command_line(["init", "--yes", "--uri", "fake:///"]) == 0
    said = capsys.readouterr()
    assert "web2: added to" in said.out
    assert "guest web1: test, web1.example" in said.out
    assert "next: harness plan" in said.out
    file = tmp_path / "harness.toml"
    assert [guest["name"] for guest in tomllib.loads(file.read_text())["guest"]] == ["web1", "web2"]
    config = load(file, environment={}, flags={}, model=FULL_CONFIG).config
    web1 = config.for_guest("web1")
    assert (web1.address, web1.update_domain, web1.availability_set) == ("web1.example", "0", "web")
    assert (web1.ssh.user, config.uri) == ("root", "fake:///")
    before = file.read_bytes()
    assert run_command_line(["init", "--yes"]) == 2
    assert "is there already and is not overwritten" in capsys.readouterr().err
    assert file.read_bytes() == before
    assert run_command_line(["init", "--yes", "--json", "-o", "other.toml", "web1"]) == 0


def test_a_changed_host_key_is_written_as_no_login(there, tmp_path, capsys):
    """--yes trusts unknown keys only; the guest stands there, and doctor says why not."""
    there.connector.changed = {"web1"}
    assert run_command_line(["init", "--yes", "web1"]) == 3
    assert "# no login was found: its host key" in (tmp_path / "harness.toml").read_text()
    assert there.connector.trusted == []


def test_no_guest_that_runs_is_said_and_nothing_is_written(there, tmp_path, capsys):
    """Exit 2: there is nothing to configure."""
    host = FakeHost()
    object.__setattr__(there, "connect", lambda config: nullcontext(host))
    assert run_command_line(["init"]) == 2
    assert "no guest runs on" in capsys.readouterr().err
    assert not (tmp_path / "harness.toml").exists()


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_names_are_data(name):
    """Whatever a guest, its address, its sets and its refusals are called."""
    refused = FoundLogin(info(name), error=ShellUnreachable(f"no\n{name}"))
    found = FoundLogin(info(name, label=name), name, name, name, sudo=True)
    one, other = tomllib.loads(first_config(name, [refused, found]))["guest"]
    assert one == {"name": name}
    assert other == {
        "name": name,
        "address": name,
        "update_domain": name,
        "availability_set": name,
        "ssh": {"user": name, "sudo": True},
    }
