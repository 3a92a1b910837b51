"""What is foreseen of a notice: who answers guests once the kernel of the run's server is left."""

from __future__ import annotations

import pytest

from harness.events.announcement import foresee_end
from harness.events.server import sole_server
from harness.updates.stand_in import StandInSettings, StandInUpdate


class Leaving(StandInUpdate):
    """An update that ends with this kernel."""

    release = "6.12"


SETTINGS = StandInSettings(kind="stand-in")
LEAVING = Leaving(SETTINGS)


@pytest.mark.parametrize(
    ("update", "notice_s", "said"),
    [(LEAVING, 5.0, 1), (LEAVING, None, 0), (StandInUpdate(SETTINGS), 5.0, 0)],
)
def test_a_server_of_the_runs_own_is_not_there_for_the_end(tmp_path, update, notice_s, said):
    """Only where there is a notice, and the run's processes end with the kernel."""
    assert len(foresee_end(notice_s, update, tmp_path)) == said


def test_a_server_that_is_there_comes_back_by_itself(tmp_path):
    """It is somebody's service, not the run's."""
    with sole_server(tmp_path):
        assert foresee_end(5.0, LEAVING, tmp_path) == ()
