"""Watchdogs as the kernel shows them; those of software end with it."""

from __future__ import annotations

import pytest

from harness.host.watchdogs import Watchdog, look


@pytest.fixture
def shown(tmp_path):
    """A folder as /sys/class/watchdog, with one that systemd has opened."""

    def show(name, *, module=None, **files):
        place = tmp_path / "class" / name
        place.mkdir(parents=True)
        for file, text in files.items():
            (place / file).write_text(f"{text}\n")
        if module is not None:
            (tmp_path / "module" / module).mkdir(parents=True)
            (place / "device/driver").mkdir(parents=True)
            (place / "device/driver/module").symlink_to(tmp_path / "module" / module)

    show("watchdog0", module="iTCO_wdt", state="active", identity="iTCO_wdt", timeout="30")
    show("watchdog1", state="inactive", identity="WDAT", timeout="60")
    show("watchdog5", state="inactive", identity="wdat_wdt", timeout="60")
    (tmp_path / "module" / "wdat_wdt").mkdir()
    show("watchdog2", state="active", identity="Software Watchdog", timeout="60")
    show("watchdog3")
    show("watchdog4", state="active", identity="odd", timeout="soon")
    return tmp_path / "class"


def test_those_in_hardware_are_found_with_what_drives_them(shown):
    """softdog is none; one that tells nothing, or nonsense, is not told of."""
    assert look(shown, shown.parent / "module") == (
        Watchdog("watchdog0", "iTCO_wdt", "iTCO_wdt", 30, armed=True, outlasts=None),
        Watchdog("watchdog1", "WDAT", "", 60, armed=False, outlasts=None),
        Watchdog("watchdog5", "wdat_wdt", "wdat_wdt", 60, armed=False, outlasts=None),
    )
    assert str(look(shown)[0]) == "watchdog0 (iTCO_wdt)"


@pytest.mark.parametrize(("said", "outlasts"), [("-1", None), ("0", True), ("1", False)])
def test_whether_one_goes_on_without_its_kernel_is_a_word_to_the_kernel(shown, said, outlasts):
    """Where it was not given, the driver decides, and does not tell."""
    word = shown.parent / "module/watchdog/parameters/stop_on_reboot"
    word.parent.mkdir(parents=True)
    word.write_text(f"{said}\n")
    assert {one.outlasts for one in look(shown, shown.parent / "module")} == {outlasts}


def test_a_host_without_any_has_none(tmp_path):
    """No folder, no watchdog."""
    assert look(tmp_path / "none") == ()
