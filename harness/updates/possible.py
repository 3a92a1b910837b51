"""Which kinds of update this host could be given: asked without settings, changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.core.errors import HarnessError
from harness.updates.protocol import Site
from harness.updates.registry import KINDS
from harness.updates.requirements import require_program, require_this_host

#: Kinds that change this machine itself, with the programs that they take and what those are in.
CHANGES_THIS_HOST: Mapping[str, tuple[tuple[str, str], ...]] = {
    "packages": (("apt-get", "apt"), ("dpkg", "dpkg")),
    "libvirt": (("systemctl", "systemd"),),
    "kernel-module": (("modprobe", "kmod"),),
    "sysctl": (),
    "qemu": (),
    "adopt": (),
    "kernel": (),
}


def possible_kinds(site: Site) -> Iterator[tuple[str, HarnessError | None]]:
    """Yield each kind of update and why ``site`` could not be given it; None: it could.

    What depends on a kind's settings, such as packages that are not there, is not looked at.
    """
    for kind in KINDS:
        try:
            if kind in CHANGES_THIS_HOST:
                require_this_host(kind, site)
                for program, package in CHANGES_THIS_HOST[kind]:
                    require_program(program, package)
        except HarnessError as error:
            yield kind, error
        else:
            yield kind, None
