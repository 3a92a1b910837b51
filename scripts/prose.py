"""Hold what people read to the project's voice: proselint with the project's own vocabulary.

``make lint`` runs this over the pages and over the words of harness/: help, messages, docstrings
and comments. Code in them is left out, so a name, a command or an option is never taken for prose.
"""

from __future__ import annotations

import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

from proselint import checks as kept
from proselint.config import DEFAULT
from proselint.registry import CheckRegistry
from proselint.registry.checks import Check, CheckFlags, types
from proselint.tools import LintFile

ROOT = Path(__file__).resolve().parent.parent
#: A docstring and a message are in quotes.
_QUOTED = CheckFlags(allow_quotes=True)
_INSTEAD = "Say '{}', not '{}'."
#: The project's vocabulary: one word, one meaning, and no word that a reader has to translate.
VOCABULARY = (
    Check(
        path="harness.pronouns",
        flags=_QUOTED,
        message="'{}' names nobody: say which guest, process, user or program.",
        check_type=types.ExistenceSimple(
            r"\b(?:nobody|somebody|anybody|everybody|whoever|whom|whose\s+are|of\s+ours|of\s+whom)\b"
        ),
    ),
    Check(
        path="harness.archaic",
        flags=_QUOTED,
        message=_INSTEAD,
        check_type=types.PreferredForms(
            {
                r"anew": "again",
                r"by\s+rote": "mechanically",
                r"for\s+ever": "without end",
                r"good-bye": "goodbye",
                r"hitherto": "until now",
                r"lest": "so that … does not",
                r"mend(?:s|ed|ing)?": "fix, correct",
                r"no\s+good\s+end": "failed",
                r"shall": "must, will",
                r"such\s+that": "so that",
                r"thereof|therein|therefrom": "of it, in it, from it",
                r"whilst": "while",
            }
        ),
    ),
    Check(
        path="harness.said",
        flags=_QUOTED,
        message=_INSTEAD,
        check_type=types.PreferredForms(
            {r"(?:is|are|was|were)\s+(?:said|told)": "harness reports, prints, warns"}
        ),
    ),
    Check(
        path="harness.words",
        flags=_QUOTED,
        message=_INSTEAD,
        check_type=types.PreferredForms(
            {
                r"unpaus(?:e|es|ed|ing)": "resume",
                r"dummy\s+updates?": "stand-in update",
                r"time-outs?": "timeout",
                r"wall-clock\s+skew": "offset",
                r"hyper-visors?": "hypervisor",
            }
        ),
    ),
    Check(
        path="harness.chains",
        flags=_QUOTED,
        message="A chain of dashes: make it two sentences.",
        check_type=types.ExistenceSimple(r"\s[—–]\s[^.|\n]{1,200}\s[—–]\s"),
    ),
)
#: Of proselint's own: typography is for typesetters, "very" for essays, and what repeats a word is
#: nearly always a table, or a heading and the sentence below it.
_CHECKS = {
    "weasel_words.very": False,
    "redundancy.misc.after_the_deadline": False,
    **DEFAULT["checks"],
    "typography": False,
    "lexical_illusions": False,
    "harness": True,
}
_LINES = {"max_errors": 1000, "checks": {"harness": True}}
_PAGES = {"max_errors": 1000, "checks": _CHECKS}
_CODE = re.compile(
    r"^(?P<indent> *)```.*?^(?P=indent)```"  # a block of code
    r"|``[^`]+``|`[^`]+`"
    r"|<!--.*?-->|<https?:[^>]*>|(?<=\])\([^)\s]+\)",
    re.DOTALL | re.MULTILINE,
)

#: Tokens that hold words. Since Python 3.12 an f-string is one of its parts and its fields each.
_WORDS = {tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
#: Code in an f-string.
_FIELD = re.compile(r"\{[^{}\n]*\}")


def blank(text: str) -> str:
    """Return as many characters that are no words, with the lines where they were."""
    return re.sub(r"[^\n]", "·", text)


def prose_of_page(text: str) -> str:
    """Return Markdown with its code, comments and addresses blanked."""
    return _CODE.sub(_blanked, text)


def _blanked(code: re.Match[str]) -> str:
    return blank(code[0])


def prose_of_module(text: str) -> str:
    """Return Python with all but comments and the text of strings blanked.

    A string without a space is a name, not prose.
    """
    lines = [list(blank(line)) for line in text.splitlines()]
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _WORDS or " " not in token.string:
            continue
        (row, column), kept = token.start, prose_of_page(_FIELD.sub(_blanked, token.string))
        for offset, line in enumerate(kept.split("\n")):
            start = 0 if offset else column
            lines[row - 1 + offset][start : start + len(line)] = line
    return "\n".join("".join(line) for line in lines)


def breaches(name: str, text: str) -> Iterator[str]:
    """Yield each breach in a page or, by its name, a module: ``name:line:column: words``."""
    CheckRegistry._checks[:] = [*VOCABULARY, *kept.__register__]
    module = name.endswith(".py")
    prose = prose_of_module(text) if module else prose_of_page(text)
    for found in LintFile(name, prose).lint(_LINES if module else _PAGES):
        line, column = found.pos
        yield f"{name}:{line}:{column}: {found.check_result.message}"


def files() -> list[Path]:
    """Return what is held to the voice: pages, the package; decisions stand as they were made."""
    pages = [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "vm-images").rglob("*.md"),
    ]
    pages = [page for page in pages if "adr" not in page.parts]
    return sorted([*pages, *(ROOT / "harness").rglob("*.py")])


def main(arguments: list[str]) -> int:
    """Print each breach; return 1 if there is one."""
    chosen = [Path(argument).resolve() for argument in arguments] or files()
    found = [
        line
        for file in chosen
        for line in breaches(str(file.relative_to(ROOT)), file.read_text(encoding="utf-8"))
    ]
    for line in found:
        sys.stderr.write(f"{line}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
