"""One type of duration everywhere: flags, variables, TOML."""

from __future__ import annotations

import pytest

from harness.core.config import load, overlaid
from harness.core.durations import parse
from harness.core.keys import environment_name, is_duration, scalar_keys
from harness.updates.registry import FULL_CONFIG


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        ("30s", 30),
        ("5ms", 0.005),
        ("250us", 0.00025),
        ("15m", 900),
        ("15 min", 900),
        ("2h", 7200),
        ("1d", 86_400),
        ("1.5h", 5400),
        (".5", 0.5),
        ("1e-3", 0.001),
        ("0", 0),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text, seconds):
    assert parse(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "soon", "-5s", "5 parsecs", "nan", "inf", "1h30", "٣s", "9" * 400]
)
def test_what_is_no_duration_is_refused(text):
    """Digits of other scripts too: who reads the file later would not see what they say."""
    with pytest.raises(ValueError, match="invalid duration|is longer than"):
        parse(text)


def test_where_a_person_would_mean_minutes_a_unit_is_wanted():
    """Nothing is nothing in every unit."""
    with pytest.raises(ValueError, match="'15' has no unit: write 15s, or 15m for minutes"):
        parse("15", bare=False)
    assert parse("0", bare=False) == 0


def durations() -> list[str]:
    """Return the keys that are durations."""
    return [key for key, hint in scalar_keys(FULL_CONFIG) if is_duration(hint)]


def test_every_key_in_seconds_is_a_duration_and_no_other_is():
    """The name says the unit of a bare number."""
    keys = [key for key, _ in scalar_keys(FULL_CONFIG)]
    rates = "_mib_s"
    assert durations() == [key for key in keys if key.endswith("_s") and not key.endswith(rates)]
    assert len(durations()) >= 12


@pytest.mark.parametrize("key", durations())
def test_a_duration_may_have_a_unit_in_the_file_and_in_the_environment(tmp_path, key):
    """Each key, in each place; a bare number of seconds is as good."""
    *section, name = key.split(".")
    shown = []
    for text in ('"40ms"', "0.04"):
        file = tmp_path / "harness.toml"
        table = f"[{section[0]}]\n" if section else ""
        file.write_text(f"{table}{name} = {text}\n")
        shown.append(load(file, environment=SMALL, flags={}, model=FULL_CONFIG))
    for text in ("40ms", "0.04", "0.00004m", "40000us"):
        environment = {**SMALL, environment_name(key): text}
        shown.append(load(None, environment=environment, flags={}, model=FULL_CONFIG))
    values = [dict((one, value) for one, value, _ in loaded.shown())[key] for loaded in shown]
    own = 0.04 if environment_name(key) not in SMALL else 0.001
    assert values == pytest.approx([own, own, 0.04, 0.04, 0.0024, 0.04])


SMALL = {"HARNESS_RESUME_RESERVE_S": "1ms"}  # so that the reserve fits any budget


def test_a_cell_of_an_experiment_may_have_units():
    assert overlaid(FULL_CONFIG(), {"budget_s": "1m"}, FULL_CONFIG).budget_s == 60
