"""Whether memory has room for compiling kernels: a plan finds out, workers are told, kernels ask.

LLVM takes more than a small limit leaves. Each process that runs tasks would load it for itself.
"""

from __future__ import annotations

_for_compiling = True


def allow_compiling(*, allowed: bool) -> None:
    """Allow loading and compiling new kernels in this process, or not."""
    global _for_compiling  # noqa: PLW0603 - set before each run
    _for_compiling = allowed


def may_compile() -> bool:
    """Whether this process may load and compile new kernels."""
    return _for_compiling
