"""What type checkers see of the operators and methods that `operators` attaches to Array."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any


class Attached:
    """Annotations only; at run time this base is empty."""

    __slots__ = ()

    if TYPE_CHECKING:
        __add__: Any
        __radd__: Any
        __iadd__: Any
        __sub__: Any
        __rsub__: Any
        __isub__: Any
        __mul__: Any
        __rmul__: Any
        __imul__: Any
        __truediv__: Any
        __rtruediv__: Any
        __itruediv__: Any
        __floordiv__: Any
        __rfloordiv__: Any
        __ifloordiv__: Any
        __mod__: Any
        __rmod__: Any
        __imod__: Any
        __divmod__: Any
        __rdivmod__: Any
        __pow__: Any
        __rpow__: Any
        __ipow__: Any
        __matmul__: Any
        __rmatmul__: Any
        __imatmul__: Any
        __and__: Any
        __rand__: Any
        __iand__: Any
        __or__: Any
        __ror__: Any
        __ior__: Any
        __xor__: Any
        __rxor__: Any
        __ixor__: Any
        __lshift__: Any
        __rlshift__: Any
        __ilshift__: Any
        __rshift__: Any
        __rrshift__: Any
        __irshift__: Any
        __lt__: Any
        __le__: Any
        __gt__: Any
        __ge__: Any
        __neg__: Any
        __pos__: Any
        __abs__: Any
        __invert__: Any
        __round__: Any
        __array__: Any
        __bool__: Any
        __bytes__: Any
        __complex__: Any
        __contains__: Any
        __float__: Any
        __index__: Any
        __int__: Any
        __iter__: Any
        __len__: Any

        __hash__: Any

        def __eq__(self, other: object) -> Any: ...
        def __ne__(self, other: object) -> Any: ...
        def __getattr__(self, name: str) -> Any: ...
