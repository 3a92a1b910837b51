"""The walls: who may import whom, and what nobody may call. Read from the source, not believed.

Every import counts: inside functions, under TYPE_CHECKING, relative, or by ``import_module``.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

import harness

ROOT = Path(harness.__file__).parent

PURE = (
    "harness.core.errors",
    "harness.core.timebase",
    "harness.core.records",
    "harness.host.lifecycle",
    "harness.core.config",
    "harness.core.keys",
    "harness.core.settings",
    "harness.maintenance.plan",
    "harness.maintenance.set_windows",
    "harness.clock.arithmetic",
    "harness.events.document",
    "harness.events.dialects",
)
IMPURE = ("libvirt", "libvirtmod", "paramiko", "click", "socket", "subprocess", "rich")
TODAY = tuple(f"datetime.{name}" for name in ("datetime.now", "datetime.utcnow", "date.today"))
SHELLS = (
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *("asyncio.create_subprocess_shell", "asyncio.subprocess.create_subprocess_shell"),
)
LOADERS = ("importlib.import_module", "__import__")
SHELL_TRUE = "shell=True"


@dataclass(frozen=True)
class Source:
    """A module and every dotted name that it imports or calls by way of an import."""

    name: str
    uses: frozenset[str]


@dataclass(frozen=True)
class Wall:
    """What is at or below ``within``, but not at or below ``but``, uses nothing of ``banned``."""

    banned: tuple[str, ...]
    breach: str
    """A made-up line that must be noticed; in the first module of ``within``."""
    within: tuple[str, ...] = ("harness",)
    but: tuple[str, ...] = ()

    def breached_by(self, source: Source) -> list[str]:
        if not below(source.name, self.within) or below(source.name, self.but):
            return []
        return sorted(name for name in source.uses if below(name, self.banned))


WALLS = {
    "only host/ knows libvirt": Wall(
        banned=("libvirt", "libvirtmod", "libvirt_qemu", "libvirtaio"),
        but=("harness.host",),
        breach="def f():\n    from libvirt import virConnect",
    ),
    "only guest/ knows paramiko": Wall(
        banned=("paramiko",), but=("harness.guest",), breach="import os, paramiko.client as ssh"
    ),
    "only the command line knows click": Wall(
        banned=("click",),
        but=("harness.cli.main", "harness.__main__", "harness.cli.commands"),
        breach="if TYPE_CHECKING:\n    import click",
    ),
    "pure modules know the world by its records": Wall(
        banned=IMPURE, within=PURE, breach="class A:\n    import socket"
    ),
    "host/ knows no SSH": Wall(
        banned=("harness.guest",), within=("harness.host",), breach="from harness import guest"
    ),
    "guest/ knows no hypervisor": Wall(
        banned=("harness.host",),
        within=("harness.guest",),
        breach="import importlib as i\ni.import_module('harness.host.driver')",
    ),
    "the window and the run see protocols": Wall(
        banned=("harness.host.driver", "harness.guest.shell"),
        within=("harness.maintenance.pause.window", "harness.maintenance.run"),
        breach="from harness.host import facts, driver",
    ),
    "a run knows no recovery: what it leaves behind is its journal": Wall(
        banned=("harness.maintenance.recovery",),
        within=("harness.maintenance",),
        but=("harness.maintenance.recovery",),
        breach="from harness.maintenance.recovery.recover import rescue",
    ),
    "the lab is known to api/ and to its own commands": Wall(
        banned=("harness.lab",),
        but=(
            "harness.api",
            "harness.lab",
            "harness.cli.commands.lab",
            "harness.cli.commands.lab_box",
        ),
        breach="from harness.lab.state import lab_config_file",
    ),
    "how a guest's shell is opened is handed down from api/": Wall(
        banned=("harness.guest.shell", "harness.guest.connector", "harness.guest.access"),
        but=("harness.api", "harness.guest", "harness.testing"),
        breach="from harness.guest.shell import SshShell",
    ),
    "only timebase reads a clock or sleeps": Wall(
        banned=("time", *TODAY),
        but=("harness.core.timebase", "harness.core.tsc"),
        breach="from datetime import datetime as dt, UTC\nprint(dt.now(tz=UTC))",
    ),
    "nobody uses a shell": Wall(
        banned=(*SHELLS, SHELL_TRUE), breach="import subprocess as s\ns.run('ls', shell=yes)"
    ),
    "only its room knows the libraries of an extra: events": Wall(
        banned=("starlette", "uvicorn", "httptools"),
        but=("harness.events",),
        breach="from starlette.requests import Request",
    ),
    "only its room knows the libraries of an extra: reports": Wall(
        banned=("jinja2", "matplotlib"),
        but=("harness.results.report",),
        breach="import matplotlib.pyplot",
    ),
    "only its room knows the libraries of an extra: otel": Wall(
        banned=("opentelemetry",),
        but=("harness.results.spans",),
        breach="from opentelemetry import trace",
    ),
    "only its room knows the libraries of an extra: history": Wall(
        banned=("sqlalchemy", "alembic"),
        but=("harness.core.storage", "harness.events", "harness.fleet", "harness.results.history"),
        breach="def f():\n    from alembic import command",
    ),
    "only its room knows the libraries of an extra: lab": Wall(
        banned=("pycdlib", "tomli_w"),
        but=("harness.lab",),
        breach="import tomli_w",
    ),
    "only keys and certificates are made of cryptography": Wall(
        banned=("cryptography",),
        but=("harness.guest.certificates", "harness.lab.keys"),
        breach="from cryptography.hazmat.primitives import hashes",
    ),
    "report/ and history/ read files, never guests": Wall(
        banned=("harness.host", "harness.guest", "libvirt", "paramiko"),
        within=("harness.results.report", "harness.results.history"),
        breach="from ...guest import shell",
    ),
}


def below(name: str, tops: tuple[str, ...]) -> bool:
    return any(name == top or name.startswith(f"{top}.") for top in tops)


def parse(text: str, name: str, is_package: bool = False) -> Source:
    """Every name in its full length, whatever it was imported as."""
    nodes = list(ast.walk(ast.parse(text)))
    package = name if is_package else name.rpartition(".")[0]
    uses: set[str] = set()
    full: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                uses.add(alias.name)
                top = alias.name.partition(".")[0]
                full[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom):
            start = _imported_from(node, package)
            uses.add(start)
            for alias in node.names:
                uses.add(f"{start}.{alias.name}")
                full[alias.asname or alias.name] = f"{start}.{alias.name}"
    for node in nodes:
        if isinstance(node, ast.Attribute):
            uses.add(_dotted(node, full))
        elif isinstance(node, ast.Call):
            uses |= _called_by(node, full)
    return Source(name, frozenset(uses))


def _imported_from(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parents = package.split(".")
    start = parents[: len(parents) - node.level + 1]
    return ".".join([*start, *([node.module] if node.module else [])])


def _called_by(node: ast.Call, full: dict[str, str]) -> set[str]:
    found = set()
    if _dotted(node.func, full) in LOADERS and node.args:
        found |= {str(arg.value) for arg in node.args[:1] if isinstance(arg, ast.Constant)}
    for keyword in node.keywords:
        off = isinstance(keyword.value, ast.Constant) and not keyword.value.value
        if keyword.arg == "shell" and not off:
            found.add(SHELL_TRUE)
    return found


def _dotted(node: ast.expr, full: dict[str, str]) -> str:
    """``a.b.c`` with ``a`` resolved through the imports; "" at the front where it is no name."""
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value, full)}.{node.attr}"
    if isinstance(node, ast.Name):
        return full.get(node.id, node.id if node.id in LOADERS else "")
    return ""


def _name(path: Path) -> str:
    parts = ("harness", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


class Sources(Mapping[str, Source]):
    """Modules by their names, each parsed when it is first asked for, not by who imports this."""

    def __init__(self, files: dict[str, Path]) -> None:
        self._files = files
        self._parsed: dict[str, Source] = {}

    def __getitem__(self, name: str) -> Source:
        if name not in self._parsed:
            path = self._files[name]
            text = path.read_text(encoding="utf-8")
            self._parsed[name] = parse(text, name, path.name == "__init__.py")
        return self._parsed[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __contains__(self, name: object) -> bool:
        return name in self._files


_FILES = {_name(path): path for path in sorted(ROOT.rglob("*.py"))}
#: Below these are programs that guests run, as text that is sent to them.
FOR_GUESTS = ("harness.checks.probes.programs", "harness.clock.agents")
PROGRAMS = {name for name in _FILES if below(name, FOR_GUESTS) and name not in FOR_GUESTS}
SOURCES = Sources({name: path for name, path in _FILES.items() if name not in PROGRAMS})


def reached_from(names: tuple[str, ...], sources: Mapping[str, Source]) -> set[str]:
    """The modules of ours that importing ``names`` may load, and theirs; packages included."""
    found: set[str] = set()
    to_do = list(names)
    while to_do:
        name = to_do.pop()
        if name in sources and name not in found:
            found.add(name)
            to_do += [name.rpartition(".")[0], *sources[name].uses]
    return found


def test_programs_for_guests_are_never_imported():
    """They set clocks and write to disks as soon as they are run, and a guest runs them."""
    assert PROGRAMS
    found = {name: source.uses & PROGRAMS for name, source in SOURCES.items()}
    assert {name: uses for name, uses in found.items() if uses} == {}


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_programs_for_guests_need_nothing_but_python(name):
    """Its standard library, and what an earlier part of the same text defines."""
    text = (ROOT.parent / name.replace(".", "/")).with_suffix(".py").read_text()
    imported = {
        alias.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(ast.parse(text, feature_version=(3, 7)))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    # Of the standard library before Python 3.12, and since.
    of_others = {"_sha256", "_sha2"}
    assert imported <= {*sys.stdlib_module_names, *of_others, "__main__"}


@pytest.mark.parametrize("title", WALLS)
def test_the_wall_stands(title):
    """No module of harness is on the wrong side."""
    found = {name: WALLS[title].breached_by(source) for name, source in SOURCES.items()}
    assert {name: uses for name, uses in found.items() if uses} == {}


@pytest.mark.parametrize("title", WALLS)
def test_the_wall_would_notice_a_breach(title):
    """A made-up module on the wrong side is found; the same module where it is allowed is not."""
    wall = WALLS[title]
    assert wall.breached_by(parse(wall.breach, f"{wall.within[0]}.made_up"))
    for exempt in wall.but:
        assert not wall.breached_by(parse(wall.breach, exempt))


@pytest.mark.parametrize("title", WALLS)
def test_the_wall_stands_around_something(title):
    """A module that was renamed takes its wall along."""
    wall = WALLS[title]
    assert [name for name in (*wall.within, *wall.but) if name not in SOURCES] == []
    ours = [name for name in wall.banned if below(name, ("harness",))]
    assert [name for name in ours if name not in SOURCES] == []


def test_pure_modules_stay_pure_through_what_they_import():
    """An impure helper does not make a way around the wall."""
    wall = Wall(banned=IMPURE, breach="")
    found = {name: wall.breached_by(SOURCES[name]) for name in reached_from(PURE, SOURCES)}
    assert {name: uses for name, uses in found.items() if uses} == {}


def test_a_way_around_would_be_noticed():
    """What an import of an import loads is reached, and so is the package that holds it."""
    made_up = {
        "p": parse("import subprocess", "p", is_package=True),
        "p.a": parse("from p import b", "p.a"),
        "p.b": parse("from p.c import value", "p.b"),
        "p.c": parse("value = 1", "p.c"),
        "p.d": parse("", "p.d"),
    }
    assert reached_from(("p.a",), made_up) == {"p", "p.a", "p.b", "p.c"}


@pytest.mark.parametrize(
    ("text", "use"),
    [
        ("import a.b", "a.b"),
        ("import a.b as c\nc.d()", "a.b.d"),
        ("import a\na.b.c()", "a.b.c"),
        ("from . import b", "harness.x.b"),
        ("from .b import c", "harness.x.b.c"),
        ("from ..y.z import c", "harness.y.z.c"),
        ("__import__('a.b')", "a.b"),
        ("from importlib import import_module as load\nload('a.b')", "a.b"),
        ("async def f():\n    async with g:\n        import a", "a"),
        ("from os import system", "os.system"),
        ("import datetime\ndatetime.datetime.utcnow()", "datetime.datetime.utcnow"),
        ("import subprocess\nsubprocess.Popen(['a'], shell=True)", SHELL_TRUE),
    ],
)
def test_every_way_to_say_it_is_understood(text, use):
    """An alias, a relative import or a nested one hides nothing."""
    assert use in parse(text, "harness.x.module").uses


def test_what_is_not_an_import_is_not_taken_for_one():
    """A local name, a comment, or ``shell=False`` breaches nothing."""
    text = "def f(os, time):\n    os.system()\n    time.sleep()  # import time\nf(shell=False)"
    assert all(not wall.breached_by(parse(text, "harness.x")) for wall in WALLS.values())


#: Prints what importing, and then asking for help, has loaded of the heavy libraries.
LOADED = """
import sys
def loaded():
    heavy = {"libvirt", "libvirtmod", "paramiko", "cryptography", "pydantic", "pydantic_core",
             "starlette", "uvicorn", "httptools", "sqlite3",
             "matplotlib", "numpy", "jinja2", "sqlalchemy", "alembic", "pyarrow", "lxml",
             "opentelemetry"}
    return sorted(heavy & {name.partition(".")[0] for name in sys.modules})
import harness.cli.main
after_import = loaded()
code = harness.cli.main.run_command_line(["--help"])
after_help = loaded()
import harness.core.config
import json
print(json.dumps([after_import, code, after_help, loaded()]), file=sys.stderr)
"""


def test_help_loads_neither_libvirt_nor_paramiko_nor_pydantic():
    """``harness --help`` and completion are quick; the probe does notice when pydantic comes."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT.parent)}
    done = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, env=environment, timeout=60
    )
    after_import, code, after_help, after_config = json.loads(done.stderr)
    assert "Usage: harness" in done.stdout
    assert (after_import, code, after_help) == ([], 0, [])
    assert "pydantic" in after_config


def test_nothing_of_ssh_is_loaded_before_a_login():
    """A plan logs in nowhere, and recover resumes guests first: it is half of what is loaded."""
    code = "import sys, harness.api, harness.host.driver, harness.maintenance.recovery.round\n"
    code += "backend = harness.api.Backend.real()\n"
    code += "print(*sorted({'paramiko', 'cryptography', 'libvirt'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.returncode) == ("libvirt", 0), done.stderr


#: Prints which of the libraries of reports a module has loaded.
REPORTERS = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
slow = {"matplotlib", "numpy", "jinja2", "sqlalchemy", "alembic", "pyarrow"}
print(*sorted(slow & set(sys.modules)))
"""


@pytest.mark.parametrize(
    ("modules", "loaded"),
    [
        (
            (
                "harness.cli.commands.run",
                "harness.maintenance.run",
                "harness.results.publish",
                "harness.results.report.junit",
            ),
            "",
        ),
        (("harness.pytest_plugin", "harness.cli.commands.nightly", "harness.cli.nightly"), ""),
        (("harness.results.history.store",), "sqlalchemy"),
    ],
)
def test_a_run_loads_only_what_it_writes(modules, loaded):
    """Plots and databases come after it, in a process of their own."""
    done = subprocess.run(
        [sys.executable, "-c", REPORTERS, *modules],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT.parent)},
        timeout=60,
    )
    assert (done.stdout.strip(), done.returncode) == (loaded, 0), done.stderr


def test_a_quick_history_loads_no_pydantic():
    """Its answer is wanted within half a second, most of which is loading; also of a new one."""
    code = "import sys, harness.cli.commands.history, harness.results.history.store as s\n"
    code += "s.History.open('sqlite://').newest()\n"
    code += "print(*sorted({'pydantic', 'rich', 'alembic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.returncode) == ("", 0), done.stderr


def test_what_brings_guests_back_after_a_kexec_loads_little():
    """Guests wait for it: what prepares a host, and what another store takes, is not for them."""
    code = "import sys, harness.maintenance.thaw.program\n"
    code += "first = {'libvirt', 'pydantic'} & set(sys.modules)\n"
    code += "import harness.host.driver, harness.host.kernel.networks\n"
    code += "spared = {'tempfile', 'importlib.resources', 'pydantic', 'harness.host.setup_steps',\n"
    code += "'harness.host.kernel.kexec', 'harness.maintenance.thaw.preserved'}\n"
    code += "print(*sorted(first), *sorted(spared & set(sys.modules)))"
    words = [sys.executable, "-I", "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.returncode) == ("", 0), done.stderr
