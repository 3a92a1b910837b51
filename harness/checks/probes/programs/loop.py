# The last part: a line in, a line out, until the input is closed.
import os
import sys

from __main__ import commands, endings

print("ready", flush=True)
try:
    for line in iter(sys.stdin.readline, ""):
        words = line.split()
        try:
            answer = commands[words[0]](*words[1:])
        except Exception as error:
            answer = "error %s: %s" % (type(error).__name__, error)
        print(str(answer).replace("\n", " "), flush=True)
finally:
    for end in endings:
        end()
    os._exit(0)  # waits for no thread
