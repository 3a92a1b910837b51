"""Loads what its second argument imports, then forks a process for each request on a socket.

A program: ``tests.maintenance.forked`` starts it, and says what it is for. A request is JSON with
four descriptors: the standard three, and one on which the process's pid is told, and its end.
"""

from __future__ import annotations

import gc
import json
import os
import socket
import sys
import traceback
from contextlib import suppress
from typing import Any, NoReturn


def serve(requests: socket.socket, namespace: dict[str, Any]) -> None:
    """Fork for each request until the other end is closed."""
    gc.freeze()  # a fork shares what is not touched
    while True:
        request, descriptors, _, _ = socket.recv_fds(requests, 1 << 20, 4)
        reap()
        if not request:
            return
        if os.fork() == 0:
            requests.close()
            watch(json.loads(request), descriptors, namespace)
        for descriptor in descriptors:
            os.close(descriptor)


def reap() -> None:
    """Take note of who has ended: their CPU time counts as the tests' then."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


def watch(asked: dict[str, Any], descriptors: list[int], namespace: dict[str, Any]) -> NoReturn:
    """Fork the process itself; tell its pid, and as what it ended."""
    *streams, told = descriptors
    pid = os.fork()
    if pid == 0:
        become(asked, streams, namespace)
    for descriptor in streams:
        os.close(descriptor)
    os.write(told, f"{pid}\n".encode())
    _, status = os.waitpid(pid, 0)
    os.write(told, f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def become(asked: dict[str, Any], streams: list[int], namespace: dict[str, Any]) -> NoReturn:
    """Be what an interpreter would be that is started with that code and those arguments."""
    code = 1
    try:
        if asked["new_session"]:
            os.setsid()
        for number, descriptor in enumerate(streams):
            os.dup2(descriptor, number)
        os.closerange(3, 1024)
        os.environ.clear()
        os.environ.update(asked["environment"])
        os.chdir(asked["folder"])
        sys.stdin = open(0, closefd=False)  # noqa: SIM115  for the process's whole life
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", 1, errors="backslashreplace", closefd=False)  # noqa: SIM115
        sys.argv = ["-c", *asked["arguments"]]
        sys.orig_argv = [sys.executable, "-P", "-c", asked["code"], *asked["arguments"]]
        exec(compile(asked["code"], "<string>", "exec"), {**namespace})
        code = 0
    except BaseException:  # noqa: BLE001  nothing of it may go back to the loop above
        traceback.print_exc()
    os._exit(code)


if __name__ == "__main__":
    loaded: dict[str, Any] = {"__name__": "__main__"}
    exec(sys.argv[2], loaded)
    serve(socket.socket(fileno=int(sys.argv[1])), loaded)
