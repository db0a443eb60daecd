"""Decoded chunks that several tasks want, held up to a number of bytes.

Neighbouring tasks of a windowed operation read each other's edges, and a chunk must be decompressed
whole for a strip of it. The caller gives the cache its size out of the memory limit; without one it
holds nothing. Two threads that want the same chunk at once decode it once.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from chunkarr.storage.store import NDArray


class ChunkCache:
    """The least recently used chunks go first when the bytes do not suffice.

    >>> import numpy as np
    >>> cache = ChunkCache()
    >>> cache.resize(1 << 20)
    >>> cache.get("a", lambda: np.zeros(4)) is cache.get("a", lambda: np.ones(4))
    True
    """

    def __init__(self) -> None:
        self.bytes_max = 0
        self.bytes_held = 0
        self._chunks: OrderedDict[Hashable, NDArray] = OrderedDict()
        self._making: dict[Hashable, threading.Event] = {}
        self._lock = threading.Lock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    def resize(self, bytes_max: int) -> None:
        """Set how many bytes may be held; 0 turns the cache off and empties it."""
        with self._lock:
            self.bytes_max = bytes_max
            self._shrink()

    def hold(self, bytes_max: int) -> None:
        """Set how many bytes may be held; costs nothing where that stays."""
        if bytes_max != self.bytes_max:
            self.resize(bytes_max)

    def get(self, key: Hashable, make: Callable[[], NDArray]) -> NDArray:
        """Give the chunk of a key, made by this call or an earlier one; it must not be changed."""
        if not self.bytes_max:
            return make()
        while True:
            with self._lock:
                found = self._chunks.get(key)
                if found is not None:
                    self._chunks.move_to_end(key)
                    return found
                making = self._making.get(key)
                if making is None:
                    making = self._making[key] = threading.Event()
                    break
            # If the other thread fails, the next round makes the chunk here and meets the error.
            making.wait()
        try:
            chunk = make()
            chunk.flags.writeable = False
            with self._lock:
                self._enter(key, chunk)
            return chunk
        finally:
            with self._lock:
                self._making.pop(key, None)
            making.set()

    def _enter(self, key: Hashable, chunk: NDArray) -> None:
        if chunk.nbytes <= self.bytes_max:
            self._chunks[key] = chunk
            self.bytes_held += chunk.nbytes
            self._shrink()

    def _shrink(self) -> None:
        while self.bytes_held > self.bytes_max:
            _, dropped = self._chunks.popitem(last=False)
            self.bytes_held -= dropped.nbytes

    def _after_fork(self) -> None:
        # Another thread may have held the lock or been making a chunk at the fork.
        self._lock = threading.Lock()
        self._making = {}


chunk_cache = ChunkCache()
"""The cache that all stores of this process share."""
