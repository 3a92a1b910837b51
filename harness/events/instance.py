"""``/metadata/instance``: who a guest is, as much as clients of Scheduled Events need. Pure."""

from __future__ import annotations

import json
import re
from typing import Any

from harness.events.schema import Member

_VERSION = re.compile(r"20\d\d-[01]\d-[0-3]\d")
_JSON = "application/json; charset=utf-8"
_TEXT = "text/plain; charset=utf-8"


def is_version(text: str) -> bool:
    """Clients ask for any of some twenty; what we answer has been in all of them."""
    return _VERSION.fullmatch(text) is not None


def describe(member: Member) -> dict[str, Any]:
    """The document of one guest."""
    kind, _, name = member.scope.partition(":")
    return {
        "compute": {
            "name": member.name,
            "placementGroupId": name if kind != "guest" else "",
            "platformUpdateDomain": member.update_domain,
            "vmId": member.uuid,
        }
    }


def look_up(tree: dict[str, Any], path: str, form: str) -> tuple[bytes, str] | None:
    """The part of ``tree`` at ``path`` (as ``/compute/name``, any case) and its media type.

    None if there is no such part, or if a branch is wanted as text.
    """
    found: Any = tree
    for step in filter(None, path.split("/")):
        if not isinstance(found, dict):
            return None
        found = {key.lower(): value for key, value in found.items()}.get(step.lower())
    if found is None:
        return None
    if form.lower() != "text":
        return json.dumps(found).encode(), _JSON
    return None if isinstance(found, dict) else (str(found).encode(), _TEXT)
