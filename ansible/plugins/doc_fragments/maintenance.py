# Copyright: the authors of harness
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of a maintenance: those of C(harness run)."""

from __future__ import annotations


class ModuleDocFragment:
    """What is paused for which update."""

    DOCUMENTATION = r"""
options:
  guests:
    description: Names, UUIDs or patterns; none given, the guests of the configuration.
    type: list
    elements: str
    default: []
  all:
    description: Every guest of the host that is up.
    type: bool
    default: false
  exclude:
    description: Guests to leave out.
    type: list
    elements: str
    default: []
  update:
    description: A command that updates the host. It is split into words; no shell sees it.
    type: str
  kind:
    description: Kind of update, as C(harness run --help) lists them.
    type: str
  scope:
    description: What the update needs paused, each guest by itself or the whole host.
    type: str
    choices: [host, guest]
  expected:
    description: How long the update should take, such as C(12s).
    type: str
  duration:
    description: How long a stand-in update takes.
    type: str
  budget:
    description: Longest allowed pause, such as C(30s).
    type: str
  reserve:
    description: Part of the budget that is kept for resuming.
    type: str
  access:
    description: Way into the guests.
    type: str
    choices: [ssh, agent, auto]
  spread:
    description: Assign guests to this many update domains.
    type: int
  at_most:
    description: Pause no more guests of this host than this together.
    type: int
  soak:
    description: How long to wait between the update domains of this host.
    type: str
  notify:
    description: Announce each pause to the guests so long beforehand, such as C(15m).
    type: str
  extra_options:
    description: Other options of C(harness run), as words.
    type: list
    elements: str
    default: []
"""
