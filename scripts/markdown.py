"""Tables of the pages that ``make reference`` writes."""

from __future__ import annotations


def row(*cells: str) -> str:
    """Return a row of a table; a bar in a cell divides nothing."""
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def header(*names: str) -> str:
    """Return the two lines that a table begins with."""
    return f"{row(*names)}\n{'|---' * len(names)}|"
