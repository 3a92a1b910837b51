"""What each setting means, and the JSON schema that says so to editors: read off the models.

The docstring below a field is its meaning; it is read from the source, because Python keeps none.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from functools import cache
from typing import Any

from pydantic import BaseModel

from harness.core.durations import PATTERN
from harness.core.keys import FURTHER, UPDATE, is_duration
from harness.core.settings import Config

#: Of the JSON schema of ``harness.toml``.
SCHEMA_ID = "urn:harness:harness.toml:1"
#: Limits below a validator of harness, which pydantic leaves in its own words.
_LIMITS = {
    "gt": "exclusiveMinimum",
    "ge": "minimum",
    "lt": "exclusiveMaximum",
    "le": "maximum",
}


@cache
def meanings(section: type[BaseModel]) -> dict[str, str]:
    """Return what each key of ``section`` means, as one paragraph; its bases' keys included."""
    found: dict[str, str] = {}
    for one in reversed(section.__mro__):
        if issubclass(one, BaseModel) and one is not BaseModel:
            found |= _of_class(one)
    return found


def _of_class(section: type[BaseModel]) -> dict[str, str]:
    try:
        source = textwrap.dedent(inspect.getsource(section))
    except (OSError, TypeError):  # put together at run time: it has no field of its own
        return {}
    body = next(node.body for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    found = {}
    for field, below in zip(body, body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            said = _text(below)
            if said is not None:
                found[field.target.id] = said
    return found


def _text(node: ast.stmt) -> str | None:
    value = node.value if isinstance(node, ast.Expr) else None
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return " ".join(inspect.cleandoc(value.value).split()).replace("``", "`")
    return None


def json_schema(model: type[Config]) -> dict[str, Any]:
    """Return the JSON schema (2020-12) of ``harness.toml``, with what each key means.

    ``model`` is the configuration with all kinds of update.
    """
    schema = model.model_json_schema(mode="validation")
    explain_models(schema, model)
    update = schema["properties"][UPDATE]
    one = {"anyOf": update.pop("oneOf")}  # a table that names no kind fits more than one
    update.pop("discriminator", None)
    update["anyOf"] = [*one["anyOf"], {"type": "array", "items": one, "minItems": 1}]
    del schema["properties"][FURTHER]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        **schema,
        "title": "harness.toml",
    }


def explain_models(schema: dict[str, Any], model: type[BaseModel]) -> None:
    """Give each field of a schema, and of those in it, its meaning; ``schema`` is changed."""
    sections = {section.__name__: section for section in _sections(model)}
    for name, definition in {model.__name__: schema, **schema.get("$defs", {})}.items():
        if name in sections:
            _explain(definition, sections[name])


def _sections(model: type[BaseModel]) -> set[type[BaseModel]]:
    """Return ``model`` and every section that is in it."""
    found: set[type[BaseModel]] = set()
    left: list[Any] = [model]
    while left:
        one = left.pop()
        if isinstance(one, type) and issubclass(one, BaseModel):
            if one not in found:
                found.add(one)
                left += [info.annotation for info in one.model_fields.values()]
        else:
            left += getattr(one, "__args__", ())
    return found


def _explain(definition: dict[str, Any], section: type[BaseModel]) -> None:
    """Give each key its meaning, each duration its text form, each kind its name."""
    said = meanings(section)
    for name, shape in definition.get("properties", {}).items():
        info = section.model_fields[name]
        if name in said:
            shape["description"] = said[name]
        shape.pop("title", None)
        if is_duration(info.annotation) or any(is_duration(one) for one in info.metadata):
            _with_units(shape)
    kind = section.model_fields.get("kind")
    if kind is not None and not kind.is_required() and kind.default != "stand-in":
        definition["required"] = [*definition.get("required", []), "kind"]


def _with_units(shape: dict[str, Any]) -> None:
    """Let a number of seconds be text with a unit as well."""
    text = {"type": "string", "pattern": f"^{PATTERN}$"}
    keep: dict[str, Any] = {
        key: shape.pop(key) for key in ("description", "default") if key in shape
    }
    options = [
        {_LIMITS.get(key, key): value for key, value in one.items()}
        for one in shape.pop("anyOf", None) or [dict(shape)]
    ]
    shape.clear()
    shape.update(keep, anyOf=[*options, text])
