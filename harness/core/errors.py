"""Every error this project raises, and the exit code each one means.

::

    HarnessError(message, *, guest=None, hint=None)      never raised itself
    ├─ UsageError                                        exit 2
    │   ├─ ConfigError(file, key)
    │   ├─ PlanError
    │   │   └─ NotNeeded                                 a ConfigError too; 6 under a rollout
    │   ├─ WrongGuest
    │   └─ SeveralRefused(by_guest)
    ├─ MissingCapability(name)                           exit 3
    ├─ InfrastructureError                               exit 3
    │   ├─ HypervisorError(operation, code)
    │   │   ├─ ConnectionLost
    │   │   ├─ GuestNotFound
    │   │   │   └─ UnknownGuest                          exit 2, as it is a UsageError too
    │   │   ├─ WrongState
    │   │   ├─ ResumeFailed
    │   │   ├─ TakenOver
    │   │   ├─ GuestSaved
    │   │   └─ AgentSilent
    │   ├─ ShellError
    │   │   ├─ ShellUnreachable
    │   │   │   └─ TurnedAway
    │   │   ├─ HostKeyRejected
    │   │   │   └─ HostKeyUnknown
    │   │   └─ CommandFailed(returncode, stdout, stderr)
    │   ├─ ProbeError
    │   ├─ JournalError
    │   ├─ GuardianLost
    │   ├─ NotNow                                        5 under a rollout
    │   │   ├─ HostBusy
    │   │   ├─ SetLeased
    │   │   └─ WindowClosed                              an EventError too
    │   ├─ RunDied
    │   ├─ LabError
    │   ├─ EventError
    │   ├─ UpdateFailed(returncode)
    │   ├─ UpdateOverran
    │   ├─ DeadlineExpired(what, limit_s, last_error)
    │   ├─ SeveralFailed(by_guest)
    │   └─ InternalError                                 a bug of harness
    ├─ Interrupted(signal_name)                          exit 130
    └─ GuestStranded(guests)                             exit 4, the loudest message there is

A broken promise is not an error: it is an :class:`harness.core.records.Outcome`.
Exceptions of foreign libraries become one of these at the border (``host/`` for libvirt,
``guest/`` for paramiko), chosen by error code, never by error text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

#: Exit codes that a rollout has beside those of the errors.
NOT_NOW, NOT_NEEDED = 5, 6


class HarnessError(Exception):
    """Root of the tree; never raised itself.

    ``message`` says what happened, measured against allowed where there is a measure.
    ``guest`` names the guest concerned; ``hint`` says what a person can do about it.
    """

    exit_code: ClassVar[int] = 3

    def __init__(self, message: str, *, guest: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.guest = guest
        self.hint = hint

    def __str__(self) -> str:
        """``guest: message (hint: …)``, the one line a person reads."""
        prefix = f"{self.guest}: " if self.guest else ""
        suffix = f" (hint: {self.hint})" if self.hint else ""
        return f"{prefix}{self.message}{suffix}"


class UsageError(HarnessError):
    """What was asked for makes no sense; nothing was touched."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration file (or flag) is wrong. ``file`` and ``key`` say where."""

    def __init__(
        self,
        message: str,
        *,
        file: Path | str | None = None,
        key: str | None = None,
        guest: str | None = None,
        hint: str | None = None,
    ) -> None:
        where = ": ".join(str(part) for part in (file, key) if part)
        super().__init__(f"{where}: {message}" if where else message, guest=guest, hint=hint)
        self.file = file
        self.key = key


class PlanError(UsageError):
    """The maintenance cannot be done safely as asked."""


class NotNeeded(ConfigError, PlanError):
    """There is nothing to do: what was asked for is so already."""


class WrongGuest(UsageError):
    """What answers the login is another machine than the guest that would be paused."""


class MissingCapability(HarnessError):
    """This machine lacks something that is needed; ``name`` is its stable identifier."""

    def __init__(self, name: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.name = name


class InfrastructureError(HarnessError):
    """Something outside this program failed, so that nothing can be judged."""


class HypervisorError(InfrastructureError):
    """libvirt refused or failed; ``operation`` is ours, ``code`` is libvirt's ``VIR_ERR_*``."""

    def __init__(
        self,
        message: str,
        *,
        operation: str,
        code: int | None = None,
        guest: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, guest=guest, hint=hint)
        self.operation = operation
        self.code = code


class ConnectionLost(HypervisorError):
    """No connection to libvirt: never made, refused, or gone."""


class GuestNotFound(HypervisorError):
    """No guest of that name or UUID (any more)."""


class UnknownGuest(GuestNotFound, UsageError):
    """A person named a guest that is not there."""


class WrongState(HypervisorError):
    """The guest is not in the state the operation needs."""


class ResumeFailed(HypervisorError):
    """The guest did not resume."""


class TakenOver(HypervisorError):
    """Another program resumed the guest during the pause; from then on it is no longer held."""


class GuestSaved(HypervisorError):
    """Another program saved the guest to disk during our pause: it is held, and comes back paused.

    The next start restores it as it was.
    """


class AgentSilent(HypervisorError):
    """The guest agent is not connected, or did not answer in time."""


class ShellError(InfrastructureError):
    """The guest's shell could not be used."""


class ShellUnreachable(ShellError):
    """Connection refused, timed out, dropped, or the login was refused."""


class TurnedAway(ShellUnreachable):
    """The server closed the connection before it said what it is; it may be busy."""


class HostKeyRejected(ShellError):
    """The guest's host key is unknown or not the one expected."""


class HostKeyUnknown(HostKeyRejected):
    """No host key of the guest is known yet; a person may compare this one and trust it."""


class CommandFailed(ShellError):
    """A command in the guest ended with a non-zero status."""

    def __init__(
        self,
        message: str,
        *,
        returncode: int,
        stdout: str = "",
        stderr: str = "",
        guest: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, guest=guest, hint=hint)
        self.returncode = returncode
        self.stdout = stdout
        self.stderr = stderr


class ProbeError(InfrastructureError):
    """A measurement gave no usable answer."""


class JournalError(InfrastructureError):
    """The intent log or the run folder cannot be written."""


class GuardianLost(InfrastructureError):
    """The second process, which resumes guests if the first cannot, is not there."""


class NotNow(InfrastructureError):
    """It may be done at another time: the same command may succeed then."""


class HostBusy(NotNow):
    """Another process holds the lock of this host."""


class SetLeased(NotNow):
    """Another run holds an availability set."""


class RunDied(InfrastructureError):
    """The process of a run died before its end; guests may be paused until it is recovered."""


class LabError(InfrastructureError):
    """A lab image could not be built or a lab guest could not be started."""


class EventError(InfrastructureError):
    """A Scheduled Event is not there, was cancelled, or may not do what was asked of it."""


class WindowClosed(EventError, NotNow):
    """The maintenance window of an availability set is closed."""


class UpdateFailed(InfrastructureError):
    """The update ended with an error."""

    def __init__(
        self,
        message: str,
        *,
        returncode: int | None = None,
        guest: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, guest=guest, hint=hint)
        self.returncode = returncode


class UpdateOverran(InfrastructureError):
    """The update did not end in its time and was abandoned."""


class DeadlineExpired(InfrastructureError):
    """``what`` was not done within ``limit_s`` seconds; ``last_error`` says why not, if known."""

    def __init__(
        self,
        what: str,
        limit_s: float,
        last_error: BaseException | None = None,
        *,
        guest: str | None = None,
        hint: str | None = None,
    ) -> None:
        reason = f"; last error: {last_error}" if last_error else ""
        super().__init__(f"{what} took longer than {limit_s:.1f} s{reason}", guest=guest, hint=hint)
        self.what = what
        self.limit_s = limit_s
        self.last_error = last_error


class InternalError(InfrastructureError):
    """An exception that nothing here expects: a bug, named by its class."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(
            f"{type(error).__name__}: {error}",
            hint="this is a bug of harness; -vv shows the traceback",
        )
        self.__cause__ = error


class SeveralRefused(UsageError):
    """Several guests are refused; ``by_guest`` has the error of each."""

    def __init__(self, by_guest: Mapping[str, HarnessError]) -> None:
        super().__init__(_each(by_guest))
        self.by_guest = dict(by_guest)


class SeveralFailed(InfrastructureError):
    """Several guests have failed; ``by_guest`` has the error of each."""

    def __init__(self, by_guest: Mapping[str, HarnessError]) -> None:
        super().__init__(_each(by_guest))
        self.by_guest = dict(by_guest)


def together(by_guest: Mapping[str, HarnessError]) -> HarnessError:
    """Return one error for all of these, which must not be empty: the only one as it is."""
    distinct = list(dict.fromkeys(by_guest.values()))
    if len(distinct) == 1:
        return distinct[0]
    refused = all(isinstance(error, UsageError) for error in distinct)
    return SeveralRefused(by_guest) if refused else SeveralFailed(by_guest)


def guests_of(error: HarnessError | None) -> Mapping[str, HarnessError]:
    """Return which guests an error is about, with the error of each."""
    if isinstance(error, (SeveralRefused, SeveralFailed)):
        return error.by_guest
    return {error.guest: error} if error is not None and error.guest else {}


def rollout_exit_code(error: HarnessError) -> int:
    """Return the exit code of an error under a rollout, before which no guest was paused.

    There 5 means "not now" and 6 "not needed", which are 3 and 2 elsewhere. Of several guests all
    must be refused for that reason.
    """
    each = tuple(guests_of(error).values()) or (error,)
    if all(isinstance(one, NotNow) for one in each):
        return NOT_NOW
    if all(isinstance(one, NotNeeded) for one in each):
        return NOT_NEEDED
    return error.exit_code


def lines_of(by_guest: Mapping[str, HarnessError]) -> list[str]:
    """Return a line for each guest, without repetition: its name, what happened, what helps."""
    lines = [
        str(error) if error.guest else f"{guest}: {error}" for guest, error in by_guest.items()
    ]
    return list(dict.fromkeys(lines))


def _each(by_guest: Mapping[str, HarnessError]) -> str:
    return f"{len(by_guest)} guests: {'; '.join(lines_of(by_guest))}"


class Interrupted(HarnessError):
    """A person or the system asked us to stop; everything that was paused has been resumed."""

    exit_code = 130

    def __init__(self, signal_name: str, said: str) -> None:
        """``said``: what was done then, and what was looked at."""
        super().__init__(f"interrupted by {signal_name}; {said}")
        self.signal_name = signal_name


class GuestStranded(HarnessError):
    """The worst there is: guests that we paused are still paused."""

    exit_code = 4

    def __init__(self, guests: Sequence[str], ways_on: Sequence[str] = ()) -> None:
        """``ways_on``: what brings each of them back, as commands to paste."""
        names = ", ".join(guests)
        now = [way for way in ways_on if way]
        super().__init__(f"STILL PAUSED: {names}", hint="; ".join([*now, "harness recover"]))
        self.guests = tuple(guests)
