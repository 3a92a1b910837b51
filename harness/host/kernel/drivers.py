"""The drivers of libvirt's that a guest needs to be started: the others cost time at its start.

Each driver looks at the whole host: every device, every firewall, every pool.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.etree import ElementTree

from harness.core.files import public_folder

#: Where libvirt has them, by architecture's folder, or without one.
PLACES = ("/usr/lib/*/libvirt/connection-driver", "/usr/lib*/libvirt/connection-driver")
_FILE = "libvirt_driver_{}.so"
_ALWAYS = ("network", "qemu")
#: What in a guest's description needs which one, besides.
_BY = {
    ".//filterref": ("nwfilter",),
    ".//secret": ("secret",),
    ".//encryption": ("secret",),
    ".//disk[@type='volume']": ("storage",),
    ".//hostdev": ("nodedev",),
    ".//interface[@type='hostdev']": ("nodedev",),
}
#: Where libvirt looks for them, if it is set.
_LOOKED_FOR = "LIBVIRT_DRIVER_DIR"


def needed_by(descriptions: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the drivers that guests of these descriptions (XML) need, sorted."""
    found = set(_ALWAYS)
    for text in descriptions:
        domain = ElementTree.fromstring(text)
        for place, names in _BY.items():
            if domain.find(place) is not None:
                found.update(names)
    return tuple(sorted(found))


def only(names: Sequence[str], folder: Path, places: Sequence[str] = PLACES) -> dict[str, str]:
    """Return what in its environment has a libvirtd load the drivers ``names`` and no others.

    ``folder`` is made for that. Where not all of them are found, libvirtd loads what it has.
    Raises OSError.
    """
    found = {name: _file(name, places) for name in names}
    if not names or None in found.values():
        return {}
    public_folder(folder)
    for file in found.values():
        if file is not None and not (folder / file.name).is_symlink():
            (folder / file.name).symlink_to(file)
    return {_LOOKED_FOR: str(folder)}


def _file(name: str, places: Sequence[str]) -> Path | None:
    for place in places:
        for one in sorted(Path("/").glob(f"{place.lstrip('/')}/{_FILE.format(name)}")):
            return one
    return None
