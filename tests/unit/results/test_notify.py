"""Notices: what they say, and that they arrive, at real listeners and programs on this machine."""

from __future__ import annotations

import email
import hashlib
import hmac
import json
import os
import socket
from pathlib import Path

import pytest

from harness.core.errors import ConfigError, InfrastructureError
from harness.core.records import Outcome
from harness.core.settings import NotifySection
from harness.core.timebase import Deadline
from harness.results.notify import webhook
from harness.results.notify.notice import Notice, of_night, of_run
from harness.results.notify.tell import check, tell
from harness.testing.clock import FakeClock
from harness.testing.listener import listening
from harness.testing.runs import HOSTILE, a_guest, a_run

FOLDER = Path("/state/runs/1")


def stranded(name: str = "web1") -> Notice:
    guest = a_guest(name, Outcome.ERROR).model_copy(update={"still_paused": True})
    record = a_run(guest, a_guest("db1"), outcome=Outcome.ERROR)
    return of_run(record.model_copy(update={"exit_code": 4}), FOLDER, "STILL PAUSED: web1")


def program(tmp_path, text: str) -> Path:
    file = tmp_path / "program"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return file


def test_a_notice_says_who_is_paused_and_how_to_resume_it():
    """For people in the first line, for programs by name."""
    notice = stranded()
    assert notice.event == "guests stranded"
    assert notice.summary == "STILL PAUSED on box: web1"
    assert "STILL PAUSED; resume it: virsh resume uuid-web1" in notice.as_text()
    data = json.loads(notice.as_json())
    assert (data["version"], data["exit_code"], data["run_id"]) == (1, 4, a_run().run_id)
    paused = {one["name"]: one["resume_hint"] for one in data["guests"] if one["still_paused"]}
    assert paused == {"web1": "virsh resume uuid-web1"}
    good = of_run(a_run(), FOLDER)
    assert good.event == "run finished"
    assert good.summary == "harness PASS on box: 1 of 1 guests good, longest pause 5.012 s"


def test_a_notice_says_only_what_was_looked_at():
    """A run that ended before it judged a guest; and no name is said twice in a line."""
    record = a_run(outcome=Outcome.ERROR).model_copy(update={"guests": (), "update_domains": ()})
    notice = of_run(record, FOLDER, "a bug")
    assert notice.summary == "harness ERROR on box: no guest was judged"
    assert notice.as_text().startswith(f"{notice.summary}\n\na bug\n")
    guest = a_guest("web1").model_copy(update={"problems": ("web1: no login", "no address")})
    assert of_run(a_run(guest), FOLDER).problems == ("web1: no login", "web1: no address")


def test_a_night_is_told_with_its_line():
    notice = of_night("box", "harness PASS on box: 3/3", 0, [], [a_run()])
    assert (notice.event, notice.outcome, notice.good) == ("night finished", "pass", True)
    assert of_night("box", "nothing", 3, ["no libvirt"], []).outcome == "error"


def test_a_webhook_gets_signed_json():
    """The signature is what a receiver computes from the secret, the timestamp and the body."""
    with listening() as there:
        webhook.send(stranded(), there.url, b"secret", Deadline.after(5))
    [one] = there.taken
    assert json.loads(one.body)["summary"] == "STILL PAUSED on box: web1"
    stamp = one.headers["X-Harness-Timestamp"]
    expected = hmac.new(b"secret", f"{stamp}.".encode() + one.body, hashlib.sha256).hexdigest()
    assert one.headers["X-Harness-Signature"] == f"sha256={expected}"
    assert one.headers["Content-Type"] == "application/json"
    with listening() as there:
        webhook.send(stranded(), there.url, None, Deadline.after(5))
    assert "X-Harness-Signature" not in there.taken[0].headers


def test_a_webhook_that_is_ill_is_tried_again_with_the_same_delivery():
    """Twice 503, then taken; the receiver can tell that it is one notice."""
    clock = FakeClock()
    with listening(503, 429, 200) as there:
        webhook.send(stranded(), there.url, None, Deadline.after(60, clock))
    assert len(there.taken) == 3
    assert len({one.headers["X-Harness-Delivery"] for one in there.taken}) == 1


@pytest.mark.parametrize(
    ("answers", "tries", "said"),
    [((404,), 1, "HTTP 404"), ((500,), 3, "HTTP 500"), ((302,), 1, "HTTP 302")],
)
def test_a_webhook_that_refuses_is_given_up(answers, tries, said):
    """A wrong address is not tried again, an ill one not for ever, a redirection not followed."""
    clock = FakeClock()
    with listening(*answers) as there:
        with pytest.raises(InfrastructureError, match=said):
            webhook.send(stranded(), there.url, None, Deadline.after(60, clock))
    assert len(there.taken) == tries
    assert {one.path for one in there.taken} == {"/notices"}


def test_a_webhook_that_is_not_there_or_says_nonsense_costs_its_time_and_no_more():
    """Nothing listens; something listens that is no web server."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    settings = NotifySection(webhook=f"http://127.0.0.1:{port}/", timeout_s=1.2)
    [warning] = tell(stranded(), settings)
    assert "no notification by webhook" in warning
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and says nothing
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        [warning] = tell(stranded(), NotifySection(webhook=url, timeout_s=0.3))
    assert "timed out" in warning


def test_a_mail_is_one_whatever_guests_are_called(tmp_path):
    """A name with a line break adds no header; the local sendmail is given the whole mail."""
    sent = tmp_path / "mail"
    sendmail = program(tmp_path, f'echo "$@" > {tmp_path}/args; cat > {sent}')
    settings = NotifySection(mail_to=("ops@example.org",), sendmail=sendmail)
    name = f"web1\nBcc: evil@example.org\n{HOSTILE}"
    assert tell(stranded(name), settings) == []
    mail = email.message_from_bytes(sent.read_bytes(), policy=email.policy.default)
    assert (tmp_path / "args").read_text().split() == ["-t", "-i"]
    assert mail["To"] == "ops@example.org"
    assert mail["Bcc"] is None
    assert mail["Subject"].startswith("STILL PAUSED on box: web1")
    assert "virsh resume" in mail.get_content()


def test_a_command_has_the_notice_on_its_standard_input(tmp_path):
    told = tmp_path / "told"
    settings = NotifySection(command=(str(program(tmp_path, f"cat > {told}")), "x"))
    assert tell(stranded(), settings) == []
    assert json.loads(told.read_text())["event"] == "guests stranded"


@pytest.mark.parametrize(
    ("text", "said"),
    [("echo no route >&2; exit 3", "ended with 3: no route"), ("exec sleep 30", "did not end")],
)
def test_a_way_that_fails_is_a_warning_and_the_next_is_gone(tmp_path, text, said):
    """The webhook is told all the same."""
    with listening() as there:
        settings = NotifySection(
            command=(str(program(tmp_path, text)),), webhook=there.url, timeout_s=0.5
        )
        [warning] = tell(stranded(), settings)
    assert said in warning
    assert len(there.taken) == 1


def test_only_trouble_is_told_where_only_trouble_is_wanted():
    with listening() as there:
        settings = NotifySection(webhook=there.url, when="trouble")
        assert tell(of_run(a_run(), FOLDER), settings) == []
        assert there.taken == []
        assert tell(stranded(), settings) == []
    assert len(there.taken) == 1


def test_what_could_not_be_told_is_refused_before_anything_is_paused(tmp_path):
    """Programs that are not there, addresses that are none, secrets that others may read."""
    secret = tmp_path / "secret"
    secret.write_text("s\n")
    secret.chmod(0o644)
    for settings, said in (
        (NotifySection(command=("./gone",)), "notify.command: ./gone: no such program"),
        (NotifySection(mail_to=("a@b",), sendmail=Path("/gone")), "notify.sendmail"),
        (NotifySection(webhook="ftp://x/"), "notify.webhook: must be a URL"),
        (NotifySection(webhook="http://u:p@x/"), "must have no password"),
        (NotifySection(webhook_secret_file=tmp_path / "no"), "No such file"),
        (NotifySection(webhook_secret_file=secret), "others may read it .*chmod 600"),
    ):
        with pytest.raises(ConfigError, match=said):
            check(settings)
    secret.chmod(0o600)
    check(NotifySection(webhook="https://example.org/x", webhook_secret_file=secret))
    assert os.path.exists(secret)
