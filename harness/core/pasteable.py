"""Commands that are shown to people: they do what they say when they are pasted into a shell."""

from __future__ import annotations

import shlex


def command(*words: str) -> str:
    """Return ``words`` as one line for a shell."""
    return shlex.join(words)


def virsh(uri: str, verb: str, guest: str, uuid: str = "") -> str:
    """Return a command of virsh for one guest, by the connection that harness uses.

    ``uri`` may be empty: virsh's own choice. The guest is named by ``uuid`` where its name holds
    what a terminal would not show as it is.
    """
    if uuid and not guest.isprintable():
        guest = uuid
    end_of_options = ["--"] if guest.startswith("-") else []
    return command("virsh", *(["-c", uri] if uri else []), verb, *end_of_options, guest)


def toml_words(line: str) -> str:
    """Return a line, split as a shell splits it, as a list of TOML."""
    try:
        words = shlex.split(line)
    except ValueError:
        words = [line]
    quoted = ('"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"' for word in words)
    return f"[{', '.join(quoted)}]"
