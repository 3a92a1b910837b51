"""docs/reference/collection.md: everything that is in the Ansible collection.

Read off what its plugins and its role say of themselves, which is what ``ansible-doc`` shows too.
ansible-core is not needed: the text of a plugin is parsed, and nothing of it is run.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from scripts.markdown import header, row

COLLECTION = Path(__file__).resolve().parent.parent / "ansible"
NAME = "harness_kvm.fleet"
ROLE = "rolling_maintenance"

_HEAD = f"""\
# Ansible collection

<!-- Written by `make reference`; edit the documentation in ansible/, not this page. -->

What is in `{NAME}`. [Maintain a rack](../how-to/fleet.md) goes through it; where it is installed,
`ansible-doc` shows the same of what is installed there.

The playbook `{NAME}.rolling` is the stages of the role below in their order. It takes the
variables of the role, and `harness_hosts`, a pattern of hosts (`all` if not given):

```console
ansible-playbook -i INVENTORY {NAME}.rolling -e {ROLE}_rollout=ID [--check --diff]
```

All modules are in the action group `{NAME}.harness`, for `module_defaults`.
"""

_KINDS = {
    "modules": "Modules",
    "inventory": "Inventory plugin",
    "callback": "Callback plugin",
    "filter": "Filters",
}


@dataclass(frozen=True)
class Documented:
    """What one plugin says of itself."""

    name: str
    doc: Mapping[str, Any]
    examples: str
    returned: Mapping[str, Any]
    fragments: Sequence[str]
    """Names of sets of options that it takes beside its own."""


def plugins(kind: str) -> Iterator[Documented]:
    """Yield those in a folder of plugins, by name."""
    folder = COLLECTION / "plugins" / kind
    for file in sorted(folder.glob("*.yml") if kind == "filter" else folder.glob("*.py")):
        said = yaml.safe_load(file.read_text("utf-8")) if kind == "filter" else _texts(file)
        doc, returned = (_parsed(said.get(key)) for key in ("DOCUMENTATION", "RETURN"))
        fragments = doc.get("extends_documentation_fragment", [])
        yield Documented(file.stem, doc, said.get("EXAMPLES", ""), returned, fragments)


def options_of(plugin: Documented) -> Mapping[str, Mapping[str, Any]]:
    """Return all options that it takes, but for those of fragments of other collections."""
    found = dict(plugin.doc.get("options", {}))
    for name in plugin.fragments:
        if name.startswith(f"{NAME}."):
            found |= _fragment(name.rpartition(".")[2])["options"]
    return found


def page() -> str:
    """Return the whole page."""
    return "\n".join((_HEAD, *_role(), *_plugins())).rstrip("\n") + "\n"


def plain(text: str) -> str:
    """Return as Markdown what Ansible's markup says: O(NAME), C(CODE), L(WORDS,URL), …."""
    text = re.sub(r"\bL\(([^,)]+),\s*([^)]+)\)", r"[\1](\2)", text)
    text = re.sub(r"\bP\(([^)#]+)#[a-z]+\)", r"`\1`", text)
    text = re.sub(r"\bRV\((?:[a-z_.]+\.)?([a-z_]+)#[a-z]+:([^)]+)\)", r"`\2` of `\1`", text)
    return " ".join(re.sub(r"\b(?:RV|[BCEIMOPUV])\(([^)]*)\)", r"`\1`", text).split())


def _role() -> Iterator[str]:
    specs = _parsed((COLLECTION / "roles" / ROLE / "meta" / "argument_specs.yml").read_text())
    stages = dict(specs["argument_specs"])
    main = stages.pop("main")
    yield f"## Role `{ROLE}`\n"
    yield f"Entry point `main`: {_sentences(main['description'])}\n"
    yield header("stage", "", "does")
    for name, stage in stages.items():
        short = plain(stage["short_description"])
        yield row(f"`{name}`", short[0].lower() + short[1:], _sentences(stage["description"]))
        if stage["options"] != main["options"]:
            raise ValueError(f"stage {name} has options of its own, which this page does not show")
    yield f"\n{_options(main['options'], 'variable')}"


def _plugins() -> Iterator[str]:
    for kind, heading in _KINDS.items():
        yield f"## {heading}\n"
        shared: list[str] = []
        for plugin in plugins(kind):
            yield from _plugin(plugin)
            shared += (name for name in plugin.fragments if name not in shared)
        for name in sorted(name for name in shared if name.startswith(f"{NAME}.")):
            yield from _shared(name.rpartition(".")[2])


def _plugin(plugin: Documented) -> Iterator[str]:
    doc = plugin.doc
    yield f"### `{plugin.name}`\n"
    yield f"{_sentence(doc['short_description'])} {_sentences(doc['description'])}\n"
    yield from (f"{_sentences(note)}\n" for note in doc.get("notes", ()))
    for mode, said in doc.get("attributes", {}).items():
        words = mode.replace("_", " ").capitalize()
        yield f"{words}: {plain(said['description']).rstrip('.')} (support: {said['support']}).\n"
    own = doc.get("options", {})
    if own:
        yield _options(own, "option")
    if plugin.fragments:
        also = "also " if own else ""
        yield f"It {also}takes the options of {_places(plugin.fragments)}.\n"
    if plugin.returned:
        yield _returned(plugin.returned)
    if plugin.examples:
        yield f"```yaml\n{plugin.examples.strip()}\n```\n"


def _shared(fragment: str) -> Iterator[str]:
    yield f"### Options: {fragment}\n"
    yield _options(_fragment(fragment)["options"], "option")


def _places(fragments: Sequence[str]) -> str:
    """Return where options are that several plugins take."""
    found = []
    for name in fragments:
        short = name.rpartition(".")[2]
        own = f"[{short}](#options-{short})"
        found.append(own if name.startswith(f"{NAME}.") else f"`{name}`")
    return ", ".join(found)


def _options(options: Mapping[str, Mapping[str, Any]], what: str) -> str:
    lines = [header(what, "value", "default", "means")]
    for name, option in options.items():
        unknown = option.keys() - {
            *("choices", "default", "description", "elements", "env", "required", "type")
        }
        if unknown:
            raise ValueError(f"{name}: {sorted(unknown)} are not shown by this page")
        default = "must be given" if option.get("required") else _default(option)
        variables = ", ".join(f"`{one['name']}`" for one in option.get("env", ()))
        means = _sentences(option["description"])
        means += f" Variable: {variables}." if variables else ""
        shown = "input" if name == "_input" else f"`{name}`"
        lines.append(row(shown, _type(option), default, means))
    return "\n".join((*lines, ""))


def _returned(returned: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [header("returns", "type", "when", "")]
    for name, one in returned.items():
        shown = "the value" if name == "_value" else f"`{name}`"
        cells = (_type(one), plain(one.get("returned", "always")), _sentences(one["description"]))
        lines.append(row(shown, *cells))
    return "\n".join((*lines, ""))


def _type(option: Mapping[str, Any]) -> str:
    if "choices" in option:
        return ", ".join(f"`{choice}`" for choice in option["choices"])
    elements = option.get("elements")
    return f"{option['type']} of {elements}" if elements else str(option["type"])


def _default(option: Mapping[str, Any]) -> str:
    value = option.get("default")
    if value in (None, "", [], {}) and value is not False:
        return "–"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _fragment(name: str) -> Mapping[str, Any]:
    return _parsed(_texts(COLLECTION / "plugins" / "doc_fragments" / f"{name}.py")["DOCUMENTATION"])


def _texts(file: Path) -> dict[str, str]:
    """Return the texts that a plugin assigns to names, also within its class."""
    found = {}
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            for target in node.targets:
                if isinstance(target, ast.Name) and isinstance(node.value.value, str):
                    found[target.id] = node.value.value
    return found


def _parsed(text: Any) -> dict[str, Any]:
    said = yaml.safe_load(text) if isinstance(text, str) else text
    return said or {}


def _sentences(text: str | Sequence[str]) -> str:
    parts = [text] if isinstance(text, str) else text
    return " ".join(_sentence(part) for part in parts)


def _sentence(text: str) -> str:
    said = plain(text)
    return said if said.endswith((".", ":", "?")) else f"{said}."
