# Copyright: the authors of harness
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of a maintenance, beside those of which guests: those of C(harness run)."""

from __future__ import annotations


class ModuleDocFragment:
    """What is paused for which update."""

    DOCUMENTATION = r"""
options:
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
