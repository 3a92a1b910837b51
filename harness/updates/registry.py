"""The kinds of update by name. Adding one: its module, a line here, its test.

One that changes the host that harness runs on is named in :mod:`harness.updates.possible` as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar, Union

from pydantic import Field, ValidationError, create_model

from harness.core.errors import ConfigError
from harness.core.keys import unknown_kind
from harness.core.settings import Config, UpdateSection
from harness.updates.command import CommandSettings, CommandUpdate
from harness.updates.hold import HoldSettings, HoldUpdate
from harness.updates.kernel.settings import KernelSettings
from harness.updates.kernel_module import KernelModuleSettings, KernelModuleUpdate
from harness.updates.libvirtd import LibvirtSettings, LibvirtUpdate
from harness.updates.packages import PackagesSettings, PackagesUpdate
from harness.updates.protocol import THIS_HOST, HostUpdate, Site, UpdateSettings
from harness.updates.qemu.settings import AdoptSettings, QemuSettings
from harness.updates.stand_in import StandInSettings, StandInUpdate
from harness.updates.sysctl import SysctlSettings, SysctlUpdate

S = TypeVar("S", bound=UpdateSettings)


@dataclass(frozen=True)
class Kind(Generic[S]):
    """One kind: what can be set of it, and how it is made of that."""

    settings: type[S]
    make: Callable[[S, Site], HostUpdate]

    @property
    def name(self) -> str:
        """What ``update.kind`` says."""
        return str(self.settings.model_fields["kind"].default)


# These look at QEMUs, guests' RAM and kernels: no other kind has to load that.
def _qemu(settings: QemuSettings, site: Site) -> HostUpdate:
    from harness.updates.qemu.update import QemuUpdate

    return QemuUpdate(settings, site)


def _adopt(settings: AdoptSettings, site: Site) -> HostUpdate:
    from harness.updates.qemu.adopt import AdoptUpdate

    return AdoptUpdate(settings, site)


def _kernel(settings: KernelSettings, site: Site) -> HostUpdate:
    from harness.updates.kernel.update import KernelUpdate

    return KernelUpdate(settings, site)


_ALL: tuple[Kind[Any], ...] = (
    Kind(StandInSettings, StandInUpdate),
    Kind(CommandSettings, CommandUpdate),
    Kind(HoldSettings, HoldUpdate),
    Kind(PackagesSettings, PackagesUpdate),
    Kind(LibvirtSettings, LibvirtUpdate),
    Kind(KernelModuleSettings, KernelModuleUpdate),
    Kind(SysctlSettings, SysctlUpdate),
    Kind(QemuSettings, _qemu),
    Kind(AdoptSettings, _adopt),
    Kind(KernelSettings, _kernel),
)
KINDS: Mapping[str, Kind[Any]] = {kind.name: kind for kind in _ALL}


def whole_config(kinds: Iterable[Kind[Any]]) -> type[Config]:
    """Return the configuration with ``[update]`` as one of ``kinds``, told apart by ``kind``.

    The first is the default. Configuration itself imports no kind, so its readers are handed this.
    """
    sections = tuple(kind.settings for kind in kinds)
    one_of: Any = Annotated[Union[sections], Field(discriminator="kind")]  # noqa: UP007  a tuple
    model: type[Config] = create_model(
        "Config",
        __base__=Config,
        update=(one_of, sections[0].model_construct()),
        further_updates=(tuple[one_of, ...], ()),
    )
    return model


#: What ``harness.toml`` is read by.
FULL_CONFIG = whole_config(_ALL)


def settings_of(section: UpdateSection) -> UpdateSettings:
    """Return ``section`` as the settings of its kind.

    A stored one, which was read without knowing the kinds, may have keys of other kinds: they were
    not in force and are left out. Raises ConfigError.
    """
    kind = KINDS.get(section.kind)
    if kind is None:
        raise unknown_kind(section.kind, KINDS)
    if isinstance(section, UpdateSettings):
        return section
    others = set().union(*(one.settings.model_fields for one in _ALL))
    others -= set(kind.settings.model_fields)
    said = json.loads(section.model_dump_json(exclude_unset=True, exclude=others))
    try:
        settings: UpdateSettings = kind.settings.model_validate_json(json.dumps(said))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(["update", *map(str, first["loc"])])
        raise ConfigError(first["msg"], key=key) from error
    return settings


def make(section: UpdateSection, site: Site = THIS_HOST) -> HostUpdate:
    """Return the update that ``section`` asks for. Raises ConfigError, also for an unknown kind."""
    settings = settings_of(section)
    return KINDS[settings.kind].make(settings, site)
