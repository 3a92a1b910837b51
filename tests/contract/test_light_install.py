"""What an installation without extras can do, and how it says what it cannot.

The environment is a real one whose site-packages hold the core's dependencies, as
``pyproject.toml`` states them, and theirs: no network, no build.
"""

from __future__ import annotations

import os
import subprocess
import tomllib
import venv
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from harness.core.extras import LIBRARIES
from harness.testing.runs import a_folder, a_run

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def closure(wanted: list[str]) -> set[str]:
    """Return the names of the distributions that these requirements bring, theirs included."""
    found: set[str] = set()
    to_do = [(Requirement(text), "") for text in wanted]
    while to_do:
        requirement, extra = to_do.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        known = requirement.name in found
        found.add(requirement.name)
        for chosen in ("", *requirement.extras) if not known else requirement.extras:
            needs = distribution(requirement.name).requires or []
            to_do += [(Requirement(text), chosen) for text in needs]
    return found


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Path:
    """A Python whose environment holds the core only."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for name in closure(PROJECT["dependencies"]):
        files = distribution(name).files or []
        for top in {file.parts[0] for file in files if file.parts[0] not in ("..", "__pycache__")}:
            (site / top).symlink_to(distribution(name).locate_file(top))
    (site / "harness").symlink_to(ROOT / "harness")
    return folder / "bin" / "python"


@pytest.fixture
def harness(bare, tmp_path):
    """Run a command line in it."""

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        home = {"HOME": str(tmp_path), "HARNESS_STATE_DIR": str(tmp_path / "state")}
        return subprocess.run(
            [bare, *words],
            cwd=tmp_path,
            env={**kept, **home, "HARNESS_LOCK_DIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return call


def _module(distribution: str) -> str:
    """OpenTelemetry's distributions are parts of one package; all others are named as theirs."""
    parted = "." if distribution.startswith("opentelemetry-") else "_"
    return distribution.replace("-", parted)


def test_the_table_of_extras_is_that_of_the_project():
    """``core/extras.py`` and ``pyproject.toml`` say the same; ``all`` is all."""
    stated = PROJECT["optional-dependencies"]
    modules = {
        extra: {_module(Requirement(text).name) for text in texts}
        for extra, texts in stated.items()
        if extra != "all"
    }
    assert modules == {extra: set(names) for extra, names in LIBRARIES.items()}
    assert [Requirement(text).extras for text in stated["all"]] == [set(LIBRARIES)]


def test_the_core_alone_plans(harness):
    """Help, a plan against libvirt's test driver, clocks and recovery need no extra."""
    assert harness("-m", "harness", "--help").returncode == 0
    planned = harness("-m", "harness", "plan", "--uri", "test:///default", "test", "--json")
    assert planned.returncode == 0, planned.stderr
    assert '"test"' in planned.stdout
    recovered = harness("-m", "harness", "recover", "--uri", "test:///default")
    assert (recovered.returncode, recovered.stderr) == (0, "")
    for command in ("run", "clock", "doctor", "nightly", "report", "experiment", "lock"):
        shown = harness("-m", "harness", command, "--help")
        assert (shown.returncode, shown.stderr) == (0, ""), command


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        ("history", "history"),
        ("history import", "history"),
        ("events serve", "events"),
        ("events list", "events"),
        ("events rehearse host-maintenance --guest test", "events"),
        ("lab up", "lab"),
        ("lab box up", "lab"),
        ("report --format html", "reports"),
    ],
)
def test_a_command_without_its_extra_says_which(harness, tmp_path, words, extra):
    """One line with the way to get it, and the code of a capability that is missing."""
    a_folder(tmp_path / "state", a_run())
    done = harness("-m", "harness", *words.split())
    assert done.returncode == 3, done.stderr
    assert f"needs the extra [{extra}]" in done.stderr
    assert done.stderr.endswith(f"(hint: pip install 'harness-kvm[{extra}]')\n")
    assert done.stderr.count("\n") == 1


def test_a_run_that_leaves_reports_out_says_so(harness, tmp_path):
    """What follows a run names both, a line each, and the folder keeps what needs no library."""
    folder = a_folder(tmp_path / "state", a_run())
    done = harness("-m", "harness.results.publish", str(folder.path))
    assert done.stderr.splitlines() == [
        "the run is not in the history: the history of runs needs the extra [history] "
        "(not installed: alembic, sqlalchemy) (hint: pip install 'harness-kvm[history]')",
        "report.html was not written: report.html needs the extra [reports] (not installed: "
        "jinja2, matplotlib) (hint: pip install 'harness-kvm[reports]')",
    ]
    assert harness("-m", "harness", "report").returncode == 0
    assert harness("-m", "harness", "report", "--format", "junit").returncode == 0


PASSES = """
import sys
from pathlib import Path
from harness.results.folder import RunFolder
from harness.results.publish import finish
print(*finish(RunFolder(Path(sys.argv[1]))), sep="\\n")
"""


def test_a_maintenance_goes_on_without_them(harness, tmp_path):
    """``finish``, which run and nightly call last, returns the warnings and raises nothing."""
    folder = a_folder(tmp_path / "state", a_run())
    done = harness("-c", PASSES, str(folder.path))
    assert (done.returncode, done.stdout.count("pip install")) == (0, 2), done.stderr


def test_notifying_without_the_extra_fails_before_the_first_pause(harness):
    """``run --notify`` is refused with its extra's name; no guest was touched."""
    done = harness("-m", "harness", "run", "--uri", "test:///default", "test", "--notify", "1s")
    assert done.returncode == 3
    assert "needs the extra [events]" in done.stderr
