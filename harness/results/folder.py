"""The folder of one run: ``<state dir>/runs/<UTC>-<short id>/``, private, written atomically.

Guest names are data, whatever they are: :mod:`harness.core.file_names` makes file names of them.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from harness.core.errors import InfrastructureError, UsageError
from harness.core.file_names import file_name
from harness.core.files import private_folder, write_atomically
from harness.core.records import RunRecord
from harness.core.settings import Config
from harness.core.timebase import SYSTEM_CLOCK, Clock, utc_now
from harness.core.trust import refuse_untrusted

M = TypeVar("M", bound=BaseModel)

RECORD = "run.json"
CONFIG = "config.json"
#: Below this a journal, a stand-in update or an update's output may not fit.
FREE_BYTES_WANTED = 64 * 1024 * 1024


class RunFolder:
    """An existing run folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def run_id(self) -> str:
        """The folder's name is the run's id."""
        return self.path.name

    @classmethod
    def create(cls, state_dir: Path, run_id: str) -> RunFolder:
        """Make a new, private run folder.

        Raises InfrastructureError if that is impossible, ConfigError where this process is root's
        and another user can change the state folder: what lies in it says what root does.
        """
        path = state_dir / "runs" / run_id
        try:
            private_folder(path.parent)
            refuse_untrusted(path.parent)
            _expect_room(path.parent)
            private_folder(path, new=True)
        except OSError as error:
            raise InfrastructureError(
                f"cannot make the run folder {path}: {error.strerror}; nothing was paused",
                hint="point HARNESS_STATE_DIR at a folder you may write",
            ) from error
        return cls(path)

    def guest(self, name: str) -> Path:
        """The folder for one guest's raw material; made when first asked for.

        Raises InfrastructureError.
        """
        folder = self.path / "guests" / file_name(name)
        try:
            private_folder(folder)
        except OSError as error:
            raise InfrastructureError(f"cannot make {folder}: {error.strerror}") from error
        return folder

    def write_record(self, record: RunRecord) -> None:
        """Write ``run.json`` so that a reader, or a crash, sees the old one or the new one."""
        write_atomically(self.path / RECORD, record.model_dump_json(indent=2) + "\n")

    def write_config(self, config: Config) -> None:
        """Keep what the run was configured with, for a recovery that has to finish it."""
        write_atomically(self.path / CONFIG, config.model_dump_json(indent=2) + "\n")

    def config(self) -> Config:
        """What the run was configured with. Raises UsageError."""
        return _parsed(self.path / CONFIG, Config)

    def config_as_understood(self) -> tuple[Config, tuple[str, ...]]:
        """Return what can be read of the run's configuration, and in words what cannot.

        A key that is not known, such as one of a newer version, or has a value that is not, is
        left out; what is left out has its default.
        """
        file = self.path / CONFIG
        try:
            tree = json.loads(file.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            return Config(), (f"{file}: {getattr(error, 'strerror', None) or error}",)
        left_out: list[str] = []
        while True:
            try:
                config = Config.model_validate_json(json.dumps(tree))
            except ValidationError as error:
                wrong = _without(tree, error.errors()[0]["loc"], error.errors()[0]["type"])
                if wrong is None:
                    return Config(), (f"{file}: {error.errors()[0]['msg']}",)
                left_out.append(wrong)
                continue
            return config, tuple(f"{file}: {key} is not understood" for key in left_out)

    def write_guest(self, name: str, file: str, content: Any) -> None:
        """Keep raw material of a guest as JSON (or text, if it is a string); a list line by line.

        Not indented: that takes ten times as long, and there may be thousands of samples.
        """
        if isinstance(content, str):
            text = content
        elif isinstance(content, list):
            lines = ",\n".join(json.dumps(one, default=str) for one in content)
            text = f"[\n{lines}\n]\n"
        else:
            text = json.dumps(content, default=str)
        write_atomically(self.guest(name) / file, text)

    def record(self) -> RunRecord:
        """The run's record. Raises UsageError if there is none or it is not a record."""
        return _parsed(self.path / RECORD, RunRecord)


def _parsed(file: Path, model: type[M]) -> M:
    try:
        return model.model_validate_json(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from error
    except ValidationError as error:
        message = f"{file} is damaged or of another version: {error.errors()[0]['msg']}"
        raise UsageError(message) from error


def _without(tree: Any, location: Sequence[int | str], why: str) -> str | None:
    """Take what is wrong out of ``tree`` and return its dotted key; None if it is not there."""
    *path, last = (location[:-1] if why == "missing" else location) or ("",)
    branch = tree
    try:
        for key in path:
            branch = branch[key]
        del branch[last]
    except (LookupError, TypeError):
        return None
    return ".".join(str(key) for key in (*path, last))


def new_run_id(clock: Clock = SYSTEM_CLOCK) -> str:
    """``<UTC>-<short id>``: sorts by time, and no two are the same."""
    return f"{utc_now(clock):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def _expect_room(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < FREE_BYTES_WANTED:
        raise InfrastructureError(
            f"{folder} has {free / 2**20:.0f} MiB free, {FREE_BYTES_WANTED / 2**20:.0f} MiB are "
            "wanted; nothing was paused",
            hint="free some space, or point HARNESS_STATE_DIR elsewhere",
        )


def all_runs(state_dir: Path) -> Iterator[RunFolder]:
    """Every run folder that has a record, newest first."""
    for path in sorted((state_dir / "runs").glob("*/"), reverse=True):
        if (path / RECORD).exists():
            yield RunFolder(path)


def find_run(state_dir: Path, wanted: str | None) -> RunFolder:
    """The run with that id, unique beginning or end of an id, or path; None means the newest."""
    if wanted and Path(wanted).is_dir():
        return RunFolder(Path(wanted))
    runs = [
        run
        for run in all_runs(state_dir)
        if not wanted or run.run_id.startswith(wanted) or run.run_id.endswith(wanted)
    ]
    if not runs:
        which = f"run {wanted!r}" if wanted else "run yet"
        raise UsageError(f"no {which} in {state_dir / 'runs'}", hint="harness run makes one")
    if wanted and len(runs) > 1:
        raise UsageError(f"{wanted!r} fits {len(runs)} runs", hint="give more of the id")
    return runs[0]
