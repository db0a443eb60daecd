"""Values looked up in sorted arrays that no task holds: isin, searchsorted, places in `unique`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import hypothesis.extra.numpy as npst
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chunkarr
from chunkarr import sets
from chunkarr.functions import lookup
from chunkarr.plan import blocks
from chunkarr.scheduler.budget import memory_in_use

xp: Any = chunkarr

DTYPES = ("f8", "f4", "i8", "i2", "u8", "u1", "?", "c16", "M8[s]", "m8[ms]", "S3", "U2")


@pytest.fixture(autouse=True, scope="module")
def small_stretches() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lookup, "TABLE_BYTES", 0)
        patch.setattr(sets, "TABLE_BYTES", 0)
        patch.setattr(blocks, "STRETCH_BYTES", 40)
        yield


def values(dtype: str, most: int) -> st.SearchStrategy[Any]:
    """Few different values, so that many are found and many are there twice."""
    few = st.integers(0, 9)
    sized = npst.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=most)
    return npst.arrays(dtype, sized, elements=_element(dtype, few))


def _element(dtype: str, few: st.SearchStrategy[int]) -> st.SearchStrategy[Any]:
    kind = np.dtype(dtype).kind
    if kind == "b":
        return st.booleans()
    if kind in "US":
        return few.map(str if kind == "U" else lambda n: str(n).encode())
    if kind in "mM":
        made: Any = np.timedelta64 if kind == "m" else np.datetime64
        unit = dtype[3:-1]
        return few.map(lambda n: made("NaT", unit) if n == 9 else made(n, unit))
    if kind in "fc":
        return few.map(lambda n: [np.nan, np.inf, -np.inf][n - 7] if n > 6 else n / 2)
    return few


def lazy(values: Any) -> Any:
    """Keep values from being computed at once."""
    with xp.config(eager_bytes=0):
        return xp.asarray(values).copy()


@given(data=st.data(), dtype=st.sampled_from(DTYPES), invert=st.booleans())
def test_isin_is_numpys(data: st.DataObject, dtype: str, invert: bool) -> None:
    element, tests = data.draw(values(dtype, 12)), data.draw(values(dtype, 30))
    with xp.config(eager_bytes=0):
        found = xp.isin(lazy(element), tests, invert=invert)
        np.testing.assert_array_equal(np.asarray(found), np.isin(element, tests, invert=invert))


@given(data=st.data(), dtype=st.sampled_from(DTYPES[:7]), other=st.sampled_from(DTYPES[:7]))
def test_isin_of_other_dtypes_is_numpys(data: st.DataObject, dtype: str, other: str) -> None:
    element, tests = data.draw(values(dtype, 12)), data.draw(values(other, 30))
    with xp.config(eager_bytes=0):
        found = xp.isin(lazy(element), tests)
        np.testing.assert_array_equal(np.asarray(found), np.isin(element, tests))


@given(data=st.data(), dtype=st.sampled_from(DTYPES), side=st.sampled_from(("left", "right")))
def test_places_in_long_arrays_are_numpys(data: st.DataObject, dtype: str, side: Any) -> None:
    wanted, table = data.draw(values(dtype, 12)), np.sort(data.draw(values(dtype, 30)).ravel())
    with xp.config(eager_bytes=0):
        places = xp.searchsorted(table, lazy(wanted), side)
        np.testing.assert_array_equal(np.asarray(places), np.searchsorted(table, wanted, side))


def test_a_long_lazy_table_is_searched_for_values_of_numpys() -> None:
    table = xp.arange(300_000) * 2.0
    wanted = np.array([[0.5, 599_998.0], [-1.0, 1e9]])
    assert np.asarray(xp.searchsorted(table, wanted)).tolist() == [[1, 299_999], [0, 300_000]]
    assert int(xp.searchsorted(table, 3.0)) == 2


def test_many_distinct_values_have_first_places_and_inverses() -> None:
    data = np.random.default_rng(3).integers(0, 500, (20, 35))
    told: Any = {"return_index": True, "return_inverse": True, "return_counts": True}
    with xp.config(eager_bytes=0):
        for found, wanted in zip(xp.unique(data, **told), np.unique(data, **told), strict=True):
            np.testing.assert_array_equal(np.asarray(found), wanted)


def test_a_table_is_not_held_whole() -> None:
    rng = np.random.default_rng(0)
    with xp.config(memory=memory_in_use() + (300 << 20), eager_bytes=0):
        table = xp.sort(xp.arange(60_000_000) * 3)
        found = xp.isin(rng.integers(0, 180_000_000, 1000), table)
        plan = xp.explain(found)
    assert "isin" in str(plan)
