"""``[[update]]`` more than once: which updates a configuration asks for, in order. Pure.

A file with one update, as a table or as a list of one, is read as before. Of several, the first
stays under ``update`` and the others are beside it, under :data:`FURTHER`, which no person writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableMapping
from typing import Any

from harness.core.errors import ConfigError
from harness.core.keys import FURTHER, KIND, UPDATE, settled, typed
from harness.core.settings import Config, UpdateSection

_DEFAULT_KIND = UpdateSection.model_fields["kind"].default


def apart(
    values: Mapping[str, Any],
    origins: MutableMapping[str, str],
    ranks: MutableMapping[str, int],
    model: type[Config],
) -> dict[str, Any]:
    """Return ``values`` (by dotted key) with a list of updates as the first one and the others.

    A stronger place than the file (a flag, the environment) that asks for a kind gets that one
    update alone: the one of that kind in the list, with its keys, or else a new one. ``origins``
    and ``ranks`` get what becomes keys of their own; of keys that do not belong to an update's
    kind :func:`harness.core.keys.settled` says the same as of a single one.

    Raises ConfigError for a key set for one of several, and for what is no list of tables.
    """
    kept = dict(values)
    if FURTHER in kept:
        raise ConfigError(
            "unknown key", file=origins[FURTHER], key=FURTHER, hint="write [[update]] once more"
        )
    listed = kept.get(UPDATE)
    if not isinstance(listed, list):
        return settled(kept, origins, ranks, model)
    del kept[UPDATE]
    origin, rank = origins[UPDATE], ranks[UPDATE]
    entries = _chosen(_tables(listed, origin), kept, origins)
    for name, value in (entries[0] if entries else {}).items():
        if (key := f"{UPDATE}.{name}") not in kept:
            kept[key], origins[key], ranks[key] = value, origin, rank
    try:
        kept = settled(kept, origins, ranks, model)
    except ConfigError as error:
        raise numbered(error, 1, len(entries)) from error
    if len(entries) > 1:
        kept[FURTHER] = _settled(entries, origin, model)
        origins[FURTHER] = origin
    return kept


def listed(config: Config, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``values``, the dotted keys of ``config``, with several updates as a list again."""
    if not config.further_updates:
        return {key: value for key, value in values.items() if key != FURTHER}
    others = (FURTHER, f"{UPDATE}.")
    kept = {key: value for key, value in values.items() if not key.startswith(others)}
    kept[UPDATE] = [json.loads(one.model_dump_json()) for one in config.updates]
    return kept


def numbered(error: ConfigError, number: int, count: int) -> ConfigError:
    """Return ``error`` about a key of the update of that number, naming it if there are several."""
    key = error.key or ""
    if count < 2 or not key.startswith(f"{UPDATE}."):
        return error
    before = ": ".join(str(part) for part in (error.file, key) if part)
    renamed = key.replace(f"{UPDATE}.", f"{UPDATE}[{number}].", 1)
    said = error.message.removeprefix(f"{before}: ")
    return ConfigError(said, file=error.file, key=renamed, hint=error.hint)


def _tables(listed: list[Any], origin: str) -> list[dict[str, Any]]:
    if not listed or not all(isinstance(one, dict) for one in listed):
        raise ConfigError("must be a table, or tables: [[update]]", file=origin, key=UPDATE)
    return listed


def _chosen(
    entries: list[dict[str, Any]], values: Mapping[str, Any], origins: Mapping[str, str]
) -> list[dict[str, Any]]:
    """What is in force of the updates in a file, with what stronger places say of them."""
    said = [key for key in values if key.startswith(f"{UPDATE}.")]
    if KIND in said:
        alike = [one for one in entries if one.get("kind", _DEFAULT_KIND) == values[KIND]]
        if len(alike) > 1:
            file, key = typed(origins[KIND], KIND)
            raise ConfigError(
                f"{len(alike)} of the {len(entries)} updates are of kind {values[KIND]}",
                file=file,
                key=key,
                hint="leave it out to apply them all, or name a file with the one: -c FILE",
            )
        return alike
    if said and len(entries) > 1:
        file, key = typed(origins[said[0]], said[0])
        raise ConfigError(
            f"is for one update, but {len(entries)} are configured",
            file=file,
            key=key,
            hint="set it under its own [[update]], or choose one of them: --kind KIND",
        )
    return entries


def _settled(
    entries: list[dict[str, Any]], origin: str, model: type[Config]
) -> list[dict[str, Any]]:
    """All but the first, each with its kind. Raises ConfigError for a key of another kind."""
    found = []
    for number, entry in enumerate(entries[1:], 2):
        keys = {
            f"{UPDATE}.{name}": value for name, value in {"kind": _DEFAULT_KIND, **entry}.items()
        }
        try:
            settled(keys, dict.fromkeys(keys, origin), dict.fromkeys(keys, 0), model)
        except ConfigError as error:
            raise numbered(error, number, len(entries)) from error
        found.append({"kind": _DEFAULT_KIND, **entry})
    return found
