"""Runs a program and tells what it cost, as a parent that has little memory itself.

    python -I small_parent.py DESCRIPTOR PROGRAM [ARGUMENT...]

What wait4(2) says of a child's memory is no less than its parent's was when it forked, and that of
a benchmark is more than most runs need.
"""

import json
import os
import sys
import time


def main() -> None:
    """Write what it cost to the descriptor, and end as it ended."""
    descriptor, command = int(sys.argv[1]), sys.argv[2:]
    began_s = time.monotonic()
    pid = os.posix_spawnp(command[0], command, os.environ)
    _, status, usage = os.wait4(pid, 0)
    cost = {
        "total_s": time.monotonic() - began_s,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "memory_mib": usage.ru_maxrss / 1024,
    }
    os.write(descriptor, json.dumps(cost).encode())
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
