"""Which flag sets which key: one name for one setting, in every command that has it."""

from __future__ import annotations

from collections.abc import Mapping

#: Dotted key of harness.toml → the flag that goes before it.
FLAGS: Mapping[str, str] = {
    "uri": "--uri",
    "access": "--access",
    "budget_s": "--budget",
    "resume_reserve_s": "--reserve",
    "soak_s": "--soak",
    "spread": "--spread",
    "at_most": "--at-most",
    "update.kind": "--kind",
    "update.command": "--update",
    "update.scope": "--scope",
    "update.expected_s": "--expected",
    "update.duration_s": "--duration",
    "clock.correct": "--no-correct",
    "clock.tolerance_s": "--tolerance",
    "clock.allow_backward": "--allow-backward",
    "clock.restore_offset": "--restore-offset",
    "clock.samples": "--samples",
    "clock.interpreters": "--interpreter",
    "clock.methods": "--method",
    "clock.watch_s": "--watch",
    "metrics.file": "--metrics-file",
    "metrics.listen": "--metrics",
    "fleet.database": "--database",
    "events.notice_s": "--notify",
    "events.time_scale": "--time-scale",
    "events.address": "--address",
    "events.port": "--port",
}
