"""``harness.toml`` → one frozen configuration.

Precedence: flag > environment (``HARNESS_BUDGET_S``, ``HARNESS_CLOCK_TOLERANCE_S``, …) > file >
default; that of ``uri`` is libvirt's own, ``LIBVIRT_DEFAULT_URI``, where it is set. An unknown key
or ``HARNESS_`` variable is an error that names it and the nearest valid one: a misspelt key that is
silently ignored is how a nightly job tests nothing for a year.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from harness.core.config_errors import NAMED, explain
from harness.core.errors import ConfigError
from harness.core.keys import FLAG, FURTHER, KIND, UPDATE, VARIABLE, update_fields
from harness.core.settings import Config, GuestSection
from harness.core.several import apart, listed
from harness.core.trust import refuse_untrusted
from harness.core.variables import from_environment, refuse_unknown

Section = TypeVar("Section", bound=BaseModel)

#: Keys for all guests that a guest may have of its own, and how they are called there.
_ALSO_OF_GUESTS = {"clock.tolerance_s": "tolerance_s", "access": "access"}


@dataclass(frozen=True)
class Loaded:
    """A configuration and, for each dotted key that was set, where its value came from."""

    config: Config
    origins: Mapping[str, str]
    file: Path | None

    def shown(self) -> Iterator[tuple[str, Any, str]]:
        """Yield ``(dotted key, value, origin)`` of every setting, for ``--show-config``.

        A key of a kind of update that is not in force has its default, or None if it has none.
        """
        tree = json.loads(self.config.model_dump_json(exclude={*NAMED, FURTHER}))
        if self.config.further_updates:
            del tree[UPDATE]
        else:
            idle = {
                name: None if info.is_required() else info.default
                for name, info in update_fields(type(self.config)).items()
            }
            tree[UPDATE] = {**json.loads(json.dumps(idle)), **tree[UPDATE]}
        for key, value in _flatten(tree):
            yield key, value, self.origins.get(key, "default")
        for number, one in enumerate(self.config.updates if UPDATE not in tree else (), 1):
            for key, value in _flatten(json.loads(one.model_dump_json(exclude_unset=True))):
                yield f"{UPDATE}[{number}].{key}", value, self.origins[FURTHER]
        for what in NAMED:
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
    typed: Mapping[str, str] | None = None,
) -> Loaded:
    """Read ``file`` (None: none), lay ``environment`` and ``flags`` (dotted keys) over it.

    ``model`` is the configuration with all kinds of update,
    :data:`harness.updates.registry.FULL_CONFIG`; ``typed`` has the flag of the command line for
    each key that has one. Raises ConfigError naming what a person typed that is wrong.
    """
    refuse_unknown(environment, model)
    layers = [(-1, f"{VARIABLE}{name}", layer) for name, layer in _of_libvirt(environment)]
    layers += [(0, str(file), dict(_flatten(_read(file))))] if file else []
    layers += [
        (1, f"{VARIABLE}{name}", {key: value})
        for key, name, value in from_environment(environment, model)
    ]
    named = {key: f"{FLAG}{flag}" for key, flag in (typed or {}).items()}
    given = {key: value for key, value in flags.items() if value is not None}
    layers += [(2, named.get(key, "flag"), {key: value}) for key, value in given.items()]
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    ranks: dict[str, int] = {}
    for rank, origin, layer in layers:
        values.update(layer)
        origins.update(dict.fromkeys(layer, origin))
        ranks.update(dict.fromkeys(layer, rank))
    values = apart(values, origins, ranks, model)
    raw = _unflatten(values)
    try:
        # Through JSON, because strict JSON takes "a/b" for a Path and an array for a tuple,
        # but still refuses "30" for a number.
        config = model.model_validate_json(json.dumps(raw, default=str), strict=True)
    except ValidationError as error:
        raise explain(error, raw, origins, model) from error
    return Loaded(_anchored(_overridden(config, origins, file), file), origins, file)


def _of_libvirt(environment: Mapping[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what the environment tells every program that uses libvirt."""
    uri = environment.get("LIBVIRT_DEFAULT_URI")
    if uri:
        yield "LIBVIRT_DEFAULT_URI", {"uri": uri}


def _overridden(config: Config, origins: Mapping[str, str], file: Path | None) -> Config:
    """What a flag or the environment sets for all goes before what guests have in the file."""
    theirs = {
        own for key, own in _ALSO_OF_GUESTS.items() if origins.get(key, str(file)) != str(file)
    }
    if not theirs:
        return config
    guests = tuple(
        GuestSection.model_validate(guest.model_dump(exclude=theirs, exclude_unset=True))
        for guest in config.guest
    )
    return config.model_copy(update={"guest": guests})


def overlaid(config: Config, changes: Mapping[str, Any], model: type[Config]) -> Config:
    """Return ``config`` with some dotted keys changed, without those of a kind not in force.

    ``model`` is as for :func:`load`. Raises ConfigError.
    """
    written = dict(_flatten(json.loads(config.model_dump_json())))
    values = {**listed(config, written), **changes}
    origins = dict.fromkeys(values, "settings")
    ranks = {**dict.fromkeys(values, 0), KIND: 1}
    raw = _unflatten(apart(values, origins, ranks, model))
    try:
        return model.model_validate_json(json.dumps(raw, default=str), strict=True)
    except ValidationError as error:
        raise explain(error, raw, origins, model) from error


def _anchored(config: Config, file: Path | None) -> Config:
    """Paths are relative to the file that names them; ``~`` is the user's home."""
    base = file.resolve().parent if file else Path.cwd()

    def anchor(section: Section) -> Section:
        paths = {key: value for key, value in section if isinstance(value, Path)}
        found = {key: base / path.expanduser() for key, path in paths.items()}
        return section.model_copy(update=found)

    guests = tuple(guest.model_copy(update={"ssh": anchor(guest.ssh)}) for guest in config.guest)
    anchored: dict[str, Any] = {"guest": guests}
    anchored[FURTHER] = tuple(anchor(one) for one in config.further_updates)
    for name in ("ssh", "update", "notify", "metrics"):
        anchored[name] = anchor(getattr(config, name))
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
