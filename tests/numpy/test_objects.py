"""The array object: all names of `ndarray`, all kinds of dtypes, and how arrays leave a process."""

from __future__ import annotations

import functools
import io
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import chunkarr
from chunkarr.arrays import Array
from chunkarr.errors import MemoryBudgetError, NotYetError
from chunkarr.functions.elementwise import UFUNCS
from chunkarr.scheduler.budget import memory_in_use
from tests.numpy.object_cases import GROUPS, extras
from tests.numpy.support import MODES, compare, differences, operands, outcome, uneven, usual

CASES = [(group, text) for group, found in GROUPS.items() for text in found]


@pytest.fixture(params=[*MODES, "uneven"])
def mode(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run in each mode: small work eager, lazy, in very many chunks, and on uneven cuts."""
    with chunkarr.config(**MODES.get(request.param, {})):
        yield request.param


@pytest.fixture(params=list(MODES))
def each(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run in each mode."""
    with chunkarr.config(**MODES[request.param]):
        yield request.param


@pytest.mark.parametrize(("group", "text"), CASES, ids=[text for _, text in CASES])
def test_the_answer_is_numpys(group: str, text: str, mode: str) -> None:
    make = uneven if mode == "uneven" else usual
    assert not differences(text, {**operands("f8"), **extras()}, make), group


# -- names ---------------------------------------------------------------------------------------

REFUSED = {
    "__array_finalize__": "there are no subclasses to finish",
    "__array_interface__": "chunks have no one address",
    "__array_struct__": "chunks have no one address",
    "__array_wrap__": "there are no subclasses to wrap as",
    "__setstate__": "pickles build arrays by a function",
    "ctypes": "chunks have no one address",
}
"""What ndarrays have and chunked arrays have not, and why."""


def test_every_name_of_ndarrays_is_there_or_refused_with_a_reason() -> None:
    x = chunkarr.array([[1.0]])
    assert {name for name in dir(np.ndarray) if not hasattr(x, name)} == set(REFUSED)
    with pytest.raises(AttributeError, match="ctypes does not run on chunked arrays"):
        _ = x.ctypes


def test_what_ndarrays_document_is_documented() -> None:
    public = [name for name in dir(np.ndarray) if not name.startswith("_")]
    silent = [n for n in public if n not in REFUSED and not getattr(Array, n).__doc__]
    assert not silent


# -- ufunc methods ---------------------------------------------------------------------------------

BINARY = [name for name in UFUNCS if getattr(np, name).nin == 2 and getattr(np, name).nout == 1]
WRONG_IN_NUMPY = {"arctan2", "atan2", "float_power", "ldexp", "pow", "power"}
"""NumPy 2.4 reduces these wrongly along a contiguous axis: `power.reduce([2.0, 3.0, 2.0])` is 4."""

CALLS: dict[str, Any] = {
    "reduce": lambda f, x: f.reduce(x),
    "reduce rows": lambda f, x: f.reduce(x.T, axis=-2, keepdims=True),
    "reduce all": lambda f, x: f.reduce(x, axis=None),
    "reduce two": lambda f, x: f.reduce(x, axis=(0, 1)),
    "reduce none": lambda f, x: f.reduce(x[:0]),
    "reduce from": lambda f, x: f.reduce(x, initial=2),
    "reduce where": lambda f, x: f.reduce(x, where=[True, False, True, True, False]),
    "accumulate": lambda f, x: f.accumulate(x),
    "reduceat": lambda f, x: f.reduceat(x, [0, 3, 1, 5]),
    "reduceat outside": lambda f, x: f.reduceat(x, [0, 9]),
    "outer": lambda f, x: f.outer(x[0], x),
}
IN_PLACE: dict[str, tuple[Any, ...]] = {
    "rows": ([0, 1, 1, -1], np.array([1, 2, 1, 3, 1])),
    "places": (([0, 1, 1, 0], [2, 2, 2, 2]), 2),
    "columns": ((slice(None), [0, 0, 3]), np.array([1.5, 2, 1])),
    "slice": (slice(1, 3), 2),
    "mask": (np.arange(7) % 2 == 1, 2),
}


@pytest.mark.parametrize("bytes_held", [1 << 20, 8])
@pytest.mark.parametrize("name", BINARY)
def test_ufunc_methods_give_numpys_answers(
    name: str, bytes_held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chunkarr.picks._piece_bytes", lambda: bytes_held)
    rng = np.random.default_rng(0)
    found = []
    for array in (rng.integers(1, 9, (7, 5)) / 4, rng.integers(1, 5, (7, 5))):
        calls = dict(CALLS)
        if name in WRONG_IN_NUMPY:
            calls = {key: call for key, call in calls.items() if key in ("accumulate", "outer")}
        calls |= {f"at {key}": _applied(*given) for key, given in IN_PLACE.items()}
        for key, call in calls.items():
            wanted = outcome(functools.partial(call, getattr(np, name), array.copy()))
            with chunkarr.config(eager_bytes=0, chunk_bytes=64):
                got = outcome(functools.partial(call, getattr(chunkarr, name), uneven(array)))
            different = compare(wanted, got)
            found += [f"{array.dtype} {key}: {different}"] if different else []
    assert not found


def test_a_ufunc_is_applied_at_more_places_than_are_held(each: str) -> None:
    places = np.arange(2000) * 7 % 11
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("chunkarr.picks._piece_bytes", lambda: 800)
        got, wanted = chunkarr.zeros(11), np.zeros(11)
        chunkarr.add.at(got, uneven(places), uneven(np.arange(2000.0)))
        np.add.at(wanted, places, np.arange(2000.0))
        assert got.tolist() == wanted.tolist()
        with pytest.raises(IndexError, match="index 11 is out of bounds"):
            chunkarr.add.at(got, uneven(places + 1), 1)
        assert got.tolist() == wanted.tolist()


def _applied(key: Any, value: Any) -> Any:
    def call(ufunc: Any, x: Any) -> Any:
        y = x.copy()
        ufunc.at(y, key, value)
        return y

    return call


def test_reduceat_of_very_many_slices_is_computed_where_it_fits(each: str) -> None:
    plain = np.arange(2000.0)
    starts = np.arange(0, 2000, 5)
    got = chunkarr.add.reduceat(uneven(plain), starts)
    assert got.tolist() == np.add.reduceat(plain, starts).tolist()


# -- views of files ------------------------------------------------------------------------------


def test_views_under_another_dtype_write_through_to_a_file(tmp_path: Path, each: str) -> None:
    place = tmp_path / "x.npy"
    np.save(place, np.arange(6, dtype="i4").reshape(2, 3))
    x = chunkarr.load(place, mmap_mode="r+")
    x.view("u1")[0, :4] = [1, 2, 0, 0]
    x.view("f4")[1, 2] = 1
    x[1:].byteswap(inplace=True)
    x.flush()
    wanted = np.arange(6, dtype="i4").reshape(2, 3)
    wanted.view("u1")[0, :4] = [1, 2, 0, 0]
    wanted.view("f4")[1, 2] = 1
    wanted[1:].byteswap(inplace=True)
    assert np.load(place).tolist() == wanted.tolist() == x.tolist()


def test_fields_of_records_write_through_to_a_file(tmp_path: Path, each: str) -> None:
    place = tmp_path / "r.npy"
    np.save(place, extras()["rec"])
    x, wanted = chunkarr.load(place, mmap_mode="r+"), extras()["rec"]
    for records in (x, wanted):
        records["a"][2:4] += 5
        records[["a", "b"]][0] = (7, 8)
        records[5]["b"] = -1
        records["p"][:, 1] = 3
    x.flush()
    assert np.load(place).tobytes() == wanted.tobytes() == x.tobytes()


def test_an_element_that_would_be_taken_into_very_many_parts_is_refused() -> None:
    with chunkarr.config(eager_bytes=0):
        x = uneven(np.zeros((3, 2), "V100"))
        with pytest.raises(NotYetError, match="at most 64"):
            x.view("u1")


# -- few elements of stored arrays -----------------------------------------------------------------


@pytest.fixture(params=["npy", "zarr"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Array:
    """Store a matrix in a file or directory, and open it."""
    values = np.arange(600.0).reshape(20, 30)
    if request.param == "npy":
        np.save(tmp_path / "x.npy", values)
        return chunkarr.open(tmp_path / "x.npy")
    made: Array = chunkarr.array(values).to_zarr(tmp_path / "x.zarr", chunks=(7, 8))
    return made


def test_an_element_or_a_few_of_a_stored_array_are_read_without_a_plan(
    stored: Array, each: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chunkarr.engine.make_plan", lambda *args: pytest.fail("planned"))
    plain = np.arange(600.0).reshape(20, 30)
    assert float(stored[3, 4]) == plain[3, 4]
    assert stored.item(19, -1) == plain[19, -1]
    assert stored[5, 6:19].tolist() == plain[5, 6:19].tolist()
    assert stored[::-1].T[7, 2:5].tolist() == plain[::-1].T[7, 2:5].tolist()
    assert stored[None, 3, ::-5, None].tolist() == plain[None, 3, ::-5, None].tolist()
    assert stored.view("i4")[0].size == 60
    assert stored[4:4, 3].tolist() == []


def test_many_chunks_of_a_stored_array_are_planned(stored: Array) -> None:
    assert stored.sum(0).tolist() == np.arange(600.0).reshape(20, 30).sum(0).tolist()
    assert stored[:, 3].tolist() == np.arange(600.0).reshape(20, 30)[:, 3].tolist()


# -- pickles ---------------------------------------------------------------------------------------


def test_a_pickle_of_a_stored_array_carries_its_path(stored: Array, each: str) -> None:
    packed = pickle.dumps((stored.T * 2).sum(1) + 1)
    assert len(packed) < 4000
    assert pickle.loads(packed).tolist() == ((stored.T * 2).sum(1) + 1).tolist()


def test_a_pickle_is_read_by_another_process(stored: Array) -> None:
    code = "import pickle, sys; print(float(pickle.load(sys.stdin.buffer).sum()))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps(stored + 1),
        capture_output=True,
        check=True,
    )
    assert float(done.stdout) == float((stored + 1).sum())


def test_a_long_chain_of_operations_pickles() -> None:
    with chunkarr.config(eager_bytes=0):
        x = chunkarr.zeros(10)
        for _ in range(3000):
            x = x + 1
        assert pickle.loads(pickle.dumps(x)).tolist() == [3000] * 10


def test_a_scalar_pickles_as_a_scalar(each: str) -> None:
    x = uneven(np.arange(5.0))
    for made in (x[2], x.sum(), chunkarr.array([7])[0]):
        again = pickle.loads(pickle.dumps(made))
        assert chunkarr.isscalar(again)
        assert again == made


def test_large_data_in_memory_is_not_pickled() -> None:
    with chunkarr.config(memory="256MiB"):
        x = chunkarr.array(np.zeros(10_000_000))
        with pytest.raises(MemoryBudgetError, match="pickle"):
            pickle.dumps(x + 1)


def test_what_lies_in_scratch_is_not_pickled() -> None:
    with chunkarr.config(memory=memory_in_use() + (1 << 28), chunk_bytes="1MiB"):
        x = (chunkarr.zeros(20_000_000) + 1).persist()
        with pytest.raises(NotYetError, match="scratch"):
            pickle.dumps(x)


def test_dump_writes_what_pickle_loads(tmp_path: Path) -> None:
    x = chunkarr.array([1.0, 2.0])
    x.dump(tmp_path / "x")
    stream = io.BytesIO()
    x.dump(stream)
    for packed in ((tmp_path / "x").read_bytes(), stream.getvalue(), x.dumps()):
        assert pickle.loads(packed).tolist() == [1, 2]


# -- other libraries -------------------------------------------------------------------------------


def test_asarray_refuses_what_does_not_fit_the_limit() -> None:
    with chunkarr.config(memory="256MiB"):
        x = chunkarr.zeros((1 << 14, 1 << 14)) + 1
        for convert in (np.asarray, lambda a: a.tobytes(), lambda a: a.tolist(), lambda a: a.data):
            with pytest.raises(MemoryBudgetError):
                convert(x)


def test_results_through_a_mask_compute_nothing_before_they_are_wanted() -> None:
    with chunkarr.config(memory=memory_in_use() + (64 << 20), executor="threads"):
        x = chunkarr.arange(2e7) * 2
        y = x * 0
        chunkarr.add(x, 1, out=y, where=x > 9)
        assert float(y[4:7].sum()) == 24


def test_dlpack_shares_what_is_in_memory_and_copies_the_rest(each: str) -> None:
    x = chunkarr.array([1.0, 2.0])
    shared = np.from_dlpack(x)
    x[0] = 7
    assert shared.tolist() == [7, 2]
    assert not shared.flags.writeable
    assert np.from_dlpack(uneven(np.arange(3.0)) + 1).tolist() == [1, 2, 3]
    with pytest.raises(BufferError, match="computed"):
        (uneven(np.arange(3.0)) + 1).__dlpack__(copy=False)
    assert chunkarr.from_dlpack(np.arange(3)).tolist() == [0, 1, 2]
    assert x.__dlpack_device__() == (1, 0)


def test_an_array_from_dlpack_is_copied_when_it_is_written() -> None:
    theirs = np.arange(3.0)
    x = chunkarr.from_dlpack(theirs)
    x[0] = 9
    assert theirs.tolist() == [0, 1, 2]


def test_data_is_a_read_only_buffer(each: str) -> None:
    for x in (chunkarr.array([1.0, 2.0]), uneven(np.array([1.0, 2.0])) + 0):
        assert x.data.readonly
        assert x.data.tolist() == [1, 2]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python asks for buffers since 3.12")
def test_memoryview_looks_at_what_is_in_memory() -> None:
    assert memoryview(chunkarr.array([1.0, 2.0])).tolist() == [1, 2]
    with chunkarr.config(eager_bytes=0), pytest.raises(BufferError, match="compute"):
        memoryview(chunkarr.zeros(3))


def test_the_array_api_learns_what_there_is() -> None:
    info = chunkarr.__array_namespace_info__()
    theirs = np.__array_namespace_info__()
    assert info.devices() == ["cpu"]
    assert info.default_device() == "cpu"
    assert info.capabilities()["boolean indexing"]
    assert info.default_dtypes() == theirs.default_dtypes()
    assert info.dtypes(kind="integral") == theirs.dtypes(kind="integral")
    with pytest.raises(ValueError, match="Device not understood"):
        info.dtypes(device="gpu")
    with pytest.raises(ValueError, match="cpu"):
        chunkarr.zeros(3, device="gpu")


# -- bytes to files --------------------------------------------------------------------------------


@pytest.mark.parametrize("sep", ["", ", "])
def test_tofile_writes_batches_in_order(
    tmp_path: Path, sep: str, monkeypatch: pytest.MonkeyPatch, each: str
) -> None:
    monkeypatch.setattr("chunkarr.flat.BATCH_BYTES", 40)
    plain = np.arange(24.0).reshape(4, 6)
    uneven(plain).T.tofile(tmp_path / "own", sep)
    plain.T.tofile(tmp_path / "theirs", sep)
    assert (tmp_path / "own").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_tofile_to_a_path_is_whole_or_not_at_all(tmp_path: Path, each: str) -> None:
    plain = np.arange(2400.0).reshape(40, 60)
    path = tmp_path / "x"
    uneven(plain).T.tofile(path)
    path.chmod(0o640)
    x = chunkarr.memmap(path, "f8", "r", shape=(60, 40))
    (x[::-1] * 2).tofile(path)  # reads what it replaces
    np.testing.assert_array_equal(np.fromfile(path).reshape(60, 40), 2 * plain.T[::-1])
    assert path.stat().st_mode & 0o777 == 0o640

    def broken(block: Any) -> Any:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        chunkarr.map_blocks(broken, uneven(plain), dtype="f8").tofile(path)
    assert path.stat().st_size == plain.nbytes
    assert os.listdir(tmp_path) == ["x"]


def test_tofile_to_a_device_is_written_as_it_comes(tmp_path: Path) -> None:
    uneven(np.arange(24.0)).tofile(os.devnull)
    with pytest.raises(OSError, match="object"):
        chunkarr.array([1, None]).tofile(tmp_path / "x")


# -- objects ---------------------------------------------------------------------------------------


def test_objects_stay_in_memory_and_are_numpys_work(each: str) -> None:
    values: npt.NDArray[Any] = np.array([3, 1, 2] * 400, dtype=object)
    x = chunkarr.from_array(values, chunks=7)
    assert (x * 2 + x).sum() == 3 * values.sum()
    assert (x > 1).sum() == 800
    assert x.rechunk(5)[3] == 3
    assert (x + uneven(np.arange(1200.0)))[2] == 4.0
    with chunkarr.config(memory="64 MiB"), pytest.raises(MemoryBudgetError, match="add"):
        _ = chunkarr.arange(2_000_000) + None
