"""People are told of guests that a dead run left paused: once, and by whom it may be trusted."""

from __future__ import annotations

import json
import os

import pytest

from harness.core.errors import ConfigError
from harness.core.settings import Config, NotifySection
from harness.core.timebase import SYSTEM_CLOCK, Deadline
from harness.maintenance.pause.alarm import LOG, tell_by_process
from harness.results.folder import CONFIG, RunFolder
from harness.results.journal import Journal, Member, entries
from harness.results.notify.dead_run import TOLD, settings_of, tell_once
from harness.results.notify.notice import of_dead_run
from harness.testing.listener import listening

HELD = [("web1", "virsh resume web1")]


@pytest.fixture
def folder(tmp_path):
    """A run that died while it held web1, and had let web2 go."""
    made = RunFolder.create(tmp_path, "20261127T000000Z-abcdef")
    with Journal(made.path, made.run_id) as journal:
        web1, web2 = Member("web1", "uuid-1"), Member("web2", "uuid-2")
        journal.intend(entries.Pausing((web1, web2)))
        journal.note(entries.Resumed("web2", "uuid-2", "run"))
    return made


def configured(folder: RunFolder, url: str) -> NotifySection:
    settings = NotifySection(webhook=url, timeout_s=2.0)
    folder.write_config(Config(notify=settings))
    return settings


@pytest.mark.parametrize(
    ("over", "way_on"), [(False, "goes on trying"), (True, "has given up: harness recover")]
)
def test_the_guardians_process_tells_whom_the_journal_says_is_held(folder, over, way_on):
    """A real process to a real listener; how web1 is resumed is said for the right libvirt."""
    with listening() as there:
        configured(folder, there.url)
        tell_by_process("qemu:///session", str(folder.path), over)
        until = Deadline.after(30)
        while not (folder.path / TOLD).exists():
            assert not until.expired, (folder.path / LOG).read_text()
            SYSTEM_CLOCK.sleep(0.05)
    [one] = there.taken
    told = json.loads(one.body)
    assert (told["event"], told["exit_code"]) == ("guests stranded", 4)
    assert told["guests"] == [
        {
            "name": "web1",
            "outcome": "error",
            "still_paused": True,
            "resume_hint": "virsh -c qemu:///session resume web1",
        }
    ]
    assert "its guardian could not resume" in told["problems"][0]
    assert way_on in told["problems"][0]


def test_people_are_told_once_of_the_same_guests(folder):
    """By run, guardian or recover, whoever comes first; of others they are told again."""
    notice = of_dead_run("box", HELD, folder.path, ["why"])
    with listening() as there:
        settings = configured(folder, there.url)
        assert tell_once(notice, folder, settings) == []
        assert tell_once(notice, folder, settings) == []
        assert len(there.taken) == 1
        more = of_dead_run("box", [*HELD, ("web2", "virsh resume web2")], folder.path, ["why"])
        assert tell_once(more, folder, settings) == []
        assert len(there.taken) == 2


def test_what_did_not_arrive_is_told_again(folder):
    notice = of_dead_run("box", HELD, folder.path, ["why"])
    with listening(404, 204) as there:
        settings = configured(folder, there.url)
        assert "no notification by webhook" in tell_once(notice, folder, settings)[0]
        assert tell_once(notice, folder, settings) == []
        assert len(there.taken) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has others to distrust")
def test_root_runs_no_program_that_another_user_wrote_into_a_run_folder(folder, tmp_path):
    """`harness recover` follows a folder that it is pointed at, whomever it belongs to."""
    folder.write_config(Config(notify=NotifySection(command=("/bin/true",))))
    assert settings_of(folder).command == ("/bin/true",)
    os.chown(folder.path / CONFIG, 65534, 65534)
    with pytest.raises(ConfigError, match="root uses nothing that another user can change"):
        settings_of(folder)
