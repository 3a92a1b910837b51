"""Host certificates: is this one valid for the name, by an authority that known_hosts names?"""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    SSHCertificate,
    SSHCertificateType,
    SSHCertPublicKeyTypes,
    load_ssh_public_identity,
)

from harness.core.timebase import NS_PER_S, Clock

#: How OpenSSH's certificate types end.
CERTIFIED = "-cert-v01@openssh.com"


def authority_of(kind: str, blob: bytes) -> tuple[SSHCertificate, bytes]:
    """Return a certificate and the public key, as a blob, of the authority that it names.

    Raises ValueError for what is no certificate, or of a kind that cannot be checked.
    """
    found = _certificate(f"{kind} {base64.b64encode(blob).decode()}".encode())
    return found, _blob(found.signature_key)


def subject_of(line: bytes) -> bytes:
    """Return the key, as a blob, that the certificate in a ``-cert.pub`` file is for.

    Raises ValueError for what is no certificate.
    """
    return _blob(_certificate(b" ".join(line.split()[:2])).public_key)


def _certificate(line: bytes) -> SSHCertificate:
    try:
        found = load_ssh_public_identity(line)
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from error
    if not isinstance(found, SSHCertificate):
        raise ValueError("it is no certificate")
    return found


def _blob(key_of: Callable[[], SSHCertPublicKeyTypes]) -> bytes:
    """The public key that is asked for, as a blob. Raises ValueError for a kind not known here."""
    try:
        written = key_of().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from error
    return base64.b64decode(written.split()[1])


def fault_of(
    certificate: SSHCertificate, name: str, allowed: Collection[str], clock: Clock
) -> str | None:
    """Return why the certificate does not vouch for the host ``name``; None: it does.

    ``allowed``: the algorithms by which it may be signed; empty: any. As in OpenSSH
    (sshkey.c, sshkey_cert_check_host).
    """
    now_s = clock.realtime_ns() // NS_PER_S
    principals = [one.decode(errors="replace") for one in certificate.valid_principals]
    signed_by = _signature_algorithm(certificate)
    others = ", ".join(principals)
    faults = {
        "it is not the certificate of a host": certificate.type is not SSHCertificateType.HOST,
        "it is not valid yet": now_s < certificate.valid_after,
        "it has expired": now_s >= certificate.valid_before,
        # Without any it is for every host (PROTOCOL.certkeys).
        f"it is for {others}, not for {name}": bool(principals) and name not in principals,
        "it has a critical option that is not known": bool(certificate.critical_options),
        f"CASignatureAlgorithms rules out {signed_by}": allowed and signed_by not in allowed,
    }
    try:
        certificate.verify_cert_signature()
    except InvalidSignature:
        return "its signature is wrong"
    return next((fault for fault, it_is_so in faults.items() if it_is_so), None)


def _signature_algorithm(certificate: SSHCertificate) -> str:
    """The algorithm is the first word of the last field of the certificate."""
    blob = base64.b64decode(certificate.public_bytes().split()[1])
    after_key = blob.rpartition(_blob(certificate.signature_key))[2]
    length = int.from_bytes(after_key[4:8], "big")
    return after_key[8 : 8 + length].decode(errors="replace")
