"""``harness.toml`` → one frozen configuration.

Precedence: flag > environment (``HARNESS_BUDGET_S``, ``HARNESS_CLOCK_TOLERANCE_S``, …) > file >
default. An unknown key is an error that names the file, the key and the nearest valid one: a
misspelt key that is silently ignored is how a nightly job tests nothing for a year.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError

from harness.core.errors import ConfigError
from harness.core.settings import Config, GuestSection, SshSection
from harness.updates.keys import settle

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
        """``(dotted key, value, origin)`` of everything in force, for ``--show-config``."""
        for key, value in _flatten(json.loads(self.config.model_dump_json(exclude={*_NAMED}))):
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
) -> Loaded:
    """Read ``file`` (None: none), lay ``environment`` and ``flags`` (dotted keys) over it.

    Raises ConfigError naming where the wrong value came from.
    """
    layers = [(0, str(file), dict(_flatten(_read(file))))] if file else []
    layers += [
        (1, f"environment {name}", {key: value})
        for key, name, value in _from_environment(environment)
    ]
    layers += [(2, "flag", {key: value}) for key, value in flags.items() if value is not None]
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    ranks: dict[str, int] = {}
    for rank, origin, layer in layers:
        values.update(layer)
        origins.update(dict.fromkeys(layer, origin))
        ranks.update(dict.fromkeys(layer, rank))
    values = settle(values, origins, ranks)
    raw = _unflatten(values)
    try:
        # Through JSON, because strict JSON takes "a/b" for a Path and an array for a tuple,
        # but still refuses "30" for a number.
        config = Config.model_validate_json(json.dumps(raw, default=str), strict=True)
    except ValidationError as error:
        raise _explain(error, raw, origins) from error
    return Loaded(_anchored(_overridden(config, origins, file), file), origins, file)


def _overridden(config: Config, origins: Mapping[str, str], file: Path | None) -> Config:
    """A tolerance by flag or environment goes before those that guests have in the file."""
    if origins.get("clock.tolerance_s", str(file)) == str(file):
        return config
    guests = tuple(
        GuestSection.model_validate(guest.model_dump(exclude={"tolerance_s"}, exclude_unset=True))
        for guest in config.guest
    )
    return config.model_copy(update={"guest": guests})


def overlaid(config: Config, changes: Mapping[str, Any]) -> Config:
    """``config`` with some dotted keys changed. Raises ConfigError."""
    values = dict(_flatten(json.loads(config.model_dump_json())))
    raw = _unflatten({**values, **changes})
    try:
        return Config.model_validate_json(json.dumps(raw, default=str), strict=True)
    except ValidationError as error:
        raise _explain(error, raw, dict.fromkeys(changes, "settings")) from error


def _anchored(config: Config, file: Path | None) -> Config:
    """Paths are relative to the file that names them; ``~`` is the user's home."""
    base = file.resolve().parent if file else Path.cwd()

    def anchor(section: Section, *keys: str) -> Section:
        paths = {key: getattr(section, key) for key in keys}
        found = {key: base / path.expanduser() for key, path in paths.items() if path is not None}
        return section.model_copy(update=found)

    def reach(ssh: SshSection) -> SshSection:
        return anchor(ssh, "identity_file", "known_hosts")

    guests = tuple(guest.model_copy(update={"ssh": reach(guest.ssh)}) for guest in config.guest)
    update = anchor(config.update, "repository", "previous")
    return config.model_copy(update={"ssh": reach(config.ssh), "guest": guests, "update": update})


def _read(file: Path) -> dict[str, Any]:
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


def scalar_keys(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """``(dotted key, annotation)`` of every setting that is one plain value."""
    for name, info in model.model_fields.items():
        annotation = info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from scalar_keys(annotation, f"{prefix}{name}.")
        elif get_origin(annotation) is not tuple:
            yield f"{prefix}{name}", annotation


def environment_name(key: str) -> str:
    """The environment variable of a dotted key: ``clock.correct`` → ``HARNESS_CLOCK_CORRECT``."""
    return "HARNESS_" + key.replace(".", "_").upper()


def _from_environment(environment: Mapping[str, str]) -> Iterator[tuple[str, str, Any]]:
    for key, annotation in scalar_keys():
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
    error: ValidationError, raw: Mapping[str, Any], origins: Mapping[str, str]
) -> Exception:
    """The first thing wrong, as one line: where, what, and the nearest valid key."""
    first = error.errors()[0]
    location = first["loc"]
    key = _spoken(location, raw)
    # The whole key, or the list or table that it is in.
    longest_first = range(len(location), 0, -1)
    keys = [".".join(str(part) for part in location[:count]) for count in longest_first]
    anywhere = next(iter(origins.values()), "configuration")
    origin = next((origins[one] for one in keys if one in origins), anywhere)
    if first["type"] == "extra_forbidden":
        valid = _valid_keys(location)
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


def _valid_keys(location: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = Config
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[part].annotation
        if get_origin(annotation) is tuple:
            annotation = get_args(annotation)[0]
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            break
        model = annotation
    return sorted(model.model_fields)
