"""The collection as it is handed out: what Ansible's own tools say of it."""

from __future__ import annotations

import json
import subprocess

import pytest

from scripts.collection_reference import options_of, plugins
from tests.fleet.playbooks import ROOT

pytestmark = pytest.mark.timeout(300)


def said(engine, tmp_path, *words, cwd=None) -> subprocess.CompletedProcess[str]:
    """Run a command of an ansible-core on the installed collection."""
    program = str(engine.core / "bin" / words[0])
    return subprocess.run(
        [program, *words[1:]],
        env=engine.environment(tmp_path),
        cwd=cwd or engine.collections / "ansible_collections" / "harness_kvm" / "fleet",
        capture_output=True,
        text=True,
    )


def test_ansible_lint_has_nothing_to_say_of_it(newest, tmp_path):
    done = said(newest, tmp_path, "ansible-lint", "--offline", "--nocolor", "--profile=production")
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_plugin_and_the_role_have_documentation(engine, tmp_path):
    kinds = {"module": "modules", "filter": "filter", "inventory": "inventory"}
    for kind, folder in {**kinds, "callback": "callback"}.items():
        files = (ROOT / "ansible" / "plugins" / folder).glob(
            "*.yml" if kind == "filter" else "*.py"
        )
        names = [f"harness_kvm.fleet.{file.stem}" for file in files]
        assert names
        done = said(engine, tmp_path, "ansible-doc", "--json", "-t", kind, *names)
        assert done.returncode == 0, done.stderr
        assert sorted(json.loads(done.stdout)) == sorted(names), done.stderr
    role = "harness_kvm.fleet.rolling_maintenance"
    done = said(engine, tmp_path, "ansible-doc", "--json", "-t", "role", role)
    assert {"preflight", "wave", "post"} <= set(json.loads(done.stdout)[role]["entry_points"])


def test_the_page_of_the_reference_has_the_options_that_ansible_knows(engine, tmp_path):
    """It is written without an ansible-core."""
    for kind in ("module", "filter", "inventory", "callback"):
        known = {one.name: one for one in plugins(kind + "s" * (kind == "module"))}
        names = [f"harness_kvm.fleet.{name}" for name in known]
        done = said(engine, tmp_path, "ansible-doc", "--json", "-t", kind, *names)
        for name, told in json.loads(done.stdout).items():
            mine = known[name.rpartition(".")[2]]
            elsewhere = {"compose", "groups", "keyed_groups", "strict", "use_extra_vars"}
            others = elsewhere | {"leading_separator"} if kind == "inventory" else set()
            shown = told["doc"].get("options", {})
            assert shown.keys() - others == options_of(mine).keys(), name
            assert (told["return"] or {}).keys() == mine.returned.keys(), name


def test_what_is_handed_out_has_its_own_licence_and_nothing_that_was_compiled(engine):
    (installed,) = engine.collections.glob("ansible_collections/harness_kvm/fleet")
    assert "GNU GENERAL PUBLIC LICENSE" in (installed / "COPYING").read_text()
    manifest = json.loads((installed / "MANIFEST.json").read_text())["collection_info"]
    assert (manifest["namespace"], manifest["name"]) == ("harness_kvm", "fleet")
    listed = json.loads((installed / "FILES.json").read_text())["files"]
    assert [one["name"] for one in listed if one["name"].endswith((".pyc", ".tar.gz"))] == []
