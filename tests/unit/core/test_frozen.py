"""Frozen dataclasses of ours are those of Python, but for the time that it takes to define them."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import ClassVar, Generic, TypeVar

import pytest

from harness.core import frozen

T = TypeVar("T")


def classes(dataclass):
    """The same classes, made by ``dataclass``."""

    @dataclass(frozen=True)
    class Point(Generic[T]):
        x: T
        y: int = 2
        hidden: int = dataclasses.field(default=0, repr=False)
        beside: list = dataclasses.field(default_factory=list, compare=False)
        last: bool = dataclasses.field(default=False, kw_only=True)
        kind: ClassVar[str] = "point"

    @dataclass(frozen=True)
    class Deep(Point[T]):
        z: int = dataclasses.field(default=3, compare=False)

    @dataclass(frozen=True)
    class Known:
        name: str

        def __eq__(self, other):
            return True

        def __repr__(self):
            return f"<{self.name}>"

    class Below(Known):
        """None itself."""

    return Point, Deep, Known, Below


PYTHONS, OURS = classes(dataclasses.dataclass), classes(frozen.dataclass)


def tried(call):
    """What became of ``call``: its result, or the class and the text of its error."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001  whatever it is
        return type(error), str(error)


def changed(one):
    """What it has beside its fields."""
    one.other = 1
    one.other = 2
    found = one.other
    del one.other
    return found, hasattr(one, "other")


LOOKS = {
    "shown": lambda p, d, k, b: (repr(p(1)), repr(d("a", last=True)), repr(k("n"))),
    "equal": lambda p, d, k, b: (
        *(p(1) == other for other in (p(1), p(1, 3), p(1, beside=[1]), d(1), 1)),
        k("a") == k("b"),
    ),
    "not hashed": lambda p, d, k, b: hash(p([])),
    "without": lambda p, d, k, b: p(),
    "one too many": lambda p, d, k, b: p(1, 2, 3, 4, 5),
    "replaced": lambda p, d, k, b: repr(dataclasses.replace(d(1), y=7)),
    "as data": lambda p, d, k, b: dataclasses.asdict(d(1)),
    "matched": lambda p, d, k, b: (p.__match_args__, d.__match_args__),
    "copied": lambda p, d, k, b: repr(copy.deepcopy(d(1, beside=[2]))),
    "parts": lambda p, d, k, b: repr(p[int](1)),
    "set": lambda p, d, k, b: setattr(p(1), "x", 2),
    "set in a subclass": lambda p, d, k, b: setattr(d(1), "x", 2),
    "set what is there": lambda p, d, k, b: setattr(p(1), "kind", "other"),
    "set what is not": lambda p, d, k, b: setattr(p(1), "other", 2),
    "set and deleted below": lambda p, d, k, b: changed(b("a")),
    "set a field below": lambda p, d, k, b: setattr(b("a"), "name", "b"),
    "deleted a field below": lambda p, d, k, b: delattr(b("a"), "name"),
    "deleted": lambda p, d, k, b: delattr(p(1), "x"),
    "set on one that shows itself": lambda p, d, k, b: setattr(k("a"), "name", "b"),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_it_is_what_pythons_own_is(look):
    """A difference would be found by the reader of a record, or not at all."""
    mine, theirs = tried(lambda: look(*OURS)), tried(lambda: look(*PYTHONS))
    assert mine == theirs


def test_hashes_are_equal_where_instances_are():
    """They are members of sets, and keys."""
    for point, deep, known, _ in (OURS, PYTHONS):
        assert hash(point(1, beside=())) == hash(point(1, beside=(1,)))
        assert len({point(1, 2), point(1, 2), deep(1, 2), known("a")}) == 3


@frozen.dataclass(frozen=True)
class Whole:
    """Where pickle finds it."""

    x: int
    inner: Whole | None = None


def test_an_instance_within_itself_is_shown():
    """What cannot be shown could not be logged either."""
    one = Whole(1)
    one.__dict__["inner"] = one
    assert repr(one) == "Whole(x=1, inner=...)"


def test_it_can_be_sent_to_another_process():
    """As Python's own can."""
    assert pickle.loads(pickle.dumps(Whole(1, Whole(2)))) == Whole(1, Whole(2))


def test_what_is_not_only_frozen_is_pythons_own():
    """Order and slots are rare, and nothing to gain."""

    @frozen.dataclass(frozen=True, order=True)
    class Ordered:
        x: int

    @frozen.dataclass
    class Open:
        x: int

    one = Open(1)
    one.x = 2
    assert (Ordered(1) < Ordered(2), one) == (True, Open(2))


def test_what_is_alike_was_compiled_once():
    """Python compiles it for each class, and a run is late for each."""
    alike = ("__eq__", "__hash__", "__repr__", "__setattr__", "__delattr__")
    assert [getattr(OURS[0], name) is getattr(Whole, name) for name in alike] == [True] * 5
