"""Which keys the configuration has, and which of ``[update]`` may stand together. Pure.

Read off the models: no key is written down twice. ``model`` is everywhere the configuration with
all kinds of update, which is handed in, because configuration imports no kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from harness.core.errors import ConfigError
from harness.core.nearest import did_you_mean, nearest
from harness.core.pasteable import toml_words
from harness.core.settings import Config, Seconds, UpdateSection

UPDATE = "update"
KIND = "update.kind"
#: Where the updates after the first are kept; no key that a person writes.
FURTHER = "further_updates"
#: Where a value came from, if a person typed it: the origins of flags and of variables begin so.
FLAG, VARIABLE = "flag ", "environment "


def sections_of(annotation: Any) -> tuple[type[BaseModel], ...]:
    """Return the section that a field is, or those of which it is one; else nothing."""
    options = get_args(annotation)
    if options:
        return tuple(section for one in options for section in sections_of(one))
    is_section = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return (annotation,) if is_section else ()


def fields_of(sections: Iterable[type[BaseModel]]) -> dict[str, FieldInfo]:
    """Return all fields of ``sections``; what kinds of update share is as their base says."""
    found: dict[str, FieldInfo] = {}
    for section in sections:
        shared = UpdateSection.model_fields if issubclass(section, UpdateSection) else {}
        found = {**found, **section.model_fields, **shared}
    return found


def kinds_of(model: type[Config]) -> dict[str, type[BaseModel]]:
    """Return the settings of each kind of update that ``model`` knows, by the kind's name."""
    sections = sections_of(model.model_fields["update"].annotation)
    return {str(section.model_fields["kind"].default): section for section in sections}


def update_fields(model: type[Config]) -> dict[str, FieldInfo]:
    """Return the keys of ``[update]``, those of all kinds."""
    return fields_of(kinds_of(model).values())


def scalar_keys(model: type[Config]) -> Iterator[tuple[str, Any]]:
    """Yield ``(dotted key, annotation)`` of every setting that is one plain value."""
    found = settings(model)
    plain = ((key, info) for key, info in found if get_origin(info.annotation) is not tuple)
    return ((key, _whole_hint(info)) for key, info in plain)


def list_keys(model: type[Config]) -> Iterator[str]:
    """Yield the dotted key of every setting that is a list of plain values."""
    found = ((key, info.annotation) for key, info in settings(model))
    return (key for key, hint in found if get_origin(hint) is tuple and not sections_of(hint))


def settings(model: type[Config]) -> Iterator[tuple[str, FieldInfo]]:
    """Yield ``(dotted key, field)`` of every setting; a list of sections is one."""
    return _settings(written(model), "")


def written(model: type[Config]) -> dict[str, FieldInfo]:
    """Return the fields of ``model`` that are keys of ``harness.toml``."""
    return {name: info for name, info in model.model_fields.items() if name != FURTHER}


def _settings(fields: Mapping[str, FieldInfo], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, info in fields.items():
        sections = sections_of(info.annotation)
        if sections and get_origin(info.annotation) is not tuple:
            yield from _settings(fields_of(sections), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", info


def _whole_hint(info: FieldInfo) -> Any:
    """Return the annotation with its limits, which pydantic keeps apart."""
    limits = tuple(info.metadata)
    return Annotated[(info.annotation, *limits)] if limits else info.annotation


def is_duration(hint: Any) -> bool:
    """Return True if a setting of that annotation is a duration: seconds, or text with a unit."""
    return hint is Seconds or any(
        is_duration(one) for one in (*get_args(hint), *getattr(hint, "__metadata__", ()))
    )


def environment_name(key: str) -> str:
    """The environment variable of a dotted key: ``clock.correct`` → ``HARNESS_CLOCK_CORRECT``."""
    return "HARNESS_" + key.replace(".", "_").upper()


def typed(origin: str | None, key: str) -> tuple[str | None, str | None]:
    """Return where an error is, as ``(file, key)`` of a ConfigError, in the words of the person.

    A flag or a variable is named by itself: it is what was typed, and the key was not.
    """
    for prefix in (FLAG, VARIABLE):
        if origin is not None and origin.startswith(prefix):
            return origin.removeprefix(prefix), None
    return origin, key or None


def settled(
    values: Mapping[str, Any],
    origins: Mapping[str, str],
    ranks: Mapping[str, int],
    model: type[Config],
) -> dict[str, Any]:
    """Return ``values`` (by dotted key) without the keys of a kind that is not in force.

    Some keys of ``[update]`` belong to one kind only. Beside another kind in the same place such a
    key is a mistake. Where a stronger place (a flag, the environment) asks for another kind than
    the file, what the file says of its own kind is left out: ``harness run --kind stand-in``
    rehearses any configuration. ``ranks`` says how strong the place is that each value came from.

    Raises ConfigError for a key that is beside another kind in the same place, or a stronger one.
    """
    kept = dict(values)
    if any(key.startswith("update.") for key in values):
        kept.setdefault(KIND, UpdateSection.model_fields["kind"].default)
    kind, kinds = kept.get(KIND), kinds_of(model)
    if not isinstance(kind, str) or kind not in kinds:
        return kept  # validation knows what to say of it
    for key in values:
        section, _, name = key.partition(".")
        owners = [owner for owner, settings in kinds.items() if name in settings.model_fields]
        if section != "update" or not owners or kind in owners:
            continue
        if ranks[key] >= ranks.get(KIND, -1):
            file, said = typed(origins[key], key)
            hint = _own_keys(kind, kinds[kind], name) if KIND in values else None
            raise ConfigError(
                f"belongs to kind {' or '.join(owners)}, not to {kind}",
                file=file,
                key=said,
                hint=hint or _with_kind(owners, name, values[key]),
            )
        del kept[key]
    return kept


def _with_kind(owners: Sequence[str], name: str, value: Any) -> str:
    """Return what to write where a person gave the key, and forgot its kind."""
    line = f"; {name} = {toml_words(value)}" if name == "command" and isinstance(value, str) else ""
    return " or ".join(f'kind = "{owner}"' for owner in owners) + f" under [update]{line}"


def _own_keys(kind: str, settings: type[BaseModel], name: str) -> str:
    own = sorted(set(settings.model_fields) - set(UpdateSection.model_fields))
    return did_you_mean(name, own) or f"keys of kind {kind}: {', '.join(own) or 'none'}"


def unknown_kind(
    kind: str, kinds: Iterable[str], file: str | None = None, key: str | None = KIND
) -> ConfigError:
    """Return the error for ``update.kind = kind``, with the nearest of ``kinds`` as a hint."""
    hint = nearest(kind, kinds, "kinds")
    return ConfigError(f"unknown kind {kind!r}", file=file, key=key, hint=hint)
