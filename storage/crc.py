"""The CRC-32 of a whole file, from pieces that are read in any order.

Checksums of neighbouring pieces combine to that of both: appending n bytes multiplies the first by
x**(8 n) modulo CRC's polynomial, as zlib's `crc32_combine` does, which Python does not give. So
whoever reads a file piece by piece, in any order and from several threads, knows at its last piece
whether the whole was right, and nothing is read twice for it.
"""

from __future__ import annotations

import bisect
import threading
import zlib
from functools import cache, lru_cache

_POLYNOMIAL = 0xEDB88320
"""CRC-32's, its lowest power in the highest bit."""
PIECES_MAX = 4096
"""Pieces that do not touch each other; beyond, the reader jumps about and nothing is checked."""


def combine(first: int, second: int, size_second: int) -> int:
    """Give the checksum of two pieces after each other.

    >>> combine(zlib.crc32(b"chunk"), zlib.crc32(b"arr"), 3) == zlib.crc32(b"chunkarr")
    True
    """
    return _multiply(_append(size_second), first) ^ second


def _multiply(a: int, b: int) -> int:
    """Multiply two polynomials modulo CRC's; `a` is not zero."""
    product, bit = 0, 1 << 31
    while True:
        if a & bit:
            product ^= b
            if not a & (bit - 1):
                return product
        bit >>= 1
        b = b >> 1 ^ _POLYNOMIAL if b & 1 else b >> 1


@cache
def _squared(times: int) -> int:
    """Give x squared so many times."""
    if not times:
        return 1 << 30
    half = _squared(times - 1)
    return _multiply(half, half)


@lru_cache(1024)
def _append(size: int) -> int:
    """Give x**(8 size), by which a checksum is multiplied when so many bytes follow."""
    power = 1 << 31
    for place in range(size.bit_length()):
        if size >> place & 1:
            power = _multiply(_squared(place + 3), power)
    return power


class PieceChecksum:
    """Collects the checksums of pieces of `size` bytes until the whole is known.

    >>> whole = PieceChecksum(8, zlib.crc32(b"chunkarr"))
    >>> whole.add(5, memoryview(b"arr")), whole.add(0, memoryview(b"chunk"))
    (True, True)
    >>> whole.open
    False
    """

    def __init__(self, size: int, expected: int) -> None:
        self._size, self._expected = size, expected
        self._starts: list[int] = []
        self._pieces: dict[int, tuple[int, int]] = {}
        self._lock = threading.Lock()
        self.open = True
        """Whether there is still something to learn."""

    def add(self, start: int, data: memoryview) -> bool:
        """Take the bytes at a place; False if now all are known and their checksum is wrong."""
        for low, high in self._unknown(start, start + data.nbytes):
            crc = zlib.crc32(data[low - start : high - start])
            with self._lock:
                if self._gaps(low, high) == [(low, high)]:
                    self._enter(low, high, crc)
                if self._starts == [0] and self._pieces[0][0] == self._size:
                    self.open = False
                    return self._pieces[0][1] == self._expected
                self.open = len(self._starts) <= PIECES_MAX
        return True

    def _unknown(self, start: int, stop: int) -> list[tuple[int, int]]:
        with self._lock:
            return self._gaps(start, stop) if self.open else []

    def _gaps(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Give the parts of a range that no piece covers."""
        gaps = []
        at = max(0, bisect.bisect_right(self._starts, start) - 1)
        for low in self._starts[at:]:
            if low >= stop:
                break
            if start < low:
                gaps.append((start, low))
            start = max(start, self._pieces[low][0])
        if start < stop:
            gaps.append((start, stop))
        return gaps

    def _enter(self, low: int, high: int, crc: int) -> None:
        """Enter a piece, joined with those that it touches."""
        at = bisect.bisect_left(self._starts, low)
        if at < len(self._starts) and self._starts[at] == high:
            del self._starts[at]
            end, after = self._pieces.pop(high)
            high, crc = end, combine(crc, after, end - high)
        if at and self._pieces[self._starts[at - 1]][0] == low:
            first = self._starts[at - 1]
            self._pieces[first] = (high, combine(self._pieces[first][1], crc, high - low))
        else:
            self._starts.insert(at, low)
            self._pieces[low] = (high, crc)
