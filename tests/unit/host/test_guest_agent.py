"""What a guest agent tells, and what it may refuse: its answers are data, as all a guest says."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from harness.core.errors import HypervisorError
from harness.core.timebase import Deadline
from harness.host.guest_agent import agent_facts

libvirt = pytest.importorskip("libvirt")
FILES = ("guest-file-open", "guest-file-read", "guest-file-close")


class Agent:
    """Answers as told; a command that is an exception is raised."""

    def __init__(self, monkeypatch, allowed=(*FILES, "guest-set-time"), **answers: Any) -> None:
        commands = [
            {"name": name, "enabled": name in allowed} for name in (*FILES, "guest-set-time")
        ]
        self.answers: dict[str, Any] = {
            "guest-info": {"version": "7", "supported_commands": commands},
            "guest-file-open": 1000,
            "guest-file-read": {"buf-b64": base64.b64encode(b"boot-1\n").decode(), "eof": True},
            "guest-file-close": {},
            **{name.replace("_", "-"): answer for name, answer in answers.items()},
        }
        self.asked: list[str] = []
        monkeypatch.setattr("libvirt_qemu.qemuAgentCommand", self.command)

    def command(self, domain: object, question: str, timeout: int, flags: int) -> str:
        assert timeout >= 1
        name = json.loads(question)["execute"]
        self.asked.append(name)
        answer = self.answers[name]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, str) else json.dumps({"return": answer})


def facts():
    domain: Any = object()
    return agent_facts(domain, "web1", Deadline.after(10))


def test_an_agent_tells_the_boot_id_and_what_it_may_do(monkeypatch):
    """The file that it opened is closed."""
    agent = Agent(monkeypatch)
    told = facts()
    assert (told.boot_id, told.sets_time) == ("boot-1", True)
    assert agent.asked == ["guest-info", *FILES]


@pytest.mark.parametrize("blocked", FILES)
def test_an_agent_that_may_not_read_files_is_not_asked_to(monkeypatch, blocked):
    """As on RHEL; what it may do is told all the same."""
    agent = Agent(monkeypatch, allowed=[name for name in FILES if name != blocked])
    told = facts()
    assert (told.boot_id, told.sets_time) == (None, False)
    assert agent.asked == ["guest-info"]


def test_an_agent_that_refuses_after_all_tells_no_boot_id(monkeypatch):
    """By a policy that it does not know of itself; what is open is closed."""
    agent = Agent(monkeypatch, guest_file_read=libvirt.libvirtError("denied"))
    assert facts().boot_id is None
    assert agent.asked[-1] == "guest-file-close"


@pytest.mark.parametrize("answer", ["", "{}", "[]", '{"return": 1}', '{"return": {}}', "\x00"])
def test_an_agent_that_answers_nonsense_is_none(monkeypatch, answer):
    """And no crash."""
    Agent(monkeypatch, guest_info=answer)
    with pytest.raises(HypervisorError, match="web1: the guest agent answers nonsense"):
        facts()


@pytest.mark.parametrize(
    "answer", ["{}", '{"return": {"buf-b64": "%%%"}}', '{"return": {"buf-b64": "/w=="}}']
)
def test_a_file_that_is_nonsense_is_no_boot_id(monkeypatch, answer):
    """Bytes that are no text among them."""
    Agent(monkeypatch, guest_file_read=answer)
    assert facts().boot_id is None


def test_where_no_agent_answers_that_is_said(monkeypatch):
    """As libvirt words it."""
    Agent(monkeypatch, guest_info=libvirt.libvirtError("QEMU guest agent is not connected"))
    with pytest.raises(HypervisorError, match="asking the guest agent"):
        facts()
