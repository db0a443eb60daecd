"""Functions that hand the values of small things to NumPy: matrices, and numbers as text."""

from __future__ import annotations

import numpy as np

from chunkarr.mirror import on_values

asmatrix = on_values("asmatrix", np.asmatrix)
bmat = on_values("bmat", np.bmat)
format_float_positional = on_values("format_float_positional", np.format_float_positional)
format_float_scientific = on_values("format_float_scientific", np.format_float_scientific)
info = on_values("info", np.info)
