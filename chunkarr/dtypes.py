"""`numpy.dtypes`: the classes of NumPy's dtypes, which are chunkarr's too."""

from numpy.dtypes import *  # noqa: F403 - all that NumPy makes public
from numpy.dtypes import __all__  # noqa: F401 - the same names
