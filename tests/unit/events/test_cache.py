"""The store as the server uses it."""

import asyncio

import pytest

from harness.events.cache import Desk
from harness.events.schema import Member, scope_of_guest, scope_of_set
from harness.events.store import Store
from harness.events.store_file import EventsFile

WEB = scope_of_set("web")


@pytest.fixture
def read(monkeypatch):
    """What the store answered: how many rows a question."""
    found = []
    rows = EventsFile.rows

    def counted(self, question, **values):
        answer = rows(self, question, **values)
        found.append(len(answer))
        return answer

    monkeypatch.setattr(EventsFile, "rows", counted)
    return found


async def written(desk):
    while desk._writing is not None and not desk._writing.done():
        await asyncio.sleep(0.001)


def test_what_a_poll_reads_does_not_grow_with_the_guests(tmp_path, read):
    """Each is written down when it first comes, and that is a change of what the server reads."""
    with Store(tmp_path) as store:
        store.enrol(Member(f"u{n}", f"g{n}", WEB) for n in range(300))

    async def come():
        desk = Desk(tmp_path)
        for number in range(3):
            member = desk.member(f"u{number}", "as it calls itself")
            assert member == Member(f"u{number}", f"g{number}", WEB)
            desk.saw(member, 1)
            await written(desk)
        desk.close()

    asyncio.run(come())
    assert read.count(1) == 3  # else nothing was read
    assert max(read) == 1
    with Store(tmp_path) as store:
        assert len(store.seen(WEB, 0)) == 3


def test_a_guest_that_moves_is_seen_in_its_new_set_at_once(tmp_path):
    async def move():
        desk = Desk(tmp_path)
        before = desk.member("u", "g")
        with Store(tmp_path) as store:
            store.enrol([Member("u", "g", WEB)])
        after = desk.member("u", "g")
        desk.close()
        return before, after

    before, after = asyncio.run(move())
    assert before.scope == scope_of_guest("u")
    assert after.scope == WEB
