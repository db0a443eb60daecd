"""All errors chunkarr raises of its own, each with machine-readable fields and a way out.

Shape, dtype and argument errors keep NumPy's own types and are raised where they arise; the classes
here are for what NumPy has no word for. Each derives from the built-in a NumPy user would catch.
"""

from __future__ import annotations

from collections.abc import Sequence


def format_bytes(count: float) -> str:
    """Spell a number of bytes in binary units.

    >>> format_bytes(1536)
    '1.5 KiB'
    """
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(count) < 1024 or unit == "TiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


class ChunkarrError(Exception):
    """Base of chunkarr's own errors."""

    code = "CA0000"


def _with_remedies(text: str, remedies: Sequence[str], code: str) -> str:
    lines = [text, *(f"  {i}) {remedy}" for i, remedy in enumerate(remedies, 1))]
    return "\n".join(lines) + f" [{code}]"


class MemoryBudgetError(ChunkarrError, MemoryError):
    """The plan cannot fit the memory limit; raised before any work starts."""

    code = "CA1001"

    def __init__(
        self,
        array: str,
        operation: str,
        where: str,
        bytes_needed: int,
        bytes_available: int,
        remedies: Sequence[str] = (),
    ) -> None:
        self.array, self.operation, self.where = array, operation, where
        self.bytes_needed, self.bytes_available = bytes_needed, bytes_available
        self.remedies = tuple(remedies)
        place = f" at {where}" if where else ""
        text = (
            f"{operation}{place} needs {format_bytes(bytes_needed)} for {array}, "
            f"{format_bytes(max(0, bytes_available))} of the memory limit are available"
        )
        if bytes_available <= 0:
            text += ": what is in this process and its workers already takes all of it"
        super().__init__(_with_remedies(text, self.remedies, self.code))

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (
            self.array,
            self.operation,
            self.where,
            self.bytes_needed,
            self.bytes_available,
            self.remedies,
        )


class CorruptChunkError(ChunkarrError, OSError):
    """A stored chunk is missing, truncated, or fails its checksum."""

    code = "CA2001"

    def __init__(self, path: str, cell: Sequence[int], reason: str) -> None:
        self.path, self.cell, self.reason = path, tuple(cell), reason
        super().__init__(f"{path}: chunk {self.cell}: {reason} [{self.code}]")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.path, self.cell, self.reason)


class FormatError(ChunkarrError, ValueError):
    """A file is not of a format chunkarr reads, or its header lies."""

    code = "CA2002"

    def __init__(self, path: str, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"{path}: {reason} [{self.code}]")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.path, self.reason)


class SpillError(ChunkarrError, OSError):
    """The spill directory is full, read-only or gone."""

    code = "CA2003"

    def __init__(self, directory: str, bytes_needed: int, bytes_free: int, reason: str) -> None:
        self.directory, self.reason = directory, reason
        self.bytes_needed, self.bytes_free = bytes_needed, bytes_free
        text = (
            f"spill directory {directory}: {reason} (needed {format_bytes(bytes_needed)}, "
            f"free {format_bytes(bytes_free)})"
        )
        remedy = "point config(spill_dir=...) or CHUNKARR_SPILL_DIR at a disk with room"
        super().__init__(_with_remedies(text, [remedy], self.code))

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.directory, self.bytes_needed, self.bytes_free, self.reason)


class OutputError(ChunkarrError, OSError):
    """An output could not be written; nothing was published and the old content stands."""

    code = "CA2004"

    def __init__(self, path: str, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"{path}: {reason} [{self.code}]")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.path, self.reason)


class ConfigError(ChunkarrError, ValueError):
    """A setting has an unknown name or a value that cannot be read."""

    code = "CA3001"


class ExpressionError(ChunkarrError, ValueError):
    """A text is not an expression that chunkarr evaluates; points at the place."""

    code = "CA3002"

    def __init__(self, text: str, column: int, reason: str) -> None:
        self.text, self.column, self.reason = text, column, reason
        super().__init__(f"{reason} [{self.code}]\n  {text}\n  {' ' * column}^")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.text, self.column, self.reason)


class WorkerLostError(ChunkarrError, RuntimeError):
    """A task ended its worker too often, or every worker is gone."""

    code = "CA4001"

    def __init__(self, step: str, task: int, reason: str) -> None:
        self.step, self.task, self.reason = step, task, reason
        super().__init__(f"{step}, task {task}: {reason} [{self.code}]")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.step, self.task, self.reason)


class ClusterLost(ChunkarrError, ConnectionError):  # noqa: N818 - it tells what has happened
    """The scheduler of a Dask cluster, or each of its workers, is gone or silent."""

    code = "CA4002"

    def __init__(self, step: str, address: str, reason: str, remedies: Sequence[str] = ()) -> None:
        self.step, self.address, self.reason = step, address, reason
        self.remedies = tuple(remedies)
        text = f"{step}: the Dask cluster at {address} is lost: {reason}"
        super().__init__(_with_remedies(text, self.remedies, self.code))

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.step, self.address, self.reason, self.remedies)


class ClusterMismatchError(ChunkarrError, RuntimeError):
    """Workers of a Dask cluster have other versions, or do not see the client's files."""

    code = "CA4003"

    def __init__(self, reason: str, places: Sequence[str], remedies: Sequence[str] = ()) -> None:
        self.reason, self.places, self.remedies = reason, tuple(places), tuple(remedies)
        text = "\n".join([reason, *(f"  {place}" for place in self.places)])
        super().__init__(_with_remedies(text, self.remedies, self.code))

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.reason, self.places, self.remedies)


class ClusterError(ChunkarrError, RuntimeError):
    """A cluster of `chunkarr cluster` could not be started, told apart, or ended."""

    code = "CA4004"


class NotYetError(ChunkarrError, NotImplementedError, TypeError):
    """A NumPy name that chunkarr does not run out of core; says what to use instead.

    Also a TypeError, because that is what NumPy raises where a protocol finds no implementation.
    """

    code = "CA5001"


class MaskedOperandError(NotYetError):
    """A masked array met chunked arrays where its mask would be lost."""

    code = "CA5002"


class ObjectOperandError(NotYetError):
    """An operation was asked for that Python objects do one by one."""

    code = "CA5003"
