"""What makes one guest out of an image: its host name, its host key, the user's key.

Our own images take it from ``/seed`` in the initrd: a second archive appended to the first, which
the kernel unpacks over it. A cloud image takes it from a NoCloud ISO.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import tempfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pycdlib

from harness.core.errors import LabError
from harness.core.files import private_folder
from harness.lab.keys import KeyPair

#: The only login of a cloud image: a clock is set by root. Its own default user is not made.
CLOUD_USER = "root"


@dataclass(frozen=True)
class Seed:
    """One guest's identity."""

    hostname: str
    host_key: KeyPair
    authorized_key: str


def append_to_initrd(initrd: Path, seed: Seed, target: Path) -> None:
    """Write ``target``: ``initrd`` with the seed appended. Raises LabError."""
    target.write_bytes(initrd.read_bytes() + gzip.compress(_archive(seed), mtime=0))


def _archive(seed: Seed) -> bytes:
    with tempfile.TemporaryDirectory(prefix="harness-seed-") as name:
        folder = Path(name, "seed")
        private_folder(folder, new=True)
        (folder / "hostname").write_text(seed.hostname + "\n")
        (folder / "ssh_host_ed25519_key").write_text(seed.host_key.private)
        (folder / "authorized_keys").write_text(seed.authorized_key + "\n")
        files = b"".join(b"%s\0" % path.encode() for path in ["seed", *_names(folder)])
        try:
            done = subprocess.run(
                ["cpio", "--null", "--create", "--format=newc", "--owner=0:0", "--quiet"],
                cwd=name,
                input=files,
                capture_output=True,
                check=True,
            )
        except (OSError, subprocess.CalledProcessError) as error:
            raise LabError(f"cannot make a guest's seed with cpio: {error}") from error
    return done.stdout


def _names(folder: Path) -> list[str]:
    return sorted(f"seed/{path.name}" for path in folder.iterdir())


def cloud_files(seed: Seed) -> dict[str, str]:
    """``user-data`` and ``meta-data`` for cloud-init; JSON is YAML, so nothing needs quoting."""
    user_data = {
        "disable_root": False,
        "ssh_deletekeys": True,
        "ssh_keys": {
            "ed25519_private": seed.host_key.private,
            "ed25519_public": seed.host_key.public,
        },
        "users": [{"name": CLOUD_USER, "ssh_authorized_keys": [seed.authorized_key]}],
    }
    meta_data = {"instance-id": seed.hostname, "local-hostname": seed.hostname}
    return {
        "user-data": "#cloud-config\n" + json.dumps(user_data, indent=1),
        "meta-data": json.dumps(meta_data, indent=1),
    }


def write_cloud_iso(seed: Seed, target: Path) -> None:
    """Write ``target``: an ISO labelled ``cidata``, as cloud-init's NoCloud source wants it."""
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident="cidata")
    for name, text in cloud_files(seed).items():
        data = text.encode()
        iso_name = f"/{name.replace('-', '').upper()[:8]}.;1"
        iso.add_fp(BytesIO(data), len(data), iso_name, rr_name=name, joliet_path=f"/{name}")
    iso.write(str(target))
    iso.close()
