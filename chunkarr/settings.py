"""The few settings there are: how much memory, how many workers, where to spill.

`settings()` gives the ones in force as one frozen `Settings`, cheap enough to be asked for at each
operation. `config(...)` changes them, for the process or for a block:

>>> with config(memory="1 GiB", workers=2):
...     settings().memory
1073741824

Three layers lie on top of each other: what the machine allows, the environment (`CHUNKARR_MEMORY`
and so on) together with plain calls of `config`, and the blocks around the running code. A block
holds for its own thread or coroutine only, which a process-wide variable could not promise; a plain
call holds everywhere. Nothing is looked up at import: a machine's free memory is asked for when it
is needed first.
"""

from __future__ import annotations

import difflib
import math
import operator
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, fields
from typing import Any, SupportsIndex, cast

from chunkarr.errors import ConfigError, format_bytes
from chunkarr.machine import memory_free, memory_used, processors, scratch_directory

PREFIX = "CHUNKARR_"
FOREIGN = ("CHUNKARR_CACHE_DIR", "CHUNKARR_FAULT", "CHUNKARR_KERNELS")
"""Environment variables that the kernels and the fault points read themselves."""
MEMORY_PERCENT = 60
SECONDS_SPARE = 0.05
"""How old the answer to what is free may be, which takes as long as a small run to find."""
CHUNK_BYTES = 4 << 20
EAGER_BYTES = 256 << 10
EXECUTORS = ("threads", "processes")


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings in force."""

    memory: int
    """Most bytes that all processes together may hold, this one and its libraries included."""
    workers: int
    """How many tasks run at the same time."""
    executor: object
    """ "threads", "processes", the address of a Dask scheduler, or a `distributed.Client`."""
    spill_dir: str
    """Where intermediates go that do not fit; the temporary directory unless that is in memory."""
    chunk_bytes: int
    """The size of chunk that plans aim at where neither storage nor operation prefers another."""
    eager_bytes: int
    """Work on arrays in memory up to this size is done at once by NumPy; 0 turns that off."""


NAMES = tuple(field.name for field in fields(Settings))
_UNSET: Any = ...
"""Stands for "not given", because None is a value: it gives the default back."""


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    """A value and where it came from; compared by identity, so that a call can undo itself."""

    value: Any
    source: str


class _Block:
    """The entries that the `with` blocks around the running code have set."""

    __slots__ = ("entries", "known")

    def __init__(self, entries: Mapping[str, _Entry]) -> None:
        self.entries = dict(entries)
        self.known: tuple[int, Settings] | None = None


class Change:
    """What `config(...)` returns: in force already, and limited to a block when entered."""

    def __init__(
        self,
        owner: Config,
        entries: Mapping[str, _Entry],
        before: Mapping[str, _Entry | None],
        block: _Block | None,
    ) -> None:
        self._owner, self._entries, self._before = owner, entries, before
        self._block = block
        self._outer: list[_Block | None] = []

    def __enter__(self) -> Settings:
        """Limit the change to the block."""
        if not self._outer:
            self._owner._undo(self._entries, self._before, self._block)  # noqa: SLF001 - one class in two parts
        self._outer.append(self._owner._enter(self._entries))  # noqa: SLF001 - as above
        return self._owner.current()

    def __exit__(self, *_: object) -> None:
        """Put back what held before the block."""
        self._owner._leave(self._outer.pop())  # noqa: SLF001 - as above

    def __repr__(self) -> str:
        """Show the settings in force."""
        return repr(self._owner)


class Config:
    """Settings that are changed by calling: `config(memory="1 GiB")`, alone or after `with`.

    A plain call holds for the process from then on. After `with` the change holds for the block and
    for the thread or coroutine that entered it. `None` gives a setting its default back.

    >>> with config(memory="512 MB"):
    ...     settings().memory
    512000000
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._environ = environ
        self._lock = threading.RLock()
        self._process: dict[str, _Entry] = {}
        self._defaults: dict[str, _Entry] = {}
        self._version = 0
        self._known: tuple[int, Settings] | None = None
        self._started = False
        self._spare, self._spare_until = 0, -math.inf
        self._blocks: ContextVar[_Block | None] = ContextVar("chunkarr_config", default=None)

    def __call__(
        self,
        *,
        memory: str | float | None = _UNSET,
        workers: int | str | None = _UNSET,
        executor: object = _UNSET,
        spill_dir: str | os.PathLike[str] | None = _UNSET,
        chunk_bytes: str | float | None = _UNSET,
        eager_bytes: str | float | None = _UNSET,
        **unknown: object,
    ) -> Change:
        """Check the given settings and put them in force."""
        for name in unknown:
            raise ConfigError(_unknown("setting", name, NAMES))
        asked = {
            "memory": memory,
            "workers": workers,
            "executor": executor,
            "spill_dir": spill_dir,
            "chunk_bytes": chunk_bytes,
            "eager_bytes": eager_bytes,
        }
        with self._lock:
            self._start()
            entries = {
                name: self._default(name)
                if value is None
                else _Entry(CHECKS[name](name, value), _call(name, value))
                for name, value in asked.items()
                if value is not _UNSET
            }
            before = {name: self._process.get(name) for name in entries}
            self._process.update(entries)
            self._version += 1
        block = self._blocks.get()
        if block is not None and any(name in block.entries for name in entries):
            # A plain call takes effect at once, also where a block around it says otherwise.
            self._blocks.set(_Block({**block.entries, **entries}))
        return Change(self, entries, before, block)

    def current(self) -> Settings:
        """Give the settings in force here."""
        block = self._blocks.get()
        known = self._known if block is None else block.known
        if known is not None and known[0] == self._version:
            return known[1]
        with self._lock:
            values = Settings(**{name: self._entry(name).value for name in NAMES})
            if block is None:
                self._known = (self._version, values)
            else:
                block.known = (self._version, values)
        return values

    def source(self, name: str) -> str:
        """Tell where the value of a setting comes from."""
        if name not in NAMES:
            raise ConfigError(_unknown("setting", name, NAMES))
        with self._lock:
            return self._entry(name).source

    def is_default(self, name: str) -> bool:
        """Whether nobody has set a setting."""
        with self._lock:
            return self._entry(name) is self._default(name)

    def spare(self) -> int | None:
        """Give the bytes that others leave a plan now; None where somebody has set the limit."""
        if not self.is_default("memory"):
            return None
        now = time.monotonic()
        if now >= self._spare_until:
            self._spare = memory_free(self._environ).amount * MEMORY_PERCENT // 100
            self._spare_until = now + SECONDS_SPARE
        return self._spare

    def __repr__(self) -> str:
        """Show each setting, its value and where that comes from."""
        current = self.current()
        rows = [(name, _spell(name, getattr(current, name)), self.source(name)) for name in NAMES]
        width = max(len(value) for _, value, _ in rows)
        lines = [f"  {name:<11}  {value:<{width}}  {source}" for name, value, source in rows]
        return "\n".join(["chunkarr.config", *lines])

    def _entry(self, name: str) -> _Entry:
        self._start()
        block = self._blocks.get()
        if block is not None and name in block.entries:
            return block.entries[name]
        return self._process.get(name) or self._default(name)

    def _start(self) -> None:
        """Read the environment, once; a name that is not ours is an error and not a typo lost."""
        if self._started:
            return
        known = {PREFIX + name.upper(): name for name in NAMES}
        read: dict[str, _Entry] = {}
        for variable, text in sorted(self._environ.items()):
            if not variable.startswith(PREFIX) or variable in FOREIGN:
                continue
            if variable not in known:
                raise ConfigError(_unknown("environment variable", variable, [*known, *FOREIGN]))
            if text.strip():
                value = CHECKS[known[variable]](variable, text.strip())
                read[known[variable]] = _Entry(value, f"environment variable {variable}")
        self._process.update(read)
        self._started = True

    def _default(self, name: str) -> _Entry:
        if name not in self._defaults:
            self._defaults[name] = DEFAULTS[name](self._environ)
        return self._defaults[name]

    def _enter(self, entries: Mapping[str, _Entry]) -> _Block | None:
        outer = self._blocks.get()
        self._blocks.set(_Block({**(outer.entries if outer else {}), **entries}))
        return outer

    def _leave(self, outer: _Block | None) -> None:
        self._blocks.set(outer)

    def _undo(
        self,
        entries: Mapping[str, _Entry],
        before: Mapping[str, _Entry | None],
        block: _Block | None,
    ) -> None:
        """Take a plain call back, except where a later one has replaced it."""
        with self._lock:
            for name, entry in entries.items():
                if self._process.get(name) is not entry:
                    continue
                previous = before[name]
                if previous is None:
                    del self._process[name]
                else:
                    self._process[name] = previous
            self._version += 1
        if block is not None:
            self._blocks.set(block)


def parse_bytes(name: str, value: object) -> int:
    """Read a number of bytes: an integer, or text such as "4GiB" or "512 MB".

    >>> parse_bytes("memory", "1.5 KiB")
    1536
    """
    if isinstance(value, str):
        found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-z]*)", value.strip())
        unit = found[2].upper() if found else None
        if found is None or unit not in UNITS:
            msg = f"{name}: cannot read {value!r} as a number of bytes; write for example "
            raise ConfigError(msg + '"4GiB", "512 MB" or a number')
        count = float(found[1]) if "." in found[1] else int(found[1])
        return int(count * UNITS[unit])
    return _integer(name, value, 'a number of bytes or text such as "4GiB"')


def memory_source() -> str:
    """Tell where the memory limit in force comes from."""
    return config.source("memory")


def settings() -> Settings:
    """Give the settings in force here."""
    return config.current()


def _integer(name: str, value: object, expected: str) -> int:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(cast("SupportsIndex", value))
    except TypeError:
        msg = f"{name}: expected {expected}, got {value!r}"
        raise ConfigError(msg) from None


def _positive(name: str, count: int, least: int = 1) -> int:
    if count < least:
        msg = f"{name}: must be at least {least}, got {count}"
        raise ConfigError(msg)
    return count


def _check_memory(name: str, value: object) -> int:
    if isinstance(value, str) and value.rstrip().endswith("%"):
        text = value.rstrip()[:-1].strip()
        percent = float(text) if re.fullmatch(r"\d+(\.\d*)?", text) else 0.0
        if not 0 < percent <= 100:
            msg = f"{name}: expected a share between 0% and 100%, got {value!r}"
            raise ConfigError(msg)
        return _share(os.environ, percent)[0]
    return _positive(name, parse_bytes(name, value))


def _check_chunk(name: str, value: object) -> int:
    return _positive(name, parse_bytes(name, value))


def _check_eager(name: str, value: object) -> int:
    return _positive(name, parse_bytes(name, value), least=0)


def _check_workers(name: str, value: object) -> int:
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d+\s*", value):
        value = int(value)
    return _positive(name, _integer(name, value, "a number of workers"))


def _check_executor(name: str, value: object) -> object:
    if isinstance(value, str):
        if value in EXECUTORS or re.fullmatch(r"[a-z]+://\S+", value):
            return value
        others = 'a Dask scheduler\'s address such as "tcp://host:8786", or a distributed.Client'
        raise ConfigError(f"{name}: {_unknown('executor', value, EXECUTORS)}; or {others}")
    if callable(getattr(value, "submit", None)) and hasattr(value, "scheduler_info"):
        return value
    msg = f'{name}: expected "threads", "processes", an address or a distributed.Client, '
    raise ConfigError(msg + f"got {type(value).__name__}")


def _check_spill_dir(name: str, value: object) -> str:
    if not isinstance(value, str | os.PathLike):
        msg = f"{name}: expected a directory, got {value!r}"
        raise ConfigError(msg)
    path = os.path.abspath(os.path.expanduser(os.fspath(value)))
    if not os.path.isdir(path):
        msg = f"{name}: {path} is not a directory; create it first"
        raise ConfigError(msg)
    if not os.access(path, os.W_OK | os.X_OK):
        msg = f"{name}: {path} cannot be written"
        raise ConfigError(msg)
    return path


def _share(environ: Mapping[str, str], percent: float) -> tuple[int, str]:
    """Give a share of what is free, plus what this process holds, as the limit counts that too."""
    free, used = memory_free(environ), memory_used()
    source = (
        f"{percent:g} % of the {format_bytes(free.amount)} that {free.source} leaves, "
        f"plus {format_bytes(used)} that this process holds"
    )
    return int(free.amount * percent / 100) + used, source


def _default_memory(environ: Mapping[str, str]) -> _Entry:
    return _Entry(*_share(environ, MEMORY_PERCENT))


def _default_workers(environ: Mapping[str, str]) -> _Entry:
    share = processors(environ)
    return _Entry(share.amount, share.source)


def _default_spill_dir(_: Mapping[str, str]) -> _Entry:
    return _Entry(scratch_directory(), "the temporary directory")


def _unknown(what: str, name: object, known: tuple[str, ...] | list[str]) -> str:
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else "known: " + ", ".join(known)
    return f"unknown {what} {name!r}; {hint}"


def _call(name: str, value: object) -> str:
    return f"config({name}={value!r})" if isinstance(value, str | int) else f"config({name}=...)"


def _spell(name: str, value: object) -> str:
    if name in {"memory", "chunk_bytes", "eager_bytes"}:
        return format_bytes(cast("int", value))
    return str(value)


UNITS = {
    "": 1,
    "B": 1,
    **{letter: 1000**i for i, letter in enumerate("KMGTP", 1)},
    **{f"{letter}B": 1000**i for i, letter in enumerate("KMGTP", 1)},
    **{f"{letter}IB": 1024**i for i, letter in enumerate("KMGTP", 1)},
}
"""Bytes of each unit; a bare letter is decimal, the smaller and so the safer reading."""

CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "memory": _check_memory,
    "workers": _check_workers,
    "executor": _check_executor,
    "spill_dir": _check_spill_dir,
    "chunk_bytes": _check_chunk,
    "eager_bytes": _check_eager,
}
"""What reads and checks each setting: name and value in, value out, or `ConfigError`."""

DEFAULTS: dict[str, Callable[[Mapping[str, str]], _Entry]] = {
    "memory": _default_memory,
    "workers": _default_workers,
    "executor": lambda _: _Entry("threads", "default"),
    "spill_dir": _default_spill_dir,
    "chunk_bytes": lambda _: _Entry(CHUNK_BYTES, "default"),
    "eager_bytes": lambda _: _Entry(EAGER_BYTES, "default"),
}

config = Config()
"""The settings of this process; see `Config`."""
