"""What all pictures have in common: colours, sizes, rows with names, and SVG as we want it.

Names of guests are data: they are drawn as plain text (no mathematics), shortened, and escaped by
the library that writes the SVG.
"""

from __future__ import annotations

import io
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness.core.paths import cache_dir
from harness.results.report.spoken import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: What is drawn in these colours is coloured by the style sheet's variable of that name.
VARIABLES = {
    "--ink": "#010101",
    "--faint": "#010102",
    "--budget": "#010103",
    "--pausing": "#010104",
    "--paused": "#010105",
    "--resuming": "#010106",
    "--stale": "#010107",
    "--corrected": "#010108",
    "--running": "#010109",
    "--before": "#01010a",
    "--allowed": "#01010b",
    "--fail": "#01010c",
}
_WIDTH_IN = 5.0
_ROW_IN = 0.34
_NAME_LENGTH = 40


def _style(colours: Mapping[str, str]) -> dict[Any, Any]:
    ink, faint = colours["--ink"], colours["--faint"]
    return {
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 9,
        "text.parse_math": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.edgecolor": faint,
        "axes.labelcolor": ink,
        "axes.titlecolor": ink,
        "xtick.color": faint,
        "xtick.labelcolor": ink,
        "ytick.color": faint,
        "ytick.labelcolor": ink,
        "text.color": ink,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
    }


def _load() -> None:
    """Load the library, with its own defaults: it reads a matplotlibrc of the current folder.

    Who has loaded it before us has settings that are not ours to change.
    """
    if "matplotlib" not in sys.modules:
        os.environ.setdefault("MPLCONFIGDIR", str(cache_dir() / "matplotlib"))
        import matplotlib

        matplotlib.rcdefaults()


def blank(
    height_in: float, salt: str, colours: Mapping[str, str] = VARIABLES
) -> tuple[Figure, Axes]:
    """Return an empty picture of that height; ``salt`` makes the ids in its SVG."""
    _load()
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    matplotlib.rcParams.update({**_style(colours), "svg.hashsalt": salt})
    figure = Figure(figsize=(_WIDTH_IN, height_in))
    FigureCanvasSVG(figure)
    return figure, figure.add_subplot()


def rows(
    names: Sequence[str],
    salt: str,
    colours: Mapping[str, str] = VARIABLES,
    *,
    above_in: float = 0.05,
) -> tuple[Figure, Axes]:
    """Return a picture with a row a name, the name above its row: a long one costs no width.

    ``above_in``: inches that are left for a title.
    """
    height_in = 0.5 + above_in + _ROW_IN * max(len(names), 1) * 1.15
    figure, axes = blank(height_in, salt, colours)
    # By hand, because finding the margins costs more than all the rest.
    figure.subplots_adjust(0.03, 0.5 / height_in, 0.97, 1 - above_in / height_in)
    axes.set_ylim(len(names) - 0.55, -0.65)
    axes.set_yticks([])
    for row, name in enumerate(names):
        shown = printable(name)
        if len(shown) > _NAME_LENGTH:
            shown = shown[: _NAME_LENGTH - 1] + "…"
        axes.text(
            0, row - 0.24, shown, transform=axes.get_yaxis_transform(), fontsize=8.5, va="bottom"
        )
    return figure, axes


@contextmanager
def quiet_about_glyphs() -> Iterator[None]:
    """Say nothing of a name in a script that our font lacks: the browser's fonts have it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def svg(figure: Figure, salt: str) -> str:
    """Return the picture as SVG whose colours are the style sheet's variables."""
    from matplotlib import rc_context

    out = io.StringIO()
    with quiet_about_glyphs(), rc_context({"svg.hashsalt": salt}):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(out, format="svg", metadata=nothing, transparent=True)
    text = out.getvalue()
    text = text[text.index("<svg") :]
    head, _, body = text.partition(">")
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", body, flags=re.DOTALL)
    head = re.sub(r' (width|height|version)="[^"]*"', "", head)
    body = re.sub(r'<g id="[^"]*"', "<g", body)  # the same in every picture; nothing refers to them
    for variable, colour in VARIABLES.items():
        body = body.replace(colour, f"var({variable})")
    return f"{head}>{body}"
