"""A guest without SSH: maintained by its guest agent alone, on a real Debian."""

from __future__ import annotations


def only_agent(guest: dict) -> dict[str, str]:
    """Check → outcome of a guest of a record."""
    return {check["name"]: check["outcome"] for check in guest["checks"]}


def test_a_guest_is_maintained_by_its_agent_alone(harness, lab):
    """Its clock is right to milliseconds, and the record says by which way."""
    ended = harness("run", "debian-1", "--duration", "1", "--access", "agent", "--json")
    guest = ended.record["guests"][0]
    assert ended.code == 0, (only_agent(guest), ended.err)
    assert abs(guest["clock"]["after_correction"]["offset_s"]) <= 0.010
    assert guest["facts"]["access"] == "agent"
    assert guest["identity"]["bound_by"] == "agent-channel"
