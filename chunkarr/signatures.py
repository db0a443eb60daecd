"""What signatures tell of public functions, read where somebody wants to know.

Public functions show the arguments of NumPy's functions and compare them with those of functions of
expressions. Reading the hundreds of signatures for it would take longer than most first results, so
each function has a `Told` that reads its own at the first call that is not plain. `inspect` finds
it at the end of `__wrapped__`.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import cached_property
from inspect import Parameter, Signature
from typing import Any

Function = Callable[..., Any]

CHUNKS = Parameter("chunks", Parameter.KEYWORD_ONLY, default=None)
"""What functions that create arrays take beside NumPy's arguments."""


def positional(signature: Signature) -> list[str]:
    """Give the names of arguments that may be given by position, in order."""
    kinds = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in signature.parameters.values() if p.kind in kinds]


class Told:
    """What the signatures of a function of expressions and of NumPy's function say."""

    def __init__(
        self,
        function: Function,
        numpy_function: Function | None,
        *more: Parameter,
    ) -> None:
        self.__wrapped__ = function
        self._numpy_function = numpy_function
        self._more = more

    def describe(self, public: Any) -> None:
        """Let a public function show the arguments of NumPy's."""
        public.__wrapped__ = self

    @cached_property
    def own(self) -> Signature:
        """The signature of the function of expressions."""
        return inspect.signature(self.__wrapped__)

    @cached_property
    def numpys(self) -> Signature | None:
        """The signature of NumPy's function; None where one written in C does not tell."""
        try:
            return None if self._numpy_function is None else inspect.signature(self._numpy_function)
        except ValueError:
            return None

    @cached_property
    def __signature__(self) -> Signature:
        if self.numpys is None:
            return self.own
        return Signature([*self.numpys.parameters.values(), *self._more])

    @cached_property
    def order(self) -> list[str]:
        """NumPy's names in their order."""
        return positional(self.numpys or self.own)

    @cached_property
    def shared(self) -> int:
        """How many leading arguments have NumPy's place."""
        own = positional(self.own)
        if any(p.kind is Parameter.VAR_POSITIONAL for p in self.own.parameters.values()):
            return sys.maxsize
        count = 1
        while count < min(len(own), len(self.order)) and own[count] == self.order[count]:
            count += 1
        return count

    @cached_property
    def takes_out(self) -> bool:
        """Whether NumPy's function has `out=`."""
        return self.numpys is None or "out" in self.numpys.parameters

    @cached_property
    def takes_into(self) -> bool:
        """Whether the function of expressions wants to know the dtype of `out=`."""
        return "into" in self.own.parameters
