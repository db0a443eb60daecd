"""Bit generators that may owe a draw: NumPy's own, told when somebody is about to use them.

A large array of random numbers is drawn when it is read, but the generator has to stand behind it
already for whoever draws next. Where no jump leads there, the way is run only when it is needed.
NumPy takes a bit generator's lock around each draw and asks for its `state`; these classes pay at
both. So it does not matter who draws: chunkarr, a library that was given the generator, or code
that uses `numpy.random` and its one shared state.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from chunkarr.storage.stream import Stream

Source = np.random.Generator | np.random.RandomState


if TYPE_CHECKING:
    _Base = np.random.BitGenerator
else:
    _Base = object  # NumPy's classes come second: two bases in C do not go together


class _Lock:
    """NumPy's lock of a bit generator, whose holder finds nothing owed.

    Ctrl-C is noticed where a function of Python's begins and where a call has ended. So the lock is
    released by its own methods, and taken while a list is extended, where nothing is noticed: else
    an interrupt could leave it taken for ever.
    """

    def __init__(self, owner: Owing, lock: Any) -> None:
        self.owner, self.lock = owner, lock

    def __enter__(self) -> None:
        taken: list[bool] = []
        try:
            taken.extend(map(self.lock.acquire, (True,)))
            self.owner.settle()
        except BaseException:
            if taken:
                self.lock.release()
            raise

    __exit__: Any = property(operator.attrgetter("lock.__exit__"))
    acquire: Any = property(operator.attrgetter("lock.acquire"))
    release: Any = property(operator.attrgetter("lock.release"))


def _seed(value: Any) -> Any:
    """Give NumPy's array for a chunked one, which NumPy would not take for a seed."""
    return np.asarray(value) if hasattr(value, "to_expr") else value


class Owing(_Base):
    """What the bit generators below have beside NumPy's."""

    _owed: tuple[Source, Stream] | None = None
    _lock: _Lock | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        seeds, named = map(_seed, args), {k: _seed(v) for k, v in kwargs.items()}
        super().__init__(*seeds, **named)

    @property
    def bare_lock(self) -> Any:
        """NumPy's own lock, which settles nothing."""
        return super().lock

    @property
    def lock(self) -> Any:  # type: ignore[override]
        """The lock that is held while numbers are drawn."""
        if self._lock is None:
            self._lock = _Lock(self, self.bare_lock)
        return self._lock

    @property
    def owed(self) -> tuple[Source, Stream] | None:
        """The stream at whose end this has to stand, and for which generator; or None."""
        return self._owed

    def owe(self, source: Source, stream: Stream) -> None:
        """Stand at the end of a stream from now on, getting there when somebody asks."""
        self._owed = source, stream

    def settle(self) -> None:
        """Get to where this has to stand."""
        if self._owed is None:
            return
        with self.bare_lock:
            if self._owed is not None:
                source, stream = self._owed
                state = stream.end_state()
                self._owed = None
                if isinstance(source, np.random.RandomState):
                    source.set_state(state)
                else:
                    source.bit_generator.state = state

    @property
    def state(self) -> Any:
        """The state, as NumPy gives it."""
        self.settle()
        return super().state

    @state.setter
    def state(self, value: Any) -> None:
        self._owed = None
        theirs: Any = super(Owing, type(self))
        theirs.state.__set__(self, value)

    def random_raw(self, size: Any = None, output: bool = True) -> Any:
        """Give the words themselves."""
        self.settle()
        theirs: Any = super()
        return theirs.random_raw(size, output)

    def _legacy_seeding(self, seed: Any) -> None:
        self._owed = None
        theirs: Any = super()
        theirs._legacy_seeding(seed)  # noqa: SLF001 - what NumPy's `seed` calls


class Jumping(Owing):
    """What generators have that can jump far ahead."""

    def jumped(self, jumps: int = 1) -> Any:
        """Give a new generator far ahead."""
        self.settle()
        theirs: Any = super()
        return theirs.jumped(jumps)


class Skipping(Jumping):
    """What generators have that can skip words."""

    def advance(self, delta: int) -> Any:
        """Skip words."""
        self.settle()
        theirs: Any = super()
        return theirs.advance(delta)


class PCG64(Skipping, np.random.PCG64):
    """`numpy.random.PCG64`."""


class PCG64DXSM(Skipping, np.random.PCG64DXSM):
    """`numpy.random.PCG64DXSM`."""


class MT19937(Jumping, np.random.MT19937):
    """`numpy.random.MT19937`."""


class Philox(Skipping, np.random.Philox):
    """`numpy.random.Philox`."""


class SFC64(Owing, np.random.SFC64):
    """`numpy.random.SFC64`."""
