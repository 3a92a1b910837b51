"""One type of duration everywhere: flags, variables, TOML."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from harness.core.config import load, overlaid
from harness.core.durations import parse
from harness.core.keys import environment_name, is_duration, scalar_keys, sections_of
from harness.core.settings import Duration
from harness.updates.registry import FULL_CONFIG


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("5ms", 0.005),
        ("250us", 0.00025),
        ("15m", 900),
        ("15 min", 900),
        ("2h", 7200),
        ("1d", 86_400),
        ("1.5h", 5400),
        (".5s", 0.5),
        ("1e-3s", 0.001),
        ("0", 0),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text, seconds):
    assert parse(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "soon", "-5s", "5 parsecs", "nan", "inf", "1h30", "٣s", "9" * 400 + "s"]
)
def test_what_is_no_duration_is_refused(text):
    """Digits of other scripts too: who reads the file later would not see what they say."""
    with pytest.raises(ValueError, match="invalid duration|is longer than"):
        parse(text)


def test_where_a_person_would_mean_minutes_a_unit_is_wanted():
    """Nothing is nothing in every unit."""
    with pytest.raises(ValueError, match="'15' has no unit: write 15s, or 15m for minutes"):
        parse("15")
    assert parse("0") == 0
    assert parse("15", bare=True) == 15


def durations() -> list[str]:
    """Return the keys that are durations."""
    return [key for key, hint in scalar_keys(FULL_CONFIG) if is_duration(hint)]


def test_every_key_in_seconds_is_a_duration_and_no_other_is():
    """The name says the unit of a bare number."""
    keys = [key for key, _ in scalar_keys(FULL_CONFIG)]
    rates = "_mib_s"
    assert durations() == [key for key in keys if key.endswith("_s") and not key.endswith(rates)]
    assert len(durations()) >= 12


def every_field(section: type[BaseModel], path: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield every field of a section and of those inside it, those of lists and kinds too."""
    for name, info in section.model_fields.items():
        inner = sections_of(info.annotation)
        for one in inner:
            yield from every_field(one, f"{path}{name}.")
        if not inner:
            yield f"{path}{name}", info


def wrong_unit(name: str, info: FieldInfo) -> bool:
    """Return True if a key in seconds takes no unit, or a duration does not say its unit."""
    seconds = name.endswith("_s") and not name.endswith("_mib_s")
    return seconds != any(map(is_duration, (info.annotation, *info.metadata)))


def test_so_it_is_in_every_list_of_sections_and_for_every_kind_of_update():
    """``[[guest]]``, ``[[checks.own]]``: not in the environment, so not among the keys above."""
    found = dict(every_field(FULL_CONFIG))
    assert {"guest.tolerance_s", "checks.own.timeout_s", "guest.ssh.connect_timeout_s"} <= set(
        found
    )
    assert [name for name, info in found.items() if wrong_unit(name, info)] == []


def test_a_key_of_seconds_that_takes_no_unit_is_found():
    class Section(BaseModel):
        wait_s: float = 1.0
        patience: Duration = 1.0
        rate_mib_s: float = 1.0
        good_s: Duration | None = None

    assert [name for name, info in every_field(Section) if wrong_unit(name, info)] == [
        "wait_s",
        "patience",
    ]


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
