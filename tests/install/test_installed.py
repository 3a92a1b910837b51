"""What a person installs: the wheel in an empty environment, the .deb in a clean Debian.

Requires: HARNESS_REQUIRE=install, the Python index and Debian's archive, root and mmdebstrap for
the .deb, as `make test-install` has it; else it is skipped. Leaves behind: nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.testing.required import required

ROOT = Path(__file__).resolve().parents[2]
UV = Path(os.environ.get("UV", ROOT / ".uv/bin/uv"))
_INSTALL_S = 900

pytestmark = [
    pytest.mark.timeout(_INSTALL_S),
    pytest.mark.skipif(not required("install"), reason="not asked for: make test-install"),
]


def run(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        text=True,
        cwd="/",
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, (words, done.stdout[-2000:], done.stderr[-2000:])
    return done


def test_the_wheel_is_a_tool_of_its_own(tmp_path):
    """`uv tool install`, as README says; it plans without an extra, and is removed again."""
    run(UV, "build", "--quiet", "--wheel", "--out-dir", tmp_path / "dist", ROOT)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    home = {
        "UV_TOOL_DIR": str(tmp_path / "tools"),
        "UV_TOOL_BIN_DIR": str(tmp_path / "bin"),
        "HARNESS_STATE_DIR": str(tmp_path / "state"),
    }
    run(UV, "tool", "install", wheel, **home)
    harness = tmp_path / "bin" / "harness"
    planned = run(harness, "plan", "--uri", "test:///default", "test", **home)
    assert "test" in planned.stdout
    run(UV, "tool", "uninstall", "harness-kvm", **home)
    assert not harness.exists()


#: Prints each module of the package that cannot be imported, but those that run in guests.
_IMPORT_ALL = """
import importlib, pkgutil, harness
for found in pkgutil.walk_packages(harness.__path__, "harness."):
    if {"programs", "agents", "env", "__main__"} & set(found.name.split(".")):
        continue
    try:
        importlib.import_module(found.name)
    except ImportError as error:
        print(found.name, error.name)
"""


@pytest.fixture(scope="module")
def clean_root(tmp_path_factory):
    """A Debian with nothing but what apt needs, and the package beside it."""
    if os.geteuid() != 0 or shutil.which("mmdebstrap") is None:
        pytest.fail("a clean root takes root and mmdebstrap")
    root = tmp_path_factory.mktemp("debian") / "root"
    run("mmdebstrap", "--quiet", "--variant=apt", "bookworm", root)
    (package,) = (ROOT / "dist").glob("harness-kvm_*.deb")
    shutil.copy(package, root / "harness-kvm.deb")
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    yield root
    shutil.rmtree(root)


def inside(root: Path, *words: str) -> str:
    return run("chroot", root, "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", *words).stdout


def files(root: Path) -> set[str]:
    left = ("var/lib/dpkg", "var/lib/apt", "var/cache", "var/log", "proc", "sys", "dev", "tmp")
    found = (path.relative_to(root).as_posix() for path in root.rglob("*"))
    return {path for path in found if not path.startswith(left)}


def test_the_package_is_installed_works_and_is_removed(clean_root):
    """Command, pages, completion, units; what is left of it afterwards is nothing."""
    apt = ("apt-get", "-qq", "-o", "Dpkg::Use-Pty=0", "--yes")
    depends = inside(clean_root, "dpkg-deb", "--field", "/harness-kvm.deb", "Depends")
    names = [word.split()[0] for word in depends.split(",")]
    inside(clean_root, *apt, "update")
    inside(clean_root, *apt, "--no-install-recommends", "install", *dict.fromkeys(names))
    before = files(clean_root)
    inside(clean_root, "dpkg", "--install", "/harness-kvm.deb")
    assert inside(clean_root, "harness", "--version").startswith("harness, version")
    planned = inside(clean_root, "harness", "plan", "--uri", "test:///default", "test")
    assert "test" in planned
    assert "need" not in inside(clean_root, "harness", "history", "list", "--json")
    python = "/usr/lib/harness-kvm/bin/python"
    lacking = inside(clean_root, python, "-I", "-c", _IMPORT_ALL).split("\n")[:-1]
    assert {line.split()[1] for line in lacking} <= {"pytest"}, lacking  # of the tests' own plugin
    for file in (
        "usr/share/man/man1/harness.1.gz",
        "usr/share/man/man1/harness-run.1.gz",
        "usr/share/man/man1/harness-events-serve.1.gz",
        "usr/share/bash-completion/completions/harness",
        "usr/share/zsh/vendor-completions/_harness",
        "usr/share/fish/vendor_completions.d/harness.fish",
        "usr/lib/systemd/system/harness-nightly.timer",
        "usr/lib/systemd/system/harness-nightly.service",
        "usr/lib/systemd/system/harness-events.service",
        "usr/share/doc/harness-kvm/docs/how-to/nightly.md",
    ):
        assert (clean_root / file).stat().st_size > 0, file
    inside(clean_root, "bash", "-n", "/usr/share/bash-completion/completions/harness")
    inside(clean_root, "dpkg", "--purge", "harness-kvm")
    left = {path for path in files(clean_root) - before if "__pycache__" not in path}
    own = "root/.local"  # root's runs and history, which are not the package's to remove
    assert {path for path in left if not path.startswith(own)} == set()
