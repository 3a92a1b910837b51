"""What Windows is asked to run: PowerShell programs, read from standard input by a constant.

``-EncodedCommand`` takes letters, digits and ``+/=`` only, so cmd and PowerShell both pass it on.
It holds a constant that reads a program from standard input and runs it: no program is ever an
argument, and nothing is put into the text of one. ``-InputFormat None`` keeps PowerShell's own
hands off standard input.
"""

from __future__ import annotations

import base64
from enum import StrEnum

from harness.guest.framing import Frame

#: Asked of a login shell that knows no ``sh``: cmd fills in the one, PowerShell the other. What
#: they say of a command that they do not know is in the language of their Windows.
QUESTION = "echo harness-%OS%-$env:OS-"
_CMD, _POWERSHELL = b"harness-Windows_NT-", b"-Windows_NT-"

#: Reads ``LENGTH NEWLINE BASE64 NEWLINE`` and nothing of what follows, which is for the program:
#: the questions to an agent.
_BOOTSTRAP = """
$ErrorActionPreference = 'Stop'
$harnessIn = [Console]::OpenStandardInput()
function Get-HarnessBytes($count) {
    $bytes = New-Object byte[] $count
    $at = 0
    while ($at -lt $count) {
        $got = $harnessIn.Read($bytes, $at, $count - $at)
        if ($got -le 0) { exit 96 }
        $at += $got
    }
    [Text.Encoding]::ASCII.GetString($bytes)
}
function Get-HarnessLine {
    $line = ''
    while ($true) {
        $byte = Get-HarnessBytes 1
        if ($byte -eq "`n") { return $line.Trim() }
        $line += $byte
    }
}
$harnessText = Get-HarnessBytes ([int](Get-HarnessLine))
[void](Get-HarnessLine)
$harnessText = [Text.Encoding]::UTF8.GetString([Convert]::FromBase64String($harnessText))
. ([ScriptBlock]::Create($harnessText))
"""
#: As :mod:`harness.guest.framing` does in ``sh``. Lines end in a newline alone, in UTF-8, whatever
#: the console's code page is. Only what is printed before an error is an answer.
_PROGRAM = """$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
$harnessOut = [Console]::OpenStandardOutput()
$harnessErrors = [Console]::OpenStandardError()
function Write-Harness($stream, $text) {{
    $bytes = [Text.Encoding]::UTF8.GetBytes([string]$text + "`n")
    $stream.Write($bytes, 0, $bytes.Length)
    $stream.Flush()
}}
Write-Harness $harnessErrors ('{token}' + 'errors-begin')
Write-Harness $harnessOut ('{token}' + 'begin')
$harnessStatus = 0
try {{
    & {{
{command}
    }} | ForEach-Object {{ Write-Harness $harnessOut $_ }}
}} catch {{
    $harnessStatus = 1
    Write-Harness $harnessErrors $_.Exception.Message
}}
Write-Harness $harnessOut ('{token}' + 'end ' + $harnessStatus)
Write-Harness $harnessErrors ('{token}' + 'errors-end ' + $harnessStatus)
exit $harnessStatus
"""
_SWITCHES = ("-NoLogo", "-NoProfile", "-NonInteractive", "-InputFormat", "None")


class LoginShell(StrEnum):
    """What a Windows account's login runs commands in (OpenSSH's ``DefaultShell``)."""

    CMD = "cmd"
    POWERSHELL = "powershell"


def encoded(script: str) -> str:
    """Return ``script`` as ``-EncodedCommand`` takes it: base64 of UTF-16."""
    return base64.b64encode(script.encode("utf-16-le")).decode("ascii")


#: The words that start PowerShell; the guest agent's ``guest-exec`` takes them as they are.
WORDS = ("powershell", *_SWITCHES, "-EncodedCommand", encoded(_BOOTSTRAP))


def recognised(said: bytes) -> LoginShell | None:
    """Return whose answer to ``QUESTION`` this is; None: not that of a Windows."""
    for line in said.splitlines():
        if line.strip().startswith(_CMD):
            return LoginShell.CMD
        if line.strip().startswith(b"harness-") and line.strip().endswith(_POWERSHELL):
            return LoginShell.POWERSHELL
    return None


def stdin(program: str) -> bytes:
    """Return a whole program as the constant in ``WORDS`` reads it; ASCII, two lines."""
    text = base64.b64encode(program.encode())
    return b"%d\n%s\n" % (len(text), text)


class PowerShellFrame(Frame):
    """What is put around one command for Windows; each has lines of its own."""

    def __init__(self, login: LoginShell = LoginShell.CMD) -> None:
        super().__init__()
        # A login shell that is PowerShell reads the input itself, line by line, into $input.
        through = "$input | " if login is LoginShell.POWERSHELL else ""
        self.command = through + " ".join(WORDS)

    def script(self, command: str, *, answers: bool) -> bytes:
        """Return what is sent; a command that reads no input gets none because it has ended."""
        return stdin(_PROGRAM.format(token=self._token, command=command))

    def cleaned(self, received: bytes) -> bytes:
        """Return what was received with a newline for each of Windows' line ends."""
        return received.replace(b"\r", b"")
