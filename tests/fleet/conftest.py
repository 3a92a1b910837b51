"""Which ansible-cores there are; the collection is built and installed once for each."""

from __future__ import annotations

import pytest

from harness.testing.required import required
from tests.fleet.playbooks import CORES, Engine, install
from tests.fleet.stand_ins import Fleet, three_stand_ins


def core_named(name: str, tmp_path_factory) -> Engine:
    """Return an ansible-core with the collection; skips, or fails where it is required."""
    core = CORES / name
    if not (core / "bin" / "ansible-playbook").exists():
        why = f"no ansible-core in {core}: scripts/ansible-core"
        if required("ansible"):
            pytest.fail(why)
        pytest.skip(why)
    return install(core, tmp_path_factory.mktemp(name))


@pytest.fixture(scope="session")
def oldest(tmp_path_factory) -> Engine:
    """The oldest ansible-core that is supported."""
    return core_named("oldest", tmp_path_factory)


@pytest.fixture(scope="session")
def newest(tmp_path_factory) -> Engine:
    """The newest."""
    return core_named("newest", tmp_path_factory)


@pytest.fixture(params=["oldest", "newest"])
def engine(request) -> Engine:
    """Either."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def fleet(engine, tmp_path) -> Fleet:
    """Three hosts that are stand-ins."""
    return three_stand_ins(engine, tmp_path)
