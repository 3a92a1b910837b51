"""The environment variables of harness: those of settings, and the others. Pure.

A misspelt variable that is silently ignored is as bad as a misspelt key.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from harness.core.config_errors import said
from harness.core.durations import parse
from harness.core.errors import ConfigError
from harness.core.keys import environment_name, is_duration, scalar_keys
from harness.core.settings import Config

PREFIX = "HARNESS_"

#: What is no setting: name → what it says.
OTHERS: Mapping[str, str] = {
    "HARNESS_CONFIG": "Configuration file, as `--config`.",
    "HARNESS_STATE_DIR": "State folder: runs, history, the lab, Scheduled Events.",
    "HARNESS_CACHE_DIR": "Cache folder: images and what else can be made again.",
    "HARNESS_LOCK_DIR": "Folder of the host locks.",
    "HARNESS_HISTORY_URL": "Database of the history, as `harness history --db`.",
    "HARNESS_NO_REPORT": "Not empty: make no report and no entry in the history.",
    "HARNESS_REQUIRE": "Tests: capabilities whose absence fails a test that would be skipped.",
    "HARNESS_BOX": "Vagrantfile: the box to boot.",
    "HARNESS_BOX_CPUS": "Vagrantfile: processors of the box.",
    "HARNESS_BOX_DRIVER": "Vagrantfile: libvirt's driver, `kvm` or `qemu`.",
    "HARNESS_BOX_MEMORY_MIB": "Vagrantfile: memory of the box.",
    "HARNESS_KVM_BOX": "Tests: set inside the lab box.",
    "HARNESS_NAMESPACE": "Tests: set inside a namespace of their own.",
    "HARNESS_CHECKOUT": "Lab box: the checkout that is brought into it.",
    "HARNESS_IMAGES": "Image recipes: where built images are kept.",
    "HARNESS_SCRATCH": "Image recipes: where images are built.",
}
#: For programs that harness starts: an update, a check. A harness that one of those
#: starts inherits them.
TOLD: Mapping[str, str] = {
    "HARNESS_RUN_ID": "Id of the run.",
    "HARNESS_RUN_DIR": "Folder of the run.",
    "HARNESS_GUESTS": "Names of the guests that are paused together, a JSON array.",
    "HARNESS_UPDATE_DOMAIN": "Name of the update domain.",
    "HARNESS_UPDATE_ID": "Id of this update, unique on this host.",
    "HARNESS_DEADLINE_S": "Seconds that are left.",
    "HARNESS_CHECK": "Name of the check.",
    "HARNESS_STAGE": "Stage of the check: before, during or after.",
    "HARNESS_GUEST": "Name of the guest that is checked.",
    "HARNESS_GUEST_UUID": "UUID of that guest.",
    "HARNESS_GUEST_ADDRESS": "Address of that guest.",
}


def known_variables(model: type[Config]) -> tuple[str, ...]:
    """Return the name of every variable that means something to harness."""
    settings = (environment_name(key) for key, _ in scalar_keys(model))
    return (*settings, *OTHERS, *TOLD)


def refuse_unknown(environment: Iterable[str], model: type[Config]) -> None:
    """Raise ConfigError if a variable begins like one of harness and is none."""
    known = known_variables(model)
    for name in sorted(environment):
        if name.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            otherwise = f"unset {name}; docs/reference/settings.md"
            hint = f"did you mean {near[0]}?" if near else otherwise
            raise ConfigError("unknown variable", key=name, hint=hint)


def from_environment(
    environment: Mapping[str, str], model: type[Config]
) -> Iterator[tuple[str, str, Any]]:
    """Yield ``(dotted key, variable, value)`` of every setting that the environment has.

    Raises ConfigError naming the variable.
    """
    for key, annotation in scalar_keys(model):
        name = environment_name(key)
        text = environment.get(name)
        if text is not None:
            yield key, name, _value(name, annotation, text)


def _value(name: str, annotation: Any, text: str) -> Any:
    try:
        if is_duration(annotation):
            return parse(text, bare=True)  # the name ends in _S
        return TypeAdapter(annotation).validate_python(text)
    except ValidationError as error:
        message, hint = said(error.errors()[0])
        raise ConfigError(message, key=name, hint=hint) from error
    except ValueError as error:
        raise ConfigError(str(error), key=name) from error
