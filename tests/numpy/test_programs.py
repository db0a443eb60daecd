"""Random programs on pairs of a NumPy and a chunkarr array: both always name the same value.

A program makes arrays, looks at them through views, writes through the views, computes in place,
and keeps lazy results around while their operands change. After each statement one pair is
compared, at the end all are; so whatever order things are computed in, the values agree.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chunkarr
from chunkarr import arrays
from chunkarr.arrays import Array
from tests.numpy.support import NDArray, close, differences, operands, uneven, usual

STATEMENTS_MAX = 12


@dataclass
class Pair:
    """One array in both libraries."""

    plain: NDArray
    chunked: Array

    def check(self) -> None:
        whole = self.chunked.compute()
        assert self.chunked.shape == whole.shape == self.plain.shape
        assert whole.dtype == self.plain.dtype
        assert close(np.asarray(self.plain), whole), f"{self.plain!r} against {whole!r}"


@dataclass
class Machine:
    """The arrays that a program has made so far, and what it did, for the report of a failure."""

    draw: Callable[[st.SearchStrategy[Any]], Any]
    pairs: list[Pair] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    def pick(self) -> Pair:
        number: int = self.draw(st.integers(0, len(self.pairs) - 1))
        return self.pairs[number]

    def add(self, plain: Any, chunked: Any) -> None:
        if isinstance(plain, np.ndarray) and plain.size <= 4000:
            self.pairs.append(Pair(plain, chunked))

    def number(self) -> int:
        return int(self.draw(st.integers(-3, 3)))


def key_for(machine: Machine, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Draw a basic index that keeps at least one axis."""
    key: list[Any] = []
    for n in shape:
        kind = machine.draw(st.integers(0, 4))
        if kind == 0 and n:
            key.append(machine.draw(st.integers(-n, n - 1)))
        elif kind == 1:
            key.append(slice(None))
        elif kind == 2:
            key.append(slice(None, None, machine.draw(st.sampled_from([-1, 2, -2, 3]))))
        else:
            bounds = st.none() | st.integers(-n - 1, n + 1)
            step = machine.draw(st.sampled_from([None, 1, 2, -1, -3]))
            key.append(slice(machine.draw(bounds), machine.draw(bounds), step))
    if machine.draw(st.booleans()):
        key.insert(machine.draw(st.integers(0, len(key))), None)
    return (*key, ...) if all(isinstance(k, int) for k in key) else tuple(key)


def mask_for(machine: Machine, pair: Pair) -> tuple[NDArray, Any]:
    """Draw a mask over a pair: a comparison, or one that is given."""
    if machine.draw(st.booleans()):
        number = machine.number()
        return pair.plain > number, pair.chunked > number
    axes = machine.draw(st.integers(1, max(1, pair.plain.ndim)))
    shape = pair.plain.shape[:axes]
    given_mask = np.random.default_rng(machine.draw(st.integers(0, 9))).random(shape) < 0.4
    return given_mask, machine.draw(st.sampled_from([usual, uneven, np.asarray]))(given_mask)


def make(machine: Machine) -> None:
    """An array in memory, or one that is not."""
    shape = tuple(machine.draw(st.lists(st.integers(0, 7), min_size=1, max_size=3)))
    dtype = machine.draw(st.sampled_from(["i8", "f8", "i2", "?", "f4", "c16"]))
    rng = np.random.default_rng(machine.draw(st.integers(0, 99)))
    plain = rng.integers(-5, 6, shape).astype(dtype)
    hold = machine.draw(st.sampled_from([usual, uneven]))
    machine.log.append(f"{hold.__name__}({plain!r})")
    machine.add(plain, hold(plain))


VIEWS = (
    "key",
    "key",
    "T",
    "swap",
    "flip",
    "reshape",
    "ravel",
    "squeeze",
    "expand",
    "diagonal",
    "part",
    "broadcast",
    "split",
)


def look(machine: Machine) -> None:
    """A view."""
    pair = machine.pick()
    a, b = pair.plain, pair.chunked
    kind = machine.draw(st.sampled_from(VIEWS))
    machine.log.append(f"view {kind} of {a.shape}")
    if kind == "key":
        key = key_for(machine, a.shape)
        machine.add(a[key], b[key])
    elif kind == "T":
        machine.add(a.T, b.T)
    elif kind == "swap" and a.ndim > 1:
        machine.add(a.swapaxes(0, -1), b.swapaxes(0, -1))
    elif kind == "flip":
        machine.add(np.flip(a), chunkarr.flip(b))
    elif kind == "reshape" and a.size:
        n = machine.draw(st.sampled_from([d for d in range(1, a.size + 1) if a.size % d == 0]))
        machine.add(a.reshape(n, -1), b.reshape(n, -1))
    elif kind == "ravel":
        machine.add(a.ravel(), b.ravel())
    elif kind == "squeeze":
        machine.add(a.squeeze(), b.squeeze())
    elif kind == "expand":
        machine.add(np.expand_dims(a, 0), chunkarr.expand_dims(b, 0))
    elif kind == "part" and a.dtype.kind == "c":
        machine.add(a.imag, b.imag)
        machine.add(a.real, b.real)
    elif kind == "broadcast":
        machine.add(np.broadcast_to(a, (2, *a.shape)), chunkarr.broadcast_to(b, (2, *a.shape)))
    elif kind == "split" and a.ndim:
        machine.add(np.array_split(a, 2)[1], chunkarr.array_split(b, 2)[1])
    elif kind == "diagonal" and a.ndim > 1:
        machine.add(a.diagonal(), b.diagonal())


COMPUTATIONS = (
    "add",
    "multiply",
    "maximum",
    "less",
    "number",
    "where",
    "copy",
    "astype",
    "roll",
    "join",
    "stack",
    "mean",
    "matmul",
)


def compute(machine: Machine) -> None:
    """A new array from one or two others, which stays lazy where that is the mode."""
    one, two = machine.pick(), machine.pick()
    number = machine.number()
    name = machine.draw(st.sampled_from(COMPUTATIONS))
    machine.log.append(f"{name} {one.plain.shape} {two.plain.shape} {number}")
    if name == "number":
        machine.add(one.plain * 2 + number, one.chunked * 2 + number)
    elif name == "where":
        machine.add(
            np.where(one.plain > number, one.plain, number),
            chunkarr.where(one.chunked > number, one.chunked, number),
        )
    elif name == "copy":
        machine.add(one.plain.copy(), one.chunked.copy())
    elif name == "roll":
        machine.add(np.roll(one.plain, number), chunkarr.roll(one.chunked, number))
    elif name == "join":
        parts, theirs = (one.plain, two.plain), (one.chunked, two.chunked)
        machine.add(np.concatenate(parts, axis=None), chunkarr.concatenate(theirs, axis=None))
    elif name == "stack":
        machine.add(np.stack([one.plain, one.plain]), chunkarr.stack([one.chunked, one.chunked]))
    elif name == "mean" and one.plain.size:
        machine.add(
            one.plain - one.plain.mean(0, keepdims=True) if one.plain.ndim else one.plain + 0,
            one.chunked - one.chunked.mean(0, keepdims=True) if one.plain.ndim else one.chunked + 0,
        )
    elif name == "mean":
        pass
    elif name == "astype":
        machine.add(one.plain.astype("c16"), one.chunked.astype("c16"))
    else:
        try:
            plain = getattr(np, name)(one.plain, two.plain)
        except ValueError:
            with pytest.raises(ValueError, match=r"broadcast|mismatch|enough dimensions"):
                getattr(chunkarr, name)(one.chunked, two.chunked)
            return
        machine.add(plain, getattr(chunkarr, name)(one.chunked, two.chunked))


def reduce(machine: Machine) -> None:
    """A reduction, a running sum, or a selection."""
    pair = machine.pick()
    axis = machine.draw(st.sampled_from([None, 0, -1]))
    name = machine.draw(st.sampled_from(["sum", "max", "any", "cumsum", "count", "select"]))
    machine.log.append(f"{name} {pair.plain.shape} {axis}")
    if name == "select":
        mask, theirs = mask_for(machine, pair)
        machine.add(pair.plain[mask], pair.chunked[theirs])
    elif name == "count":
        machine.add(np.count_nonzero(pair.plain, axis), chunkarr.count_nonzero(pair.chunked, axis))
    elif pair.plain.size and pair.plain.ndim:
        machine.add(getattr(pair.plain, name)(axis), getattr(pair.chunked, name)(axis))


def same_error(plain: Callable[[], None], chunked: Callable[[], None]) -> None:
    """Do the same to both; where NumPy refuses, chunkarr refuses.

    Which of two mistakes is named, the shape or the dtype, is left open.
    """
    try:
        plain()
    except (ValueError, TypeError):
        with pytest.raises((ValueError, TypeError)):
            chunked()
    else:
        chunked()


def write(machine: Machine) -> None:
    """An assignment through a view, a mask or an index."""
    pair = machine.pick()
    a, b = pair.plain, pair.chunked
    number = machine.number()
    kind = machine.draw(st.sampled_from(["key", "other", "mask", "selected", "all"]))
    machine.log.append(f"write {kind} {a.shape} {number}")
    if kind == "key":
        key = key_for(machine, a.shape)
        same_error(lambda: a.__setitem__(key, number), lambda: b.__setitem__(key, number))
    elif kind == "other":
        key, other = key_for(machine, a.shape), machine.pick()
        same_error(
            lambda: a.__setitem__(key, other.plain), lambda: b.__setitem__(key, other.chunked)
        )
    elif kind == "mask":
        mask, theirs = mask_for(machine, pair)
        same_error(lambda: a.__setitem__(mask, number), lambda: b.__setitem__(theirs, number))
    elif kind == "selected":
        mask, theirs = mask_for(machine, pair)
        same_error(lambda: _double(a, mask), lambda: _double(b, theirs))
    else:
        same_error(lambda: a.__setitem__(..., number), lambda: b.__setitem__(..., number))


def _double(array: Any, mask: Any) -> None:
    array[mask] += array[mask]


def in_place(machine: Machine) -> None:
    """An in-place operator or `out=`."""
    pair, other = machine.pick(), machine.pick()
    number = machine.number()
    name = machine.draw(st.sampled_from(["add", "multiply", "subtract", "maximum"]))
    with_number = machine.draw(st.booleans())
    machine.log.append(
        f"{name} into {pair.plain.shape} {number if with_number else other.plain.shape}"
    )
    values = (number, number) if with_number else (other.plain, other.chunked)
    same_error(
        lambda: getattr(np, name)(pair.plain, values[0], out=pair.plain),
        lambda: getattr(chunkarr, name)(pair.chunked, values[1], out=pair.chunked),
    )


ACTIONS = (make, look, look, compute, compute, reduce, write, write, write, in_place)


@given(st.data())
def test_programs_of_views_and_writes_give_numpys_values(data: st.DataObject) -> None:
    machine = Machine(data.draw)
    settings: dict[str, Any] = {
        "chunk_bytes": data.draw(st.sampled_from([8, 64, 300, 1 << 20])),
        "eager_bytes": data.draw(st.sampled_from([0, 0, 200, 1 << 18])),
    }
    copy_bytes = data.draw(st.sampled_from([0, arrays.COPY_BYTES]))
    machine.log.append(f"{settings}, {copy_bytes=}")
    with (
        pytest.MonkeyPatch.context() as patch,
        chunkarr.config(**settings),
        np.errstate(all="ignore"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        patch.setattr(arrays, "COPY_BYTES", copy_bytes)
        make(machine)
        for _ in range(data.draw(st.integers(1, STATEMENTS_MAX))):
            data.draw(st.sampled_from(ACTIONS))(machine)
            if data.draw(st.booleans()):
                machine.pick().check()
        try:
            for pair in machine.pairs:
                pair.check()
        except AssertionError as error:
            raise AssertionError("\n".join(machine.log)) from error


NUMBERS = st.sampled_from(["x", "y", "r", "c", "2", "x[::-1]", "x.T[:, :5][:5]", "x[:1]"])
NESTED = st.recursive(
    NUMBERS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", ">", "=="]), inner).map(
            lambda parts: f"({' '.join(parts)})"
        ),
        inner.map(lambda a: f"np.absolute({a})"),
        inner.map(lambda a: f"np.sum({a}, axis=0)"),
        inner.map(lambda a: f"np.max({a})"),
        inner.map(lambda a: f"np.cumsum({a})"),
        st.tuples(inner, inner).map(lambda pair: f"np.where(m[0, 0], {pair[0]}, {pair[1]})"),
        st.tuples(inner, inner).map(lambda pair: f"np.maximum({pair[0]}, {pair[1]})"),
        inner.map(lambda a: f"np.reshape({a}, -1)[::2]"),
        inner.map(lambda a: f"np.transpose({a})"),
        inner.map(lambda a: f"np.concatenate([np.ravel({a}), np.ravel({a})])"),
    ),
    max_leaves=8,
)


@given(
    NESTED,
    st.sampled_from(["i4", "f8", "?", "u1"]),
    st.sampled_from([0, 1 << 18]),
    st.sampled_from([8, 64, 1 << 20]),
    st.sampled_from([usual, uneven]),
)
def test_nested_expressions_give_numpys_values(
    text: str, dtype: str, eager_bytes: int, chunk_bytes: int, hold: Callable[[NDArray], Array]
) -> None:
    finite = {
        name: np.nan_to_num(array, posinf=9, neginf=-9) if array.dtype.kind == "f" else array
        for name, array in operands(dtype).items()
    }
    with chunkarr.config(eager_bytes=eager_bytes, chunk_bytes=chunk_bytes):
        assert not differences(text, finite, hold)
