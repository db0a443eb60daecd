"""`numpy.fft` on arrays of any size, as long as each transformed axis fits a task."""

from __future__ import annotations

from typing import Any

import numpy as np

from chunkarr import namespace
from chunkarr.dispatch import lift
from chunkarr.functions import transforms
from chunkarr.mirror import Chapter

TRANSFORMS = (
    *("fft", "ifft", "rfft", "irfft", "hfft", "ihfft"),
    *("fftn", "ifftn", "rfftn", "irfftn", "fft2", "ifft2", "rfft2", "irfft2"),
    *("fftshift", "ifftshift"),
)
MAKERS = ("fftfreq", "rfftfreq")

own: dict[str, Any] = {
    name: lift(getattr(transforms, name), getattr(np.fft, name)) for name in TRANSFORMS
}
own |= {
    name: namespace._maker(getattr(transforms, name), getattr(np.fft, name))  # noqa: SLF001
    for name in MAKERS
}

_chapter = Chapter("fft", own)
__getattr__ = _chapter.find
__dir__ = _chapter.names
