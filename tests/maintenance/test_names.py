"""Whatever guests are called: a maintenance has their files, and its page their names."""

from __future__ import annotations

import pytest

from harness.core.records import Outcome
from harness.results.report.html import render

NAMES = {
    "46 Cyrillic signs": "Тестовая машина для ночного обновления узла №3",
    "41 of them: the update's output did not fit": "Ж" * 41,
    "29 Chinese signs": "夜间主机维护测试虚拟机编号第三号生产环境数据库服务器甲乙丙丁",
    "libvirt's longest": "夜" * 83,
    "a path": "../" * 60,
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_guest_is_maintained_whatever_it_is_called(house, name):
    """Its name is also its update domain's, and its neighbour's differs in the last sign only."""
    names = (f"{name}1", f"{name}2")
    at = house(*names)
    finished = at.maintain(
        update__kind="command",
        update__command=["/bin/echo", "said by the update"],
        update__scope="guest",
        update__duration_s=None,
        update__expected_s=0.5,
    )
    assert (finished.record.outcome, finished.error) == (Outcome.PASS, None), finished.record
    outputs = sorted(finished.folder.path.glob("update-*.log"))
    assert [file.read_text() for file in outputs] == ["said by the update\n"] * 2
    assert len({finished.folder.guest(one) for one in names}) == 2
    page = render(finished.folder)
    assert all(page.count(f"update of update domain {one}") >= 1 for one in names)
