"""`numpy.exceptions`: the same classes, so that `except` means the same on both sides."""

from numpy.exceptions import *  # noqa: F403 - all that NumPy makes public
from numpy.exceptions import (
    RankWarning,  # noqa: F401 - public, but not in NumPy's list
    __all__,  # noqa: F401 - the same names
)
