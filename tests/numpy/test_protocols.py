"""How arrays meet the rest of Python and NumPy: conversion, printing, scalars, sharing, refusal."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import chunkarr
from chunkarr import namespace
from chunkarr.arrays import Array
from chunkarr.errors import NotYetError
from tests.numpy.support import MODES


@pytest.fixture(params=list(MODES), autouse=True)
def _mode(request: pytest.FixtureRequest) -> Iterator[None]:
    with chunkarr.config(**MODES[request.param]):
        yield


def big(n: int = 100_000) -> Array:
    """Make an array that is not in memory."""
    return chunkarr.from_array(np.arange(float(n)), chunks=n // 7)


# -- to NumPy ------------------------------------------------------------------------------------


def test_asarray_of_an_array_in_memory_is_a_read_only_look_at_it() -> None:
    x = chunkarr.array([1.0, 2.0])
    seen = np.asarray(x)
    assert not seen.flags.writeable
    x[0] = 9
    assert seen[0] == 9


def test_array_with_copy_is_the_callers_own() -> None:
    x = chunkarr.array([1.0, 2.0])
    own = np.array(x)
    own[0] = 5
    assert x.tolist() == [1, 2]


def test_array_converts_to_a_dtype() -> None:
    assert np.asarray(big(10), "i4").dtype == np.int32
    assert np.asarray(chunkarr.array([1.5]), "i4").tolist() == [1]


def test_array_without_copy_is_refused_where_values_have_to_be_computed() -> None:
    with pytest.raises(ValueError, match="copy"):
        np.asarray(big() + 1, copy=False)


def test_compute_gives_the_callers_own_ndarray() -> None:
    x = chunkarr.array([1.0, 2.0])
    for made in (x, x + 1, x[::-1], big(10)):
        before = made.compute()
        own = made.compute()
        assert own.flags.writeable
        own[...] = 7
        assert made.compute().tolist() == before.tolist()


def test_an_ndarray_that_is_looked_at_is_not_written_to() -> None:
    theirs = np.arange(4.0)
    for make in (chunkarr.asarray, chunkarr.from_array):
        looked = make(theirs)
        looked[0] = 9
        looked += 1
        assert looked.tolist() == [10, 2, 3, 4]
        assert theirs.tolist() == [0, 1, 2, 3]


def test_compute_of_several_gives_each_its_value() -> None:
    x = big(1000)
    total, mean, seven = chunkarr.compute(x.sum(), x.mean(0), 7)
    assert (total, mean, seven) == (499500.0, 499.5, 7)


# -- lazy readers keep the value they were made of -----------------------------------------------


def test_a_lazy_reader_keeps_the_old_value() -> None:
    x = big(1000)
    x.persist()
    later, part, chosen = x * 2, x[10:20] + 0, x[x > 990]
    x[...] = 0
    x += 1
    assert later.compute()[5] == 10
    assert part.tolist() == list(range(10, 20))
    assert chosen.size == 9
    assert x.sum() == 1000


AT_ONCE: dict[str, Callable[[Any], Any]] = {
    "a slice": lambda x: x.__setitem__(slice(2, 5), 7),
    "a slice of a view": lambda x: x[::-2].__setitem__(slice(1, None), True),
    "a number": lambda x: x.__iadd__(1),
    "an array": lambda x: x.__imul__(np.arange(10)),
    "itself": lambda x: x.__isub__(x),
    "a view": lambda x: x[2:7].__isub__(x[:5]),
}


@pytest.mark.parametrize("name", AT_ONCE)
def test_small_writes_at_once_spare_lazy_readers(name: str) -> None:
    values = np.arange(10.0)
    x = chunkarr.array(values)
    with chunkarr.config(eager_bytes=0):
        later = x * 2
    AT_ONCE[name](x)
    assert later.tolist() == (values * 2).tolist()
    AT_ONCE[name](values)
    np.testing.assert_array_equal(x, values)


@pytest.mark.parametrize("write", [AT_ONCE["a slice"], AT_ONCE["a number"]])
def test_small_writes_at_once_are_refused_as_numpy_refuses_them(write: Any) -> None:
    for made in (np.zeros((), "f8"), np.zeros(10, "i8"), np.zeros(10, "?"), np.zeros(10, "M8[s]")):
        assert outcome(write, chunkarr.array(made)) == outcome(write, made.copy())
    x = chunkarr.zeros(10)
    x.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        write(x)


def outcome(write: Any, x: Any) -> Any:
    try:
        write(x)
    except (IndexError, TypeError, ValueError) as error:
        return type(error)
    return np.asarray(x).tolist()


def test_a_view_sees_what_is_written_to_its_base_and_the_other_way() -> None:
    x = big(100)
    odd = x[1::2]
    back = odd[::-1]
    x[1] = -1
    back[0] = -2
    assert odd.compute()[0] == -1
    assert x.compute()[99] == -2
    assert odd.base is x
    assert back.base is x
    assert x.base is None


def test_what_a_live_name_holds_is_not_computed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    x = big(1000)
    y = x + 1
    y.compute()
    monkeypatch.setattr("chunkarr.engine.make_plan", lambda *args: pytest.fail("planned"))
    y.compute()


def test_views_that_numpy_makes_read_only_are_read_only() -> None:
    x = chunkarr.array(np.arange(12.0).reshape(3, 4))
    for seen in (x.diagonal(), chunkarr.broadcast_to(x, (2, 3, 4)), x.imag):
        with pytest.raises(ValueError, match="read-only"):
            seen[...] = 1
        with pytest.raises(ValueError, match="read-only"):
            chunkarr.add(seen, 1, out=seen)


# -- scalars -------------------------------------------------------------------------------------


def test_a_scalar_is_rebound_by_in_place_operators_and_hashes_like_its_value() -> None:
    x = chunkarr.array([1.0, 2.0])
    first = x[0]
    alias = first
    first += 1
    assert (float(first), float(alias)) == (2, 1)
    assert x.tolist() == [1, 2]
    assert hash(x[0]) == hash(1.0)
    assert {x.sum(): "sum"}[chunkarr.array([3.0])[0]] == "sum"


def test_an_array_without_axes_is_changed_in_place_and_not_hashable() -> None:
    x = chunkarr.array(1.0)
    alias = x
    x += 1
    assert float(alias) == 2
    with pytest.raises(TypeError, match="unhashable"):
        hash(x)


def test_scalars_format_as_numbers() -> None:
    x = chunkarr.array([1.25, 2.5])
    assert f"{x.sum():.1f} {x[0]:6.2f} {x.max()}" == "3.8   1.25 2.5"
    assert repr(x.sum()) == repr(np.float64(3.75))


def test_a_scalar_is_an_index_and_a_count() -> None:
    x = chunkarr.array([2, 0, 1])
    assert [10, 20, 30][x[0]] == 30
    assert list(range(x[0])) == [0, 1]
    assert x[x.argmax()] == 2
    assert round(chunkarr.array([1.26])[0], 1) == 1.3


# -- printing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 2, 2), (0, 3), (2000,), (1100, 3), (40, 60)])
@pytest.mark.parametrize("dtype", ["f8", "i4", "?", "c16", "U3", "M8[D]"])
def test_str_and_repr_are_numpys(shape: tuple[int, ...], dtype: str) -> None:
    count = int(np.prod(shape))
    plain = (np.arange(count) % 97).astype("i8").reshape(shape).astype(dtype)
    assert str(chunkarr.array(plain)) == str(plain)
    assert repr(chunkarr.array(plain)) == repr(plain)


def test_print_options_hold() -> None:
    plain = np.linspace(0, 1, 30).reshape(5, 6)
    for legacy in (False, "2.1"):  # of which the second shows no shape
        with np.printoptions(precision=2, threshold=5, edgeitems=1, linewidth=40, legacy=legacy):
            assert str(chunkarr.array(plain)) == str(plain)
            assert repr(chunkarr.array(plain)) == repr(plain)


def test_repr_of_a_large_lazy_array_computes_nothing_and_str_its_corners() -> None:
    x = chunkarr.zeros((100_000, 1000)) + 1
    text = repr(x)
    assert "100000, 1000" in text
    assert "float64" in text
    assert str(x) == str(np.broadcast_to(np.float64(1), (100_000, 1000)))


# -- what is not there ----------------------------------------------------------------------------


def dispatched(function: Any) -> Any:
    """Make a function that asks its argument what to do, as NumPy's own do."""
    dispatch = np._core.overrides.array_function_dispatch  # type: ignore[attr-defined]
    return dispatch(lambda a: (a,), module="numpy")(function)


@dispatched
def turned(a: Any) -> Any:
    return a[::-1]


@dispatched
def spoiled(a: Any) -> None:
    a[0] = 5


def test_a_numpy_function_that_is_missing_raises_before_anything_is_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = big()
    monkeypatch.setattr("chunkarr.engine.execute", lambda *args: pytest.fail("computed"))
    theirs = [value for value in vars(np).values() if hasattr(value, "_implementation")]
    assert len(theirs) > 100
    for function in [turned, np.fft.fft, np.linalg.eig, *theirs]:
        if namespace.find(function) is None:
            with pytest.raises(NotYetError, match=function.__name__):
                x.__array_function__(function, (Array,), (x,), {})
    with pytest.raises(NotYetError, match="compute"):
        turned(x)


@pytest.mark.parametrize("name", namespace.ALTERNATIVES)
def test_the_error_names_the_nearest_that_is_there(name: str) -> None:
    assert namespace.ALTERNATIVES[name] in str(namespace.not_yet(name))


def test_a_missing_name_says_what_is_nearest() -> None:
    missing = [name for name in dir(np) if not name.startswith("_") and name not in dir(chunkarr)]
    for name in missing:
        with pytest.raises(AttributeError, match=f"no attribute '{name}': "):
            getattr(chunkarr, name)
    with pytest.raises(AttributeError, match="did you mean 'arange'"):
        _ = chunkarr.arrange
    with pytest.raises(AttributeError, match="no attribute 'sise'"):
        _ = chunkarr.array([1]).sise


def test_a_missing_function_of_a_small_array_is_numpys_and_may_not_write() -> None:
    with chunkarr.config(eager_bytes=1 << 18):
        x = chunkarr.array([3.0, 1.0, 2.0])
        seen = turned(x)
        assert isinstance(seen, Array)
        assert seen.tolist() == [2, 1, 3]
        with pytest.raises(ValueError, match="read-only"):
            seen[...] = 1
        with pytest.raises(ValueError, match="read-only"):
            spoiled(x)


# -- messages ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "x + r",
        "x[9]",
        "x[0, 9]",
        "x[0, 0, 0]",
        "x[..., ...]",
        "x['a']",
        "x.reshape(7)",
        "x.reshape(-1, -1)",
        "np.sum(x, axis=5)",
        "np.max(x[:0])",
        "np.argmax(x[:0])",
        "np.concatenate([x, r])",
        "np.stack([x, r])",
        "np.broadcast_to(x, (2, 2))",
        "x @ r",
        "np.dot(x, r)",
        "np.add(x, x, dtype='i4', casting='safe')",
        "np.max(x, where=x > 0)",
        "x.astype('i4', casting='safe')",
        "np.zeros((2, -1))",
        "np.linspace(0, 1, -3)",
        "x.transpose(0, 0)",
        "x.transpose(0)",
        "np.moveaxis(x, 0, 9)",
        "np.squeeze(x, 0)",
        "np.split(x, 3)",
        "x.item()",
        "len(np.array(1))",
        "bool(x)",
        "np.bitwise_and(x, x)",
        "np.array([1], 'i1') + 300",
        "x[np.array([True, False])]",
        "setitem(x, 0, [1, 2])",
        "setitem(x, 9, 1)",
        "setitem(x, x[:2] > 0, 1)",
    ],
)
def test_mistakes_get_numpys_words(text: str) -> None:
    def run(np_: Any) -> str:
        x, r = np_.array(np.arange(12.0).reshape(4, 3)), np_.array([1.0, 2.0])
        names = {"np": np_, "x": x, "r": r, "setitem": lambda a, k, v: a.__setitem__(k, v)}
        with pytest.raises(Exception) as caught:
            eval(text, names)
        return str(caught.value).strip()

    assert run(chunkarr) == run(np)


def test_a_wrong_operand_is_left_to_its_own_operator() -> None:
    class Other:
        def __radd__(self, other: object) -> str:
            return "theirs"

    x = chunkarr.array([1.0])
    assert x + Other() == "theirs"
    with pytest.raises(TypeError):
        x + object()


# -- the object ----------------------------------------------------------------------------------


def test_copies_and_pickles_hold_the_value() -> None:
    x = chunkarr.array([[1, 2], [3, 4]])
    for made in (copy.copy(x), copy.deepcopy(x), pickle.loads(pickle.dumps(x + 0)), x.copy()):
        made[0, 0] = 9
        assert made.tolist() == [[9, 2], [3, 4]]
    assert x.tolist() == [[1, 2], [3, 4]]


def test_bytes_are_those_of_the_values() -> None:
    assert bytes(chunkarr.array([1, 256], "i2")) == np.array([1, 256], "i2").tobytes()


def test_rechunk_changes_the_cut_and_not_the_values() -> None:
    x = chunkarr.array(np.arange(20).reshape(4, 5)).rechunk((3, 2))
    assert x.chunks == ((3, 1), (2, 2, 1))
    assert x.numblocks == (2, 3)
    assert (x + 1).compute().tolist() == (np.arange(20).reshape(4, 5) + 1).tolist()
    with pytest.raises(ValueError, match="add up"):
        x.rechunk(((3, 3), (5,)))


def test_iteration_and_membership() -> None:
    x = big(10)
    assert [float(v) for v in x] == list(range(10))
    assert 3.0 in x
    assert 11 not in x
    first, *_ = chunkarr.array([[1, 2], [3, 4]])
    first[0] = 9
    assert chunkarr.array([[1, 2], [3, 4]]).tolist()[0] == [1, 2]


def test_a_selection_counts_its_length_only_when_asked() -> None:
    x = big(1000)
    chosen = x[x > 500] * 2
    assert chosen.selection is not None
    assert float(chosen.sum()) == 2 * sum(range(501, 1000))
    assert chosen.selection is not None
    assert chosen.shape == (499,)
    assert len(chosen) == 499


def test_dir_and_namespace_hold_only_public_names() -> None:
    names = dir(chunkarr)
    assert {"add", "sum", "array", "open", "config", "float64", "linalg"} <= set(names)
    assert not {"lift", "give", "small", "engine_", "convert"} & set(names)
    for name in names:
        getattr(chunkarr, name)
