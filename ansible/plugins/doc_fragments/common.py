# Copyright: the authors of harness
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of every module that reads harness.toml."""

from __future__ import annotations


class ModuleDocFragment:
    """What all modules take."""

    DOCUMENTATION = r"""
options:
  executable:
    description: The command on the host; a name is looked up in its PATH.
    type: str
    default: harness
  config:
    description: The configuration on the host. Default is where C(harness) looks by itself.
    type: path
  uri:
    description: libvirt's connection.
    type: str
requirements:
  - harness-kvm on the host
"""
