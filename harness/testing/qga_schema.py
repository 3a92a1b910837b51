"""What QEMU's guest agent takes and gives, by its own definitions (``qga/qapi-schema.json``).

Written down for the commands that harness uses, so that fakes of an agent refuse what a real one
would, and answer in its types; on Windows an agent has the same definitions. Names with ``*`` are
optional, as there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_STRUCTS: dict[str, dict[str, Any]] = {
    "GuestAgentCommandInfo": {"name": "str", "enabled": "bool", "*success-response": "bool"},
    "GuestAgentInfo": {"version": "str", "supported_commands": ["GuestAgentCommandInfo"]},
    "GuestExec": {"pid": "int"},
    "GuestExecStatus": {
        "exited": "bool",
        "*exitcode": "int",
        "*signal": "int",
        "*out-data": "str",
        "*err-data": "str",
        "*out-truncated": "bool",
        "*err-truncated": "bool",
    },
    "GuestFileRead": {"count": "int", "buf-b64": "str", "eof": "bool"},
    "GuestFileWrite": {"count": "int", "eof": "bool"},
    "GuestOSInfo": {
        f"*{name}": "str"
        for name in (
            "kernel-release",
            "kernel-version",
            "machine",
            "id",
            "name",
            "pretty-name",
            "version",
            "version-id",
            "variant",
            "variant-id",
        )
    },
    "GuestIpAddress": {"ip-address": "str", "ip-address-type": "str", "prefix": "int"},
    "GuestNetworkInterface": {
        "name": "str",
        "*hardware-address": "str",
        "*ip-addresses": ["GuestIpAddress"],
    },
    "nothing": {},
}
#: Command → its arguments, and what it returns.
COMMANDS: Mapping[str, tuple[dict[str, Any], Any]] = {
    "guest-ping": ({}, "nothing"),
    "guest-info": ({}, "GuestAgentInfo"),
    "guest-get-time": ({}, "int"),
    "guest-set-time": ({"*time": "int"}, "nothing"),
    "guest-get-osinfo": ({}, "GuestOSInfo"),
    "guest-network-get-interfaces": ({}, ["GuestNetworkInterface"]),
    "guest-exec": (
        {
            "path": "str",
            "*arg": ["str"],
            "*env": ["str"],
            "*input-data": "str",
            "*capture-output": "bool",
        },
        "GuestExec",
    ),
    "guest-exec-status": ({"pid": "int"}, "GuestExecStatus"),
    "guest-file-open": ({"path": "str", "*mode": "str"}, "int"),
    "guest-file-close": ({"handle": "int"}, "nothing"),
    "guest-file-read": ({"handle": "int", "*count": "int"}, "GuestFileRead"),
    "guest-file-write": ({"handle": "int", "buf-b64": "str", "*count": "int"}, "GuestFileWrite"),
    "guest-file-flush": ({"handle": "int"}, "nothing"),
}
#: How QEMU calls the types in its errors (qapi/qobject-input-visitor.c), and Python's for them.
_TYPES: dict[str, tuple[str, type]] = {
    "int": ("integer", int),
    "str": ("string", str),
    "bool": ("boolean", bool),
}


def refusal(command: str, arguments: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the class and words of the error for such a question; None: it is a good one."""
    if command not in COMMANDS:
        return "CommandNotFound", f"The command {command} has not been found"
    words = _wrong(COMMANDS[command][0], arguments)
    return ("GenericError", words) if words else None


def expect_answer(command: str, answer: Any) -> None:
    """Raise AssertionError if an agent could not give this answer."""
    returns = COMMANDS[command][1]
    words = _wrong_value("return", returns, answer)
    assert words is None, f"{command}: {words}: {str(answer)[:200]}"


def _wrong(fields: Mapping[str, Any], given: Any) -> str | None:
    if not isinstance(given, Mapping):
        return "Invalid parameter type for 'return', expected: object"
    known = {name.removeprefix("*"): kind for name, kind in fields.items()}
    for name in fields:
        if not name.startswith("*") and name not in given:
            return f"Parameter '{name}' is missing"
    for name, value in given.items():
        if name not in known:
            return f"Parameter '{name}' is unexpected"
        if words := _wrong_value(name, known[name], value):
            return words
    return None


def _wrong_value(name: str, kind: Any, value: Any) -> str | None:
    if isinstance(kind, list):
        if not isinstance(value, list):
            return f"Invalid parameter type for '{name}', expected: array"
        found = (
            _wrong_value(f"{name}[{number}]", kind[0], one) for number, one in enumerate(value)
        )
        return next((words for words in found if words), None)
    if kind in _STRUCTS:
        return _wrong(_STRUCTS[kind], value)
    word, of = _TYPES[kind]
    # A bool is an int in Python, and none in QEMU.
    if not isinstance(value, of) or (of is int and isinstance(value, bool)):
        return f"Invalid parameter type for '{name}', expected: {word}"
    return None
