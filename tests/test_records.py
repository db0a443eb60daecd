"""Records behave as the standard library's dataclasses do, but for writing to a frozen one."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import weakref
from collections.abc import Callable
from dataclasses import field, replace

import pytest

from chunkarr.records import dataclass


@dataclass(frozen=True, slots=True)
class Point:
    x: float
    y: float = 0.0
    note: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Other:
    x: float
    y: float = 0.0


@dataclass(frozen=True, slots=True)
class Single:
    value: object


@dataclass(frozen=True, slots=True)
class Nothing:
    pass


@dataclass(slots=True)
class Growing:
    items: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True, kw_only=True)
class Node:
    name: str


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True, kw_only=True)
class Leaf(Node):
    value: int = 0


@dataclass(slots=True)
class Finished:
    side: float
    area: float = field(init=False)

    def __post_init__(self) -> None:
        self.area = self.side**2


STANDARD = {
    kind.__name__: dataclasses.make_dataclass(
        kind.__name__,
        [(f.name, f.type, copy.copy(f)) for f in dataclasses.fields(kind)],
        namespace={k: v for k, v in vars(kind).items() if k == "__post_init__"},
    )
    for kind in (Point, Growing, Leaf, Nothing, Finished)
}


def test_equal_means_the_same_class_and_equal_compared_fields() -> None:
    assert Point(1, 2, "a") == Point(1, 2, "b")
    assert Point(1, 2) != Point(1, 3)
    assert Point(1, 2) != Other(1, 2)  # type: ignore[comparison-overlap]
    assert Nothing() == Nothing()
    nan = float("nan")
    assert Single(nan) == Single(nan)


def test_frozen_records_hash_as_they_compare_and_others_do_not() -> None:
    assert {Point(1, 2, "a"), Point(1, 2, "b"), Point(0)} == {Point(0), Point(1, 2)}
    assert len({Nothing(), Nothing()}) == 1
    with pytest.raises(TypeError):
        hash(Growing())


def test_without_eq_a_record_equals_itself_only() -> None:
    leaf = Leaf(name="a")
    assert leaf == leaf  # noqa: PLR0124 - the point
    assert leaf != Leaf(name="a")
    assert len({leaf, Leaf(name="a")}) == 2


def test_a_record_shows_its_fields() -> None:
    assert repr(Point(1, 2, "a")) == f"{Point.__qualname__}(x=1, y=2)"
    assert repr(Leaf(name="a", value=3)) == "Leaf(name='a', value=3)"


def test_records_have_slots_and_are_matched_by_position() -> None:
    assert not hasattr(Point(1), "__dict__")
    assert weakref.ref(leaf := Leaf(name="a"))() is leaf
    match Point(1, 2):
        case Point(x, y):
            assert (x, y) == (1, 2)


@pytest.mark.parametrize("record", [Point(1, 2, "a"), Single((1,)), Nothing(), Growing([1, 2])])
def test_records_are_pickled_copied_and_replaced(record: object) -> None:
    assert pickle.loads(pickle.dumps(record)) == record
    assert copy.copy(record) == record
    assert replace(Point(1, 2, "a"), y=3) == Point(1, 3)


CALLS = {
    "positions": lambda: Point(1.0, 2.0, "a"),
    "names": lambda: Point(note="a", y=2.0, x=1.0),
    "too few": lambda: Point(y=1.0),  # type: ignore[call-arg]
    "too many": lambda: Point(1.0, 2.0, "a", 4),  # type: ignore[call-arg]
    "unknown": lambda: Point(1.0, z=3),  # type: ignore[call-arg]
    "keyword only": lambda: Leaf("a"),  # type: ignore[call-arg]
    "inherited": lambda: Leaf(value=1, name="a"),
    "missing keyword": lambda: Leaf(value=1),  # type: ignore[call-arg]
    "nothing": lambda: Nothing(1),  # type: ignore[call-arg]
    "finished": lambda: Finished(2.0),
    "not taken": lambda: Finished(2.0, 4.0),  # type: ignore[call-arg]
}


@pytest.mark.parametrize("name", CALLS)
def test_records_are_made_as_those_of_the_standard_library(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = outcome(CALLS[name])
    for kind, standard in STANDARD.items():
        monkeypatch.setitem(globals(), kind, standard)
    assert found == outcome(CALLS[name])


def outcome(call: Callable[[], object]) -> str:
    """Give how what a call makes is shown, or the words it fails with."""
    try:
        return repr(call())
    except TypeError as error:
        return str(error)


def test_a_factory_makes_a_value_for_each_record() -> None:
    first, second = Growing(), Growing()
    first.items.append(1)
    assert second.items == []
    assert Growing([2]).items == [2]


def test_signatures_are_those_of_the_standard_library() -> None:
    for name, standard in STANDARD.items():
        found, wanted = (
            [
                (p.name, p.kind, p.default is p.empty)
                for p in inspect.signature(kind).parameters.values()
            ]
            for kind in (globals()[name], standard)
        )
        assert found == wanted
