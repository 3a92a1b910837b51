"""Cloud images: verified before they are used, never trusted to name other files."""

from __future__ import annotations

import hashlib
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from harness.core.errors import DeadlineExpired, LabError, UsageError
from harness.lab.cloud import fetch as fetch_image


def qcow2(*, version=3, backing_offset=0, features=0):
    """The first bytes of a qcow2 image."""
    start = struct.pack(">4sIQ", b"QFI\xfb", version, backing_offset)
    return start.ljust(72, b"\0") + struct.pack(">Q", features) + bytes(3_000_000)


GOOD = qcow2()
GOOD_SHA256 = hashlib.sha256(GOOD).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "images"


class Server(ThreadingHTTPServer):
    """Serves GOOD at every path; ``/short`` ends half-way, ``/missing`` is not there."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests = []


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server: Any = self.server
        server.requests.append(self.path)
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(GOOD)))
        self.end_headers()
        self.wfile.write(GOOD[: len(GOOD) // 2] if self.path == "/short" else GOOD)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def fetch(server, path="/image.qcow2", sha256=GOOD_SHA256, **options):
    url = f"http://127.0.0.1:{server.server_port}{path}"
    return fetch_image(url, sha256, lambda line: None, **options)


def local(path, sha256=None):
    return fetch_image(str(path), sha256, lambda line: None)


def test_a_download_is_verified_and_made_once(server, cache):
    """The second use of the same digest asks no server."""
    first, second = fetch(server), fetch(server, sha256=GOOD_SHA256.upper())
    assert first.disk == second.disk
    assert first.disk.read_bytes() == GOOD
    assert (first.disk_format, first.kernel) == ("qcow2", None)
    assert server.requests == ["/image.qcow2"]
    assert [path.name for path in cache.iterdir()] == [f"cloud-{GOOD_SHA256}.qcow2"]


@pytest.mark.parametrize(
    ("path", "sha256", "said"),
    [
        ("/image.qcow2", "0" * 64, "not 0000"),
        ("/missing", GOOD_SHA256, "404"),
        ("/short", GOOD_SHA256, "is not used"),
    ],
)
def test_a_bad_download_leaves_nothing(server, cache, path, sha256, said):
    """Another digest, an error of the server, a body cut short: an error, and an empty cache."""
    with pytest.raises(LabError, match=said):
        fetch(server, path, sha256)
    assert list(cache.iterdir()) == []


def test_a_download_ends_by_its_deadline(server, cache):
    """Time that is up before the download ends it, and nothing stays in the cache."""
    with pytest.raises(DeadlineExpired):
        fetch(server, limit_s=0.0)
    assert list(cache.iterdir()) == []


def test_what_a_killed_download_left_is_not_part_of_the_next(server, cache):
    """Bytes of an earlier try do not end up in the image."""
    cache.mkdir(parents=True)
    (cache / f".cloud-{GOOD_SHA256}.partial").write_bytes(b"left over")
    assert fetch(server).disk.read_bytes() == GOOD


@pytest.mark.parametrize("sha256", [None, "", "abc", "g" * 64])
def test_a_url_needs_a_real_digest(server, sha256):
    """Without 64 hexadecimal digits no request is sent."""
    with pytest.raises(UsageError, match="SHA-256"):
        fetch(server, sha256=sha256)
    assert server.requests == []


def test_a_file_is_used_where_it_lies(tmp_path):
    """A path needs no digest; one that is given must fit."""
    (tmp_path / "a.qcow2").write_bytes(GOOD)
    assert local(tmp_path / "a.qcow2").disk == tmp_path / "a.qcow2"
    assert local(tmp_path / "a.qcow2", GOOD_SHA256).disk == tmp_path / "a.qcow2"
    with pytest.raises(LabError, match="is not used"):
        local(tmp_path / "a.qcow2", "1" * 64)


@pytest.mark.parametrize(
    "content",
    [b"", b"QFI\xfb", bytes(4096), qcow2(backing_offset=512), qcow2(features=4)],
    ids=["empty", "cut off", "raw", "backing file", "external data file"],
)
def test_an_image_that_is_no_lone_qcow2_is_refused(tmp_path, content):
    """QEMU never gets to open a file that an image names."""
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(UsageError, match="bad"):
        local(tmp_path / "bad")


def test_a_path_that_is_not_there_is_named():
    """The error says which file is missing."""
    with pytest.raises(UsageError, match="no such image file: nowhere"):
        local("nowhere")
