"""Fourier transforms along axes that fit a task, one axis after the other."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from chunkarr.expr.build import apply, normalize_axis, view
from chunkarr.expr.node import Expr
from chunkarr.functions import views
from chunkarr.functions.cores import Function, on_cores
from chunkarr.functions.creation import arange
from chunkarr.functions.manipulation import concatenate, roll


def along(name: str) -> Function:
    """Make the transform of one axis."""
    function: Function = getattr(np.fft, name)

    def made(a: Expr, n: Any = None, axis: Any = -1, norm: Any = None) -> Expr:
        number = normalize_axis(axis, a.ndim)
        length = None if n is None else operator.index(n)
        turned = view(a, views.moveaxis(a.shape, number, -1))
        options = {"n": length, "norm": norm}
        out: Expr = on_cores(f"fft.{name}", function, (1,), [turned], options)
        return view(out, views.moveaxis(out.shape, -1, number))

    made.__name__ = made.__qualname__ = name
    made.__doc__ = f"Apply `numpy.fft.{name}` along an axis, which has to fit a task."
    return made


fft, ifft, rfft, irfft, hfft, ihfft = map(along, ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft"))


def _lengths(
    a: Expr, s: Any, axes: Any, *, half: bool = False
) -> tuple[list[int | None], Sequence[int]]:
    """Give the transformed length of each axis, and the axes; `half` where they come by halves."""
    if axes is None:
        axes = range(a.ndim) if s is None else range(-len(s), 0)
    if s is None:
        lengths: list[int | None] = [a.shape[axis] for axis in axes]
        if half and lengths:
            lengths[-1] = (a.shape[axes[-1]] - 1) * 2
    else:
        lengths = [a.shape[x] if n == -1 else n for n, x in zip(s, axes, strict=False)]
    if len(lengths) != len(axes) or (s is not None and len(s) != len(axes)):
        message = "Shape and axes have different lengths."
        raise ValueError(message)
    return lengths, axes


def _each(function: Function, a: Expr, lengths: Sequence[Any], axes: Any, norm: Any) -> Expr:
    """Transform axes, the last one first."""
    for n, axis in reversed(list(zip(lengths, axes, strict=True))):
        a = function(a, n, axis, norm)
    return a


def fftn(a: Expr, s: Any = None, axes: Any = None, norm: Any = None) -> Expr:
    """Transform several axes, each of which has to fit a task."""
    return _each(fft, a, *_lengths(a, s, axes), norm)


def ifftn(a: Expr, s: Any = None, axes: Any = None, norm: Any = None) -> Expr:
    """Transform several axes back."""
    return _each(ifft, a, *_lengths(a, s, axes), norm)


def rfftn(a: Expr, s: Any = None, axes: Any = None, norm: Any = None) -> Expr:
    """Transform several axes of real numbers; the last one gives half of its values."""
    lengths, axes = _lengths(a, s, axes)
    a = rfft(a, lengths[-1], axes[-1], norm)
    return _each(fft, a, lengths[:-1], axes[:-1], norm)


def irfftn(a: Expr, s: Any = None, axes: Any = None, norm: Any = None) -> Expr:
    """Transform several axes back to real numbers."""
    lengths, axes = _lengths(a, s, axes, half=True)
    for n, axis in zip(lengths[:-1], axes[:-1], strict=True):
        a = ifft(a, n, axis, norm)
    made: Expr = irfft(a, lengths[-1], axes[-1], norm)
    return made


def plane(function: Function, name: str) -> Function:
    """Make the transform of the last two axes of one of several."""

    def made(a: Expr, s: Any = None, axes: Any = (-2, -1), norm: Any = None) -> Any:
        return function(a, s, axes, norm)

    made.__name__ = made.__qualname__ = name
    made.__doc__ = f"Apply `numpy.fft.{name}`, with axes that have to fit a task each."
    return made


fft2, ifft2 = plane(fftn, "fft2"), plane(ifftn, "ifft2")
rfft2, irfft2 = plane(rfftn, "rfft2"), plane(irfftn, "irfft2")


def _shifted(x: Expr, axes: Any, sign: int) -> Expr:
    if axes is None:
        axes = tuple(range(x.ndim))
    listed = (axes,) if isinstance(axes, int | np.integer) else tuple(axes)
    shifts = tuple(sign * (x.shape[axis] // 2) for axis in listed)
    return roll(x, shifts, listed)


def fftshift(x: Expr, axes: Any = None) -> Expr:
    """Move the zero frequency to the middle."""
    return _shifted(x, axes, 1)


def ifftshift(x: Expr, axes: Any = None) -> Expr:
    """Move the zero frequency from the middle to the start."""
    return _shifted(x, axes, -1)


def fftfreq(n: int, d: float = 1.0) -> Expr:
    """Give the frequencies of a transform of n samples, d apart."""
    middle = (n - 1) // 2 + 1
    numbers = concatenate([arange(0, middle), arange(-(n // 2), 0)])
    return apply("multiply", numbers, 1.0 / (n * d))


def rfftfreq(n: int, d: float = 1.0) -> Expr:
    """Give the frequencies of a transform of n real samples, d apart."""
    return apply("multiply", arange(0, n // 2 + 1), 1.0 / (n * d))
