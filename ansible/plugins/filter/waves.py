# Copyright: the authors of harness
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waves of hosts: planned by ``harness fleet plan`` on the controller, and as sizes of batches."""

from __future__ import annotations

import json
import re
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from ansible.errors import AnsibleFilterError
from ansible_collections.harness_kvm.fleet.plugins.plugin_utils.controller import answer

#: Groups of hosts that C(add_host) makes, one a wave.
GROUP = re.compile(r"harness_wave_([0-9]+)\Z")


def waves(plans, canaries=(), chosen=None, at_most=None, after=(), executable="harness", keep=None):
    """Return what C(harness fleet plan --json) says: waves, and the hosts that need none.

    Args:
        plans: Host → what C(harness plan --json) printed there.
        canaries: Hosts to be done first, alone.
        chosen: Host → the wave that a person put it into.
        at_most: How many hosts a wave may have.
        after: Waves that were planned before: they stay, and their hosts are in no other.
        executable: The command, on the controller.
        keep: The rollout under which a fleet's database keeps them, and the URL of that database,
            which has those of C(after) already.
    """
    there = {host for wave in after for host in wave["hosts"]}
    plans = {host: plan for host, plan in plans.items() if host not in there}
    command = [executable, "fleet", "plan"]
    if keep:
        command += [
            "--rollout={}".format(keep["rollout"]),
            "--database={}".format(keep["database"]),
        ]
        command += ["--late"] if after else []
    said = _planned(plans, canaries, chosen, at_most, command)
    # A database has all waves of the rollout, also those of hosts that another controller added: it
    # numbers them. Without one, new waves come after those that are known here.
    last = 0 if keep else max((wave["number"] for wave in after), default=0)
    new = [
        dict(wave, number=last + wave["number"], hosts=[h for h in wave["hosts"] if h in plans])
        for wave in said["waves"]
    ]
    return {
        "waves": [*after, *(wave for wave in new if wave["hosts"])],
        "not_needed": said["not_needed"],
        "database": keep["database"] if keep else "",
    }


def _planned(plans, canaries, chosen, at_most, command):
    if not plans:
        return {"waves": [], "not_needed": {}}
    with tempfile.TemporaryDirectory(prefix="harness-waves-") as folder:
        words = [*command, "--json"]
        words += [f"--canary={host}" for host in canaries if host in plans]
        words += [f"--wave={host}={wave}" for host, wave in (chosen or {}).items() if host in plans]
        words += [f"--at-most={at_most}"] if at_most else []
        words.append("--")
        for host, document in plans.items():
            if "/" in host or host.startswith("."):
                raise AnsibleFilterError(f"a host called {host!r} cannot be planned")
            file = Path(folder, f"{host}.json")
            file.write_text(json.dumps(document), encoding="utf-8")
            words.append(str(file))
        return answer(words, "waves")


def batches(groups):
    """Return how many hosts each wave has, in the order of waves: what C(serial) of a play takes.

    Args:
        groups: Ansible's, with C(harness_wave_N) in it.
    """
    found = sorted(
        (int(GROUP.match(name).group(1)), len(groups[name])) for name in groups if GROUP.match(name)
    )
    return [size for dummy, size in found if size] or [1]


def by_host(hosts, hostvars, name):
    """Return host → what its variable C(name) is; None where it has none."""
    return {host: hostvars[host].get(name) for host in hosts}


def lines(values, otherwise=""):
    """Return C(host: value) for each host that has one, or C(otherwise) in its place."""
    return [f"{host}: {value or otherwise}" for host, value in values.items() if value or otherwise]


def is_over(time):
    """Return True if a time has passed; one without a zone is UTC."""
    try:
        found = datetime.fromisoformat(time)
    except ValueError as error:
        raise AnsibleFilterError(
            f"invalid time {time!r}, expected e.g. 2026-12-01T06:00+00:00"
        ) from error
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return datetime.now(UTC) >= found


class FilterModule:
    """The filters."""

    def filters(self):
        """Name → function."""
        return {
            "batches": batches,
            "by_host": by_host,
            "is_over": is_over,
            "lines": lines,
            "waves": waves,
        }
