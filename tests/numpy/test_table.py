"""The differential table: every case on NumPy and on chunkarr, in every mode."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

import chunkarr
from chunkarr.functions.elementwise import UFUNCS
from tests.numpy import (
    argument_cases,
    arrangement_cases,
    cases,
    function_cases,
    order_cases,
    shape_cases,
    statistic_cases,
    view_cases,
)
from tests.numpy.cases import texts
from tests.numpy.function_cases import DATES, ENTRIES, LATER, PAIRS, UFUNC_CALLS
from tests.numpy.order_cases import STAMPS, WORDS
from tests.numpy.statistic_cases import TIMES
from tests.numpy.support import (
    DTYPES,
    MODES,
    Scalar,
    compare,
    differences,
    evaluate,
    operands,
    outcome,
    times,
    uneven,
    usual,
    words,
)

TABLE = (
    cases.GROUPS
    | view_cases.GROUPS
    | function_cases.GROUPS
    | shape_cases.GROUPS
    | statistic_cases.GROUPS
    | order_cases.GROUPS
    | argument_cases.GROUPS
    | arrangement_cases.GROUPS
)


@pytest.fixture(params=[*MODES, "uneven"])
def mode(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run in each mode: small work eager, lazy, in very many chunks, and on uneven cuts."""
    with chunkarr.config(**MODES.get(request.param, {})):
        yield request.param


@pytest.fixture(params=[name for name in MODES if name != "chunks"])
def either(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run eager and in very many chunks: for what is the same code in the other modes."""
    with chunkarr.config(**MODES[request.param]):
        yield request.param


def failures(text: str, dtypes: tuple[str, ...], mode: str) -> list[str]:
    make = uneven if mode == "uneven" else usual
    found = []
    for dtype in dtypes:
        different = differences(text, operands(dtype), make)
        if different:
            found.append(f"{dtype}: {different}")
    return found


@pytest.mark.parametrize(
    ("text", "dtypes"),
    [
        pytest.param(text, dtypes, id=f"{group}-{text}")
        for group, (lines, dtypes) in TABLE.items()
        for text in lines
    ],
)
def test_a_case_gives_what_numpy_gives(text: str, dtypes: tuple[str, ...], mode: str) -> None:
    assert not failures(text, dtypes, mode)


@pytest.mark.parametrize("name", UFUNCS)
def test_a_ufunc_gives_what_numpy_gives_for_each_dtype(name: str, either: str) -> None:
    count = getattr(np, name).nin
    found = [
        f"{text}: {line}"
        for text in texts(UFUNC_CALLS[count])
        for line in failures(text.replace("UFUNC", name), DTYPES, either)
    ]
    assert not found


@pytest.mark.parametrize("text", texts(PAIRS))
@pytest.mark.usefixtures("either")
def test_two_dtypes_promote_as_in_numpy(text: str) -> None:
    found = []
    for one, other in itertools.product(DTYPES, DTYPES):
        different = differences(text, operands(one, other), usual)
        if different:
            found.append(f"{one}, {other}: {different}")
    assert not found


@pytest.mark.parametrize("text", texts(DATES) + texts(TIMES) + texts(STAMPS))
def test_dates_and_durations_compute_as_in_numpy(text: str, mode: str) -> None:
    assert not differences(text, times(), uneven if mode == "uneven" else usual)


@pytest.mark.parametrize("text", texts(WORDS))
def test_texts_and_bytes_sort_and_compare_as_in_numpy(text: str, mode: str) -> None:
    assert not differences(text, words(), uneven if mode == "uneven" else usual)


@pytest.mark.parametrize("text", texts(LATER))
def test_what_is_not_there_yet_says_so_or_is_right(text: str, mode: str) -> None:
    make = uneven if mode == "uneven" else usual
    arrays = operands("f8")
    wanted = outcome(lambda: evaluate(text, {k: v.copy() for k, v in arrays.items()}, np))
    theirs = {name: make(array) for name, array in arrays.items()}
    got = outcome(lambda: evaluate(text, theirs, chunkarr))
    refused = got[0] == "raises" and isinstance(
        got[1], chunkarr.errors.NotYetError | AttributeError
    )
    read_only = got[0] == "raises" and "read-only" in str(got[1])
    assert refused or read_only or not compare(wanted, got)


@pytest.mark.parametrize("entry", ENTRIES, ids=str)
def test_an_entry_is_as_wide_as_what_it_stands_for(entry: str, mode: str) -> None:
    made = evaluate(entry, {}, chunkarr)
    assert not isinstance(made, Scalar)
    assert made.nbytes == made.size * made.itemsize == made.compute().nbytes
