"""What is wrong with a configuration, in the words of the person who wrote it. Pure.

A validation error names a field of a model; a person typed a flag, set a variable or wrote a key.
The message begins with that, says what is wrong and what is allowed, and hints at the nearest
right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from harness.core.errors import ConfigError
from harness.core.keys import (
    FURTHER,
    UPDATE,
    VARIABLE,
    fields_of,
    kinds_of,
    sections_of,
    typed,
    unknown_kind,
    written,
)
from harness.core.nearest import did_you_mean, nearest
from harness.core.pasteable import toml_words
from harness.core.settings import RESERVE_EATS_BUDGET, Config

#: Lists of sections that have names: ``[[guest]]``.
NAMED = ("guest", "availability_set")
_BOTH_LIMITS = ("budget_s", "resume_reserve_s")

_SAID: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "greater_than": lambda limits: f"must be more than {limits['gt']:g}",
    "greater_than_equal": lambda limits: f"must be at least {limits['ge']:g}",
    "less_than": lambda limits: f"must be less than {limits['lt']:g}",
    "less_than_equal": lambda limits: f"must be at most {limits['le']:g}",
    "finite_number": lambda _: "must be a finite number",
    "float_type": lambda _: "must be a number",
    "float_parsing": lambda _: "must be a number",
    "int_type": lambda _: "must be a whole number",
    "int_parsing": lambda _: "must be a whole number",
    "int_from_float": lambda _: "must be a whole number",
    "bool_type": lambda _: "must be true or false",
    "bool_parsing": lambda _: "must be true or false",
    "string_type": lambda _: "must be text",
    "path_type": lambda _: "must be a path",
    "tuple_type": lambda _: "must be a list",
    "model_type": lambda _: "must be a table",
    "model_attributes_type": lambda _: "must be a table",
    "dict_type": lambda _: "must be a table",
    "missing": lambda _: "is missing",
    "too_short": lambda _: "must not be empty",
    "string_too_short": lambda _: "must not be empty",
    "string_pattern_mismatch": lambda _: "must not have control characters",
    "literal_error": lambda limits: f"must be {limits['expected']}",
    "enum": lambda limits: f"must be {limits['expected']}",
}


def explain(
    error: ValidationError,
    raw: Mapping[str, Any],
    origins: Mapping[str, str],
    model: type[Config],
) -> ConfigError:
    """Return the first thing that is wrong, as one line: where, what, and a hint.

    Args:
        error: What validation said.
        raw: What was validated.
        origins: For each dotted key that was set, where its value came from.
        model: The configuration with all kinds of update.
    """
    first = error.errors()[0]
    if first["type"] == RESERVE_EATS_BUDGET:
        return _too_little(first["msg"], origins)
    at, inside = _within_update(first["loc"])
    if first["type"] == "union_tag_invalid":
        kind = _kind(raw, at)
        if isinstance(kind, str):
            said_there = typed(_origin((*at, "kind"), origins), _spoken((*at, "kind"), raw))
            return unknown_kind(kind, kinds_of(model), *said_there)
        first |= {"loc": (*at, "kind"), "type": "string_type", "input": kind}
    elif at and inside:
        first["loc"] = (*at, *inside[1:])  # without the name of the kind
    location = first["loc"]
    file, key = typed(_origin(location, origins), _spoken(location, raw))
    if first["type"] == "extra_forbidden":
        hint = nearest(str(location[-1]), _valid_keys(location, model), "valid keys")
        return ConfigError("unknown key", file=file, key=key, hint=hint)
    message, advice = said(first)
    return ConfigError(message, file=file, key=key, hint=advice)


def _within_update(
    location: tuple[int | str, ...],
) -> tuple[tuple[int | str, ...], tuple[int | str, ...]]:
    """Return where the update is that an error is in, and its path in there."""
    depth = {UPDATE: 1, FURTHER: 2}.get(str(location[0]), 0) if location else 0
    return location[:depth], location[depth:]


def _kind(raw: Mapping[str, Any], at: Sequence[int | str]) -> Any:
    entry: Any = raw
    for part in at:
        entry = entry[part]
    return entry["kind"]


def said(details: ErrorDetails) -> tuple[str, str | None]:
    """Return what one validation error means, and a hint, which may be None."""
    kind, given, limits = details["type"], details["input"], details.get("ctx", {})
    in_our_words = _SAID.get(kind)
    if in_our_words is None:
        return details["msg"].removeprefix("Value error, "), None
    message, hint = in_our_words(limits), None
    if kind in ("literal_error", "enum") and isinstance(given, str):
        allowed = limits["expected"].replace(" or ", ", ").replace("'", "").split(", ")
        hint = did_you_mean(given, allowed)
    elif kind == "tuple_type" and isinstance(given, str):
        hint = f"write {toml_words(given)}"
    elif kind == "float_type" and isinstance(given, str):
        hint = "without quotes"
    shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) else ""
    return f"{message}{shown}", hint


def _too_little(message: str, origins: Mapping[str, str]) -> ConfigError:
    """The two limits do not fit: named by the one that a person set, the stronger if both."""
    chosen = max(_BOTH_LIMITS, key=lambda key: _strength(origins.get(key)))
    file, key = typed(origins.get(chosen), chosen)
    hint = "a longer budget (--budget, budget_s) or a shorter reserve (--reserve, resume_reserve_s)"
    return ConfigError(message, file=file, key=key, hint=hint)


def _strength(origin: str | None) -> int:
    if origin is None:
        return 0
    return 3 if origin.startswith("flag") else 2 if origin.startswith(VARIABLE) else 1


def _origin(location: Sequence[int | str], origins: Mapping[str, str]) -> str:
    """Return where the whole key, or the list or table that it is in, came from."""
    longest_first = range(len(location), 0, -1)
    keys = [".".join(str(part) for part in location[:count]) for count in longest_first]
    anywhere = next(iter(origins.values()), "configuration")
    return next((origins[one] for one in keys if one in origins), anywhere)


def _spoken(location: tuple[int | str, ...], raw: Mapping[str, Any]) -> str:
    """``("guest", 1, "addres")`` → ``guest[web2].addres``."""
    words = ""
    if location[:1] == (FURTHER,) and len(location) > 1 and isinstance(location[1], int):
        location = (UPDATE, location[1] + 1, *location[2:])
    elif location[:1] == (UPDATE,) and raw.get(FURTHER):
        location = (UPDATE, 0, *location[1:])
    for index, part in enumerate(location):
        if isinstance(part, int) and index == 1 and location[0] in NAMED:
            entry = raw[str(location[0])][part]
            label = entry.get("name", part + 1) if isinstance(entry, dict) else part + 1
            words += f"[{label}]"
        elif isinstance(part, int):
            words += f"[{part + 1}]"
        else:
            words += f".{part}" if words else part
    return words


def _valid_keys(location: tuple[int | str, ...], model: type[Config]) -> list[str]:
    fields: Mapping[str, FieldInfo] = model.model_fields if location[1:] else written(model)
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        sections = sections_of(fields[part].annotation)  # of a list too: its items are sections
        if not sections:
            break
        fields = fields_of(sections)
    return sorted(fields)
