"""How a guest's time is kept, as libvirt's XML says."""

from __future__ import annotations

from datetime import UTC, datetime
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import pytest

from harness.host.timekeeping import (
    made_for_windows,
    reinjects_ticks,
    rtc_ahead_s,
    shown,
    timekeeping,
)

SUMMER = datetime(2026, 7, 1, 12, tzinfo=UTC)
WINTER = datetime(2026, 1, 1, 12, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


def said(inner: str):
    """What a domain with ``inner`` in its description says."""
    return timekeeping(ElementTree.fromstring(f"<domain>{inner}</domain>"))


#: As virt-install and virt-manager describe a Windows guest.
WINDOWS = """
<features><acpi/><hyperv mode='custom'>
  <relaxed state='on'/><vapic state='on'/><spinlocks state='on' retries='8191'/>
  <vpindex state='on'/><synic state='off'/>
</hyperv></features>
<clock offset='localtime'>
  <timer name='rtc' tickpolicy='catchup'/><timer name='pit' tickpolicy='delay'/>
  <timer name='hpet' present='no'/><timer name='hypervclock' present='yes'/>
</clock>"""


def test_a_windows_guest_says_that_it_is_one():
    """Only what is on counts."""
    kept = said(WINDOWS)
    assert (kept.offset, kept.rtc_tickpolicy, kept.hypervclock) == ("localtime", "catchup", True)
    assert kept.enlightenments == ("relaxed", "spinlocks", "vapic", "vpindex")
    assert made_for_windows(kept)
    assert shown(kept) == (
        "RTC in localtime; tick policy catchup; Hyper-V clock; "
        "Hyper-V: relaxed, spinlocks, vapic, vpindex"
    )


@pytest.mark.parametrize(
    "inner",
    ["", "<clock offset='utc'/>", "<features><hyperv/></features>", "<features><acpi/></features>"],
)
def test_a_guest_that_says_nothing_is_not_made_for_windows(inner):
    """libvirt's defaults."""
    kept = said(inner)
    assert not made_for_windows(kept)
    assert (kept.offset, rtc_ahead_s(kept, SUMMER), reinjects_ticks(kept)) == ("utc", 0.0, False)


@pytest.mark.parametrize(
    ("hyperv", "reinjects"),
    [
        ("<vapic state='on'/>", True),
        ("<stimer state='off'/>", True),
        ("<stimer state='on'/>", False),
    ],
)
def test_missed_ticks_come_back_unless_hyper_v_gives_the_ticks(hyperv, reinjects):
    """With stimer Windows does not count the RTC's ticks."""
    rtc = "<clock offset='utc'><timer name='rtc' tickpolicy='catchup'/></clock>"
    kept = said(f"{rtc}<features><hyperv>{hyperv}</hyperv></features>")
    assert reinjects_ticks(kept) is reinjects


def test_a_host_that_hands_on_all_that_it_has_hands_on_its_timers():
    """``mode='passthrough'`` names no enlightenment."""
    rtc = "<clock offset='utc'><timer name='rtc' tickpolicy='catchup'/></clock>"
    kept = said(f"{rtc}<features><hyperv mode='passthrough'/></features>")
    assert (reinjects_ticks(kept), kept.enlightenments) == (False, ("passthrough",))


@pytest.mark.parametrize("policy", ["delay", "discard", "merge"])
def test_another_tick_policy_gives_nothing_back(policy):
    """Only catchup delivers missed ticks."""
    kept = said(f"<clock><timer name='rtc' tickpolicy='{policy}'/></clock>")
    assert not reinjects_ticks(kept)


@pytest.mark.parametrize(
    ("clock", "summer_s", "winter_s"),
    [
        ("<clock offset='utc'/>", 0.0, 0.0),
        ("<clock offset='localtime'/>", 7200.0, 3600.0),
        ("<clock offset='timezone' timezone='Asia/Kolkata'/>", 19800.0, 19800.0),
        ("<clock offset='timezone' timezone='America/New_York'/>", -14400.0, -18000.0),
        ("<clock offset='variable' adjustment='-3600' basis='utc'/>", -3600.0, -3600.0),
        ("<clock offset='variable'/>", 0.0, 0.0),
        ("<clock offset='variable' adjustment='5' basis='localtime'/>", None, None),
        ("<clock offset='variable' adjustment='reset'/>", None, None),
        ("<clock offset='absolute' start='0'/>", None, None),
        ("<clock offset='timezone' timezone='No/Where'/>", None, None),
        ("<clock offset='timezone' timezone='../../etc/passwd'/>", None, None),
        ("<clock offset='timezone'/>", None, None),
        ("<clock offset='something new'/>", None, None),
    ],
)
def test_what_the_rtc_should_show_follows_from_the_description(clock, summer_s, winter_s):
    """Against UTC; None where it cannot be known. Local time is that of the host, in Berlin."""
    kept = said(clock)
    assert rtc_ahead_s(kept, SUMMER, BERLIN) == summer_s
    assert rtc_ahead_s(kept, WINTER, BERLIN) == winter_s


def test_a_hypervisor_that_describes_no_clock_is_asked_nothing():
    """Fakes do not; nothing is made up for them."""
    assert (made_for_windows(None), reinjects_ticks(None), rtc_ahead_s(None, SUMMER)) == (
        False,
        False,
        None,
    )
    assert shown(None) == "not described"
