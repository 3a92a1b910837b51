# Copyright: the authors of harness
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The document of C(harness run|plan --rollout ID --json) → a result of Ansible. Pure."""

from __future__ import annotations


def as_result(answer, message, full_record=False):
    """Return the result of an answer: changed, failed or skipped, and what is to be read from it.

    Args:
        answer: The document.
        message: What it says of its error, for people.
        full_record: Return the whole of run.json, not only its id and its guests.
    """
    record = answer.get("record")
    result = {
        "rollout": answer["rollout"],
        "outcome": answer["outcome"],
        "exit_code": answer["exit_code"],
        "already": bool(answer.get("already")),
        "error": answer.get("error"),
        "run_id": record.get("run_id") if record else None,
        "guests": [_guest(guest) for guest in record.get("guests", ())] if record else [],
        "changed": _paused(record) and not answer.get("already"),
    }
    if full_record:
        result["record"] = record
    if answer["outcome"] == "not-needed":
        result["skipped"] = True
        result["msg"] = message
    elif answer["outcome"] != "pass":
        result["failed"] = True
        result["msg"] = "{}: {}".format(
            answer["outcome"], message if answer.get("error") else _broken(record)
        )
    return result


def domains(plan):
    """Return which guests would be paused together: for each update domain, a list of names."""
    return [
        {"update_domain": domain["name"], "guests": [guest["name"] for guest in domain["guests"]]}
        for window in [plan] + list(plan.get("later") or ())
        for domain in window["update_domains"]
    ]


def difference(plan):
    """Return a plan as Ansible shows a difference: what runs now, and what would be paused."""
    lines = [
        "{}: pause {}\n".format(one["update_domain"], ", ".join(one["guests"]))
        for one in domains(plan)
    ]
    return {
        "before_header": "update domains",
        "after_header": "update domains: guests that are paused together, in this order",
        "before": "",
        "after": "".join(lines),
    }


def _paused(record):
    """Return True if a guest was paused: until then nothing was changed."""
    guests = (record or {}).get("guests") or ()
    return any(
        guest.get("pause_window_s") is not None or guest.get("still_paused") for guest in guests
    )


def _guest(guest):
    names = ("name", "outcome", "pause_window_s", "still_paused", "resume_hint")
    return {name: guest.get(name) for name in names}


def _broken(record):
    """Return what a run that ended by itself has to say against itself."""
    record = record or {}
    found = list(record.get("problems") or ())
    for part in list(record.get("update_domains") or ()) + list(record.get("guests") or ()):
        found += [
            "{}: {}".format(part.get("name"), problem) for problem in part.get("problems") or ()
        ]
    for guest in record.get("guests") or ():
        found += [
            "{}: {}: {}".format(guest.get("name"), check.get("name"), check.get("detail"))
            for check in guest.get("checks") or ()
            if check.get("outcome") in ("fail", "error")
        ]
    return "; ".join(found[:5]) or "see run.json"
