"""What docs/coverage.md says of each name is what the name does, and every name is on the page."""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pytest

import chunkarr
from chunkarr import catalogue
from tests.coverage_page import FIT, PAGE, RAISES, page, public_names, status

EXTRA = frozenset(("chunks",))
"""Arguments that chunkarr adds."""

OTHERWISE = frozenset(
    (
        "frombuffer",
        "fromfile",
        "frompyfunc",
        "genfromtxt",
        "load",
        "may_share_memory",
        "nested_iters",
        "save",
        "shares_memory",
        "where",
    )
)
"""Functions that hand further arguments on, or say which were not given otherwise than NumPy."""


def listed() -> dict[str, tuple[str, str]]:
    """Read the page: for each name what it says."""
    found: dict[str, tuple[str, str]] = {}
    kind = ""
    for line in PAGE.read_text().splitlines():
        if line.startswith("## "):
            kind = line[3:4].lower() + line[4:] if line[3:8] != "NumPy" else line[3:]
        elif line.startswith("- `"):
            name, _, why = line[3:].partition("`: ")
            found[name] = (kind, why)
        elif line.startswith("`"):
            found |= {name.strip("`"): (kind, "") for name in line.split()}
    return found


def test_every_name_is_on_the_page_and_the_page_is_as_it_is_written() -> None:
    found = listed()
    assert sorted(found) == public_names()
    assert page({name: found[name] for name in public_names()}) == PAGE.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", public_names())
def test_a_name_does_what_the_page_says(name: str) -> None:
    assert status(name) == listed()[name]


def test_what_sees_all_at_once_is_listed_as_such() -> None:
    must_fit = {name for name, (kind, _) in listed().items() if kind == FIT}
    assert must_fit == {*catalogue.WHOLE, *LANES}


LANES = frozenset(
    ("argpartition", "argsort", "asmatrix", "bmat", "frompyfunc", "lexsort", "nditer", "partition")
)
"""Functions that see whole lanes, or give NumPy's matrices or Python objects."""


def test_no_name_raises() -> None:
    assert [name for name, (kind, _) in listed().items() if kind == RAISES] == []


def signature(function: object) -> list[tuple[str, str]] | None:
    """Give the names and defaults of arguments, None where a function does not tell."""
    try:
        shown = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
    except (ValueError, TypeError):
        return None
    return [(p.name, repr(p.default)) for p in shown if p.name not in EXTRA]


def functions() -> list[str]:
    """List NumPy's functions whose arguments are known."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [
            name
            for name in public_names()
            if callable(getattr(np, name))
            and not isinstance(getattr(np, name), type | np.ufunc)
            and signature(getattr(np, name)) is not None
        ]


@pytest.mark.parametrize("name", functions())
def test_a_function_takes_numpy_s_arguments(name: str) -> None:
    same = signature(getattr(chunkarr, name)) == signature(getattr(np, name))
    assert same != (name in OTHERWISE)
