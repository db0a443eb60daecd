"""Random numbers as a store: one ordered stream, drawn again wherever it is read.

NumPy's generators give numbers one after the other, so the millionth is found by drawing those
before it. A `Stream` does that in windows and keeps the generator's state at some of them: whoever
reads a box starts at the nearest state before it. Windows that somebody else is drawing already are
waited for, so that workers side by side share one pass. Where every number takes one step of a
generator that can jump, any place is reached at once and nothing is waited for.

Rejected: a generator per chunk, as other libraries do. Its numbers depend on the chunks and are not
NumPy's.
"""

from __future__ import annotations

import bisect
import math
import threading
import uuid
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np

from chunkarr.grid import Grid, Region, fair_bytes, region_shape
from chunkarr.settings import settings
from chunkarr.storage.npy import contiguous_axes
from chunkarr.storage.store import NDArray, Store

MARKS_MAX = 512
"""States kept along a stream; one of MT19937 takes 2.5 KiB."""
MARKS_SENT = 64
"""States that travel when a stream is pickled."""
IDLE_MAX = 4
"""Generators that stand where somebody stopped reading."""
HELD_BYTES = 8 << 20
"""Windows drawn last, of all streams together."""
HELD_MAX = 256
WINDOW_UNIT = 32
"""Booleans share a word among so many, and a window has to begin with a new word."""
STEP_BYTES = 1 << 18
"""Numbers that can be reached by a jump are drawn in pieces of this size."""

State = dict[str, Any]
Source = np.random.Generator | np.random.RandomState
Mark = tuple[State, NDArray | None]
"""The state before a window, and what was left of the last word of a `PartDraw`."""

JUMPING = ("PCG64", "PCG64DXSM", "Philox")
"""Bit generators that can skip any number of steps."""


def revive(state: State, *, legacy: bool) -> Source:
    """Make a generator that continues from a state."""
    bits = getattr(np.random, state["bit_generator"])(0)
    if legacy:
        old = np.random.RandomState(bits)
        old.set_state(state)
        return old
    bits.state = state
    return np.random.Generator(bits)


def state_of(source: Source) -> State:
    """Give the state that `revive` continues from."""
    if isinstance(source, np.random.RandomState):
        legacy: Any = source.get_state(legacy=False)
        return dict(legacy)
    return dict(source.bit_generator.state)


def jump(state: State, count: int, *, single: bool = False) -> State:
    """Give the state after `count` doubles; floats of single precision take half a step each."""
    if not count:
        return state
    if not single:
        # Doubles take whole words and leave the half that waits for the next single alone.
        kept = {name: state[name] for name in ("has_uint32", "uinteger")}
        return _skip_words(state, count) | kept
    if state["has_uint32"]:
        state, count = state | {"has_uint32": 0}, count - 1
    words = max(0, (count + 1) // 2 - 1)
    source = revive(_skip_words(state, words) if words else state, legacy=False)
    assert isinstance(source, np.random.Generator)
    source.random(count - 2 * words, dtype=np.float32)
    return dict(source.bit_generator.state)


def _skip_words(state: State, count: int) -> State:
    bits = getattr(np.random, state["bit_generator"])(0)
    bits.state = state
    if "buffer_pos" in state:
        # Philox counts in fours: the rest of the buffer comes first, then whole buffers.
        buffered = 4 - state["buffer_pos"]
        if count > buffered:
            fours, count = divmod(count - buffered, 4)
            if fours and not count:
                fours, count = fours - 1, 4  # the buffer is filled as drawing would leave it
            bits.advance(fours)
        bits.random_raw(count, output=False)
    else:
        bits.advance(count)
    return dict(bits.state)


class Along:
    """A parameter with a value for each number, broadcast against the result."""

    def __init__(self, array: NDArray) -> None:
        self.array = array

    def part(self, shape: tuple[int, ...], start: int, stop: int) -> NDArray:
        """Give the values of a run of the result in C order."""
        flat: NDArray = np.broadcast_to(self.array, shape).flat[start:stop]
        return flat


@dataclass(eq=False)
class Cursor:
    """A generator that stands before a window."""

    window: int
    source: Source
    rest: NDArray | None
    """What is left of the last word, for draws of parts of words."""

    def mark(self) -> Mark:
        """Give what is needed to continue from here."""
        return state_of(self.source), self.rest


@dataclass(frozen=True)
class Draw:
    """What is drawn: a method of NumPy's generators with its arguments, and the result's shape.

    `shape` counts the draws; each gives one item of shape `item`. `jumps` says that each takes
    exactly one "double" or "single" of a generator that can jump; else it is empty.
    """

    method: str
    named: dict[str, Any]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    item: tuple[int, ...] = ()
    legacy: bool = False
    jumps: str = ""

    @property
    def count(self) -> int:
        """Number of items."""
        return math.prod(self.shape)

    @property
    def item_bytes(self) -> int:
        """Bytes of one item."""
        return max(1, math.prod(self.item) * self.dtype.itemsize)

    def cursor(self, window: int, mark: Mark) -> Cursor:
        """Continue from a mark."""
        state, rest = mark
        return Cursor(window, revive(state, legacy=self.legacy), rest)

    def next(self, cursor: Cursor, start: int, count: int) -> NDArray:
        """Draw the items from `start`, before which the cursor stands."""
        named = {
            name: value.part(self.shape, start, start + count)
            if isinstance(value, Along)
            else value
            for name, value in self.named.items()
        }
        drawn: NDArray = getattr(cursor.source, self.method)(size=(count,), **named)
        return drawn


@dataclass(frozen=True)
class PartDraw(Draw):
    """Integers of one or two bytes, several of which come from one word.

    NumPy drops what is left of a word when a call ends, so drawing in windows has to do its own
    rejection: `named` holds the lowest value, and how many values there are above it.
    """

    def next(self, cursor: Cursor, start: int, count: int) -> NDArray:
        """Draw the items from `start`, before which the cursor stands."""
        part = np.dtype(f"<u{self.dtype.itemsize}")
        per_word = 4 // part.itemsize
        found: list[NDArray] = []
        wanted = count
        while wanted:
            # Never more words than certainly needed: each gives at most `per_word` numbers.
            raw = cursor.rest if cursor.rest is not None else self._words(cursor, wanted, per_word)
            good, values = self._accepted(raw)
            taken = min(wanted, len(values))
            found.append(values[:taken])
            wanted -= taken
            used = int(good[taken - 1]) + 1 if taken and not wanted else len(raw)
            cursor.rest = raw[used:] if used < len(raw) else None
        low = np.array(self.named["low"]).astype(np.int64).astype(part)
        drawn: NDArray = (np.concatenate(found) + low).astype(part).view(self.dtype)
        return drawn

    def _words(self, cursor: Cursor, wanted: int, per_word: int) -> NDArray:
        count = -(-wanted // per_word)
        full = {"low": 0, "high": 1 << 32, "size": count, "dtype": np.uint32}
        source: Any = cursor.source
        words = source.randint(**full) if self.legacy else source.integers(**full)
        raw: NDArray = words.astype("<u4").view(f"<u{self.dtype.itemsize}")
        return raw

    def _accepted(self, raw: NDArray) -> tuple[NDArray, NDArray]:
        """Give which parts of words NumPy accepts, and the values they stand for."""
        bits, span = 8 * self.dtype.itemsize, int(self.named["span"])
        if self.legacy:
            mask = (1 << span.bit_length()) - 1
            values = raw & raw.dtype.type(mask)
            good = np.flatnonzero(values <= span)
        else:
            # Lemire's method: the high half of a product, where the low half is not too small.
            product = raw.astype(np.uint32) * np.uint32(span + 1)
            least = ((1 << bits) - 1 - span) % (span + 1)
            good = np.flatnonzero((product & np.uint32((1 << bits) - 1)) >= least)
            values = (product >> np.uint32(bits)).astype(raw.dtype)
        return good, values[good]


_streams: weakref.WeakValueDictionary[str, Stream] = weakref.WeakValueDictionary()


class _Held:
    """The windows drawn last, for readers that come next."""

    def __init__(self) -> None:
        self._windows: OrderedDict[tuple[str, int], NDArray] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: tuple[str, int]) -> NDArray | None:
        return self._windows.get(key)

    def put(self, key: tuple[str, int], values: NDArray) -> None:
        with self._lock:
            old = self._windows.pop(key, None)
            self._windows[key] = values
            self._bytes += values.nbytes - (0 if old is None else old.nbytes)
            while len(self._windows) > 1 and (
                self._bytes > HELD_BYTES or len(self._windows) > HELD_MAX
            ):
                _, oldest = self._windows.popitem(last=False)
                self._bytes -= oldest.nbytes


_held = _Held()


class Stream:
    """The numbers of one draw in order, readable anywhere, for any number of threads.

    `start` is the state before the first number, or the stream whose end it is: that one is run
    through only when somebody reads.
    """

    def __init__(self, draw: Draw, start: State | Stream, window: int) -> None:
        self.key = uuid.uuid4().hex
        self.draw, self.window = draw, window
        self.count = -(-draw.count // window)
        self.start = start
        self._marks: dict[int, Mark] = {}
        self._spacing = 1
        self._places: list[int] = []  # of the marks, in order
        self._idle: list[Cursor] = []
        self._running: list[Cursor] = []
        self._changed = threading.Condition()
        self.windows_drawn = 0
        _streams[self.key] = self

    @property
    def known(self) -> bool:
        """Whether the end can be told without drawing."""
        jumps = bool(self.draw.jumps) and not isinstance(self.start, Stream)
        return jumps or self.count in self._marks

    def start_state(self) -> State:
        """Give the state before the first number."""
        chain = [self]
        while isinstance(chain[-1].start, Stream):
            chain.append(chain[-1].start)
        for later in reversed(chain[:-1]):
            before = later.start
            if isinstance(before, Stream):
                later.start = before.end_state()
        assert not isinstance(self.start, Stream)
        return self.start

    def end_state(self) -> State:
        """Give the state after the last number, running through the stream if nobody did."""
        if self.draw.jumps:
            return self._jumped(self.draw.count)
        while True:
            with self._changed:
                self._first_mark()
                if self.count in self._marks:
                    return self._marks[self.count][0]
                cursor = self._take(self.count - 1)
                if cursor is None:
                    self._changed.wait()
                    continue
            self._run(cursor, self.count)

    def read(self, start: int, out: NDArray) -> None:
        """Fill `out` with the items from `start`."""
        if self.draw.jumps:
            self._read_jumping(start, out)
            return
        done = 0
        while done < len(out):
            window, skip = divmod(start + done, self.window)
            values = self._window(window)
            count = min(len(values) - skip, len(out) - done)
            out[done : done + count] = values[skip : skip + count]
            done += count

    def _jumped(self, count: int) -> State:
        return jump(self.start_state(), count, single=self.draw.jumps == "single")

    def _read_jumping(self, start: int, out: NDArray) -> None:
        cursor = self.draw.cursor(0, (self._jumped(start), None))
        step = max(1, STEP_BYTES // self.draw.item_bytes)
        for done in range(0, len(out), step):
            count = min(step, len(out) - done)
            out[done : done + count] = self.draw.next(cursor, start + done, count)

    def _window(self, window: int) -> NDArray:
        with self._changed:
            self._first_mark()
            while True:
                found = _held.get((self.key, window))
                if found is not None:
                    return found
                cursor = self._take(window)
                if cursor is not None:
                    break
                self._changed.wait()
        return self._run(cursor, window + 1)

    def _first_mark(self) -> None:
        if 0 not in self._marks:
            self._set_mark(0, (self.start_state(), None))

    def _set_mark(self, at: int, mark: Mark) -> None:
        if at not in self._marks:
            bisect.insort(self._places, at)
        self._marks[at] = mark

    def _take(self, window: int) -> Cursor | None:
        """Give the nearest cursor before a window, or None where a running one is nearer."""
        saved = self._places[bisect.bisect_right(self._places, window) - 1]
        idle = max(
            (c for c in self._idle if c.window <= window), key=lambda c: c.window, default=None
        )
        nearest = saved if idle is None else max(saved, idle.window)
        if any(nearest <= cursor.window <= window for cursor in self._running):
            return None
        if idle is not None and idle.window == nearest:
            self._idle.remove(idle)
            cursor = idle
        else:
            cursor = self.draw.cursor(saved, self._marks[saved])
        self._running.append(cursor)
        return cursor

    def _run(self, cursor: Cursor, stop: int) -> NDArray:
        """Draw windows up to one, and give the last of them."""
        try:
            while True:
                first = cursor.window * self.window
                count = min(self.window, self.draw.count - first)
                values = self.draw.next(cursor, first, count)
                _held.put((self.key, cursor.window), values)
                with self._changed:
                    cursor.window += 1
                    self.windows_drawn += 1
                    self._enter_mark(cursor)
                    self._changed.notify_all()
                    if cursor.window == stop:
                        self._idle.append(cursor)
                        del self._idle[:-IDLE_MAX]
                        return values
        finally:
            with self._changed:
                self._running.remove(cursor)
                self._changed.notify_all()

    def _enter_mark(self, cursor: Cursor) -> None:
        """Keep the state before the next window if it is due, and of twice as many half."""
        at = cursor.window
        if at != self.count and (at % self._spacing or at in self._marks):
            return
        if len(self._marks) >= MARKS_MAX:
            self._spacing *= 2
            kept = {
                k: v for k, v in self._marks.items() if k % self._spacing == 0 or k == self.count
            }
            self._marks, self._places = kept, sorted(kept)
        if at == self.count or at % self._spacing == 0:
            self._set_mark(at, cursor.mark())

    def __reduce__(self) -> tuple[object, ...]:
        start = self.start_state()
        with self._changed:
            marks = sorted(self._marks.items())
        step = -(-len(marks) // MARKS_SENT) or 1
        return _opened, (self.key, self.draw, start, self.window, dict(marks[::step]))


def _opened(key: str, draw: Draw, start: State, window: int, marks: dict[int, Mark]) -> Stream:
    """Make a pickled stream again, once in each process."""
    found = _streams.get(key)
    if found is None:
        found = Stream(draw, start, window)
        _streams.pop(found.key, None)
        found.key = key
        found = _streams.setdefault(key, found)
    with found._changed:  # noqa: SLF001 - what its constructor would do
        for at, mark in marks.items():
            found._set_mark(at, mark)  # noqa: SLF001
    return found


class StreamStore(Store):
    """An array of random numbers that is drawn where it is read, the same each time."""

    drawn = True

    def __init__(self, draw: Draw, start: State | Stream, *, window: int | None = None) -> None:
        bytes_cell = fair_bytes(settings().chunk_bytes, draw.count * draw.item_bytes)
        if window is None:
            window = max(1, bytes_cell // 4 // draw.item_bytes)
            if not draw.item:
                window = -(-window // WINDOW_UNIT) * WINDOW_UNIT
        self.stream = Stream(draw, start, window)
        self.shape = draw.shape + draw.item
        self.dtype = draw.dtype
        self.name = f"random.{draw.method}"
        cut = _band_cut(draw.shape, max(1, bytes_cell // draw.item_bytes))
        self.grid = Grid(self.shape, (*cut, *(max(1, n) for n in draw.item)))

    @property
    def recipe(self) -> object:
        """The draws on the way here, and the state before the first."""
        draws, at = [self.stream.draw], self.stream.start
        while isinstance(at, Stream):
            draws.append(at.draw)
            at = at.start
        return draws, at

    @property
    def bytes_read_extra(self) -> int:
        """A window that is drawn, those held for the next readers, and states."""
        draw = self.stream.draw
        if draw.jumps:
            return max(STEP_BYTES, draw.item_bytes)
        window = min(self.stream.window, draw.count) * draw.item_bytes
        return 2 * window + max(window, min(HELD_BYTES, self.bytes_size)) + MARKS_MAX * 4096

    def read(self, region: Region) -> NDArray:
        """Give a box as a new array."""
        axes = len(self.stream.draw.shape)
        item = self.stream.draw.item
        whole = region_shape(region[axes:]) == item
        out: NDArray = np.empty(region_shape(region[:axes]) + item, self.dtype)
        if out.size:
            self._fill(out, region[:axes], self.shape[:axes], 0)
        cut = (slice(None),) * axes + region[axes:]
        return out if whole else out[cut].copy()

    def _fill(self, out: NDArray, region: Region, shape: tuple[int, ...], offset: int) -> None:
        """Fill a box of the C-ordered array of `shape` that begins at item `offset`."""
        row = math.prod(shape[1:])
        if contiguous_axes(region, shape) == 0:
            place = offset + (region[0].start * row if region else 0)
            item = self.stream.draw.item
            self.stream.read(place, out.reshape(-1, *item))
            return
        most = max(1, STEP_BYTES // self.stream.draw.item_bytes)
        if row > most:
            for i in range(region[0].start, region[0].stop):
                self._fill(out[i - region[0].start], region[1:], shape[1:], offset + i * row)
            return
        # Rows are small: draw some whole ones and cut the box out of them.
        for first in range(region[0].start, region[0].stop, most // row):
            rows = min(most // row, region[0].stop - first)
            drawn: NDArray = np.empty((rows, *shape[1:], *self.stream.draw.item), self.dtype)
            self.stream.read(offset + first * row, drawn.reshape(-1, *self.stream.draw.item))
            at = first - region[0].start
            out[at : at + rows] = drawn[(slice(None), *region[1:])]

    def __repr__(self) -> str:
        return f"StreamStore({self.name}, shape={self.shape}, dtype={self.dtype})"


def _band_cut(shape: tuple[int, ...], items: int) -> tuple[int, ...]:
    """Cut a C-ordered array into runs of at most `items`."""
    cut: list[int] = []
    for n in reversed(shape):
        size = max(1, min(n, items))
        cut.append(size)
        # Behind an axis that is cut, the earlier ones are taken one by one.
        items = items // size if size >= n else 1
    return tuple(reversed(cut))
