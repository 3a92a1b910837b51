"""File names of anything: bounded, one for each name, readable, and those of 0.1.0 are known."""

from __future__ import annotations

import os
import string
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.file_names import LONGEST_BYTES, file_name, named_by
from harness.core.files import write_atomically

ROOT = Path(__file__).parents[3]
#: 46 signs: quoted, 267 bytes.
CYRILLIC = "Тестовая машина для ночного обновления узла №3"
names = st.text(min_size=1, max_size=300) | st.text("Ж中.~%/é ", min_size=1, max_size=200)


@given(names)
def test_a_file_name_is_no_path_and_leaves_room_for_more(name):
    """Whatever is put around it."""
    made = file_name(name)
    assert 0 < len(made.encode()) <= LONGEST_BYTES
    assert not set(made) & set("/\\\0\n ")
    assert made not in (".", "..")
    assert file_name(name, ascii_only=True).isascii()
    assert len(file_name(name, ascii_only=True)) <= LONGEST_BYTES


@given(names, names, st.booleans())
def test_two_names_never_share_a_file(one, other, ascii_only):
    """Nor does one that was made of a long name with one that looks like it."""
    made = file_name(one, ascii_only=ascii_only)
    assert (made == file_name(other, ascii_only=ascii_only)) == (one == other)
    assert file_name(made, ascii_only=ascii_only) != made or made == one


@pytest.mark.parametrize("sign", ["Ж", "中", "x", "/", "é", "a/"])
@pytest.mark.parametrize("count", [28, 29, 45, 46, 60, 180, 181, 255])
def test_long_names_that_differ_at_their_end_only_differ(sign, count):
    """And begin as the name does."""
    one, other = sign * count + "1", sign * count + "2"
    assert file_name(one) != file_name(other)
    assert named_by(file_name(one)).startswith(sign * 10)
    assert named_by(file_name(one), (other, one)) == one


@given(names)
def test_a_file_tells_whose_it_is(name):
    """One of this version, of another locale, and of 0.1.0."""
    earlier = quote(name, safe="", errors="surrogatepass")
    for file in (file_name(name), file_name(name, ascii_only=True), earlier):
        assert named_by(file, ("other", name)) == name
    assert named_by(earlier) == name


def test_names_are_readable_and_those_of_before_stay():
    """Letters are letters; what 0.1.0 had is the same for names as most are."""
    assert file_name(CYRILLIC) == CYRILLIC.replace(" ", "%20").replace("№", "%E2%84%96")
    for name in ("web-1", "a; touch x", "../../etc", "localhost", "a/b", "qemu-host.example"):
        assert file_name(name) == quote(name, safe="")
    assert (file_name("."), file_name("..")) == ("%2E", "%2E%2E")
    assert file_name("e\u0301") == "e%CC%81", "another file system would make é of it"


def test_the_longest_can_be_written_with_all_that_is_put_around_it(tmp_path):
    """As an update's output is, and replaced atomically."""
    for name in ("Ж" * 200, "/" * 255, string.ascii_letters * 6):
        file = tmp_path / f"own-{file_name(name)}-during.log"
        write_atomically(file, "said")
        assert file.read_text() == "said"


def test_where_file_names_are_not_utf_8_letters_are_quoted():
    """A process with another locale does not fail over a name."""
    code = (
        "from harness.core.file_names import file_name; print(ascii(file_name(chr(0x416) + '/1')))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LC_ALL": "en_US.ISO-8859-1"}
    seen = "import sys; print(sys.getfilesystemencoding())"
    encoding, made = (
        subprocess.run(
            [sys.executable, "-X", "utf8=0", "-c", words],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout.strip()
        for words in (seen, code)
    )
    assert made == ("'\\u0416%2F1'" if encoding == "utf-8" else "'%D0%96%2F1'")
