"""How arrays leave for other libraries and processes: the array API, DLPack, buffers, pickles.

What is in memory in one piece is shared as it is, read-only, since lazy expressions may read the
same buffer. Everything else is computed where the protocol allows a copy. A pickle carries the
expression: references to stored data by path, and small data in memory by value.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from chunkarr.arrays import Array
from chunkarr.errors import MemoryBudgetError, NotYetError
from chunkarr.expr.node import Expr, Source, walk
from chunkarr.grid import region_of
from chunkarr.records import dataclass
from chunkarr.settings import settings
from chunkarr.storage.memory import MemoryStore
from chunkarr.storage.store import Store

NDArray = npt.NDArray[Any]

API_VERSIONS = ("2021.12", "2022.12", "2023.12", "2024.12")
"""The versions of the array API standard that NumPy's names follow."""


def _buffer(self: Array) -> NDArray | None:
    """Give a read-only look at the buffer of an array in memory."""
    held = self.in_memory
    return None if held is None else _read_only(held)


def _read_only(held: NDArray) -> NDArray:
    shown = held.view()
    shown.flags.writeable = False
    return shown


def buffer(self: Array, flags: int = 0) -> memoryview:
    """Give the buffer of an array in memory, read-only; Python 3.12 and later ask for it."""
    shown = _buffer(self)
    if shown is None:
        message = "a chunked array has no buffer of its own: use x.compute()"
        raise BufferError(message)
    if flags & 1:  # PyBUF_WRITABLE
        message = "the buffer of a chunked array is read-only: use x.compute()"
        raise BufferError(message)
    return shown.data


def data(self: Array) -> memoryview:
    """Give the bytes of the value, read-only: the buffer itself where it is in memory."""
    shown = _buffer(self)
    return (self.compute() if shown is None else shown).data.toreadonly()


# -- DLPack ----------------------------------------------------------------------------------------


def dlpack(
    self: Array,
    *,
    stream: Any = None,
    max_version: tuple[int, int] | None = None,
    dl_device: tuple[int, int] | None = None,
    copy: bool | None = None,
) -> Any:
    """Export through DLPack: what is in memory read-only, else a copy.

    Readers before version 1.0 know nothing of read-only data; they are given a copy, and the buffer
    itself for `copy=False`. Raises BufferError for that where the value has to be computed.
    """
    held = self.in_memory
    if held is None and copy is False:
        message = "a chunked array must be computed, which makes a copy: use copy=None"
        raise BufferError(message)
    if held is None or copy:
        shown, copy = self.compute(), False
    elif max_version is not None and max_version[0] >= 1:
        shown = _read_only(held)
    else:
        shown, copy = (held if copy is False else held.copy()), False
    return shown.__dlpack__(stream=stream, max_version=max_version, dl_device=dl_device, copy=copy)


def dlpack_device(self: Array) -> tuple[int, int]:  # noqa: ARG001 - all data is in main memory
    """Give DLPack's number of the device: main memory."""
    return 1, 0


def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> Array:
    """Take an array from another library: a look at its memory, which a write copies first."""
    if isinstance(x, Array):
        check_device(device)
        return x.copy() if copy else x
    given = np.from_dlpack(x, device=device, copy=copy)
    return Array.of(given, owned=bool(copy))


def check_device(device: Any) -> None:
    """Raise ValueError for a device that is not the only one."""
    if device not in (None, "cpu"):
        message = f'Device not understood. Only "cpu" is allowed, but received: {device}'
        raise ValueError(message)


def to_device(self: Array, device: str, /, *, stream: Any = None) -> Array:
    """Give the array on a device; there is one, "cpu"."""
    if stream is not None:
        message = "The stream argument to to_device() is not supported"
        raise ValueError(message)
    check_device(device)
    return self


# -- the array API ---------------------------------------------------------------------------------


def array_namespace(self: Array, *, api_version: str | None = None) -> Any:  # noqa: ARG001
    """Give the module with the functions for this array."""
    if api_version is not None and api_version not in API_VERSIONS:
        message = f'Version "{api_version}" of the Array API Standard is not supported.'
        raise ValueError(message)
    return importlib.import_module("chunkarr")


class NamespaceInfo:
    """What `__array_namespace_info__()` of the array API tells about this library."""

    __module__ = "chunkarr"

    def capabilities(self) -> dict[str, Any]:
        """Say that masks index, that shapes may wait for data, and how many axes there may be."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> str:
        """Give the only device."""
        return "cpu"

    def devices(self) -> list[str]:
        """List the devices."""
        return ["cpu"]

    def default_dtypes(self, *, device: str | None = None) -> dict[str, np.dtype[Any]]:
        """Give the dtypes of Python numbers and of indices."""
        found: dict[str, np.dtype[Any]] = _info().default_dtypes(device=device)
        return found

    def dtypes(
        self, *, device: str | None = None, kind: str | tuple[str, ...] | None = None
    ) -> dict[str, np.dtype[Any]]:
        """Give the dtypes of the standard, of all kinds or of some."""
        found: dict[str, np.dtype[Any]] = _info().dtypes(device=device, kind=kind)
        return found


def _info() -> Any:
    return np.__array_namespace_info__()


STANDARD = {
    "__array_api_version__": API_VERSIONS[-1],
    "__array_namespace_info__": NamespaceInfo,
}
"""Names of the array API that the package gives."""


# -- pickles ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Packed:
    """A node of a pickled plan: operands by number, because a long chain would nest too deeply."""

    kind: type[Expr]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    operands: tuple[int, ...]
    fields: dict[str, Any]


def _packed(array: Array) -> list[Packed]:
    """List the nodes of an array's plan, operands before their users."""
    expr = array.to_expr()
    nodes = walk((expr,))
    by_value = sum(node.nbytes for node in nodes if isinstance(node, Source) and _here(node.store))
    if by_value > settings().memory // 4:
        raise MemoryBudgetError(
            array=f"data in memory that {expr.label} reads",
            operation="pickle",
            where=expr.where,
            bytes_needed=by_value,
            bytes_available=settings().memory // 4,
            remedies=(
                "write it to a file, chunkarr.save(path, x), and pickle what reads the file",
            ),
        )
    number = {id(node): i for i, node in enumerate(nodes)}
    packed = []
    for node in nodes:
        fields = {name: getattr(node, name) for name in node._own_fields()}  # noqa: SLF001
        if isinstance(node, Source):
            fields = {"store": _carried(node.store)}
        operands = tuple([number[id(operand)] for operand in node.operands])
        packed.append(Packed(type(node), node.shape, node.dtype, operands, fields))
    return packed


def _here(store: Store) -> bool:
    return isinstance(store, MemoryStore)


def _carried(store: Store) -> Store | NDArray:
    """Give what stands for a store in a pickle: the values, or the store with its path."""
    if isinstance(store, MemoryStore):
        return np.array(store.read(region_of(store.shape)))
    if store.passing:
        message = (
            f"{store.name}: this array lies in scratch of this process, which ends with it; write "
            "it to a file, chunkarr.save(path, x), and pickle what reads the file"
        )
        raise NotYetError(message)
    return store


def _revived(packed: list[Packed], scalar: bool) -> Array:
    """Build a pickled plan again."""
    importlib.import_module("chunkarr").asarray  # noqa: B018 - attaches operators to Array
    nodes: list[Expr] = []
    for node in packed:
        fields = dict(node.fields)
        held = fields.get("store")
        if isinstance(held, np.ndarray):
            fields["store"] = MemoryStore(held, owned=True)
        operands = tuple([nodes[i] for i in node.operands])
        nodes.append(node.kind(shape=node.shape, dtype=node.dtype, operands=operands, **fields))
    return Array(nodes[-1], scalar=scalar)


def reduce(self: Array) -> Any:
    """Pickle the plan: stored data by path, data in memory by value while it is not large."""
    return _revived, (_packed(self), self.is_scalar)


ATTACHED: dict[str, Any] = {
    "__array_namespace__": array_namespace,
    "__dlpack__": dlpack,
    "__dlpack_device__": dlpack_device,
    "__reduce__": reduce,
    "data": property(data),
    "device": property(lambda _: "cpu", doc="The device: main memory, whatever lies on disk."),
    "to_device": to_device,
}
"""Names and methods for `operators.attach`."""

if sys.version_info >= (3, 12):
    ATTACHED["__buffer__"] = buffer
