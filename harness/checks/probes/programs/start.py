# A line in, a line out: "COMMAND ARGUMENTS". Each part adds its commands, and what ends it.
import os
from _thread import start_new_thread  # threading imports collections: slow under emulation

try:  # hashlib loads OpenSSL, which is slow under emulation; this is the same function
    from _sha256 import sha256
except ImportError:
    try:
        from _sha2 import sha256
    except ImportError:
        from hashlib import sha256
commands, endings = {}, []
try:
    os.nice(5)  # the clock is read first
except OSError:
    pass


def background(work, *arguments):
    start_new_thread(work, arguments)


def pattern(key, number, size):  # 4096 bytes at most, the same 32 over and over
    return (sha256(key + b"%d" % number).digest() * 128)[:size]
