"""``harness.toml`` → one frozen configuration.

Precedence: flag > environment (``HARNESS_BUDGET_S``, ``HARNESS_CLOCK_TOLERANCE_S``, …) > file >
default; that of ``uri`` is libvirt's own, ``LIBVIRT_DEFAULT_URI``, where it is set. An unknown key
is an error that names the file, the key and the nearest valid one: a misspelt key that is silently
ignored is how a nightly job tests nothing for a year.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from harness.core.errors import ConfigError
from harness.core.keys import (
    KIND,
    environment_name,
    fields_of,
    kinds_of,
    scalar_keys,
    sections_of,
    settled,
    unknown_kind,
    update_fields,
)
from harness.core.settings import Config, GuestSection
from harness.core.trust import refuse_untrusted

Section = TypeVar("Section", bound=BaseModel)

#: Lists of sections that have names: ``[[guest]]``.
_NAMED = ("guest", "availability_set")


@dataclass(frozen=True)
class Loaded:
    """A configuration and, for each dotted key that was set, where its value came from."""

    config: Config
    origins: Mapping[str, str]
    file: Path | None

    def shown(self) -> Iterator[tuple[str, Any, str]]:
        """Yield ``(dotted key, value, origin)`` of every setting, for ``--show-config``.

        A key of a kind of update that is not in force has its default.
        """
        tree = json.loads(self.config.model_dump_json(exclude={*_NAMED}))
        idle = {name: info.default for name, info in update_fields(type(self.config)).items()}
        tree["update"] = {**json.loads(json.dumps(idle)), **tree["update"]}
        for key, value in _flatten(tree):
            yield key, value, self.origins.get(key, "default")
        for what in _NAMED:
            for entry in getattr(self.config, what):
                shown = json.loads(entry.model_dump_json(exclude={"name"}, exclude_unset=True))
                for key, value in _flatten(shown):
                    yield f"{what}[{entry.name}].{key}", value, self.origins.get(what, "default")


def load(
    file: Path | None,
    *,
    environment: Mapping[str, str],
    flags: Mapping[str, Any],
    model: type[Config],
) -> Loaded:
    """Read ``file`` (None: none), lay ``environment`` and ``flags`` (dotted keys) over it.

    ``model`` is the configuration with all kinds of update,
    :data:`harness.updates.registry.FULL_CONFIG`. Raises ConfigError naming where the wrong value
    came from.
    """
    layers = [(-1, f"environment {name}", layer) for name, layer in _of_libvirt(environment)]
    layers += [(0, str(file), dict(_flatten(_read(file))))] if file else []
    layers += [
        (1, f"environment {name}", {key: value})
        for key, name, value in _from_environment(environment, model)
    ]
    layers += [(2, "flag", {key: value}) for key, value in flags.items() if value is not None]
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    ranks: dict[str, int] = {}
    for rank, origin, layer in layers:
        values.update(layer)
        origins.update(dict.fromkeys(layer, origin))
        ranks.update(dict.fromkeys(layer, rank))
    values = settled(values, origins, ranks, model)
    raw = _unflatten(values)
    try:
        # Through JSON, because strict JSON takes "a/b" for a Path and an array for a tuple,
        # but still refuses "30" for a number.
        config = model.model_validate_json(json.dumps(raw, default=str), strict=True)
    except ValidationError as error:
        raise _explain(error, raw, origins, model) from error
    return Loaded(_anchored(_overridden(config, origins, file), file), origins, file)


def _of_libvirt(environment: Mapping[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what the environment tells every program that uses libvirt."""
    uri = environment.get("LIBVIRT_DEFAULT_URI")
    if uri:
        yield "LIBVIRT_DEFAULT_URI", {"uri": uri}


def _overridden(config: Config, origins: Mapping[str, str], file: Path | None) -> Config:
    """A tolerance by flag or environment goes before those that guests have in the file."""
    if origins.get("clock.tolerance_s", str(file)) == str(file):
        return config
    guests = tuple(
        GuestSection.model_validate(guest.model_dump(exclude={"tolerance_s"}, exclude_unset=True))
        for guest in config.guest
    )
    return config.model_copy(update={"guest": guests})


def overlaid(config: Config, changes: Mapping[str, Any], model: type[Config]) -> Config:
    """Return ``config`` with some dotted keys changed, without those of a kind not in force.

    ``model`` is as for :func:`load`. Raises ConfigError.
    """
    values = {**dict(_flatten(json.loads(config.model_dump_json()))), **changes}
    origins = dict.fromkeys(changes, "settings")
    ranks = {**dict.fromkeys(values, 0), KIND: 1}
    raw = _unflatten(settled(values, origins, ranks, model))
    try:
        return model.model_validate_json(json.dumps(raw, default=str), strict=True)
    except ValidationError as error:
        raise _explain(error, raw, origins, model) from error


def _anchored(config: Config, file: Path | None) -> Config:
    """Paths are relative to the file that names them; ``~`` is the user's home."""
    base = file.resolve().parent if file else Path.cwd()

    def anchor(section: Section) -> Section:
        paths = {key: value for key, value in section if isinstance(value, Path)}
        found = {key: base / path.expanduser() for key, path in paths.items()}
        return section.model_copy(update=found)

    guests = tuple(guest.model_copy(update={"ssh": anchor(guest.ssh)}) for guest in config.guest)
    anchored = {"ssh": anchor(config.ssh), "guest": guests, "update": anchor(config.update)}
    return config.model_copy(update=anchored)


def _read(file: Path) -> dict[str, Any]:
    refuse_untrusted(file)
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError("no such file", file=file) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", file=file) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not valid TOML: {error}", file=file) from error


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _unflatten(values: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for dotted, value in values.items():
        *path, last = dotted.split(".")
        branch = tree
        for key in path:
            branch = branch.setdefault(key, {})
            if not isinstance(branch, dict):
                raise ConfigError("both a value and a table", key=dotted)
        branch[last] = value
    return tree


def _from_environment(
    environment: Mapping[str, str], model: type[Config]
) -> Iterator[tuple[str, str, Any]]:
    for key, annotation in scalar_keys(model):
        name = environment_name(key)
        text = environment.get(name)
        if text is None:
            continue
        try:
            value = TypeAdapter(annotation).validate_python(text)
        except ValidationError as error:
            message = f"{text!r}: {error.errors()[0]['msg']}"
            raise ConfigError(message, file="environment", key=name) from error
        yield key, name, value


def _explain(
    error: ValidationError,
    raw: Mapping[str, Any],
    origins: Mapping[str, str],
    model: type[Config],
) -> Exception:
    """Return the first thing wrong, as one line: where, what, and the nearest valid key."""
    first = error.errors()[0]
    if first["type"] == "union_tag_invalid":
        kind = raw["update"]["kind"]
        if isinstance(kind, str):
            return unknown_kind(kind, kinds_of(model), origins.get(KIND))
        first |= {"loc": ("update", "kind"), "msg": "Input should be a valid string", "input": kind}
    elif first["loc"][:1] == ("update",) and len(first["loc"]) > 1:
        first["loc"] = ("update", *first["loc"][2:])  # without the name of the kind
    location = first["loc"]
    key = _spoken(location, raw)
    # The whole key, or the list or table that it is in.
    longest_first = range(len(location), 0, -1)
    keys = [".".join(str(part) for part in location[:count]) for count in longest_first]
    anywhere = next(iter(origins.values()), "configuration")
    origin = next((origins[one] for one in keys if one in origins), anywhere)
    if first["type"] == "extra_forbidden":
        valid = _valid_keys(location, model)
        near = difflib.get_close_matches(str(location[-1]), valid, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"valid keys: {', '.join(valid)}"
        return ConfigError("unknown key", file=origin, key=key, hint=hint)
    message = first["msg"].removeprefix("Value error, ")
    given = first["input"]
    shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) else ""
    return ConfigError(f"{message}{shown}", file=origin, key=key or None)


def _spoken(location: tuple[int | str, ...], raw: Mapping[str, Any]) -> str:
    """``("guest", 1, "addres")`` → ``guest[web2].addres``."""
    words = ""
    for index, part in enumerate(location):
        if isinstance(part, int) and index == 1 and location[0] in _NAMED:
            entry = raw[str(location[0])][part]
            label = entry.get("name", part + 1) if isinstance(entry, dict) else part + 1
            words += f"[{label}]"
        elif isinstance(part, int):
            words += f"[{part + 1}]"
        else:
            words += f".{part}" if words else part
    return words


def _valid_keys(location: tuple[int | str, ...], model: type[Config]) -> list[str]:
    fields: Mapping[str, FieldInfo] = model.model_fields
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        sections = sections_of(fields[part].annotation)  # of a list too: its items are sections
        if not sections:
            break
        fields = fields_of(sections)
    return sorted(fields)
