"""The kinds of update by name. Adding one: its module, a line here, its test."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping

from harness.core.errors import ConfigError
from harness.core.settings import UpdateSettings
from harness.updates.command import CommandUpdate
from harness.updates.hold import HoldUpdate
from harness.updates.kernel_module import KernelModuleUpdate
from harness.updates.libvirtd import LibvirtUpdate
from harness.updates.packages import PackagesUpdate
from harness.updates.protocol import HostUpdate
from harness.updates.stand_in import StandInUpdate
from harness.updates.sysctl import SysctlUpdate

KINDS: Mapping[str, Callable[[UpdateSettings], HostUpdate]] = {
    StandInUpdate.kind: StandInUpdate,
    CommandUpdate.kind: CommandUpdate,
    HoldUpdate.kind: HoldUpdate,
    PackagesUpdate.kind: PackagesUpdate,
    LibvirtUpdate.kind: LibvirtUpdate,
    KernelModuleUpdate.kind: KernelModuleUpdate,
    SysctlUpdate.kind: SysctlUpdate,
}


def make(settings: UpdateSettings) -> HostUpdate:
    """The update that ``settings`` ask for. Raises ConfigError for an unknown kind."""
    if settings.kind not in KINDS:
        near = difflib.get_close_matches(settings.kind, KINDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"kinds: {', '.join(KINDS)}"
        raise ConfigError(f"unknown kind {settings.kind!r}", key="update.kind", hint=hint)
    return KINDS[settings.kind](settings)
