"""The command line as a person meets it: results on stdout, one clear line for an error."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import zarr

import chunkarr
from chunkarr import cli
from chunkarr.errors import CorruptChunkError, MemoryBudgetError

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a few datasets."""
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", np.arange(12.0).reshape(3, 4))
    np.save("b.npy", np.ones(4, np.float32))
    source = zarr.create_array("c.zarr", shape=(6, 4), chunks=(2, 4), dtype="int16")
    source[:] = np.arange(24, dtype=np.int16).reshape(6, 4)
    return tmp_path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.usefixtures("data")
def test_calc_prints_as_numpy_does_and_closes_with_what_it_took(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["calc", "a.mean(axis=0) + b", "a=a.npy", "b=b.npy"]) == 0
    out, err = capsys.readouterr()
    assert out == "[5. 6. 7. 8.]\n"
    assert err.startswith("read ")
    assert "peak memory" in err
    assert "of the limit of" in err


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("c.sum()", "276"),
        ("c.shape[0] * 2", "12"),
        ("(c > 20).any()", "True"),
        ("c[1, 1:3]", "[5 6]"),
    ],
)
def test_calc_prints_scalars_and_parts(
    text: str, printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["calc", text, "c=c.zarr"]) == 0
    assert capsys.readouterr().out == f"{printed}\n"


@pytest.mark.parametrize("output", ["out.npy", "out.zarr"])
def test_calc_writes_a_file(data: Path, output: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["calc", "sqrt(a) * 2", "a=a.npy", "-o", output, "--memory", "2GiB"]
    assert cli.main([*arguments, "--workers", "2", "--executor", "threads"]) == 0
    found = np.load(output) if output.endswith("npy") else zarr.open_array(output)[:]
    np.testing.assert_array_equal(found, np.sqrt(np.arange(12.0).reshape(3, 4)) * 2)
    out, err = capsys.readouterr()
    assert out == ""
    assert "of the limit of 2.0 GiB" in err
    assert names(data) == {"a.npy", "b.npy", "c.zarr", output}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["calc", "a.men()", "a=a.npy"], 2, "did you mean mean"),
        (["calc", "a +", "a=a.npy"], 2, "not an expression"),
        (["calc", "a", "a.npy"], 2, "NAME=PATH"),
        (["calc", "a", "a="], 2, "NAME=PATH"),
        (["calc", "a", "1a=a.npy"], 2, "cannot be a name"),
        (["calc", "a", "in=a.npy"], 2, "cannot be a name"),
        (["calc", "a", "a=a.npy", "a=b.npy"], 2, "given twice"),
        (["calc", "a", "np=a.npy"], 2, "np stands for NumPy"),
        (["calc", "a", "a=a.npy", "-o", "out.csv"], 2, ".zarr or .npy"),
        (["calc", "divmod(a, 2)", "a=a.npy", "-o", "out.npy"], 2, "pick one"),
        (["calc", "a", "a=a.npy", "--memory", "lots"], 2, "lots"),
        (["calc", "a", "a=a.npy", "--executor", "thread"], 2, "'threads'"),
        (["calc", "a", "a=a.npy", "--workers", "0"], 2, "at least 1"),
        (["calc", "a", "a=a.npy", "--memroy", "1GiB"], 2, "--memory"),
        (["calc", "a", "a=missing.npy"], 1, "missing.npy"),
        (["calc", "a @ a", "a=a.npy"], 1, "in `a @ a`, column 1"),
        (["calc", "a + b[:3]", "a=a.npy", "b=b.npy"], 1, "ValueError"),
        (["calc", "a[7]", "a=a.npy"], 1, "IndexError"),
        (["info", "missing.npy"], 1, "missing.npy"),
        (["info", "note.txt"], 1, "note.txt"),
        (["convert", "a.npy", "out.csv"], 2, ".zarr or .npy"),
        (["convert", "note.txt", "out.npy"], 1, "note.txt"),
        (["conver"], 2, "convert"),
    ],
)
def test_an_error_is_a_line_that_helps_and_leaves_nothing(
    data: Path, arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "note.txt").write_text("not an array")
    before = names(data)
    assert cli.main(arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert "Traceback" not in err
    assert names(data) == before


@pytest.mark.usefixtures("data")
def test_a_traceback_is_there_for_those_who_ask() -> None:
    with pytest.raises(IndexError):
        cli.main(["--traceback", "calc", "a[7]", "a=a.npy"])


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (CorruptChunkError("a.zarr", (1, 2), "missing"), "Error: a.zarr: chunk (1, 2): missing"),
        (MemoryBudgetError("x", "sum", "a.py:1", 2048, 1024, ["use less"]), "  1) use less"),
        (ZeroDivisionError("division by zero"), "Error: ZeroDivisionError: division by zero"),
        (FileNotFoundError(2, "No such file", "x"), "Error: [Errno 2] No such file: 'x'"),
        (KeyError(), "Error: KeyError: KeyError"),
    ],
)
def test_an_error_is_spelled_with_its_ways_out(error: Exception, text: str) -> None:
    assert text in cli.describe_error(error)


@pytest.mark.usefixtures("data")
def test_info_tells_what_a_dataset_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info", "c.zarr"]) == 0
    text = capsys.readouterr().out
    for part in ("zarr v3", "6 x 4", "int16", "2 x 4", "48 B", "zstd"):
        assert part in text
    assert cli.main(["info", "--json", "a.npy"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["format"] == "npy"
    assert (facts["shape"], facts["dtype"], facts["bytes"]) == ([3, 4], "float64", 96)


@pytest.mark.usefixtures("data")
def test_explain_shows_a_plan_and_what_happened(capsys: pytest.CaptureFixture[str]) -> None:
    with chunkarr.config(eager_bytes=0):
        assert cli.main(["explain", "(c + 1).sum(axis=0)", "c=c.zarr"]) == 0
        assert "tasks" in capsys.readouterr().out
        assert cli.main(["explain", "(c + 1).sum(axis=0)", "c=c.zarr", "--analyze"]) == 0
        assert "actual" in capsys.readouterr().out


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize(("source", "target"), [("a.npy", "a.zarr"), ("c.zarr", "c.npy")])
def test_convert_copies_values(source: str, target: str) -> None:
    assert cli.main(["convert", source, target]) == 0
    expected, found = np.asarray(chunkarr.open(source)), np.asarray(chunkarr.open(target))
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == expected.dtype


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    assert "calc" in capsys.readouterr().out
    assert cli.main(["calc", "-h"]) == 0
    assert "--memory" in capsys.readouterr().out
    assert cli.main([]) == 2


@pytest.mark.faults
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_an_interrupted_command_leaves_nothing(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    # An output of 1.7 GB, of which the first chunk is a sign to stop.
    np.save(tmp_path / "a.npy", np.zeros((600, 600)))
    text = "sin(a[:, None] + a[None, :])"
    command = [sys.executable, "-c", "import sys; from chunkarr.cli import main; sys.exit(main())"]
    spill = tmp_path / "spill"
    spill.mkdir()
    running = subprocess.Popen(
        [*command, "calc", text, "a=a.npy", "-o", "out.zarr"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CHUNKARR_SPILL_DIR": str(spill)},
        stderr=subprocess.PIPE,
    )
    while not any(tmp_path.glob(".out.zarr.*/c/**/*")) and running.poll() is None:
        time.sleep(0.01)  # until the first chunk is being written
    running.send_signal(number)
    began = time.monotonic()
    _, err = running.communicate(timeout=20)
    assert running.returncode == code, err
    assert time.monotonic() - began < 3
    assert names(tmp_path) == {"a.npy", "spill"}
    assert not names(spill)
