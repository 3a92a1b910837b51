# fill KEY BYTES: hold pages made from KEY.  digest: SHA-256 of what is held now.
from __main__ import commands, pattern, sha256

held = {}


def fill(key, size):
    key, pages = bytes.fromhex(key), (int(size) + 4095) // 4096
    held["canary"] = bytearray(b"".join(pattern(key, page, 4096) for page in range(pages)))
    return "ok"


commands["fill"] = fill
commands["digest"] = lambda: sha256(held["canary"]).hexdigest()
