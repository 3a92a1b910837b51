"""What is closed when a result is there already: that it fails changes nothing about the result."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from typing import TypeVar

T = TypeVar("T")


def result_of(body: Callable[[ExitStack], T]) -> T:
    """Return what ``body`` returns, having closed what it has put onto the stack.

    What is raised while that is closed is logged as a warning, whatever it is: a Ctrl-C, too, comes
    too late by then. What ``body`` raises is raised.
    """
    results: list[T] = []
    try:
        with ExitStack() as stack:
            results.append(body(stack))
    except BaseException as error:
        if not results:
            raise
        said = f"{type(error).__name__}: {error}".rstrip(": ")
        logging.getLogger(__name__).warning("when it was over, something was not closed: %s", said)
    return results[0]
