# Copyright: the authors of harness
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which guests of a host, and the way into them."""

from __future__ import annotations


class ModuleDocFragment:
    """Guests."""

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
  access:
    description: Way into the guests.
    type: str
    choices: [ssh, agent, auto]
"""
