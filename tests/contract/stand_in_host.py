"""A host as another machine sees it: a real sshd, and a stand-in for `harness` that it starts.

It falls silent as a kernel does that is left (no connection is closed), and comes up again, if it
does, with the host key that it had or with another.
"""

from __future__ import annotations

import getpass
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import __version__
from harness.core.records import Outcome, RunRecord
from harness.core.timebase import Deadline, NotYet, wait_for
from harness.results.answer import ENDINGS, Answer
from harness.testing.runs import a_run
from harness.testing.sshd import Sshd, make_key, private_sshd

#: After its answer it has things to close, which take an emulated host longer than a beat.
LINGERS_S = 1.5
#: Says what `version` holds; a run says a line, and, while there is no `answer`, goes on.
HARNESS = """#!{python}
import pathlib, sys, time
here = pathlib.Path({here!r})
if sys.argv[1:] == ["--version"]:
    print("harness, version", (here / "version").read_text())
    sys.exit()
with open(here / "calls", "a") as calls:
    calls.write(repr(sys.argv[1:]) + "\\n")
print("guests are paused", file=sys.stderr, flush=True)
while not (here / "answer").exists():
    time.sleep(0.05)
print((here / "answer").read_text(), flush=True)
time.sleep({lingers_s})
"""


@dataclass
class StandInHost:
    """The host; ``here`` is what it has on its disk."""

    here: Path
    sshd: Sshd
    others: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def uri(self) -> str:
        """As another machine names it, with a key and known hosts of its own."""
        known = self.here / "known_hosts"
        query = f"keyfile={self.sshd.client_key}&known_hosts={known}"
        return f"qemu+ssh://{getpass.getuser()}@127.0.0.1:{self.sshd.port}/system?{query}"

    @property
    def calls(self) -> list[list[str]]:
        """What its harness was asked for."""
        file = self.here / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        return [eval(line) for line in lines]

    def until_called(self, times: int = 1) -> list[str]:
        """Wait for so many commands; the last one."""

        def look() -> list[str]:
            if len(self.calls) < times:
                raise NotYet(f"{len(self.calls)} calls")
            return self.calls[-1]

        return wait_for(look, what=f"{times} calls", deadline=Deadline.after(60))

    def answers(self, rollout: str, **changes: Any) -> None:
        """The run is over: this is its record."""
        self.says(answer_of(rollout, **changes))

    def says(self, answer: Mapping[str, Any] | str) -> None:
        """This is what a command prints from now on."""
        new = self.here / "answer.new"
        new.write_text(answer if isinstance(answer, str) else json.dumps(answer))
        new.rename(self.here / "answer")

    def fall_silent(self) -> None:
        """Its kernel is left: connections stay open, and nothing is said by any of them."""
        self.sshd.freeze()

    def come_up(self, *, other_key: bool = False) -> None:
        """Another kernel: what ran has ended, and sshd is started."""
        self.sshd.signal(signal.SIGKILL)
        self.sshd.process.wait(10)
        if other_key:
            (self.sshd.folder / "host_key").unlink()
            make_key(self.sshd.folder / "host_key")
        words = ["/usr/sbin/sshd", "-D", "-e", "-f", str(self.sshd.folder / "sshd_config")]
        with (self.sshd.folder / "log").open("ab") as log:
            self.others.append(subprocess.Popen(words, stderr=log, stdin=subprocess.DEVNULL))

    def end(self) -> None:
        """It is there no more."""
        for one in self.others:
            one.kill()
            one.wait(10)


def answer_of(
    rollout: str, record: RunRecord | None = None, outcome: Outcome = Outcome.PASS, **changes: Any
) -> dict[str, Any]:
    """The answer of a run that is over."""
    record = record or a_run(outcome=outcome)
    record = record.model_copy(update={"rollout": rollout})
    found = Answer(
        rollout=rollout,
        outcome=ENDINGS[record.exit_code],
        exit_code=record.exit_code,
        record=record,
    )
    return found.model_copy(update=changes).model_dump(mode="json")


@contextmanager
def stand_in_host(folder: Path) -> Iterator[StandInHost]:
    """One host, which is up."""
    programs = folder / "programs"
    programs.mkdir(parents=True)
    program = programs / "harness"
    text = HARNESS.format(python=sys.executable, here=str(folder), lingers_s=LINGERS_S)
    program.write_text(text)
    program.chmod(0o755)
    (folder / "version").write_text(__version__)
    path = f"{programs}:/usr/bin:/bin"
    with private_sshd(folder / "sshd", None, f"SetEnv PATH={path}") as sshd:
        (folder / "known_hosts").write_text(sshd.known())
        host = StandInHost(folder, sshd)
        try:
            yield host
        finally:
            host.end()
            (folder / "answer").touch()  # whatever still waits
            time.sleep(0.1)
