"""Tell a notice by every way that is configured. What fails is a warning, no more."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from urllib.parse import urlsplit

from harness.core.errors import ConfigError, HarnessError, InfrastructureError
from harness.core.programs import check_program
from harness.core.settings import NotifySection
from harness.core.timebase import Deadline
from harness.core.trust import refuse_untrusted
from harness.results.notify import webhook
from harness.results.notify.notice import GUESTS_STRANDED, Notice

_OTHERS_MAY_READ = 0o044


def check(settings: NotifySection) -> None:
    """Raise ConfigError for what can be known to be wrong before anything is paused."""
    if settings.command:
        check_program(settings.command, "notify.command")
    if settings.mail_to:
        check_program((str(settings.sendmail),), "notify.sendmail")
    if settings.webhook is not None:
        parts = urlsplit(settings.webhook)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError("must be a URL of http or https", key="notify.webhook")
        if parts.username or parts.password:
            raise ConfigError("must have no password", key="notify.webhook",
                              hint="webhook_secret_file signs what is sent")  # fmt: skip
    _secret(settings)


def _secret(settings: NotifySection) -> bytes | None:
    file, key = settings.webhook_secret_file, "notify.webhook_secret_file"
    if file is None:
        return None
    refuse_untrusted(file, key=key)
    try:
        if file.stat().st_mode & _OTHERS_MAY_READ:
            raise ConfigError(f"{file}: others may read it", key=key, hint=f"chmod 600 {file}")
        secret = file.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}", key=key) from error
    if not secret:
        raise ConfigError(f"{file} is empty", key=key)
    return secret


def tell(notice: Notice, settings: NotifySection) -> list[str]:
    """Tell ``notice``; return what did not work, in words. Never raises ours."""
    if settings.when == "trouble" and notice.good and notice.event != GUESTS_STRANDED:
        return []
    warnings = []
    for what, send in _ways(notice, settings):
        try:
            send(Deadline.after(settings.timeout_s))
        except HarnessError as error:
            warnings.append(f"no notification by {what}: {error}")
    return warnings


def _ways(
    notice: Notice, settings: NotifySection
) -> Iterator[tuple[str, Callable[[Deadline], None]]]:
    if settings.command:
        given = notice.as_json().encode()
        yield "command", lambda deadline: _run(list(settings.command), given, deadline)
    if settings.mail_to:
        command = [str(settings.sendmail), "-t", "-i"]
        yield "mail", lambda deadline: _run(command, _mail(notice, settings), deadline)
    url = settings.webhook
    if url is not None:
        yield "webhook", lambda deadline: webhook.send(notice, url, _secret(settings), deadline)


def _mail(notice: Notice, settings: NotifySection) -> bytes:
    """Return the mail: header lines are one line each, whatever guests are called."""
    mail = EmailMessage(policy=SMTP.clone(linesep="\n"))
    mail["To"] = ", ".join(settings.mail_to)
    if settings.mail_from is not None:
        mail["From"] = settings.mail_from
    mail["Subject"] = " ".join(notice.summary.split())
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(notice.as_text())
    return mail.as_bytes()


def _run(command: list[str], given: bytes, deadline: Deadline) -> None:
    """Run a program with ``given`` on its standard input. Raises InfrastructureError."""
    name = Path(command[0]).name
    try:
        done = subprocess.run(
            command, input=given, capture_output=True, timeout=max(0.1, deadline.remaining_s())
        )
    except subprocess.TimeoutExpired as error:
        limit = f"{deadline.limit_s:g} s"
        raise InfrastructureError(f"{name} did not end within {limit}") from error
    except OSError as error:
        raise InfrastructureError(f"{name}: {error.strerror}") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        why = f": {said[-1]}" if said else ""
        raise InfrastructureError(f"{name} ended with {done.returncode}{why}")
