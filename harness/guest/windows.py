"""What a Windows guest is asked, as PowerShell, and what its answers mean. Not run on Windows yet.

The scripts are constants; the one number that is put into one is a number. Whatever Windows says is
only data, a line of it at a time: names and messages have no line ends in them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

#: The note in every record of a Windows guest, until it was run on Windows.
UNPROVEN = "not run on Windows: harness was only tested against what stands in for it"
HINT_UNPROVEN = (
    "show us what it does: harness doctor --prove windows GUEST; see docs/how-to/windows.md"
)

#: Windows has no boot id. It is made of the first process of the boot that stays (wininit): when it
#: was created is written down once and does not move with the clock, as ``LastBootUpTime`` does.
_BOOT = """
$first = Get-CimInstance Win32_Process -Filter "Name='wininit.exe'" | Select-Object -First 1
$product = Get-CimInstance Win32_ComputerSystemProduct
$created = $first.CreationDate.ToFileTimeUtc()
'boot_id=' + $product.UUID + '-' + $first.ProcessId + '-' + $created
"""
FACTS = (
    _BOOT
    + """
$system = Get-CimInstance Win32_OperatingSystem
$user = [Security.Principal.WindowsIdentity]::GetCurrent()
$role = [Security.Principal.WindowsBuiltInRole]::Administrator
$service = Get-Service W32Time -ErrorAction SilentlyContinue
'windows=' + $env:OS
'kernel=' + $system.Version
'admin=' + (New-Object Security.Principal.WindowsPrincipal $user).IsInRole($role)
'machine=' + $product.UUID
Get-CimInstance Win32_NetworkAdapter -Filter 'PhysicalAdapter=True' |
    Where-Object { $_.MACAddress } | ForEach-Object { 'mac=' + $_.MACAddress }
'ssh=' + $env:SSH_CONNECTION
if ($service) { 'w32time=' + $service.Status }
"""
)
#: The newest event of the System log.
MARK = "(Get-WinEvent -LogName System -MaxEvents 1).RecordId"
_EVENTS = """
$wanted = '*[System[EventRecordID>=%d]]'
$events = @(Get-WinEvent -LogName System -FilterXPath $wanted -MaxEvents 2000 -Oldest)
foreach ($event in $events) {
    $words = @([string]$event.Message -split '[\\r\\n]+')[0]
    '{0} {1} {2} {3}' -f $event.RecordId, ($event.ProviderName -replace ' ', '_'), $event.Id, $words
}
"""
#: Events that a pause must not cause: a disk or its controller that gave up waiting (7, 11, 51,
#: 129, 153, 157), a damaged file system (55, 140), a crash or a start without a shutdown (41, 1001,
#: 6008), an error of the hardware. By provider and number, the same in every language.
TROUBLE = re.compile(
    r"^\d+ (?:disk (?:7|11|51|153|157)"
    r"|(?:storahci|vioscsi|viostor|stornvme|iaStor\w*|LSI\w*) (?:11|129)"
    r"|(?:Microsoft-Windows-)?Ntfs (?:55|140)|volmgr (?:46|161)"
    r"|Microsoft-Windows-Kernel-Power 41|BugCheck 1001|EventLog 6008"
    r"|Microsoft-Windows-WER-SystemErrorReporting 1001|Microsoft-Windows-WHEA-Logger \d+) ",
    re.IGNORECASE,
)
#: What lives in the guest, as :func:`harness.checks.guest_life.parse_windows` reads it.
LIFE = """
'now ' + [DateTime]::UtcNow.ToFileTimeUtc()
Get-CimInstance Win32_Process | Where-Object { $_.CreationDate } | ForEach-Object {
    'process ' + $_.ProcessId + ' ' + $_.CreationDate.ToFileTimeUtc() + ' ' + $_.Name
}
Get-CimInstance Win32_Volume | Where-Object { $_.FileSystem } | ForEach-Object {
    'volume ' + $_.DeviceID + ' ' + $_.FileSystem + ' ' + $_.Name
}
$net = [Net.NetworkInformation.IPGlobalProperties]::GetIPGlobalProperties()
$net.GetActiveTcpConnections() | Where-Object { $_.State -eq 'Established' } | ForEach-Object {
    'tcp ' + $_.LocalEndPoint + ' ' + $_.RemoteEndPoint
}
$four = $net.GetTcpIPv4Statistics().ResetConnections
'resets ' + ($four + $net.GetTcpIPv6Statistics().ResetConnections)
"""
#: W32Time asks its sources now; its errors are numbers here: its words are in any language.
RESYNC = """
$said = & w32tm.exe /resync /nowait 2>&1
if ($LASTEXITCODE -ne 0) { throw ('w32tm ended with status ' + $LASTEXITCODE) }
"""
#: Whether W32Time runs, and what it follows.
TIME_SERVICE = """
'service=' + (Get-Service W32Time).Status
'source=' + (@(& w32tm.exe /query /source 2>&1)[0])
"""
#: What runs our programs, and whether a policy restricts it.
POWERSHELL_STATE = """
'version=' + $PSVersionTable.PSVersion
'mode=' + $ExecutionContext.SessionState.LanguageMode
'culture=' + (Get-Culture).Name
'zone=' + [TimeZoneInfo]::Local.BaseUtcOffset.TotalMinutes
"""


def events_since(record: int) -> str:
    """Return the script that tells the boot and the System log's events from ``record`` on."""
    return _BOOT + _EVENTS % record


def pairs_of(lines: Iterable[str]) -> list[tuple[str, str]]:
    """Return the ``key=value`` lines of an answer, in order."""
    parted = (line.partition("=") for line in lines)
    return [(key, value.strip()) for key, is_pair, value in parted if is_pair]
