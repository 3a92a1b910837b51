"""A configuration as TOML: what is in force, each value with where it came from. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from harness.core.config import Loaded
from harness.core.keys import FURTHER, UPDATE, kinds_of

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_ENTRY = re.compile(r"(update|guest|availability_set)\[(.*)\]\.([^\]]+)", re.DOTALL)


def as_toml(loaded: Loaded) -> str:
    """Return what is in force as TOML, which a harness reads to the same configuration.

    What is not set, and what belongs to another kind of update, is in comments.
    """
    rows = list(loaded.shown())
    lines: list[str] = []
    idle = _not_in_force(loaded)
    entries = [row for row in rows if _ENTRY.fullmatch(row[0])]
    plain = [row for row in rows if row not in entries]
    for section in dict.fromkeys(key.rpartition(".")[0] for key, _, _ in plain):
        if section:
            lines += ["", f"[{section}]"]
        for key, value, origin in plain:
            if key.rpartition(".")[0] == section:
                lines.append(_line(key.rpartition(".")[2], value, origin, idle=key in idle))
    return "\n".join([*lines, *_entries(loaded)]).lstrip("\n") + "\n"


def _not_in_force(loaded: Loaded) -> set[str]:
    model = type(loaded.config)
    kinds = kinds_of(model)
    own = set(kinds[loaded.config.update.kind].model_fields)
    every = {name for settings in kinds.values() for name in settings.model_fields}
    return {f"update.{name}" for name in every - own}


def _entries(loaded: Loaded) -> Iterator[str]:
    several = loaded.config.updates if loaded.config.further_updates else ()
    tables = {UPDATE: several, "guest": loaded.config.guest}
    tables["availability_set"] = loaded.config.availability_set
    for table, entries in tables.items():
        origin = loaded.origins.get(FURTHER if table == UPDATE else table, "default")
        for entry in entries:
            yield ""
            yield f"[[{table}]]"
            shown = json.loads(entry.model_dump_json(exclude_unset=True))
            for key, value in shown.items():
                yield from _nested(key, value, origin)


def _nested(key: str, value: Any, origin: str) -> Iterator[str]:
    if isinstance(value, dict):
        for name, one in value.items():
            yield from _nested(f"{key}.{name}", one, origin)
    else:
        yield _line(key, value, origin)


def _line(key: str, value: Any, origin: str, *, idle: bool = False) -> str:
    where = "".join(sign if sign.isprintable() else "?" for sign in origin)
    if value is None:
        return f"# {key} is not set  # {where}"
    hidden = "# " if idle else ""
    return f"{hidden}{key} = {toml_value(value)}  # {where}"


def toml_value(value: Any) -> str:
    """Return a value as TOML writes it, on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, dict):
        inside = ", ".join(
            f"{_key(k)} = {toml_value(v)}" for k, v in value.items() if v is not None
        )
        return "{" + inside + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    return repr(value)


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else toml_value(key)
