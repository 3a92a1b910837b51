"""The contract of Scheduled Events over HTTP, against a real server process on loopback.

Every guest has an address of its own (127.0.0.x), as on a bridge; ``--identify`` says who is who.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass

import pytest

from harness.cli.main import run_command_line
from harness.core.timebase import NS_PER_S, SYSTEM_CLOCK, Deadline, NotYet, Stopwatch, wait_for
from harness.events.document import VERSIONS, Event, EventType, State
from harness.events.store import Store

PATH = "/metadata/scheduledevents?api-version=2020-07-01"
#: Guest → address. The set web has two; everybody else is alone.
GUESTS = {f"g{number}": f"127.0.0.{number}" for number in range(10, 90)}
WEB = {"web1": ("127.0.0.2", "0"), "web2": ("127.0.0.3", "1")}
STRANGER = "127.0.0.9"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def data(self):
        return json.loads(self.body)


class Server:
    """``harness events serve`` as a process that can be killed and started again."""

    def __init__(self, folder, *more):
        self.folder = folder
        self.port = 0
        self._more = more
        self._process = None
        self._fresh = iter(GUESTS)

    def start(self):
        who = [f"{address}={name}" for name, address in GUESTS.items()]
        who += [f"{address}={name}@web/{domain}" for name, (address, domain) in WEB.items()]
        identify = [word for text in who for word in ("--identify", text)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "harness", "events", "serve", "--address", "127.0.0.1",
             "--anywhere", "--port", str(self.port), *identify, *self._more],
            stderr=subprocess.PIPE, text=True, cwd=self.folder,
            env={**os.environ, "HARNESS_STATE_DIR": str(self.folder)},
        )  # fmt: skip
        for line in self._process.stderr:
            if found := re.search(r"answering guests on .*:(\d+)", line):
                self.port = int(found[1])
                return self
        raise AssertionError("the server did not start")

    def kill(self, sign=signal.SIGKILL):
        self._process.send_signal(sign)
        self._process.wait(20)
        self._process.stderr.close()

    @property
    def pid(self):
        return self._process.pid

    def guest(self):
        """The name of a guest that no test has been yet: it has all its requests left."""
        return next(self._fresh)

    def ask(self, who, path=PATH, method="GET", body=None, headers=None, source=None):
        source = source or GUESTS.get(who) or WEB[who][0]
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=20, source_address=(source, 0)
        )
        try:
            given = {"Metadata": "true"} if headers is None else headers
            connection.request(method, path, body, given)
            response = connection.getresponse()
            found = {key.lower(): value for key, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        finally:
            connection.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    started = Server(tmp_path_factory.mktemp("events")).start()
    yield started
    started.kill(signal.SIGTERM)


@pytest.fixture
def store(server):
    with Store(server.folder) as opened:
        yield opened


def publish(store, guest, *, scope=None, domain="0", in_s=900):
    """An event of somebody; its id."""
    event = Event("", EventType.FREEZE, (guest,), State.PLANNED, 0, "Maintenance.")
    owner = f"process {os.getpid()} {_ticks()} test"
    ids = [store.plan(scope or f"guest:fixed-{guest}", domain, event, owner=owner)]
    store.announce(ids, (SYSTEM_CLOCK.realtime_ns() // NS_PER_S + in_s) * NS_PER_S)
    return ids[0]


def _ticks():
    from harness.core.process_stat import start_ticks

    return start_ticks(os.getpid())


def approval(*ids):
    return json.dumps({"StartRequests": [{"EventId": event_id} for event_id in ids]})


def test_a_guest_finds_an_empty_document_in_any_case_of_the_path(server):
    """Incarnation 1, JSON, an ETag."""
    guest = server.guest()
    for path in (PATH, PATH.replace("scheduledevents", "ScheduledEvents"), PATH.upper().lower()):
        answer = server.ask(guest, path)
        assert (answer.status, answer.data) == (200, {"DocumentIncarnation": 1, "Events": []})
        assert answer.headers["content-type"] == "application/json; charset=utf-8"
        assert answer.headers["etag"]


def test_no_version_lets_a_guest_approve_without_the_header(server, store):
    """Reading at the first version needs none, as on Azure; approving is refused."""
    guest = server.guest()
    event = publish(store, guest)
    first = "/metadata/scheduledevents?api-version=2017-03-01"
    assert server.ask(guest, first, headers={}).status == 200
    refused = server.ask(guest, first, "POST", approval(event), headers={})
    assert (refused.status, store.find(event).approved_ns) == (400, None)
    assert server.ask(guest, first, "POST", approval(event)).status == 200
    assert store.find(event).approved_ns is not None


def test_half_a_character_is_no_event(server, store):
    """400, and nothing is logged of it."""
    guest = server.guest()
    answer = server.ask(guest, method="POST", body=approval("\ud800"))
    assert answer.status == 400
    assert "EventId" in answer.data["error"]


def test_an_unknown_caller_learns_nothing(server):
    """404 and no word, whatever it asks for and says of itself."""
    for path in (PATH, "/metadata/instance?api-version=2021-02-01", "/", "/openapi.json"):
        answer = server.ask(None, path, source=STRANGER, headers={"Host": "web1"})
        assert (answer.status, answer.body) == (404, b"")


@pytest.mark.parametrize(
    ("path", "headers", "said"),
    [
        (PATH, {}, '{ "error": "Bad request: . Required metadata header not specified" }'),
        (PATH, {"Metadata": "false"}, "Required metadata header not specified"),
        ("/metadata/scheduledevents", {"Metadata": "true"}, "newest-versions"),
        ("/metadata/scheduledevents?api-version=2099-01-01", None, "newest-versions"),
        (PATH, {"Metadata": "true", "X-Forwarded-For": "127.0.0.2"}, "X-Forwarded-For"),
        (PATH + "&api-version=2020-07-01", None, "Duplicate"),
        (PATH + "&a=1&A=2", None, "Duplicate"),
    ],
)
def test_a_request_that_breaks_the_contract_is_refused(server, path, headers, said):
    """400 with an error in words, as JSON."""
    answer = server.ask(server.guest(), path, headers=headers)
    assert answer.status == 400
    assert said in answer.body.decode()
    assert "error" in answer.data
    if "newest-versions" in answer.data:
        assert answer.data["newest-versions"] == ["2020-07-01", "2019-08-01", "2019-04-01"]


def test_what_is_tolerated(server):
    """Other parameters, any case of the header, no header at the first version."""
    guest = server.guest()
    assert server.ask(guest, PATH + "&other=1").status == 200
    assert server.ask(guest, headers={"METADATA": "TRUE"}).status == 200
    first = "/metadata/scheduledevents?api-version=2017-03-01"
    assert server.ask(guest, first, headers={}).status == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
def test_only_get_and_post(server, method):
    """405."""
    assert server.ask(server.guest(), method=method).status == 405


def test_every_version_is_served_with_its_keys(server, store):
    """One state, cut per version."""
    guest, other = server.guest(), server.guest()
    event = publish(store, guest)
    seen = []
    for number, version in enumerate(VERSIONS):
        path = f"/metadata/scheduledevents?api-version={version}"
        answer = server.ask(guest if number < 5 else other, path)
        if number < 5:
            assert [e["EventId"] for e in answer.data["Events"]] == [event]
            seen.append(len(answer.data["Events"][0]))
    assert seen == [6, 6, 6, 6, 7]


def test_a_guest_that_has_the_document_is_told_so(server, store):
    """ETag and If-None-Match on GET; after a change it does not match; POST ignores it."""
    guest = server.guest()
    etag = server.ask(guest).headers["etag"]
    ask = {"Metadata": "true", "If-None-Match": etag}
    answer = server.ask(guest, headers=ask)
    assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", etag)
    event = publish(store, guest)
    changed = server.ask(guest, headers=ask)
    assert (changed.status, changed.data["DocumentIncarnation"]) == (200, 2)
    ask["If-None-Match"] = changed.headers["etag"]
    assert server.ask(guest, method="POST", body=approval(event), headers=ask).status == 200


@pytest.mark.parametrize("content_type", [None, "application/x-www-form-urlencoded", "text/css"])
def test_an_approval_is_parsed_whatever_its_type_says(server, store, content_type):
    """curl says form, others nothing. 200 with an empty body, and again."""
    guest = server.guest()
    event = publish(store, guest)
    headers = {"Metadata": "true"} | ({"Content-Type": content_type} if content_type else {})
    for _ in range(2):
        answer = server.ask(guest, method="POST", body=approval(event), headers=headers)
        assert (answer.status, answer.body) == (200, b"")
    assert store.find(event).approved_by == guest


@pytest.mark.parametrize(
    "body",
    ["", "{", "[]", '{"StartRequests": 5}', approval("NO-SUCH-ID"), "x" * 70_000, "[" * 60_000],
    ids=["empty", "torn", "list", "number", "unknown", "long", "deep"],
)
def test_a_wrong_approval_changes_nothing(server, store, body):
    """400, and no stack trace."""
    guest = server.guest()
    event = publish(store, guest)
    answer = server.ask(guest, method="POST", body=body)
    assert answer.status == 400
    assert set(answer.data) == {"error"}
    assert store.find(event).approved_ns is None


def test_all_guests_of_a_set_see_its_events_and_any_may_approve(server, store):
    """web2 approves what will hit web1; a guest outside sees nothing and may not."""
    outsider = server.guest()
    event = publish(store, "web1", scope="set:web")
    try:
        for name in WEB:
            assert [e["EventId"] for e in server.ask(name).data["Events"]] == [event]
        assert server.ask(outsider).data["Events"] == []
        assert server.ask(outsider, method="POST", body=approval(event)).status == 400
        assert store.find(event).approved_ns is None
        assert server.ask("web2", method="POST", body=approval(event)).status == 200
        assert store.find(event).approved_by == "web2"
    finally:
        store.cancel([event])


def test_the_sixth_request_in_a_second_is_too_many(server):
    """429 for whoever floods; the next guest does not notice."""
    flood, other = server.guest(), server.guest()
    statuses = [server.ask(flood).status for _ in range(15)]
    assert statuses[0] == 200
    assert 429 in statuses
    assert server.ask(other).status == 200


def test_events_survive_a_crash_of_the_server(tmp_path):
    """kill -9: the same EventId, the same incarnation, the same ETag."""
    server = Server(tmp_path).start()
    with Store(tmp_path) as store:
        event = publish(store, "g10")
        before = server.ask("g10")
        server.kill()
        server.start()
        after = server.ask("g10")
        assert (after.body, after.headers["etag"]) == (before.body, before.headers["etag"])
        assert after.data["Events"][0]["EventId"] == event
        wait_for_sight(store, "g10")
    server.kill(signal.SIGTERM)
    log = (tmp_path / "events-access.log").read_text()
    assert "'g10' GET" in log


def wait_for_sight(store, name):
    def look():
        if name not in [s.name for s in store.seen(f"guest:fixed-{name}", 0)]:
            raise NotYet("nobody was noted")

    wait_for(look, what="the sighting", deadline=Deadline.after(20))


def test_an_event_of_a_driver_that_died_is_removed(server, store):
    """No guest waits for a run that is gone; the incarnation tells them."""
    guest = server.guest()
    event = Event("", EventType.FREEZE, (guest,), State.PLANNED, 0)
    ids = [store.plan(f"guest:fixed-{guest}", "0", event, owner="process 1 0 dead")]
    store.announce(ids, SYSTEM_CLOCK.realtime_ns())

    def look():
        if store.find(ids[0]).state is not State.CANCELLED:
            raise NotYet("still there")

    wait_for(look, what="the removal", deadline=Deadline.after(20))
    assert server.ask(guest).data == {"DocumentIncarnation": 3, "Events": []}


def test_a_second_server_of_the_same_store_is_refused(server, monkeypatch, capsys):
    """One source of truth has one voice."""
    monkeypatch.setenv("HARNESS_STATE_DIR", str(server.folder))
    arguments = ["--address", "127.0.0.1", "--port", "0", "--identify", "127.0.0.1=x"]
    assert run_command_line(["events", "serve", *arguments]) == 3
    assert "served" in capsys.readouterr().err


def test_an_address_that_others_can_reach_needs_a_word(tmp_path, monkeypatch, capsys):
    """0.0.0.0 is refused, exit 2."""
    monkeypatch.setenv("HARNESS_STATE_DIR", str(tmp_path))
    assert run_command_line(["events", "serve", "--address", "0.0.0.0", "--port", "0"]) == 2
    assert "--anywhere" in " ".join(capsys.readouterr().err.split())


def test_a_guest_is_told_who_it_is(server):
    """Half of the clients need it to find themselves in Resources."""
    version = "api-version=2021-02-01"
    answer = server.ask("web2", f"/metadata/instance?{version}")
    assert answer.data["compute"] == {
        "name": "web2",
        "placementGroupId": "web",
        "platformUpdateDomain": "1",
        "vmId": "fixed-web2",
    }
    text = server.ask("web2", f"/metadata/instance/compute/name?{version}&format=text")
    assert (text.body, text.headers["content-type"]) == (b"web2", "text/plain; charset=utf-8")


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/metadata/instance?api-version=2021-02-01", {}, 400),
        ("/metadata/instance", None, 400),
        ("/metadata/instance/compute/secret?api-version=2021-02-01", None, 404),
        ("/metadata/instance/compute?api-version=2021-02-01&format=text", None, 404),
        ("/metadata/instances?api-version=2021-02-01", None, 404),
        ("/metadata", None, 404),
        ("/", None, 404),
        ("/metadata/../../etc/passwd", None, 404),
    ],
)
def test_there_is_nothing_else(server, path, headers, status):
    """No directory, no other file."""
    assert server.ask(server.guest(), path, headers=headers).status == status


# Google's and Amazon's dialects

GOOGLE = "/computeMetadata/v1/instance/maintenance-event"
FLAVOR = {"Metadata-Flavor": "Google"}


def test_google_says_none_and_then_what_comes(server, store):
    """With its headers, for the guest that is hit; without the flavour 403."""
    guest = server.guest()
    quiet = server.ask(guest, GOOGLE, headers=FLAVOR)
    assert (quiet.body, quiet.headers["metadata-flavor"]) == (b"NONE", "Google")
    publish(store, guest)
    told = server.ask(guest, GOOGLE, headers=FLAVOR)
    assert told.body == b"MIGRATE_ON_HOST_MAINTENANCE"
    assert told.headers["etag"] != quiet.headers["etag"]
    assert server.ask(guest, GOOGLE, headers={}).status == 403
    relayed = {**FLAVOR, "X-Forwarded-For": "1.2.3.4"}
    assert server.ask(guest, GOOGLE, headers=relayed).status == 403


def test_google_waits_for_a_change(server, store):
    """Not longer than timeout_sec; not at all where last_etag is an old one."""
    guest = server.guest()
    etag = server.ask(guest, GOOGLE, headers=FLAVOR).headers["etag"]
    wait = f"{GOOGLE}?wait_for_change=true"
    watch = Stopwatch()
    assert server.ask(guest, f"{wait}&timeout_sec=1", headers=FLAVOR).body == b"NONE"
    assert watch.elapsed_s() >= 0.9
    publish(store, guest)
    changed = server.ask(guest, f"{wait}&last_etag={etag}&timeout_sec=100", headers=FLAVOR)
    assert changed.body == b"MIGRATE_ON_HOST_MAINTENANCE"


def test_amazon_wants_a_token_first(server, store):
    """IMDSv2; another guest's token is none."""
    path = "/latest/meta-data/events/maintenance/scheduled"
    guest, other = server.guest(), server.guest()
    event = publish(store, guest)
    ttl = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    token = server.ask(guest, "/latest/api/token", "PUT", headers=ttl).body.decode()
    mine = {"X-aws-ec2-metadata-token": token}
    (told,) = server.ask(guest, path, headers=mine).data
    assert told["EventId"].endswith(event.replace("-", "").lower()[:17])
    assert server.ask(other, path, headers=mine).status == 401
    assert server.ask(guest, path, headers={}).status == 401
    for wrong in ({}, {"X-aws-ec2-metadata-token-ttl-seconds": "0"}):
        assert server.ask(other, "/latest/api/token", "PUT", headers=wrong).status == 400


# hostile guests


def open_as(server, guest):
    return socket.create_connection(
        ("127.0.0.1", server.port), timeout=30, source_address=(GUESTS[guest], 0)
    )


def memory_mib(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


def test_ten_megabytes_are_not_kept(server):
    """As a body with and without a length, as a head without an end: refused or cut off."""
    guest, other = server.guest(), server.guest()
    before_mib = memory_mib(server.pid)
    heads = [
        f"POST {PATH} HTTP/1.1\r\nMetadata: true\r\nContent-Length: 10000000\r\n\r\n",
        f"POST {PATH} HTTP/1.1\r\nMetadata: true\r\nTransfer-Encoding: chunked\r\n\r\n989680\r\n",
        f"GET {PATH} HTTP/1.1\r\nX: ",
        f"GET /{'a' * 1000}",
    ]
    for head in heads:
        with open_as(server, guest) as connection:
            answer = b""
            try:
                connection.sendall(head.encode() + b"x" * 10_000_000)
                answer = connection.recv(100)
            except (ConnectionError, TimeoutError):
                pass
            assert answer == b"" or answer.startswith(b"HTTP/1.1 400")
    assert server.ask(other).status == 200
    assert memory_mib(server.pid) - before_mib < 30


def test_a_guest_that_never_finishes_its_request_is_cut_off(server):
    """Byte by byte or not at all; blank lines are no request either."""
    guest, other = server.guest(), server.guest()
    silent, slow, blank = (open_as(server, guest) for _ in range(3))
    slow.sendall(f"GET {PATH} HTTP/1.1\r\nX".encode())
    blank.sendall(b"\r\n")
    watch = Stopwatch()
    assert server.ask(other).status == 200
    for connection in (silent, slow, blank):
        with contextlib.suppress(ConnectionError):
            assert connection.recv(10) == b""
        connection.close()
    assert watch.elapsed_s() < 25


def test_connections_are_counted_for_each_guest(server):
    """One that opens hundreds gets a few; the next guest gets its answer."""
    guest, other = server.guest(), server.guest()
    connections = []
    for _ in range(100):
        connections.append(open_as(server, guest))
    assert server.ask(other).status == 200
    alive = 0
    for connection in connections:
        connection.setblocking(False)
        try:
            connection.recv(1)
        except BlockingIOError:
            alive += 1
        except ConnectionError:
            pass
        connection.close()
    assert alive <= 16


def test_what_is_no_http_is_refused_without_a_trace(server):
    """And the server lives."""
    guest = server.guest()
    for rubbish in (b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"GET \xff\xfe HTTP/1.1\r\n\r\n"):
        with open_as(server, guest) as connection:
            connection.sendall(rubbish)
            answer = connection.recv(1000)
        assert b"Traceback" not in answer
    assert server.ask(server.guest()).status == 200
