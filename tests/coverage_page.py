"""Writes docs/coverage.md: what each name of NumPy's namespace does with arrays that do not fit.

    python -m tests.coverage_page

Nothing is claimed that was not run: every function is called on arrays on disk under a memory limit
that is smaller than they are, and what it gives is compared with NumPy's answer. Where the limit is
refused, the call is run again under a limit that is wide enough.
"""

from __future__ import annotations

import contextlib
import functools
import io
import tempfile
import types
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt

import chunkarr
from chunkarr import engine
from chunkarr.arrays import Array
from chunkarr.errors import ChunkarrError, MemoryBudgetError
from tests.numpy.coverage_calls import FILES, calls, smaller_calls

NDArray = npt.NDArray[Any]

PAGE = Path(__file__).resolve().parent.parent / "docs" / "coverage.md"

SIZES = ((2048, "24MiB"), (4096, "48MiB"))
"""Rows of x, and a limit that is less than any of the operands takes: these are of 32 or 64 MiB.

What is refused with the first is tried with the second, since a task has a least size.
"""

COLUMNS = 2048

OUT, FIT, RAISES, SHARED, FILED = (
    "works out of core",
    "works, must fit",
    "raises",
    "NumPy's own",
    "files",
)


@functools.cache
def arrays(rows: int) -> dict[str, NDArray]:
    """Make the operands."""
    rng = np.random.default_rng(1)
    size = rows * COLUMNS
    plane = rng.normal(size=(rows, COLUMNS))
    vector = rng.normal(size=size).round(3)
    number = rng.integers(0, 1000, size)
    days = np.datetime64("2020-01-01") + rng.integers(0, 999, size)
    return {"x": plane, "y": plane, "v": vector, "w": vector[::-1].copy(), "i": number, "d": days}


@functools.cache
def folder(rows: int) -> tempfile.TemporaryDirectory[str]:
    """Make a folder with the operands, which goes with the process."""
    made = tempfile.TemporaryDirectory()
    for name, array in arrays(rows).items():
        np.save(Path(made.name) / f"{name}.npy", array)
    return made


def operands(rows: int) -> dict[str, Any]:
    """Open the operands."""
    place = Path(folder(rows).name)
    return {path.stem: chunkarr.open(path) for path in place.iterdir()}


def public_names() -> list[str]:
    """List NumPy's public names but for its modules."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [
            name
            for name in sorted(dir(np))
            if not name.startswith("_")
            and not isinstance(getattr(np, name), types.ModuleType)
            and name != "test"
        ]


def run(text: str, names: Mapping[str, Any], np_: Any) -> Any:
    """Run statements whose last one is an expression."""
    *lines, last = text.split("; ")
    space = {"np": np_, "numpy": np, **names}
    exec("\n".join(lines), space)
    return eval(last, space)


def settled(value: Any, place: Path) -> Any:
    """Compute what is lazy, what is large into files."""
    if isinstance(value, tuple | list):
        return [settled(part, place) for part in value]
    if not isinstance(value, Array):
        return value
    if value.nbytes < 1 << 16 or value.dtype.hasobject:
        return value.compute()
    path = place / f"{len(list(place.iterdir()))}.npy"
    chunkarr.save(path, value)
    return np.load(path)


def same(a: Any, b: Any) -> bool:
    """Whether two answers agree, floats but for their last digits."""
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(same, a, b))
    one, other = np.asarray(a), np.asarray(b)
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if one.dtype.kind in "fc":
        return bool(np.allclose(one, other, rtol=1e-7, atol=1e-9, equal_nan=True))
    return bool((one == other).all())


def attempt(text: str, rows: int, limit: str | None) -> Any:
    """Give what a call comes to: its answer, or the exception."""
    options: dict[str, Any] = {"eager_bytes": 0, "chunk_bytes": 1 << 16}
    if limit:
        options["memory"] = limit
    # The limit is for the arrays: what the interpreter takes is left out of the account.
    here = mock.patch.object(engine, "memory_in_use_within", return_value=0)
    with tempfile.TemporaryDirectory() as place, chunkarr.config(**options), here:
        try:
            return settled(run(text, operands(rows), chunkarr), Path(place))
        except (ChunkarrError, AttributeError, TypeError, ValueError) as error:
            return error


def agrees(text: str, rows: int, got: Any) -> bool:
    """Whether an answer is NumPy's."""
    return same(run(text, {k: v.copy() for k, v in arrays(rows).items()}, np), got)


def status(name: str) -> tuple[str, str]:
    """Give what a name does, and why where it raises."""
    theirs = getattr(np, name)
    if name in FILES.split():
        return FILED, ""
    known = calls()
    ours = getattr(chunkarr, name, None)
    if ours is theirs or (isinstance(theirs, type) and name not in known):
        return SHARED, ""
    text = known[name]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        with contextlib.redirect_stdout(io.StringIO()):
            for rows, limit in SIZES:
                kind, got = OUT, attempt(text, rows, limit)
                if not isinstance(got, MemoryBudgetError):
                    break
            else:
                text, rows = smaller_calls().get(name, text), SIZES[0][0]
                kind, got = FIT, attempt(text, rows, None)
            if isinstance(got, Exception):
                return RAISES, str(got).splitlines()[0]
            return (kind, "") if agrees(text, rows, got) else (RAISES, f"{text} differs")


HEAD = """# What of NumPy works

Every function of NumPy's namespace was called on arrays of 32 MiB under a memory limit of 24 MiB,
or of 64 MiB under 48 MiB, and its answer compared with NumPy's. `python -m tests.coverage_page`
writes this page.

| names | |
|---|---|
"""

ABOUT = {
    OUT: "Arrays of any size; what is computed is bounded by the memory limit.",
    FIT: (
        "NumPy's own work on all values at once, or on whole lanes. Where that does not fit, "
        "`MemoryBudgetError` says before anything runs how many bytes it would take."
    ),
    RAISES: "What has no answer for chunked arrays, and why.",
    SHARED: "Types, constants and functions that know no array: the same objects as NumPy's.",
    FILED: "Functions of files, which have tests of their own.",
}


def page(found: Mapping[str, tuple[str, str]]) -> str:
    """Write the page."""
    counts = {kind: sum(k == kind for k, _ in found.values()) for kind in ABOUT}
    text = HEAD + "".join(f"| {kind} | {n} |\n" for kind, n in counts.items() if n)
    for kind, about in ABOUT.items():
        names = [name for name, (k, _) in found.items() if k == kind]
        if not names:
            continue
        text += f"\n## {kind[0].upper()}{kind[1:]}\n\n{about}\n\n"
        if kind == RAISES:
            text += "".join(f"- `{name}`: {found[name][1]}\n" for name in names)
        else:
            text += " ".join(f"`{name}`" for name in names) + "\n"
    return text


if __name__ == "__main__":
    PAGE.write_text(page({name: status(name) for name in public_names()}))
