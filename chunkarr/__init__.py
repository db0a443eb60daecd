"""NumPy for data that does not fit: NumPy's API and answers on arrays of any size.

    import chunkarr as np

Names are loaded on first use, so that importing costs little more than importing NumPy and workers
that only need a sub-package load nothing else.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import gc
import importlib
import pkgutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as _np  # noqa: ICN001 - `np` would be a public name

from chunkarr import errors
from chunkarr.settings import config

__version__ = "0.1.0"

_SHARED = [
    "newaxis",
    "pi",
    "e",
    "inf",
    "nan",
    "euler_gamma",
    "dtype",
    "finfo",
    "iinfo",
    "generic",
    "number",
    "integer",
    "signedinteger",
    "unsignedinteger",
    "inexact",
    "floating",
    "complexfloating",
    "bool",
    "bool_",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "intp",
    "uintp",
    "int_",
    "uint",
    "float16",
    "float32",
    "float64",
    "longdouble",
    "complex64",
    "complex128",
    "clongdouble",
    "datetime64",
    "timedelta64",
    "str_",
    "bytes_",
    "void",
    "object_",
    "byte",
    "short",
    "intc",
    "long",
    "longlong",
    "ubyte",
    "ushort",
    "uintc",
    "ulong",
    "ulonglong",
    "half",
    "single",
    "double",
    "csingle",
    "cdouble",
    "promote_types",
    "issubdtype",
    "isdtype",
    "broadcast_shapes",
    "set_printoptions",
    "get_printoptions",
    "printoptions",
    "errstate",
    "seterr",
    "geterr",
    "ndindex",
    "iterable",
    "s_",
    "index_exp",
    "typename",
    "poly1d",
    "True_",
    "False_",
    "ScalarType",
    "base_repr",
    "binary_repr",
    "busdaycalendar",
    "character",
    "datetime_data",
    "flatiter",
    "flexible",
    "get_include",
    "getbufsize",
    "geterrcall",
    "little_endian",
    "matrix",
    "mintypecode",
    "recarray",
    "record",
    "sctypeDict",
    "setbufsize",
    "seterrcall",
    "show_config",
    "show_runtime",
    "typecodes",
    *(name for name in ("float128", "complex256", "float96", "complex192") if hasattr(_np, name)),
]
"""What NumPy already has for everybody: constants, types, dtype rules."""

_IO = ("open", "from_zarr", "from_array", "load", "save", "memmap", "NpzFile", "to_zarr", "explain")
_HOMES = {
    "blockwise": ("map_blocks", "map_overlap"),
    "dask_bridge": ("from_dask", "from_delayed", "to_dask"),
    "dask_names": ("argtopk", "coarsen", "store", "topk"),
    "userfuncs": ("apply_gufunc", "as_gufunc", "gufunc", "guvectorize"),
    "textio": (
        *("frombuffer", "fromfile", "fromregex", "genfromtxt", "loadtxt"),
        *("savetxt", "savez", "savez_compressed"),
    ),
    "iteration": ("broadcast", "nditer", "nested_iters"),
    "sharing": ("isfortran", "isscalar", "may_share_memory", "shares_memory"),
    "legacy": ("asmatrix", "bmat", "format_float_positional", "format_float_scientific", "info"),
}
"""Public names that a file of their own has, loaded when they are asked for."""
_NOT_ARRAYS = {
    "core": "it is private in NumPy; its public names are here",
    "f2py": "it wraps Fortran and makes no arrays; import numpy.f2py",
    "test": "it runs NumPy's own tests; call numpy.test",
}
"""Public names of NumPy that are not about arrays, and where to find what they do."""
_FOUND_IN = {name: home for home, names in _HOMES.items() for name in names}
_CHAPTERS = (
    "char",
    "ctypeslib",
    "dtypes",
    "emath",
    "exceptions",
    "fft",
    "lib",
    "linalg",
    "ma",
    "polynomial",
    "random",
    "rec",
    "strings",
    "testing",
    "typing",
)
"""Modules that are public names, loaded when they are asked for."""
_HIDDEN = frozenset(
    ("find", "missing", "not_yet", "attach", "lift", "give", "refuse", "small", "convert")
)

if TYPE_CHECKING:
    from chunkarr.arrays import Array as Array
    from chunkarr.io import (
        explain as explain,
    )
    from chunkarr.io import (
        from_array as from_array,
    )
    from chunkarr.io import (
        from_zarr as from_zarr,
    )
    from chunkarr.io import (
        load as load,
    )
    from chunkarr.io import (
        memmap as memmap,
    )
    from chunkarr.io import (
        open as open,
    )
    from chunkarr.io import (
        save as save,
    )


@functools.cache
def _submodules() -> frozenset[str]:
    return frozenset(module.name for module in pkgutil.iter_modules(__path__))


def _loaded() -> Any:
    """Load the namespace and attach operators to Array, once."""
    if "_ready" in globals():
        return importlib.import_module("chunkarr.namespace")
    with _uncollected():
        namespace = importlib.import_module("chunkarr.namespace")
        importlib.import_module("chunkarr.catalogue").attach()
        importlib.import_module("chunkarr.operators").attach()
        importlib.import_module("chunkarr.jitted").attach()
        importlib.import_module("chunkarr.dispatch").attach(namespace)
        globals()["_ready"] = True
    return namespace


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Let the collector rest: looking for garbage among what is loaded took a tenth of its time."""
    resting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if resting:
            gc.enable()


_STANDARD = ("__array_api_version__", "__array_namespace_info__")
"""Names of the array API standard."""


def __getattr__(name: str) -> Any:
    if name in _STANDARD:
        return importlib.import_module("chunkarr.exchange").STANDARD[name]
    if name in _CHAPTERS:
        _loaded()
        return importlib.import_module(f"chunkarr.{name}")
    if name.startswith("_") or name in _submodules():
        # `from chunkarr import engine` asks here first; the import system then loads the file.
        raise AttributeError(name)
    if name in _SHARED:
        value = getattr(_np, name)
    else:
        namespace = _loaded()
        if name in {"Array", "ndarray"}:
            value = importlib.import_module("chunkarr.arrays").Array
        elif name == "ufunc":
            value = importlib.import_module("chunkarr.ufuncs").UFunc
        elif name in _IO:
            value = getattr(importlib.import_module("chunkarr.io"), name)
        elif name in _FOUND_IN:
            value = getattr(importlib.import_module(f"chunkarr.{_FOUND_IN[name]}"), name)
        elif name in namespace.TABLE:
            value = namespace.TABLE[name]
        elif name in _public(namespace):
            value = getattr(namespace, name)
        else:
            raise AttributeError(_advice(name, namespace))
    globals()[name] = value
    return value


def _public(namespace: Any) -> frozenset[str]:
    """List the names that the namespace offers: its own functions, not what it imported."""
    own = {
        name
        for name, value in vars(namespace).items()
        if not name.startswith("_")
        and name not in _HIDDEN
        and (getattr(value, "__module__", None) in ("chunkarr", "chunkarr.namespace"))
    }
    objects = importlib.import_module("chunkarr.catalogue").OBJECTS
    return frozenset(own | {*objects})


def _advice(name: str, namespace: Any) -> str:
    text = f"module 'chunkarr' has no attribute {name!r}"
    if name in _NOT_ARRAYS:
        return f"{text}: {_NOT_ARRAYS[name]}"
    if hasattr(_np, name):
        return f"{text}: {namespace.not_yet(name)}"
    close = difflib.get_close_matches(name, __dir__(), n=1)
    return f"{text}; did you mean {close[0]!r}?" if close else text


def __dir__() -> list[str]:
    namespace = _loaded()
    return sorted(
        {
            "config",
            "errors",
            "Array",
            "ndarray",
            "ufunc",
            *_SHARED,
            *_CHAPTERS,
            *_IO,
            *_FOUND_IN,
            *namespace.TABLE,
            *_public(namespace),
        }
    )


__all__ = ["__version__", "config", "errors"]
