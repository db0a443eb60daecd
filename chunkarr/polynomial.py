"""`numpy.polynomial`: NumPy's classes and functions of coefficients, which are few.

Values at the points of a chunked array are chunked arrays: `p(x)`, and `polyval(x, c)` and its
relatives in the parts. Coefficients are NumPy's arrays, in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chunkarr.arrays import Array
from chunkarr.mirror import Chapter, mirrored

VALUES = {
    "chebyshev": "chebval",
    "hermite": "hermval",
    "hermite_e": "hermeval",
    "laguerre": "lagval",
    "legendre": "legval",
    "polynomial": "polyval",
}
"""The parts, and the function of each that gives values at points."""


def _values(part: str, name: str) -> Callable[..., Any]:
    function = getattr(getattr(np.polynomial, part), name)

    def public(x: Any, c: Any, tensor: bool = True) -> Any:
        coefficients = np.asarray(c)
        if isinstance(x, Array) and tensor and coefficients.ndim > 1:
            coefficients = coefficients.reshape(*coefficients.shape, *(1,) * x.ndim)
        # NumPy's recurrence needs nothing but operators.
        return function(x, coefficients, tensor)

    public.__name__ = public.__qualname__ = name
    public.__module__ = f"chunkarr.polynomial.{part}"
    public.__doc__ = f"Run `numpy.polynomial.{part}.{name}` on points of any number."
    return public


def _lazy(base: type) -> type:
    """Make the class of NumPy that leaves a chunked array chunked where it is called with one."""

    def __call__(self: Any, arg: Any) -> Any:  # noqa: N807 - a method of the class below
        if not isinstance(arg, Array):
            return base.__call__(self, arg)
        offset, scale = polyutils.mapparms(self.domain, self.window)
        return self._val(offset + scale * arg, self.coef)

    name = base.__name__
    return type(name, (base,), {"__call__": __call__, "__module__": "chunkarr.polynomial"})


polyutils = mirrored("polynomial.polyutils")
CLASSES = ("Chebyshev", "Hermite", "HermiteE", "Laguerre", "Legendre", "Polynomial")
own: dict[str, Any] = {name: _lazy(getattr(np.polynomial, name)) for name in CLASSES}
for part, name in VALUES.items():
    kind = next(n for n in CLASSES if hasattr(getattr(np.polynomial, part), n))
    own[part] = mirrored(f"polynomial.{part}", {name: _values(part, name), kind: own[kind]})

_chapter = Chapter("polynomial", own)
__getattr__ = _chapter.find
__dir__ = _chapter.names
