"""The host's own clock, which guests are measured against: is it synchronised?"""

from __future__ import annotations

import ctypes

#: From <sys/timex.h>: the status and the return value of a clock that nothing disciplines.
_STA_UNSYNC = 0x0040
_TIME_ERROR = 5
_STATUS_AT = 40  # bytes into struct timex, where long has 8
_TIMEX_BYTES = 208

HOW_TO_SYNCHRONISE = "timedatectl set-ntp true, or another time daemon, such as chrony"


def synchronised() -> bool | None:
    """Whether the kernel of this machine holds its clock to be synchronised; None: unknown.

    A time daemon tells the kernel so; nothing is changed here.
    """
    if ctypes.sizeof(ctypes.c_long) != 8:
        return None
    timex = ctypes.create_string_buffer(_TIMEX_BYTES)
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(timex)
    except (OSError, AttributeError):
        return None
    if state < 0:
        return None
    status = ctypes.c_int.from_buffer(timex, _STATUS_AT).value
    return state != _TIME_ERROR and not status & _STA_UNSYNC
