"""Names of guests, update domains, checks and hosts as file names: data, whatever they are.

A file name has at most 255 bytes. One that is made here has fewer, so that there is room for what
is put around it; two names never share a file; and a person recognises a name in it.
"""

from __future__ import annotations

import hashlib
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from urllib.parse import quote, unquote

#: Bytes that a name takes at most: with ``update-``, ``.log`` and a temporary file's ``.….new``
#: around it, it is still far from 255.
LONGEST_BYTES = 180
#: Of a name's digest, behind a name that had to be cut. ``~`` is in no other name: it is quoted.
_DIGEST_SIGNS = 16
_MARK = "~"


def file_name(name: str, *, ascii_only: bool = False) -> str:
    """Return one file name for ``name``: no path, and at most ``LONGEST_BYTES`` long.

    Letters and digits of every script stay as they are where this process's file names are UTF-8
    (``ascii_only``: nowhere, for what every process must find); anything else is percent-quoted.
    What is too long is cut, and a digest of all of it is added.
    """
    plain = not ascii_only and _is_plain(name)
    signs = [sign if plain and _is_letter(sign) else _quoted(sign) for sign in name]
    if set(signs) == {"."}:
        signs = ["%2E"] * len(signs)
    whole = "".join(signs)
    if 0 < len(whole.encode()) <= LONGEST_BYTES:
        return whole
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:_DIGEST_SIGNS]
    room = LONGEST_BYTES - len(_MARK) - len(digest)
    return f"{_cut(signs, room)}{_MARK}{digest}"


def named_by(file: str, names: Iterable[str] = ()) -> str:
    """Return which of ``names`` a file is named for, by this version or an earlier one.

    If it is none of them: the name as far as the file name has it.
    """
    for name in names:
        if file in (file_name(name), file_name(name, ascii_only=True), _earlier(name)):
            return name
    return unquote(file)


def _earlier(name: str) -> str:
    """The file name that harness 0.1.0 gave."""
    quoted = quote(name, safe="", errors="surrogatepass")
    return quoted.replace(".", "%2E") if set(quoted) == {"."} else quoted


def _is_plain(name: str) -> bool:
    """Return False if letters cannot stay as they are: another file system may change them."""
    utf_8 = sys.getfilesystemencoding().lower() in ("utf-8", "utf8")
    return name.isascii() or (utf_8 and unicodedata.is_normalized("NFC", name))


def _is_letter(sign: str) -> bool:
    """Letters, the marks on them, and digits; of any script."""
    return unicodedata.category(sign)[0] in "LMN"


def _quoted(sign: str) -> str:
    return quote(sign, safe="", errors="surrogatepass").replace(_MARK, "%7E")


def _cut(signs: Sequence[str], room: int) -> str:
    """Return as many whole signs as ``room`` bytes hold."""
    kept = ""
    for sign in signs:
        if len((kept + sign).encode()) > room:
            break
        kept += sign
    return kept
