"""What processes of harness load: each library is time before a guest is touched, and memory."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.maintenance.in_memory import DRIVER, in_folder
from tests.maintenance.test_output import CONFIG, RUN

#: Parts of Python itself that take long to load.
SLOW = {
    "asyncio",
    "concurrent",
    "http",
    "multiprocessing",
    "sqlite3",
    "ssl",
    "unittest",
}
LIBVIRT = {"libvirt", "libvirt_qemu", "libvirtmod", "libvirtmod_qemu"}
#: Of a run, the configuration and its records, the command line and what it shows.
PYDANTIC = {
    "annotated_types",
    "pydantic",
    "pydantic_core",
    "typing_extensions",
    "typing_inspection",
}
SAID = {"click", "platformdirs"}
SHOWN = SAID | {"rich"}
SERVING = {"anyio", "click", "h11", "httptools", "sqlalchemy", "starlette", "uvicorn"}
#: Rollouts are looked at by those who begin them, too.
SERVER = SERVING | PYDANTIC | SHOWN | (SLOW - {"unittest"}) | {"harness.results.answer"}
#: Of harness, what only other runs need: each looks at hosts and guests in ways of its own.
FOR_OTHERS = {
    "harness.cli.live",
    "harness.fleet.outside.follow",
    "harness.maintenance.thaw",
    "harness.results.answer",
    "harness.updates.kernel.update",
    "harness.updates.qemu.adopt",
    "harness.updates.qemu.update",
}
TELL = """
import sys
there = {name.partition(".")[0] for name in sys.modules if not name.startswith("_")}
print("LOADED", *there, *(name for name in sys.modules if name in {%r}), file=sys.stderr)
""".replace("{%r}", repr(FOR_OTHERS))


def loaded(code: str, *arguments: str, **more) -> set[str]:
    """The libraries that ``code`` has loaded, and which parts of Python that take long."""
    command = [sys.executable, "-P", "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, **more)
    told = [line for line in done.stderr.splitlines() if line.startswith("LOADED ")]
    assert (done.returncode, len(told)) == (0, 1), done.stderr
    ours = {"harness", "cython_runtime"}  # and what libraries say they are compiled with
    return set(told[0].split()[1:]) - (sys.stdlib_module_names - SLOW) - ours


@pytest.mark.parametrize(
    ("output", "libraries"), [((), SHOWN), (("--json",), SAID)], ids=["table", "json"]
)
def test_a_run_loads_no_more_than_this(tmp_path, output, libraries):
    """A whole one, of guests in memory: no page, no database, no SSH where there is no login.

    A program that reads JSON has no terminal: nothing is drawn for it.
    """
    (tmp_path / "house.toml").write_text(CONFIG)
    code = DRIVER.replace("import main\nmain()", "import run_command_line\nrun_command_line(None)")
    found = loaded(code + TELL, "fine", *RUN, *output, cwd=tmp_path, env=in_folder(tmp_path))
    assert found == LIBVIRT | PYDANTIC | libraries


@pytest.mark.parametrize(
    ("modules", "libraries"),
    [
        (("harness.maintenance.pause.guardian", "harness.host.driver"), LIBVIRT),
        (("harness.cli.commands.events", "harness.events.server"), SERVER),
    ],
    ids=["guardian", "server"],
)
def test_a_process_beside_it_loads_no_more_than_this(modules, libraries):
    """The guardian is there while memory is short; a server answers while its host is busy."""
    code = "".join(f"import {module}\n" for module in modules)
    assert loaded(code + TELL) <= libraries


def test_a_login_loads_nothing_for_files_that_harness_does_not_have_paramiko_read():
    """paramiko loads a library of tasks for `Match exec`: an eighth of all that a run loads."""
    code = "import harness.guest.connector, harness.guest.shell\n"
    cryptography = {"bcrypt", "cryptography", "nacl", "paramiko"}
    assert loaded(code + TELL) - PYDANTIC - cryptography <= {"cffi", "concurrent"}


def test_nothing_is_looked_through_for_garbage_while_a_run_is_loaded():
    """That would be 14 ms of its CPU, and there is none."""
    code = """
import gc, sys
from harness.core.process_state import settle_process
settle_process()
looks = [one["collections"] for one in gc.get_stats()]
import harness.cli.main, harness.cli.commands.run, harness.maintenance.run
import harness.guest.connector, harness.guest.shell, harness.host.driver
print("LOOKS", *(one["collections"] - n for one, n in zip(gc.get_stats(), looks)))
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["LOOKS", "0", "0", "0"], done.stderr
