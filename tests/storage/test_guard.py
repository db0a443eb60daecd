"""Maps of files that are cut short while somebody reads them: an error, and nobody dies.

What happens to other faults is tried in processes of their own, since most of it is to die.
"""

from __future__ import annotations

import mmap
import os
import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import pytest

from chunkarr.storage.files import write_at
from chunkarr.storage.guard import GuardedMap, Moment, now, watched
from chunkarr.storage.guard_code import CODES
from tests.faults.sessions import ROOT

PAGES = 64
SIZE = PAGES * mmap.PAGESIZE

handled = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in CODES,
    reason="no handler for this system",
)


class CutShortError(Exception):
    """What these tests have told."""


def told(at: int) -> CutShortError:
    return CutShortError(at)


class Cut:
    """A file of ones, its map, and a view of that."""

    def __init__(self, path: Path, mode: int = mmap.ACCESS_READ) -> None:
        path.write_bytes(b"\1" * SIZE)
        self.path = path
        with open(path, "r+b") as file:
            self.map = GuardedMap.of(file.fileno(), SIZE, told, access=mode)
        self.view = np.frombuffer(self.map, np.uint8)

    def at(self, size: int) -> None:
        os.truncate(self.path, size)


@handled
@pytest.mark.parametrize("name", CODES)
def test_the_code_is_what_the_text_says(name: str) -> None:
    if platform.machine() != name:
        pytest.skip("LLVM has an assembler for this processor only")
    for start in (llvm.initialize_native_target, llvm.initialize_native_asmprinter):
        start()
    llvm.initialize_native_asmparser()
    kind = CODES[name]
    lines = [line.replace('"', "\\22") for line in kind.text.strip("\n").split("\n")]
    asked = "\n".join(f'module asm "{line}"' for line in lines)
    module = llvm.parse_assembly(f'target triple = "{kind.triple}"\n{asked}\n')
    machine = llvm.Target.from_triple(kind.triple).create_target_machine()
    made = llvm.ObjectFileRef.from_data(machine.emit_object(module))
    found = [bytes(part.data()) for part in made.sections() if part.name() == b".text"]
    assert found == [kind.code]


def told_of(action: Callable[[], object], since: Moment | None = None) -> str:
    """Give what a block is told that does something; nothing where it goes well."""
    try:
        with watched(since):
            action()
    except CutShortError as error:
        return str(error)
    return ""


@handled
@pytest.mark.parametrize("mode", [mmap.ACCESS_READ, mmap.ACCESS_WRITE, mmap.ACCESS_COPY])
def test_missing_pages_read_as_zeros_and_are_told(mode: int, tmp_path: Path) -> None:
    cut = Cut(tmp_path / "x", mode)
    assert cut.map.intact()
    cut.at(3 * mmap.PAGESIZE)
    sums: list[int] = []
    assert told_of(lambda: sums.append(cut.view.sum())) == str(3 * mmap.PAGESIZE)
    assert sums == [3 * mmap.PAGESIZE]
    assert not cut.map.intact()
    # Those who come later are told as well, if they look at what is missing.
    assert told_of(cut.view[: 3 * mmap.PAGESIZE].sum) == ""
    assert told_of(cut.view.sum) == str(3 * mmap.PAGESIZE)


@handled
def test_what_is_written_to_missing_pages_is_told(tmp_path: Path) -> None:
    cut = Cut(tmp_path / "x", mmap.ACCESS_WRITE)
    cut.at(mmap.PAGESIZE)
    assert told_of(lambda: cut.view.fill(2)) == str(mmap.PAGESIZE)


@handled
def test_system_calls_that_meet_missing_pages_are_told(tmp_path: Path) -> None:
    cut = Cut(tmp_path / "x")
    cut.at(0)
    with (tmp_path / "y").open("wb") as out:
        assert told_of(lambda: write_at(out.fileno(), cut.view, 0)) == "0"


@pytest.mark.parametrize("size", [SIZE - 1, SIZE - mmap.PAGESIZE // 2])
def test_a_part_of_the_last_page_sets_off_no_fault_and_is_told(size: int, tmp_path: Path) -> None:
    cut = Cut(tmp_path / "x")

    def read() -> None:
        assert cut.map.intact()
        cut.at(size)

    assert told_of(read) == str(size)
    # Who does not read it has nothing to do with it.
    assert told_of(lambda: None) == ""


def test_a_map_that_is_gone_is_told_to_who_has_read_it(tmp_path: Path) -> None:
    cut, began = Cut(tmp_path / "x"), now()
    assert cut.map.intact()
    cut.at(SIZE - 1)
    del cut
    assert told_of(lambda: None, began) == str(SIZE - 1)
    assert told_of(lambda: None) == ""


@handled
@pytest.mark.parametrize("page", [0, 1, 7, PAGES - 1])
def test_many_threads_meet_it_at_once(page: int, tmp_path: Path) -> None:
    for number in range(10):
        cut, began = Cut(tmp_path / str(number)), now()
        with ThreadPoolExecutor(8) as pool, suppress(CutShortError), watched(began):
            # All of them look before the first one is told, and before pages are missing again.
            cut.at(page * mmap.PAGESIZE)
            found = [pool.submit(told_of, cut.view[i::9].sum, began) for i in range(8)]
            assert {one.result() for one in found} == {str(page * mmap.PAGESIZE)}


@pytest.mark.parametrize(
    ("failure", "raised"),
    [(ValueError, CutShortError), (KeyboardInterrupt, KeyboardInterrupt)],
)
def test_what_zeros_have_led_to_is_the_cause(
    failure: type[BaseException], raised: type[BaseException], tmp_path: Path
) -> None:
    cut = Cut(tmp_path / "x")

    def fail() -> None:
        cut.map.intact()
        cut.at(SIZE - 1)
        raise failure

    with pytest.raises(raised) as caught, watched():
        fail()
    assert isinstance(caught.value, failure) or isinstance(caught.value.__cause__, failure)


def test_maps_that_other_threads_close_trouble_nobody(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\1" * SIZE)
    over = threading.Event()

    def open_and_close() -> int:
        count = 0
        with open(tmp_path / "x", "rb") as file:
            while not over.is_set():
                with GuardedMap.of(file.fileno(), SIZE, told, access=mmap.ACCESS_READ) as made:
                    assert made.intact()
                count += 1
        return count

    with ThreadPoolExecutor(3) as pool:
        others = [pool.submit(open_and_close) for _ in range(3)]
        try:
            for _ in range(3000):
                with watched():
                    pass
        finally:
            over.set()
    assert all(other.result() for other in others)


def test_a_descriptor_that_is_another_files_meanwhile_tells_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x").write_bytes(b"\1" * SIZE)
    (tmp_path / "short").write_bytes(b"\1")
    with open(tmp_path / "x", "rb") as file:
        made = GuardedMap.of(file.fileno(), SIZE, told, access=mmap.ACCESS_READ)

    def size_of_another(looked_at: GuardedMap) -> int:
        monkeypatch.undo()
        looked_at.close()  # as another thread does while the system is asked
        return os.path.getsize(tmp_path / "short")

    with watched():
        assert made.intact()
        monkeypatch.setattr(GuardedMap, "size", size_of_another)


BEGIN = """
import faulthandler, mmap, os, signal, sys, time
import numpy as np
from chunkarr.storage.guard import GuardedMap, watched
from pathlib import Path
from tests.storage.test_guard import Cut, CutShortError
cut = Cut(Path(sys.argv[1]) / "x")
other = np.frombuffer(mmap.mmap(os.open(cut.path, os.O_RDWR), 4096), np.uint8)
def told():
    try:
        with watched():
            cut.at(0)
            cut.view.sum()
    except CutShortError:
        print("told")
"""
FAULTS: dict[str, tuple[str, int | None, str]] = {
    "nobody watches": ("cut.at(0); cut.view.sum()", signal.SIGBUS, ""),
    "another map": ("with watched(): cut.at(0); other.sum()", signal.SIGBUS, ""),
    "a view that is left": ("told(); cut.view.sum()", signal.SIGBUS, "told"),
    "sent from inside": ("with watched(): signal.raise_signal(7)", signal.SIGBUS, ""),
    "sent from outside": (
        "with watched(): os.kill(os.getpid(), 7); time.sleep(9)",
        signal.SIGBUS,
        "",
    ),
    "faulthandler": ("told()", None, "told"),
    "faulthandler, another": ("with watched(): cut.at(0); other.sum()", signal.SIGBUS, "Fatal"),
    "faulthandler, late": (
        "told(); faulthandler.enable(); cut = Cut(cut.path); told()",
        None,
        "told",
    ),
    "a handler of the user's": (
        "signal.signal(7, lambda *_: print('met'))\nwith watched(): signal.raise_signal(7)\ntold()",
        None,
        "met",
    ),
    "ignored": (
        "signal.signal(7, signal.SIG_IGN)\nwith watched(): signal.raise_signal(7)\ntold()",
        None,
        "told",
    ),
    "in a child": (
        """
with watched():
    if os.fork() == 0:
        told()
        os._exit(print("child", flush=True) or 0)
    os.wait()
""",
        None,
        "told",
    ),
    "at the end": ("keep = cut; sys.modules['keep'] = cut; told()", None, "told"),
}


@handled
@pytest.mark.parametrize("name", FAULTS)
def test_other_faults_are_what_they_were(name: str, tmp_path: Path) -> None:
    text, code, said = FAULTS[name]
    early = ["-X", "faulthandler"] if name in {"faulthandler", "faulthandler, another"} else []
    command = [sys.executable, *early, "-c", BEGIN + text, str(tmp_path)]
    ended = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == (0 if code is None else -code), ended.stderr
    assert said in ended.stdout + ended.stderr
    assert ("Fatal" in ended.stderr) == (said == "Fatal"), ended.stderr
    assert "Traceback" not in ended.stderr
