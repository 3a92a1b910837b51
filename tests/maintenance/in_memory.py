"""The text of ``harness`` with guests in memory, for processes."""

from __future__ import annotations

import os
from pathlib import Path

#: Guests are in memory, and so is the guardian of them.
PATCHED = """
import sys
import threading
import harness.maintenance.pause.guard as guard
from harness.testing.guard import FakeGuard
guard.GuardianProcess = lambda *_: FakeGuard()
import harness.guest.connector, harness.host.driver
from harness.core.errors import HypervisorError
from harness.testing.connector import FakeConnector
from harness.testing.guest import FakeGuest
from harness.testing.host import FakeHost
"""
#: What a run goes on to load.
LOADED = """
import harness.api, harness.cli.live, harness.cli.main, harness.cli.rollout, rich.pretty
import harness.cli.commands.plan, harness.cli.commands.run
import harness.maintenance.run, harness.maintenance.survey
import harness.results.report.table, harness.results.unfinished
"""
#: ``harness``, once that is patched; the first argument says what goes wrong with the guests.
HARNESS = """
def stuck():
    raise HypervisorError("cannot be resumed \\u2013", operation="resuming", guest="web1")

def bug():
    raise KeyError("a bug \\u2013")

guests = [FakeGuest(name) for name in ("web1", "web2")]
host = FakeHost(*guests)
wrong = sys.argv.pop(1)
if wrong == "stuck":
    host.before["resume", "web1"] = stuck
if wrong == "bug":
    host.before["pause", "web1"] = bug
def opened(*_):
    if wrong == "mute":
        threading.Event().wait(60)
    return host

harness.host.driver.LibvirtHypervisor.open = opened
connector = FakeConnector({guest.name: guest for guest in guests})
if wrong == "strangers":
    connector.strangers = {"web1", "web2"}
harness.guest.connector.SshConnector = lambda *_: connector
from harness.cli.main import main
main()
"""
#: All of it, for an interpreter that is started.
DRIVER = PATCHED + HARNESS


def in_folder(folder: Path) -> dict[str, str]:
    """The environment of a ``harness`` that leaves everything in ``folder``."""
    return {**os.environ, "HARNESS_LOCK_DIR": str(folder), "HARNESS_STATE_DIR": f"{folder}/state"}
