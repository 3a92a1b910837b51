"""A host in memory, and whole maintenances on it: real run, real clocks, no root, no guests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from harness.core.config import load
from harness.core.records import GuestRecord, RunRecord
from harness.core.settings import Config
from harness.core.timebase import SYSTEM_CLOCK, Deadline
from harness.maintenance.pause.guard import GuardianProcess
from harness.maintenance.progress import Step
from harness.maintenance.run import Finished, run
from harness.maintenance.survey import survey
from harness.results.journal import FILE_NAME, read
from harness.testing.connector import FakeConnector
from harness.testing.guard import FakeGuard, guardian_thread
from harness.testing.guest import FakeGuest
from harness.testing.host import FakeHost
from harness.testing.parking import NEW_VERSION, OLD_VERSION
from harness.updates.configured import make_update
from harness.updates.protocol import Site
from harness.updates.qemu.settings import QemuSettings
from harness.updates.qemu.update import QemuUpdate
from harness.updates.registry import FULL_CONFIG
from tests.maintenance.forked import LoadedProcess
from tests.maintenance.in_memory import LOADED, PATCHED

#: Checks that need nothing but clocks, boot ids, kernel logs and processes: they take no time.
QUICK = ("pause-window", "frozen", "lag", "clock", "same-boot", "same-process", "kernel-log")


@dataclass
class House:
    """A host with guests web1, web2 …, and what is needed to maintain it."""

    state_dir: Path
    guests: tuple[FakeGuest, ...]
    host: FakeHost
    connector: FakeConnector
    guard: FakeGuard = field(default_factory=FakeGuard)
    steps: list[Step] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)

    def config(self, **changes: Any) -> Config:
        """A configuration for tests that take no time; keys as ``clock__watch_s``."""
        quick = {
            "update.duration_s": 0.1,
            "budget_s": 3.0,
            "resume_reserve_s": 0.5,
            "resume_patience_s": 3.0,
            "prepare_timeout_s": 5.0,
            "mend_timeout_s": 3.0,
            "checks.enable": list(QUICK),
            "clock.slew_below_s": 0.0,
            "clock.tolerance_s": 0.03,  # what a busy machine can still tell
        }
        flags = {key.replace("__", "."): value for key, value in changes.items()}
        chosen = {**quick, **self.settings, **flags}
        return load(None, environment={}, flags=chosen, model=FULL_CONFIG).config

    def maintain(
        self, *names: str, update=None, notice=None, guardian=None, clock=SYSTEM_CLOCK, **changes
    ) -> Finished:
        """A whole maintenance of all guests, or of ``names``."""
        config = self.config(**changes)
        update = update or make_update(config.updates, config.uri, self.state_dir)
        names = names or tuple(guest.name for guest in self.guests)
        plan = survey(config, names, self.host, update)
        return run(
            config,
            plan,
            update,
            self.host,
            self.connector,
            state_dir=self.state_dir,
            observer=self.steps.append,
            notice=notice,
            guardian=guardian or (lambda *_: self.guard),
            clock=clock,
        )

    @property
    def guarded(self):
        """The real guardian's loop, in a thread, on the same host."""
        return partial(GuardianProcess, launch=guardian_thread(self.host))

    @property
    def running(self) -> list[str]:
        """Who runs."""
        return [guest.name for guest in self.guests if not guest.paused]


def events(finished: Finished) -> list[str]:
    """What the journal tells, in order."""
    return [line.event for line in read(finished.folder.path / FILE_NAME).lines]


def of(record: RunRecord, name: str) -> GuestRecord:
    """One guest's record."""
    return next(guest for guest in record.guests if guest.name == name)


def verdicts(guest: GuestRecord) -> dict[str, str]:
    """Check → outcome."""
    return {check.name: check.outcome.value for check in guest.checks}


def broken(guest: GuestRecord) -> dict[str, str]:
    """Those checks that did not pass, with what they say."""
    return {check.name: check.detail for check in guest.checks if check.outcome != "pass"}


@pytest.fixture
def house(tmp_path, monkeypatch):
    """``house()``: two guests; ``house("a", "b", "c")``: those. The lock is the test's own."""
    monkeypatch.setenv("HARNESS_LOCK_DIR", str(tmp_path))

    def build(*names: str, **settings: Any) -> House:
        guests = tuple(FakeGuest(name) for name in names or ("web1", "web2"))
        connector = FakeConnector({guest.name: guest for guest in guests})
        flags = {key.replace("__", "."): value for key, value in settings.items()}
        return House(tmp_path / "state", guests, FakeHost(*guests), connector, settings=flags)

    return build


def program(folder: Path, version: str) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / "qemu-system-x86_64"
    file.write_text(f"#!/bin/sh\necho 'QEMU emulator version {version}'\n")
    file.chmod(0o755)
    return file


@pytest.fixture
def replaced(house, tmp_path, monkeypatch):
    """A house whose guests run in the old QEMU, and an update that takes them into the new."""
    monkeypatch.setattr("harness.updates.qemu.swapping.lay_out", lambda parking, texts: None)
    monkeypatch.setattr("harness.updates.qemu.update.require_this_host", lambda kind, site: None)
    house = house()
    old = program(tmp_path / "old", OLD_VERSION)
    for guest in house.guests:
        uuid = f"uuid-{guest.name}"
        text = house.host.parking.look(uuid, Deadline.after(5)).description
        text = text.replace("/usr/bin/qemu-system-x86_64", str(old))
        house.host.parking.looks[guest.name] = {"description": text}
    settings = QemuSettings(emulator=program(tmp_path / "new", NEW_VERSION), expected_s=0.2)
    return house, QemuUpdate(settings, Site(), cores=2)


@pytest.fixture(scope="session")
def loaded() -> Iterator[LoadedProcess]:
    """A process that has loaded ``harness run`` with guests in memory, to fork others of."""
    one = LoadedProcess(PATCHED + LOADED)
    yield one
    one.close()
