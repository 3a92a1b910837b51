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
from typing import Annotated, Any, Literal, get_args, get_origin
from zoneinfo import ZoneInfo

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from harness.durations import parse_hours
from harness.errors import ConfigError
from harness.updates.keys import settle

#: Longer than any maintenance; waiting longer than some 290 years would be an OverflowError.
LONGEST_S = 1e7
Positive = Annotated[float, Field(gt=0, le=LONGEST_S, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, le=LONGEST_S, allow_inf_nan=False)]
#: No control characters: names go into the environment of updates and onto terminals.
Name = Annotated[str, Field(min_length=1, pattern=r"^[^\x00-\x1f\x7f]+$")]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class UpdateSection(_Section):
    """``[update]``: what is applied to the host while its guests are paused.

    Which keys belong to which kind: ``harness.updates.protocol.KEYS_OF_KIND``.
    """

    kind: Name = "stand-in"
    expected_s: Positive | None = None
    scope: Literal["host", "guest"] | None = None
    preserves_memory: bool = True
    duration_s: NotNegative = 5.0
    command: tuple[str, ...] = ()
    verify: tuple[str, ...] = ()
    rollback: tuple[str, ...] = ()
    packages: tuple[Name, ...] = ()
    """Files (a word with a slash), names, or ``name=version``."""
    repository: Path | None = None
    """Folder of a local repository, the only one that packages then come from."""
    previous: Path | None = None
    """Folder with the .deb files of the versions that are replaced, for a rollback."""
    hold: tuple[Name, ...] = ()
    """Packages that the transaction must not change."""
    reinstall: bool = False
    simulate: bool = False
    """Go through the transaction and change nothing."""
    module: Name | None = None
    action: Literal["load", "unload", "parameter"] = "load"
    parameters: tuple[Name, ...] = ()
    """``name=value``, of a kernel module."""
    sysctl: tuple[Name, ...] = ()
    """``key=value``."""


class ClockSection(_Section):
    """``[clock]``: how well a guest's clock must be right, and what may be done about it."""

    correct: bool = True
    tolerance_s: Positive | None = None
    """Allowed |offset|; by default 10 ms where the guest has python3, 50 ms where only sh."""
    allow_backward: bool = False
    ceiling_s: Positive = 86_400.0
    """A larger offset is not corrected: a person should look first."""
    lag_tolerance_s: Positive = 0.25
    """How far the measured lag may be from the pause before we doubt the measurement."""
    samples: Annotated[int, Field(ge=1, le=1000)] = 8


class SshSection(_Section):
    """``[ssh]``, or one guest's own ``ssh``; what is not set comes from ``~/.ssh/config``."""

    user: str | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    identity_file: Path | None = None
    known_hosts: Path | None = None
    proxy_jump: str | None = None
    host_key: str | None = None
    """``SHA256:…`` fingerprint that the guest's host key must have."""
    connect_timeout_s: Positive = 15.0


class GuestSection(_Section):
    """``[[guest]]``: one guest; ``name`` is its libvirt name or UUID."""

    name: Name
    address: str | None = None
    update_domain: Name | None = None
    availability_set: Name | None = None
    opt_out: Name | None = None
    """Why this guest must not be paused; it is left out of every maintenance."""
    tolerance_s: Positive | None = None
    ssh: SshSection = SshSection()


class AvailabilitySetSection(_Section):
    """``[[availability_set]]``: when the guests of one set may be paused; by default always."""

    name: Name
    days: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...] = ()
    """The days on which a window begins; none given: all."""
    hours: Name = "00:00-24:00"
    """``22:00-04:00`` goes on into the next day."""
    time_zone: Name = "UTC"

    @field_validator("hours")
    @classmethod
    def _a_span(cls, hours: str) -> str:
        parse_hours(hours)
        return hours

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (LookupError, OSError, ValueError) as error:
            raise ValueError(f"no time zone {name!r}, such as Europe/Berlin") from error
        return name


class EventsSection(_Section):
    """``[events]``: how guests are told beforehand (Scheduled Events)."""

    address: Name = "169.254.169.254"
    port: Annotated[int, Field(ge=0, le=65535)] = 80
    notice_s: NotNegative | None = None
    """From the announcement to the pause, unless it is approved earlier; None: nobody is told."""
    time_scale: Positive = 1.0
    """Notices are this many times shorter, for labs."""


class Config(_Section):
    """Everything that can be configured; durations in seconds."""

    uri: Name = "qemu:///system"
    accelerator: Literal["auto", "kvm", "tcg"] = "auto"
    budget_s: Positive = 30.0
    resume_reserve_s: Positive = 2.0
    resume_patience_s: Positive = 60.0
    """How long a guest is tried to be resumed before it is called stranded; far beyond any
    budget, because giving up early would help nobody. Its guardian goes on after that."""
    soak_s: NotNegative = 0.0
    spread: Annotated[int, Field(ge=1)] | None = None
    """Assign guests to this many update domains, whatever their own say."""
    prepare_timeout_s: Positive = 120.0
    """For everything before the pause: connecting, logging in, baselines."""
    mend_timeout_s: Positive = 60.0
    """For everything after the pause: clocks and checks."""
    update: UpdateSection = UpdateSection()
    clock: ClockSection = ClockSection()
    ssh: SshSection = SshSection()
    events: EventsSection = EventsSection()
    guest: tuple[GuestSection, ...] = ()
    availability_set: tuple[AvailabilitySetSection, ...] = ()

    @field_validator("guest")
    @classmethod
    def _one_entry_a_guest(cls, guests: tuple[GuestSection, ...]) -> tuple[GuestSection, ...]:
        _refuse_twins("guests", [guest.name for guest in guests])
        return guests

    @field_validator("availability_set")
    @classmethod
    def _one_entry_a_set(
        cls, sets: tuple[AvailabilitySetSection, ...]
    ) -> tuple[AvailabilitySetSection, ...]:
        _refuse_twins("availability sets", [one.name for one in sets])
        return sets

    @model_validator(mode="after")
    def _reserve_fits_in_budget(self) -> Config:
        if self.resume_reserve_s >= self.budget_s:
            raise ValueError(
                f"resume_reserve_s = {self.resume_reserve_s:g} leaves nothing of "
                f"budget_s = {self.budget_s:g} for the update"
            )
        return self

    def for_guest(self, name: str, uuid: str = "") -> GuestSection:
        """The guest's own section, found by name or UUID, or the defaults."""
        for guest in self.guest:
            if guest.name == name or (uuid and guest.name == uuid):
                return guest
        return GuestSection(name=name)

    def for_set(self, name: str) -> AvailabilitySetSection:
        """The availability set's own section, or the defaults."""
        found = (one for one in self.availability_set if one.name == name)
        return next(found, AvailabilitySetSection(name=name))


def _refuse_twins(what: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two {what} are called {name!r}")


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
    return Loaded(_anchored(config, file), origins, file)


def _anchored(config: Config, file: Path | None) -> Config:
    """Paths are relative to the file that names them; ``~`` is the user's home."""
    base = file.resolve().parent if file else Path.cwd()

    def anchor(ssh: SshSection) -> SshSection:
        paths = {
            key: base / path.expanduser()
            for key in ("identity_file", "known_hosts")
            if (path := getattr(ssh, key)) is not None
        }
        return ssh.model_copy(update=paths)

    guests = tuple(guest.model_copy(update={"ssh": anchor(guest.ssh)}) for guest in config.guest)
    return config.model_copy(update={"ssh": anchor(config.ssh), "guest": guests})


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
    origin = origins.get(".".join(str(part) for part in location)) or origins.get(
        str(location[0]) if location else "", next(iter(origins.values()), "configuration")
    )
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
