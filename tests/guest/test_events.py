"""Scheduled Events in real guests: told, asked, paused, and told that it is over.

Requires: the session's lab, whose bridge carries 169.254.169.254; for the production client
Debian's package resource-agents on this host. Leaves behind: nothing.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from harness.core.paths import state_dir
from harness.core.timebase import NS_PER_S, SYSTEM_CLOCK, Deadline, NotYet, wait_for
from harness.events.document import Event, EventType, State
from harness.events.scheduler import owner_of_process, scheduled
from harness.events.store import Store
from harness.results.folder import find_run
from harness.results.journal import entries, read

URL = "http://169.254.169.254/metadata/scheduledevents?api-version=2020-07-01"
AGENT = Path("/usr/lib/ocf/resource.d/heartbeat/azure-events-az")
OCF = Path("/usr/lib/ocf/lib/heartbeat/ocf.py")

#: Polls, approves its own event, and writes down what it saw; ends when the event is gone.
CLIENT = """
import json, time, urllib.request
def ask(data=None):
    request = urllib.request.Request(URL, data, {"Metadata": "true"})
    return urllib.request.urlopen(request, timeout=5).read()
seen = []
print("ready", flush=True)
while not seen or seen[-1][2] != []:
    document = json.loads(ask())
    states = [(e["EventId"], e["EventStatus"]) for e in document["Events"]]
    if states and not seen or seen and states != seen[-1][2]:
        seen.append((time.time(), document["DocumentIncarnation"], states))
    for event_id, state in states:
        if state == "Scheduled":
            ask(json.dumps({"StartRequests": [{"EventId": event_id}]}).encode())
    time.sleep(0.3)
print(json.dumps(seen), flush=True)
"""

#: The cluster that the production client talks to: attributes are files.
CLUSTER = {
    "crm_attribute": """#!/bin/sh
node=global
while [ $# -gt 0 ]; do
    case "$1" in
    --name) name=$2; shift ;;
    --node) node=$2; shift ;;
    --update) value=$2 do=update; shift ;;
    --type|--default) shift ;;
    --delete) do=delete ;;
    --query) do=query ;;
    esac
    shift
done
mkdir -p "/run/crm/$node"
file="/run/crm/$node/$name"
case "$do" in
update) printf %s "$value" >"$file" ;;
delete) rm -f "$file" ;;
query) [ ! -e "$file" ] || cat "$file" ;;
esac
""",
    "crm_node": '#!/bin/sh\necho "1 $(hostname) member"\necho "2 other member"\n',
    "crm_simulate": '#!/bin/sh\necho "Transition Summary:"\n',
    "crm_resource": "#!/bin/sh\n",
}
#: Pacemaker's part: the monitor action again and again, and a note of each new state.
PACEMAKER = """
export OCF_ROOT=/run/ocf OCF_FUNCTIONS_DIR=/run/ocf PATH=/run/ocf:$PATH
export OCF_RESKEY_eventTypes=Freeze OCF_RESOURCE_INSTANCE=az __OCF_ACTION=monitor
last=AVAILABLE
echo ready
while :; do
    python3 /run/ocf/azure-events-az monitor >/run/ocf/log 2>&1 || tail -1 /run/ocf/log
    state=$(cat "/run/crm/$(hostname)/azure-events-az_curNodeState" 2>/dev/null || echo AVAILABLE)
    [ "$state" = "$last" ] || echo "$state"
    case "$last>$state" in *T*">"AVAILABLE) break ;; esac
    last=$state
done
"""


@contextmanager
def running(tmp_path, *arguments):
    """A ``harness`` process; ended at the end if it has not by then."""
    with (
        open(tmp_path / "out", "w+") as out,
        open(tmp_path / "err", "w+") as err,
        subprocess.Popen(
            [sys.executable, "-m", "harness", *arguments],
            stdout=out, stderr=err, stdin=subprocess.DEVNULL, cwd=tmp_path,
            start_new_session=True,
        ) as process,
    ):  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            process.wait(60)


def put(shell, path, text):
    """A file in the guest."""
    data = base64.b64encode(text.encode()).decode()
    target = shlex.quote(path)
    shell.run(f"echo {data} | base64 -d >{target} && chmod 755 {target}", Deadline.after(20))


def until(look, what, seconds=60):
    def probe():
        found = look()
        if not found:
            raise NotYet(what)
        return found

    return wait_for(probe, what=what, deadline=Deadline.after(seconds))


def said(tmp_path, text):
    return until(lambda: text in (tmp_path / "err").read_text(), text)


def stamps(lines, event):
    return [line.boottime_ns for line in lines if line.event == event]


def test_a_guest_polls_approves_is_frozen_and_sees_it_over(session, tmp_path):
    """Scheduled, approved from inside, Started, frozen, gone, and by then its clock is right."""
    guest = session("debian-1")
    put(guest.shell, "/run/client.py", CLIENT.replace("URL", repr(URL)))
    arguments = ("run", "debian-1", "--notify", "30m", "--time-scale", "30", "--duration", "2",
                 "--json")  # fmt: skip
    with running(tmp_path, *arguments) as run:
        said(tmp_path, "announced for")
        client = guest.shell.stream("python3 /run/client.py", Deadline.after(30))
        assert client.listen(Deadline.after(60))[0] == "ready"
        seen = json.loads(client.listen(Deadline.after(90))[0])
        assert run.wait(90) == 0, (tmp_path / "err").read_text()
        client.close()
    record = json.loads((tmp_path / "out").read_text())
    notice = record["update_domains"][0]["notice"]
    (event_id,) = notice["event_ids"]
    scheduled_first, *then = [states for _, _, states in seen if states]
    assert scheduled_first == [[event_id, "Scheduled"]]
    # It is frozen milliseconds after the start; whether a poll sees that is a matter of chance.
    assert then in ([], [[[event_id, "Started"]]])
    incarnations = [incarnation for _, incarnation, _ in seen]
    assert incarnations == sorted(set(incarnations))
    assert incarnations[-1] - incarnations[0] == 2, "scheduled → started → over, each counted"
    assert notice["approved_by"] == ["debian-1"]
    assert notice["approved_at"] < notice["started_at"] < notice["not_before"]
    assert notice["started_at"] < notice["removed_at"]
    assert {poll["guest"] for poll in notice["polls"]} == {"debian-1"}
    # The guest's own clock, at the moment when it saw the event gone, was the host's.
    end = guest.sampler.read(8, Deadline.after(10))
    assert abs(end.offset_s) <= 0.010 + end.uncertainty_s
    lines = read(find_run(state_dir(), None).path / "journal.jsonl").lines
    (started,), (armed,), paused = (stamps(lines, e) for e in ("started", "armed", "paused"))
    assert started < armed < paused[0]


def test_nobody_approves_so_it_waits_until_the_time_it_said(session, tmp_path):
    """Two sets of one domain; busybox guests see their set's event and not the other's."""
    tiny = session("tiny-2")
    arguments = ("run", "tiny-1", "debian-1", "--notify", "10s", "--duration", "0.5", "--json")
    with running(tmp_path, *arguments) as run:
        said(tmp_path, "announced for")
        ask = f"wget -q -O - --header 'Metadata: true' '{URL}'"
        until(lambda: tiny.shell.run(ask, Deadline.after(10), check=False).returncode == 0, "up")
        document = json.loads(tiny.shell.run(ask, Deadline.after(10)).stdout)
        assert run.wait(90) == 0, (tmp_path / "err").read_text()
    (event,) = document["Events"]
    assert event["Resources"] == ["tiny-1"]  # tiny-2 shares its set, debian-1 does not
    record = json.loads((tmp_path / "out").read_text())
    notice = record["update_domains"][0]["notice"]
    assert len(notice["event_ids"]) == 2
    assert notice["approved_by"] == []
    started, promised = map(datetime.fromisoformat, (notice["started_at"], notice["not_before"]))
    assert started >= promised
    lines = read(find_run(state_dir(), None).path / "journal.jsonl").lines
    (announced,) = [line.entry for line in lines if isinstance(line.entry, entries.Announced)]
    pausing = min(line.realtime_ns for line in lines if line.event == "pausing")
    assert pausing >= announced.not_before_ns


def test_ctrl_c_before_it_starts_cancels_it(session, tmp_path, libvirt, lab):
    """Exit 130, nobody was paused, the event is gone and was not the guest's last."""
    uuid = next(guest.uuid for guest in lab.guests if guest.name == "debian-1")
    before = len(libvirt.events(uuid))
    with running(tmp_path, "run", "debian-1", "--notify", "15m") as run:
        said(tmp_path, "announced for")
        run.send_signal(signal.SIGINT)
        assert run.wait(60) == 130
    with Store(state_dir()) as store:
        last = store.events()[-1]
        assert (last.state, last.started_ns) == (State.CANCELLED, None)
        assert store.snapshot(last.scope).events == ()
    assert len(libvirt.events(uuid)) == before


def test_a_run_that_died_has_told_its_guests_and_its_record_says_so(tmp_path, harness, script):
    """No server is left either, as after another kernel's start: `recover` removes the event."""
    pause = ("--update", script("sleep 60"), "--notify", "1s", "--budget", "90")
    with running(tmp_path, "run", "tiny-1", *pause) as run, Store(state_dir()) as store:
        said(tmp_path, "announced for")
        folder = find_run(state_dir(), None)
        until(lambda: _journal_says(folder, "paused"), "its pause", 90)
        server = _server_of(run.pid)
        for pid in (run.pid, server):
            os.kill(pid, signal.SIGKILL)
        until(lambda: _journal_says(folder, "resumed"), "its guardian", 60)
        event = store.events()[-1]
        assert event.state is State.STARTED
        ended = harness("recover")
        assert ended.code == 0, ended.err
        event = store.find(event.event.event_id)
    assert event.state is State.ENDED
    (notice,) = [domain.notice for domain in folder.record().update_domains]
    assert notice.event_ids == (event.event.event_id,)
    assert notice.announced_at < notice.started_at < notice.removed_at


def _journal_says(folder, event):
    lines = read(folder.path / "journal.jsonl").lines
    return any(line.event == event for line in lines)


def _server_of(pid):
    children = [
        int(one)
        for task in Path(f"/proc/{pid}/task").glob("*/children")
        for one in task.read_text().split()
    ]
    (server,) = [one for one in children if b"serve" in Path(f"/proc/{one}/cmdline").read_bytes()]
    return server


def test_an_unhealthy_domain_ends_its_event_and_cancels_the_others(tmp_path, harness, script):
    """Domain 0 fails; nobody in domain 1 is told of a pause that will not come."""
    ended = harness("run", "tiny-1", "tiny-2", "--update", script("exit 1"), "--scope", "guest",
                    "--notify", "1s", "--json")  # fmt: skip
    assert ended.code == 3
    first, second = (domain["notice"] for domain in ended.record["update_domains"])
    assert first["removed_at"]
    assert not first["cancelled"]
    assert second["cancelled"]
    assert second["announced_at"] is None


@pytest.mark.skipif(
    not AGENT.exists() and not os.environ.get("HARNESS_REQUIRE"), reason="no resource-agents"
)
def test_the_production_client_of_pacemaker_goes_through_a_real_freeze(session, tmp_path):
    """Debian's azure-events-az, unmodified: AVAILABLE, STOPPING, IN_EVENT, AVAILABLE."""
    guest = session("debian-1")
    guest.shell.run("rm -rf /run/ocf /run/crm && mkdir -p /run/ocf", Deadline.after(10))
    put(guest.shell, "/run/ocf/azure-events-az", AGENT.read_text())
    put(guest.shell, "/run/ocf/ocf.py", OCF.read_text())
    for name, text in CLUSTER.items():
        put(guest.shell, f"/run/ocf/{name}", text)
    put(guest.shell, "/run/ocf/pacemaker", PACEMAKER)
    arguments = ("run", "debian-1", "--notify", "15m", "--time-scale", "10", "--duration", "2",
                 "--json")  # fmt: skip
    with running(tmp_path, *arguments) as run:
        said(tmp_path, "announced for")
        pacemaker = guest.shell.stream("sh /run/ocf/pacemaker", Deadline.after(30))
        assert pacemaker.listen(Deadline.after(30))[0] == "ready"
        states = [pacemaker.listen(Deadline.after(80))[0] for _ in range(3)]
        assert run.wait(90) == 0, (tmp_path / "err").read_text()
        pacemaker.close()
    assert states == ["STOPPING", "IN_EVENT", "AVAILABLE"]
    record = json.loads((tmp_path / "out").read_text())
    notice = record["update_domains"][0]["notice"]
    assert notice["approved_by"] == ["debian-1"]
    assert notice["started_at"] < notice["not_before"]


def test_where_nobody_can_be_told_nobody_is_paused(harness, libvirt, lab):
    """No interface carries the address: exit 3 with what to do."""
    uuid = next(guest.uuid for guest in lab.guests if guest.name == "tiny-1")
    before = len(libvirt.events(uuid))
    ended = harness("run", "tiny-1", "--notify", "1s", HARNESS_EVENTS_ADDRESS="10.1.2.3")
    assert ended.code == 3
    assert "no interface of this host carries 10.1.2.3" in " ".join(ended.err.split())
    assert len(libvirt.events(uuid)) == before


def test_a_maintenance_for_later_is_carried_out_by_the_server(tmp_path, harness):
    """Scheduled by one process, announced, paused and recorded by another, in its time."""
    with running(tmp_path, "events", "serve"), Store(state_dir()) as store:
        said(tmp_path, "answering guests on 169.254.169.254:80")
        before_ns = SYSTEM_CLOCK.realtime_ns()
        done = harness("events", "schedule", "tiny-1", "--in", "8s", "--notify", "2s",
                       "--duration", "0.2")  # fmt: skip
        assert done.code == 0, done.err
        until(lambda: scheduled(store)[-1].state not in ("waiting", "running"), "its end", 90)
        one, event = scheduled(store)[-1], store.events()[-1]
    assert (one.state, one.detail) == ("done", "exit code 0")
    assert event.event.resources == ("tiny-1",)
    assert event.started_ns >= before_ns + 7 * NS_PER_S


def test_a_guest_that_takes_anothers_address_speaks_for_nobody(session, tmp_path, lab):
    """debian-1 takes tiny-1's address: it is shown nothing of tiny-1's and approves nothing."""
    thief, peer = session("debian-1"), session("tiny-2")
    victim = next(guest.address for guest in lab.guests if guest.name == "tiny-1")
    with running(tmp_path, "events", "serve"), Store(state_dir()) as store:
        said(tmp_path, "answering guests on 169.254.169.254:80")
        event = Event("", EventType.FREEZE, ("tiny-1",), State.PLANNED, 0)
        ids = [store.plan("set:web", "0", event, owner=owner_of_process(os.getpid(), "test"))]
        store.announce(ids, (SYSTEM_CLOCK.realtime_ns() // NS_PER_S + 900) * NS_PER_S)
        steal = STEAL.format(victim=victim, url=URL, event=ids[0])
        put(thief.shell, "/run/steal.py", steal)
        try:
            out = thief.shell.run("python3 /run/steal.py", Deadline.after(120)).stdout
            ask = f"wget -q -O - --header 'Metadata: true' '{URL}'"

            told = json.loads(peer.shell.run(ask, Deadline.after(20)).stdout)
            peers = [found["EventId"] for found in told["Events"]]
            approved = store.find(ids[0]).approved_by
        finally:
            store.cancel(ids)
            subprocess.run(["ip", "neigh", "flush", "to", victim], check=True)
    own, *stolen = json.loads(out.splitlines()[-1])
    assert own == [200, []]
    assert stolen
    assert all(answer[0] in (0, 404) for answer in stolen), stolen
    assert peers == ids
    assert approved is None
    assert not re.search("Traceback", (tmp_path / "err").read_text())


#: Asks as itself, then with the victim's address, having told the host that this is its own.
STEAL = """
import http.client, json, socket, struct, subprocess, time
VICTIM, URL, EVENT = {victim!r}, {url!r}, {event!r}
link = json.loads(subprocess.check_output(["ip", "-json", "route", "get", "169.254.169.254"]))[0]
device = link["dev"]
mac = open(f"/sys/class/net/{{device}}/address").read().strip()
def ask(source, method, body, headers):
    connection = http.client.HTTPConnection("169.254.169.254", timeout=2, source_address=source)
    try:
        connection.request(method, "/" + URL.split("/", 3)[3], body,
                           {{"Metadata": "true", **headers}})
        response = connection.getresponse()
        data = response.read()
        events = json.loads(data)["Events"] if response.status == 200 and data else []
        return [response.status, [event["EventId"] for event in events]]
    except OSError:
        return [0, []]
def claim():
    # A gratuitous ARP request: VICTIM is at our MAC.
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    raw.bind((device, 0))
    hardware, address = bytes.fromhex(mac.replace(":", "")), socket.inet_aton(VICTIM)
    arp = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, hardware, address, b"", address)
    for _ in range(3):
        raw.send(b"\\xff" * 6 + hardware + b"\\x08\\x06" + arp)
for _ in range(10):  # the first answers may be 404: until the way to us is pinned
    answers = [ask(None, "GET", None, {{}})]
    if answers[0][0] == 200:
        break
    time.sleep(1)
subprocess.check_call(["ip", "address", "add", VICTIM + "/32", "dev", device])
try:
    body = json.dumps({{"StartRequests": [{{"EventId": EVENT}}]}})
    said = {{"Host": "tiny-1", "Forwarded": "for=" + VICTIM}}
    for method, sent, headers in (("GET", None, {{}}), ("POST", body, said)):
        claim()
        answers.append(ask((VICTIM, 0), method, sent, headers))
finally:
    subprocess.check_call(["ip", "address", "del", VICTIM + "/32", "dev", device])
print(json.dumps(answers))
"""


def test_a_guest_whose_lease_a_neighbour_released_is_still_answered(
    session, tmp_path, lab, libvirt
):
    """debian-1 borrows tiny-1's MAC for one real packet; tiny-1 keeps its place with its tap."""
    neighbour, victim = session("debian-1"), session("tiny-1")
    address = next(guest.address for guest in lab.guests if guest.name == "tiny-1")
    leases = libvirt.leases(Deadline.after(10))
    leased = tmp_path / "leased.toml"  # without addresses that a person has written down
    leased.write_text(f"uri = {lab.uri!r}\n")
    ask = f"wget -q -O - --header 'Metadata: true' '{URL}'"

    def answered():
        return victim.shell.run(ask, Deadline.after(10), check=False).returncode == 0

    release = RELEASE.format(
        address=address, mac=leases[address], server=address.rpartition(".")[0] + ".1"
    )
    put(neighbour.shell, "/run/release.py", release)
    try:
        with running(tmp_path, "events", "serve", "-c", str(leased)):
            until(answered, "the way to it is pinned")
            neighbour.shell.run("python3 /run/release.py", Deadline.after(20))
            until(lambda: address not in libvirt.leases(Deadline.after(10)), "no lease any more")
            # Who has no lease and was never seen here is a stranger, which has libvirt asked again.
            end = Deadline.after(3 * _ASKED_AGAIN_S)
            answers = [answered()]
            while not end.expired:
                SYSTEM_CLOCK.sleep(0.5)
                answers.append(answered())
    finally:
        renew = "udhcpc -i eth0 -n -q -t 20 -T 1 -s /bin/true"  # its address stays as it is
        victim.shell.run(renew, Deadline.after(30))
    assert all(answers), answers


_ASKED_AGAIN_S = 5.0
#: DHCPRELEASE, from the MAC of another guest: RFC 2131, 4.4.6.
RELEASE = """
import json, socket, struct, subprocess
ADDRESS, MAC, SERVER = {address!r}, {mac!r}, {server!r}
link = json.loads(subprocess.check_output(["ip", "-json", "route", "get", SERVER]))[0]
bridge = subprocess.check_output(["ip", "-json", "neigh", "show", SERVER])
to = bytes.fromhex(json.loads(bridge)[0]["lladdr"].replace(":", ""))
mac = bytes.fromhex(MAC.replace(":", ""))
options = b"\\x63\\x82\\x53\\x63" + b"\\x35\\x01\\x07" + b"\\x36\\x04" + socket.inet_aton(SERVER)
for identity in (b"", b"\\x3d\\x07\\x01" + mac):  # dnsmasq knows a lease by its client's, too
    dhcp = struct.pack("!BBBBIHH4s4s4s4s16s64s128s", 1, 1, 6, 0, 0x1234, 0, 0,
                       socket.inet_aton(ADDRESS), b"", b"", b"", mac, b"", b"")
    dhcp += options + identity + b"\\xff"
    udp = struct.pack("!HHHH", 68, 67, 8 + len(dhcp), 0) + dhcp
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0,
                       socket.inet_aton(ADDRESS), socket.inet_aton(SERVER))
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + struct.pack("!H", 0xFFFF & ~((total & 0xFFFF) + (total >> 16))) + head[12:]
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    raw.bind((link["dev"], 0))
    raw.send(to + mac + b"\\x08\\x00" + head + udp)
"""
