"""Who may import whom: the rooms of harness/, floor by floor, downwards only.

As drawn in docs/explanation/design.md. Every import counts, wherever it stands, as in
``test_walls``.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping

import pytest

from tests.unit.test_walls import IMPURE, ROOT, SOURCES, Source, below, parse, reached_from

#: A room imports itself and rooms of the floors before its own: neighbours do not know each other.
FLOORS = (
    ("core",),
    ("guest", "host", "results"),
    ("clock", "updates", "lab"),
    ("checks",),
    ("maintenance",),
    ("events", "fleet"),
    ("api",),
    ("cli", "pytest_plugin", "testing", "__main__"),
)
FLOOR = {room: number for number, floor in enumerate(FLOORS) for room in floor}
#: On the topmost floor, the two that start another room of it or stand beside all others.
PROCESS = {"__main__": ("cli",)}
#: Nothing of these may be imported by testing, which stands in for what is below api.
NOT_FOR_TESTING = ("api", "cli", "pytest_plugin")

PAUSE = "harness.maintenance.pause"
#: All that the critical section may load, of ours, through whatever it imports. ``host.lifecycle``
#: and ``host.parking`` hold the words in which ``host.protocol`` speaks.
CRITICAL = (
    "harness.core",
    "harness.host.protocol",
    "harness.host.lifecycle",
    "harness.host.parking",
    "harness.host.process_family",
    "harness.results.journal",
    "harness.updates.protocol",
    PAUSE,
)
#: The guardian is a process: its ``main`` opens the real driver, and hands it to what is tested.
OPENS_THE_DRIVER = {"harness.maintenance.pause.guardian": "harness.host.driver"}

#: Judges and policies: what they know of the world is records.
PURE = (
    "harness.core.errors",
    "harness.core.records",
    "harness.clock.arithmetic",
    "harness.clock.policy",
    "harness.events.document",
    "harness.maintenance.plan",
    "harness.fleet.plans",
    "harness.fleet.waves",
    "harness.maintenance.one_address",
    *(name for name in SOURCES if name.startswith("harness.checks") and ".probes" not in name),
)


def room_of(module: str) -> str:
    """``harness.checks.ram`` is in ``checks``; the package itself is in none."""
    return (module.split(".") + [""])[1]


def module_of(name: str, sources: Mapping[str, Source]) -> str:
    """The module that a dotted name is in, or is; "" for a name that is not ours."""
    while name and name not in sources:
        name = name.rpartition(".")[0]
    return name


def forbidden(source: Source, sources: Mapping[str, Source] = SOURCES) -> set[tuple[str, str]]:
    """The imports of ``source`` that do not lead downwards."""
    found = set()
    room = room_of(source.name)
    for name in source.uses:
        target = module_of(name, sources)
        there = room_of(target)
        if there in ("", room) or there in PROCESS.get(room, ()):
            continue
        up = FLOOR[there] >= FLOOR[room] or (room == "testing" and there in NOT_FOR_TESTING)
        if up:
            found.add((source.name, target))
    return found


def outside(name: str, sources: Mapping[str, Source]) -> set[str]:
    """What the critical section's module ``name`` loads of ours and may not."""
    exempt = OPENS_THE_DRIVER.get(name, "")
    uses = frozenset(use for use in sources[name].uses if not (exempt and below(use, (exempt,))))
    reached = reached_from((name,), {**sources, name: Source(name, uses)})
    packages = {module.rpartition(".")[0] for module in reached}
    return {module for module in reached - packages if not below(module, CRITICAL)}


def impure(name: str, sources: Mapping[str, Source]) -> set[str]:
    """Modules that ``name`` loads and that know the world at first hand."""
    reached = reached_from((name,), sources)
    return {one for one in reached if any(below(use, IMPURE) for use in sources[one].uses)}


def test_every_room_has_a_floor():
    """A new folder at the root of harness/ is drawn in before it is used."""
    assert {room_of(name) for name in SOURCES} - {""} == set(FLOOR)


def test_rooms_import_downwards_only():
    """No room knows one above it or beside it, and so there is no circle of rooms."""
    found = set().union(*(forbidden(source) for source in SOURCES.values()))
    assert found == set()


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("harness.core.x", "from harness.checks import CHECKS"),
        ("harness.host.x", "def f():\n    from harness.results.journal import Journal"),
        ("harness.guest.x", "from ..host import driver"),
        ("harness.results.x", "if TYPE_CHECKING:\n    from harness.maintenance.run import run"),
        ("harness.updates.x", "import harness.clock.policy as p"),
        ("harness.checks.x", "from harness.maintenance import plan"),
        ("harness.maintenance.x", "from harness.events.store import Store"),
        ("harness.events.x", "from harness.api import Backend"),
        ("harness.api", "import importlib\nimportlib.import_module('harness.cli.main')"),
        ("harness.pytest_plugin", "from harness.cli import main"),
        ("harness.maintenance.y", "from harness.testing.clock import FakeClock"),
        ("harness.testing.x", "from harness.api import maintain"),
    ],
)
def test_an_upward_arrow_would_be_noticed(module, line):
    """Whether it is at the top, in a function, for types only, relative, or by name."""
    assert forbidden(parse(line, module))


def test_what_leads_downwards_is_no_breach():
    """Own room, the floors below, foreign libraries."""
    lines = "from harness.checks import ram\nfrom harness.core import errors\nimport socket"
    assert not forbidden(parse(lines, "harness.checks.x"))
    assert not forbidden(parse("from harness.cli.main import main", "harness.__main__"))


def critical_modules() -> list[str]:
    """The modules of ``maintenance/pause/``."""
    return [name for name in SOURCES if below(name, (PAUSE,))]


def test_the_critical_section_knows_what_it_needs_and_nothing_else():
    """Through whatever it imports; nothing slow, nothing that can fail, is loaded with it."""
    found = {name: outside(name, SOURCES) for name in critical_modules()}
    assert {name: modules for name, modules in found.items() if modules} == {}


@pytest.mark.parametrize(
    "line",
    [
        "from harness.host.driver import LibvirtHypervisor",
        "from harness.results.folder import RunFolder",
        "from harness.maintenance.session import Session",
        "def f():\n    from harness.guest import shell",
    ],
)
def test_more_in_the_critical_section_would_be_noticed(line):
    """A made-up module of it that imports one thing too many."""
    name = f"{PAUSE}.made_up"
    assert outside(name, {**SOURCES, name: parse(line, name)})


def test_only_the_guardians_main_opens_the_driver():
    """The exemption is for one function: the watch itself is given a hypervisor."""
    for name, exempt in OPENS_THE_DRIVER.items():
        tree = ast.parse(
            (ROOT / f"{name.removeprefix('harness.').replace('.', '/')}.py").read_text()
        )
        (main,) = (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "main")
        tree.body.remove(main)
        assert below_any(parse(ast.unparse(main), name), exempt), "no longer needed"
        assert not below_any(parse(ast.unparse(tree), name), exempt)


def below_any(source: Source, top: str) -> bool:
    """Whether ``source`` uses anything of ``top``."""
    return any(below(use, (top,)) for use in source.uses)


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_stay_pure_through_what_they_import(name):
    """No libvirt, paramiko, click, socket or subprocess, at any remove."""
    assert impure(name, SOURCES) == set()


def test_a_pure_module_that_looks_at_the_world_would_be_noticed():
    """Itself, or by way of a helper."""
    name = "harness.checks.made_up"
    assert impure(name, {**SOURCES, name: parse("import socket", name)}) == {name}
    helped = parse("from harness.guest import shell", name)
    assert "harness.guest.lean_paramiko" in impure(name, {**SOURCES, name: helped})
