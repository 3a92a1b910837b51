"""The optional parts of the installation: which libraries each brings, and whether they are here.

The distribution ``harness-kvm`` by itself brings what pausing guests and correcting clocks need.
Everything else is an extra. A command calls :func:`require` before it imports a room whose
libraries may be missing.
"""

from __future__ import annotations

from importlib.util import find_spec

from harness.core.errors import MissingCapability

#: What an installer calls this project. ``harness`` is the command and the package to import; on
#: the Python index it is another project.
DISTRIBUTION = "harness-kvm"

#: Extra → the modules of the libraries it brings, as in ``pyproject.toml`` (a test compares them).
LIBRARIES = {
    "events": ("alembic", "httptools", "sqlalchemy", "starlette", "uvicorn"),
    "reports": ("jinja2", "matplotlib"),
    "history": ("alembic", "sqlalchemy"),
    "lab": ("pycdlib", "tomli_w"),
    "otel": ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"),
    "parquet": ("pyarrow",),
    "postgresql": ("psycopg",),
}


def missing(extra: str) -> list[str]:
    """Return the libraries of ``extra`` that are not installed; none is imported."""
    return [name for name in LIBRARIES[extra] if not _is_here(name)]


def _is_here(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package that it is a part of is missing
        return False


def how_to_install(extra: str) -> str:
    """Return the command that adds ``extra`` to the environment harness is installed in."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"


def require(extra: str, what: str) -> None:
    """Raise MissingCapability if a library of ``extra`` is not installed.

    Args:
        extra: a key of ``LIBRARIES``.
        what: what needs it, as the subject of a sentence: ``the history of runs``.
    """
    absent = missing(extra)
    if absent:
        raise MissingCapability(
            f"extra-{extra}",
            f"{what} needs the extra [{extra}] (not installed: {', '.join(absent)})",
            hint=how_to_install(extra),
        )
