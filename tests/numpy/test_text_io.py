"""Text, archives, bare values and buffers: what NumPy reads and writes, in blocks and in memory."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Callable, Iterator
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chunkarr
from chunkarr import textio
from chunkarr.arrays import Array
from chunkarr.errors import MemoryBudgetError, OutputError
from chunkarr.scheduler.budget import memory_in_use
from tests.numpy.support import MODES, compare, outcome

TEXT = "# a table\n1 2 3\n4 5 6\n\n7 8 9 # the last\n"
TABLE = "x,y,name\n1,2.5,ab\n,4,c\n5,6,def\n"
LONG = "".join(f"{i},{i * i},{i / 8}\n" for i in range(500))

READS: dict[str, Callable[[Any, Any], Any]] = {
    "plain": lambda np_, file: np_.loadtxt(file(TEXT)),
    "integers": lambda np_, file: np_.loadtxt(file(TEXT), dtype=int),
    "skipped rows": lambda np_, file: np_.loadtxt(file(TEXT), skiprows=2),
    "some rows": lambda np_, file: np_.loadtxt(file(TEXT), max_rows=2),
    "no rows": lambda np_, file: np_.loadtxt(file(TEXT), max_rows=0),
    "one row": lambda np_, file: np_.loadtxt(file(TEXT), max_rows=1, ndmin=2),
    "columns": lambda np_, file: np_.loadtxt(file(TEXT), usecols=(2, 0), unpack=True),
    "one column": lambda np_, file: np_.loadtxt(file(TEXT), usecols=1),
    "at least two axes": lambda np_, file: np_.loadtxt(file("1\n2\n"), ndmin=2),
    "at least one axis": lambda np_, file: np_.loadtxt(file("1\n"), ndmin=1),
    "one number": lambda np_, file: np_.loadtxt(file("1\n")),
    "too many axes": lambda np_, file: np_.loadtxt(file("1\n"), ndmin=5),
    "nothing": lambda np_, file: np_.loadtxt(file("# nothing\n")),
    "long": lambda np_, file: np_.loadtxt(file(LONG), delimiter=","),
    "long, some": lambda np_, file: np_.loadtxt(
        file(LONG), delimiter=",", skiprows=3, max_rows=300
    ),
    "fields": lambda np_, file: np_.loadtxt(file(LONG), delimiter=",", dtype="i8, i8, f8")["f2"],
    "unpacked fields": lambda np_, file: np_.loadtxt(
        file("1 2\n3 4\n"), dtype="i4, f8", unpack=True
    ),
    "texts": lambda np_, file: np_.loadtxt(file("a bcd\nef g\n"), dtype=str),
    "quotes": lambda np_, file: np_.loadtxt(file('"a b" c\n'), dtype="U3", quotechar='"'),
    "converted": lambda np_, file: np_.loadtxt(file("1 2\n"), converters=lambda s: float(s) * 2),
    "ragged": lambda np_, file: np_.loadtxt(file("1 2\n3\n")),
    "no number": lambda np_, file: np_.loadtxt(file("1 a\n")),
    "other comments": lambda np_, file: np_.loadtxt(file("1 % x\n2\n"), comments=["%", "//"]),
    "missing": lambda np_, file: np_.genfromtxt(file(TABLE), delimiter=",", skip_header=1)[:, :2],
    "names": lambda np_, file: np_.genfromtxt(file(TABLE), delimiter=",", names=True)["y"],
    "filled": lambda np_, file: np_.genfromtxt(
        file("1,,3\n4,5,6\n"), delimiter=",", filling_values=-1
    ),
    "guessed": lambda np_, file: np_.genfromtxt(
        file(TABLE), delimiter=",", names=True, dtype=None, encoding="utf-8"
    )["name"],
    "footer": lambda np_, file: np_.genfromtxt(file("1\n2\n3\n"), skip_footer=1),
    "long table": lambda np_, file: np_.genfromtxt(file(LONG), delimiter=","),
    "long, names": lambda np_, file: np_.genfromtxt(
        file("a,b,c\n" + LONG), delimiter=",", names=True
    )["c"],
    "columns of a table": lambda np_, file: np_.genfromtxt(
        file(LONG), delimiter=",", usecols=(0, 2), unpack=True
    ),
    "expression": lambda np_, file: np_.fromregex(
        file("12 ab\n345 cd\n"), r"(\d+)\s+(..)", [("n", "i8"), ("t", "S2")]
    )["n"],
    "a string": lambda np_, _: np_.fromstring("1, 2, 3", sep=","),
    "a buffer": lambda np_, _: np_.frombuffer(b"\1\2\3\4", "u1", count=2, offset=1),
    "a short buffer": lambda np_, _: np_.frombuffer(b"abc", "i4"),
}


@pytest.fixture(params=MODES, autouse=True)
def _mode(request: pytest.FixtureRequest) -> Iterator[None]:
    with chunkarr.config(**MODES[request.param]):
        yield


@pytest.mark.parametrize("kind", ["path", "packed", "open", "lines"])
@pytest.mark.parametrize("name", READS)
def test_text_is_read_as_numpy_reads_it(name: str, kind: str, tmp_path: Path) -> None:
    def file(text: str) -> Any:
        if kind == "open":
            return io.StringIO(text)
        if kind == "lines":
            return text.split("\n")
        path = tmp_path / ("t.txt.gz" if kind == "packed" else "t.txt")
        path.write_bytes(gzip.compress(text.encode()) if kind == "packed" else text.encode())
        return path

    wanted = outcome(lambda: READS[name](np, file))
    assert compare(wanted, outcome(lambda: READS[name](chunkarr, file))) == ""


WRITES: dict[str, Callable[[Any, Any, Any], Any]] = {
    "plain": lambda np_, file, x: np_.savetxt(file, x),
    "format": lambda np_, file, x: np_.savetxt(file, x, fmt="%.2f", delimiter=","),
    "formats": lambda np_, file, x: np_.savetxt(file, x[:, :2], fmt=["%d", "%5.1e"]),
    "header": lambda np_, file, x: np_.savetxt(file, x, header="a b", footer="end", comments="// "),
    "one axis": lambda np_, file, x: np_.savetxt(file, x[0]),
    "complex": lambda np_, file, x: np_.savetxt(file, x + 1j),
    "empty": lambda np_, file, x: np_.savetxt(file, x[:0], header="none"),
    "a list": lambda np_, file, _: np_.savetxt(file, [[1, 2], [3, 4]], newline="\r\n"),
    "wrong format": lambda np_, file, x: np_.savetxt(file, x, fmt="%d %d"),
    "wrong axes": lambda np_, file, x: np_.savetxt(file, x[None]),
    "no axes": lambda np_, file, x: np_.savetxt(file, x[0, 0]),
}


@pytest.mark.parametrize("kind", ["path", "packed", "open"])
@pytest.mark.parametrize("name", WRITES)
def test_text_is_written_as_numpy_writes_it(name: str, kind: str, tmp_path: Path) -> None:
    x = np.random.default_rng(1).normal(size=(40, 3))

    def written(np_: Any, array: Any) -> str:
        path = tmp_path / f"{np_.__name__}.txt{'.gz' if kind == 'packed' else ''}"
        if kind == "open":
            said = io.StringIO()
            WRITES[name](np_, said, array)
            return said.getvalue()
        WRITES[name](np_, path, array)
        data = path.read_bytes()
        return (gzip.decompress(data) if kind == "packed" else data).decode()

    wanted = outcome(lambda: written(np, x))
    assert compare(wanted, outcome(lambda: written(chunkarr, chunkarr.asarray(x)))) == ""


@pytest.mark.parametrize("save", ["savez", "savez_compressed"])
@pytest.mark.parametrize("kind", ["path", "open"])
def test_archives_hold_what_was_saved(save: str, kind: str, tmp_path: Path) -> None:
    arrays = {
        "x": np.arange(60.0).reshape(3, 4, 5),
        "e": np.empty((0, 3)),
        "z": np.array(2.5),
        "t": np.array(["ab", "c"]),
        "f": np.asfortranarray(np.arange(6).reshape(2, 3)),
    }
    file: Any = tmp_path / "a" if kind == "path" else io.BytesIO()
    own = {name: chunkarr.asarray(value) for name, value in arrays.items()}
    getattr(chunkarr, save)(file, own["x"], **own)
    if kind == "path":
        file = tmp_path / "a.npz"
        assert sorted(os.listdir(tmp_path)) == ["a.npz"]
    else:
        file.seek(0)
    with np.load(file) as found:
        assert sorted(found.files) == ["arr_0", *sorted(arrays)]
        for name, value in arrays.items():
            assert found[name].dtype == value.dtype
            np.testing.assert_array_equal(found[name], value)
    if kind == "path":
        np.testing.assert_array_equal(chunkarr.load(file)["x"], arrays["x"])


def test_names_of_members_may_not_clash(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="arr_0"):
        chunkarr.savez(tmp_path / "a.npz", 1, arr_0=2)
    with pytest.raises(ValueError, match="pickles"):
        chunkarr.savez(tmp_path / "a.npz", np.array([None]))
    assert not os.listdir(tmp_path)


def test_open_files_take_and_give_arrays() -> None:
    file = io.BytesIO()
    chunkarr.save(file, chunkarr.arange(12).reshape(3, 4).T)
    file.seek(0)
    assert np.load(file).tolist() == np.arange(12).reshape(3, 4).T.tolist()
    file.seek(0)
    assert isinstance(chunkarr.load(file), Array)


@pytest.mark.parametrize("options", [{}, {"count": 3}, {"offset": 8}, {"offset": 8, "count": 2}])
def test_bare_values_are_read(options: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "v.bin"
    np.arange(9.0).tofile(path)
    made = chunkarr.fromfile(path, **options)
    np.testing.assert_array_equal(made, np.fromfile(path, **options))
    made[0] = -1
    assert np.fromfile(path)[0] == 0
    path.write_text("1 2 3")
    assert chunkarr.fromfile(path, sep=" ").compute().tolist() == [1, 2, 3]


def test_what_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("old")
    with pytest.raises(ValueError, match="fmt has wrong number"):
        chunkarr.savetxt(path, chunkarr.ones((100, 3)), fmt="%d %d")
    with pytest.raises(OutputError):
        chunkarr.savetxt(tmp_path / "no" / "t.txt", chunkarr.ones(3))
    with pytest.raises(OutputError):
        chunkarr.savez(tmp_path / "no" / "t.npz", chunkarr.ones(3))
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["t.txt"]


def test_text_of_any_length_is_read_into_scratch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(textio, "HELD_PART", 1 << 50)
    path = tmp_path / "t.txt"
    path.write_text("1 2 3 4 5 6 7 8\n" * 20_000)
    with chunkarr.config(chunk_bytes=1 << 16):
        x = chunkarr.loadtxt(path)
        assert x.in_memory is None
        assert (x.shape, float(x.sum())) == ((20_000, 8), 720_000.0)


def test_text_that_has_to_be_seen_as_a_whole_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    with (
        chunkarr.config(memory=memory_in_use() + (1 << 28)),
        pytest.raises(MemoryBudgetError, match="genfromtxt"),
    ):
        chunkarr.genfromtxt(path, dtype=None)


def test_shared_memory_is_written_at_once() -> None:
    block = shared_memory.SharedMemory(create=True, size=48)
    try:
        one, other = (chunkarr.ndarray((2, 3), float, block.buf) for _ in range(2))
        one[:] = chunkarr.arange(6.0).reshape(2, 3)
        other[0] = one[1] * 2
        one += 1
        assert other.compute().tolist() == [[7, 9, 11], [4, 5, 6]]
        kept = one.copy()
        del one, other
    finally:
        block.close()
        block.unlink()
    assert kept.compute().tolist() == [[7, 9, 11], [4, 5, 6]]


def test_the_memory_of_a_buffer_is_looked_at() -> None:
    held = bytearray(4)
    seen = chunkarr.frombuffer(held, "u1")
    seen[1:] = chunkarr.arange(3) + 1
    assert held == b"\0\1\2\3"
    with pytest.raises(ValueError, match="read-only"):
        chunkarr.frombuffer(b"ab", "u1")[0] = 1
