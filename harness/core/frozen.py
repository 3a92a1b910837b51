"""Frozen dataclasses that are quick to define: what is alike in all of them is compiled once.

:mod:`dataclasses` compiles six methods for each class, in 0.4 ms, and a run defines two hundred
classes before it asks its first question, its guardian eighty. Here each class has an ``__init__``
of its own, and the others are shared. To a type checker, and to who uses one, it is the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache, partial
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(cls: type | None = None, /, **options: bool) -> Any:
        """Make a dataclass, as :func:`dataclasses.dataclass` does."""
        how = _frozen if options == {"frozen": True} else partial(dataclasses.dataclass, **options)
        return how if cls is None else how(cls)


__all__ = ["dataclass"]


def _frozen(cls: Any) -> Any:
    own = vars(cls)
    shared = {name: method for name, method in _SHARED.items() if own.get(name) is None}
    dataclasses.dataclass(repr=False, eq=False)(cls)
    for name, method in shared.items():
        setattr(cls, name, method)
    return cls


@cache
def _names(cls: Any) -> frozenset[str]:
    return frozenset(one.name for one in dataclasses.fields(cls))


@cache
def _compared(cls: Any) -> tuple[str, ...]:
    return tuple(one.name for one in dataclasses.fields(cls) if one.compare)


@cache
def _shown(cls: Any) -> tuple[str, ...]:
    return tuple(one.name for one in dataclasses.fields(cls) if one.repr)


def _values(instance: object) -> tuple[Any, ...]:
    cls: Any = type(instance)
    return tuple(getattr(instance, name) for name in _compared(cls))


def _set(instance: object, name: str, value: object) -> None:
    """Set a field for the first time, as ``__init__`` does."""
    cls: Any = type(instance)
    if name in instance.__dict__ if name in _names(cls) else _is_one(cls):
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
    object.__setattr__(instance, name, value)


def _delete(instance: object, name: str) -> None:
    cls: Any = type(instance)
    if name in _names(cls) or _is_one(cls):
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
    object.__delattr__(instance, name)


def _is_one(cls: type) -> bool:
    """False: a class below one of these, which may have more than fields."""
    return "__dataclass_fields__" in vars(cls)


def _is_equal(instance: object, other: object) -> Any:
    if other.__class__ is not instance.__class__:
        return NotImplemented
    return _values(instance) == _values(other)


def _hash(instance: object) -> int:
    return hash(_values(instance))


@recursive_repr()
def _repr(instance: object) -> str:
    cls: Any = type(instance)
    return f"{cls.__qualname__}({', '.join(f'{n}={getattr(instance, n)!r}' for n in _shown(cls))})"


_SHARED: dict[str, Callable[..., Any]] = {
    "__setattr__": _set,
    "__delattr__": _delete,
    "__eq__": _is_equal,
    "__hash__": _hash,
    "__repr__": _repr,
}
