"""Write the generated part of docs/reference/: settings, JSON schemas, the Ansible collection.

``make reference`` runs this; ``make lint`` sees that nothing is missing or old. Names, units,
defaults and limits are read off the settings and the commands; only the introductions are written
here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from harness.cli.flags import FLAGS
from harness.cli.main import COMMANDS, cli
from harness.core.config_text import toml_value
from harness.core.explained import json_schema, meanings
from harness.core.keys import (
    environment_name,
    is_duration,
    kinds_of,
    scalar_keys,
    sections_of,
    written,
)
from harness.core.settings import UpdateSection
from harness.core.variables import OTHERS, TOLD
from harness.results.answer import schema_of_answer, schema_of_run
from harness.updates.registry import FULL_CONFIG
from scripts import collection_reference
from scripts.markdown import row

DOCS = Path(__file__).resolve().parent.parent / "docs" / "reference"
PAGE, SCHEMA = DOCS / "settings.md", DOCS / "harness.schema.json"
COLLECTION = DOCS / "collection.md"
RUN, ROLLOUT = DOCS / "run.schema.json", DOCS / "rollout.schema.json"

_HEAD = """\
# Reference

<!-- Written by `make reference`; edit the settings and the commands, not this page. -->

## Where settings come from

A flag goes before a variable, that before the file, that before the default. `harness run
--show-config` (and `harness config show`) prints what is in force, with where each value came from.

The file is the one that `-c FILE` or `HARNESS_CONFIG` names, else the first of these that is there:
`./harness.toml`, `$XDG_CONFIG_HOME/harness/harness.toml` (`~/.config/harness/harness.toml`),
`/etc/harness/harness.toml`, and that of a lab that is up (`harness lab up`).

An unknown key, and an unknown variable that begins with `HARNESS_`, is an error. For editors there
is a JSON schema: `harness config schema`, also [harness.schema.json](harness.schema.json); for
programs that read what harness writes, those of [run.json](run.schema.json) and of
[`--rollout --json`](rollout.schema.json).

**Durations** are a number of seconds, or text with a unit: `"5ms"`, `"30s"`, `"15m"`, `"2h"`,
`"1d"`. A bare number is seconds where the name says so (`soak_s = 90`, `HARNESS_SOAK_S=90`), and
in flags about the pause itself: `--budget`, `--reserve`, `--expected`, `--duration` and
`--tolerance`. Every other flag wants a unit, because a person who writes `--soak 15` may mean
minutes.

**Several updates**: `[[update]]`, once for each, in the order in which they are applied. `--kind`
and `HARNESS_UPDATE_KIND` choose the one of that kind, or replace them all where none is; any other
flag or variable of `[update]` is refused beside several. See
[updates.md](../how-to/updates.md#several-updates).

**Guests** are named by libvirt name or UUID. `'web*'` stands for those that are up, `--all` for all
that are up, `--except GUEST` leaves some out.

**Completion**: `eval "$(_HARNESS_COMPLETE=bash_source harness)"` in `~/.bashrc`;
`zsh_source` in `~/.zshrc`; `_HARNESS_COMPLETE=fish_source harness | source` for fish.

## Settings of harness.toml
"""

_METADATA = """\
## Metadata of a guest

What `[[guest]]` does not say of update domain and availability set is taken from the guest's own
description, namespace `urn:harness:maintenance:1`:

```xml
<metadata>
  <maintenance xmlns="urn:harness:maintenance:1" update-domain="0" availability-set="web"/>
</metadata>
```

| attribute | means |
|---|---|
| `update-domain` | as `update_domain` of `[[guest]]`: guests of one are paused together |
| `availability-set` | as `availability_set` of `[[guest]]`: guests of one serve the same purpose |

`virsh metadata web1 urn:harness:maintenance:1 --key maintenance --set '<maintenance
update-domain="0" availability-set="web"/>' --config --live` sets it. Where neither says anything,
each guest is an update domain of its own, without a set.
"""

_EXIT_CODES = """\
## Exit codes

| code | means |
|---|---|
| 0 | pass |
| 1 | a promise was broken |
| 2 | usage or configuration |
| 3 | could not judge |
| 4 | a guest is still paused |
| 5 | with `--rollout`, else 3: not now (window, lease, lock of the host); nothing was paused |
| 6 | with `--rollout`, else 2: not needed, it is so already |
| 130 | interrupted; everything was resumed |

With `--json` an error is on stdout as `{"error": {"type", "message", "hint", "guest", "where",
"exit_code"}}`; `where` is the flag, the variable, or the file and key. With `--rollout` every
outcome of `run` and `plan` is one document: [rollout](rollout.md).
"""


def page() -> str:
    """Return the whole page."""
    parts = [_HEAD, *_settings(), "", _variables(), "", _METADATA, _EXIT_CODES, *_commands()]
    return "\n".join(parts).rstrip("\n") + "\n"


def _settings() -> Iterator[str]:
    yield from _table("At the top", FULL_CONFIG, "", skip=sections_of)
    for kind, section in kinds_of(FULL_CONFIG).items():
        own = kind == UpdateSection.model_fields["kind"].default
        heading = f"`[update]` of kind `{kind}`" + (" (default)" if own else "")
        if own or set(section.model_fields) - set(UpdateSection.model_fields):
            yield from _table(heading, section, "update.", shared=own)
        else:
            yield f"### {heading}\n\nIt has no keys of its own.\n"
    for name, info in written(FULL_CONFIG).items():
        for section in sections_of(info.annotation) if name != "update" else ():
            yield from _section(name, info, section)


def _section(name: str, info: FieldInfo, section: type[BaseModel]) -> Iterator[str]:
    many = get_origin(info.annotation) is tuple
    heading = f"`[[{name}]]`" if many else f"`[{name}]`"
    yield from _table(heading, section, "" if many else f"{name}.", many=many)
    for key, inner in section.model_fields.items():
        for one in sections_of(inner.annotation):
            if get_origin(inner.annotation) is tuple:
                yield from _table(f"`[[{name}.{key}]]`", one, "", many=True)


def _table(
    heading: str,
    section: type[BaseModel],
    prefix: str,
    *,
    skip: Any = lambda annotation: (),
    shared: bool = True,
    many: bool = False,
) -> Iterator[str]:
    """Yield the table of a section; ``shared``: with the keys that all kinds of update have."""
    said, variables = meanings(section), dict(scalar_keys(FULL_CONFIG))
    yield f"### {heading}\n"
    columns = ("key", "value", "default") if many else ("key", "value", "default", "flag, variable")
    yield f"| {' | '.join(columns)} | means |"
    yield "|---" * (len(columns) + 1) + "|"
    for name, info in section.model_fields.items():
        key = f"{prefix}{name}"
        if skip(info.annotation) or (not shared and name in UpdateSection.model_fields):
            continue
        said_type = ", ".join(f"`{kind}`" for kind in kinds_of(FULL_CONFIG))
        cells = [f"`{name}`", said_type if name == "kind" else _type(info), _default(info)]
        if not many:
            flag = f"`{FLAGS[key]}`" if key in FLAGS else ""
            variable = f"`{environment_name(key)}`" if key in variables else ""
            cells.append(", ".join(part for part in (flag, variable) if part))
        yield row(*cells, said.get(name, ""))
    yield ""


def _type(info: FieldInfo) -> str:
    limits = {
        name: value
        for one in [*info.metadata, *_limits_in(info.annotation)]
        for name in ("gt", "ge", "le")
        if (value := getattr(one, name, None)) is not None
    }
    said = _plain_type(info)
    words = {"gt": "more than", "ge": "at least", "le": "at most"}
    bounds = ", ".join(
        f"{words[name]} {value:g}"
        for name, value in limits.items()
        if not (name == "le" and value >= 1e7)
    )
    return f"{said}, {bounds}" if bounds else said


def _limits_in(hint: Any) -> Iterator[Any]:
    for one in (*get_args(hint), *getattr(hint, "__metadata__", ())):
        yield from getattr(one, "metadata", ())
        yield from _limits_in(one)


def _plain_type(info: FieldInfo) -> str:
    hint = info.annotation
    if is_duration(hint) or any(is_duration(one) for one in info.metadata):
        return "duration"
    if get_origin(hint) is tuple:
        return "table" if sections_of(hint) else "list of " + (_words(get_args(hint)[0]) or "texts")
    if sections_of(hint):
        return "table"
    return _words(hint) or "text"


def _parts(hint: Any) -> Iterator[Any]:
    yield hint
    if get_origin(hint) is not Literal:
        for one in get_args(hint):
            yield from _parts(one)


def _words(hint: Any) -> str:
    parts = [one for one in _parts(hint) if one is not type(None)]
    for one in parts:
        values = [value for value in get_args(one) if isinstance(value, str)]
        if values:
            return ", ".join(f"`{value}`" for value in values)
        if hasattr(one, "__members__"):
            return ", ".join(f"`{member.value}`" for member in one)
    names = {bool: "`true` or `false`", int: "whole number", float: "number", Path: "path"}
    return next((names[one] for one in parts if one in names), "")


def _default(info: FieldInfo) -> str:
    default = info.default
    if info.is_required():
        return "must be given"
    if default is None or default == () or isinstance(default, BaseModel):
        return "–"
    value = list(default) if isinstance(default, tuple) else default
    if isinstance(value, list):
        return f"all {len(value)}, in that order"
    return f"`{toml_value(value)}`"


def _variables() -> str:
    lines = ["## Variables\n", "Each setting with a variable is above; lists have none. Others:\n"]
    lines += ["| variable | means |", "|---|---|"]
    lines += [row(f"`{name}`", said) for name, said in OTHERS.items()]
    lines += [
        "",
        "Told to updates and own checks ([updates](updates.md), [checks](checks.md)):\n",
    ]
    lines += ["| variable | means |", "|---|---|"]
    lines += [row(f"`{name}`", said) for name, said in TOLD.items()]
    return "\n".join(lines)


def _commands() -> Iterator[str]:
    yield "## Commands\n"
    context = click.Context(cli, info_name="harness")
    for name in COMMANDS:
        command = cli.get_command(context, name)
        if command is not None:
            yield from _command(command, f"harness {name}")


def _command(command: click.Command, path: str) -> Iterator[str]:
    context = click.Context(command, info_name=path)
    yield f"### {path}\n"
    summary = (command.help or "").split("\n\n")[0]
    yield " ".join(summary.replace("\b", "").split()) + "\n"
    shown = [one for one in command.params if isinstance(one, click.Option) and not one.hidden]
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"`{path} {usage}`\n"
    if shown:
        yield from ("| option | means |", "|---|---|")
    for option in shown:
        record = option.get_help_record(context)
        if record is not None:
            yield row(f"`{record[0]}`", " ".join(record[1].split()))
    yield ""
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None and not inner.hidden:
                yield from _command(inner, f"{path} {name}")


def files() -> Mapping[Path, str]:
    """Return what each generated file should hold."""
    schemas = {SCHEMA: json_schema(FULL_CONFIG), RUN: schema_of_run(), ROLLOUT: schema_of_answer()}
    texts = {
        file: json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        for file, schema in schemas.items()
    }
    return {PAGE: page(), COLLECTION: collection_reference.page(), **texts}


def main() -> int:
    """Write the files; with ``--check`` only say which is not as it would be written."""
    old = [file for file, text in files().items() if not _is(file, text)]
    if "--check" in sys.argv[1:]:
        for file in old:
            sys.stderr.write(f"{file.relative_to(DOCS.parent)} is old: make reference\n")
        return 1 if old else 0
    for file, text in files().items():
        file.write_text(text, encoding="utf-8")
    return 0


def _is(file: Path, text: str) -> bool:
    return file.exists() and file.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
