"""`numpy.random` on arrays of any size: NumPy's own numbers, whatever the chunks and the limit.

Small draws are NumPy's. A large one costs nothing until it is read, and then as much as is read:
`draws` tells how. Methods are made from NumPy's own signatures; `chunks=` is accepted beside them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.random import mtrand

import chunkarr
from chunkarr import draws
from chunkarr.owed import MT19937, PCG64, PCG64DXSM, SFC64, Philox

chunkarr.Array  # noqa: B018 - asking the package for it attaches the operators

BitGenerator = np.random.BitGenerator
SeedSequence = np.random.SeedSequence


class Generator(np.random.Generator):
    """`numpy.random.Generator`, whose large results are drawn when they are read."""

    def __init__(self, bit_generator: Any) -> None:
        super().__init__(bit_generator)
        # NumPy's methods call each other: they must not meet ours on the way.
        self._inner = np.random.Generator(bit_generator)

    def __reduce__(self) -> Any:
        return Generator, (self.bit_generator,)

    def shuffle(self, x: Any, axis: int = 0) -> None:
        """Put into random order in place, as NumPy does; the places have to fit memory."""
        draws.shuffled(self._inner, x, (axis,), {})

    def permutation(self, x: Any, axis: int = 0) -> Any:
        """Give in random order, as NumPy does; the places have to fit memory."""
        return draws.permutation(self._inner, x, (axis,), {})

    def permuted(self, x: Any, *, axis: Any = None, out: Any = None) -> Any:
        """Give with each lane in its own random order, as NumPy does, in memory."""
        return draws.permuted(self._inner, x, axis, out)

    def bytes(self, length: int) -> Any:
        """Give random bytes."""
        draws.check_room("bytes", length, (length,))
        return self._inner.bytes(length)


class RandomState(np.random.RandomState):
    """`numpy.random.RandomState`, whose large results are drawn when they are read."""

    _inner: np.random.RandomState

    def __init__(self, seed: Any = None) -> None:
        if isinstance(seed, np.random.BitGenerator):
            bits = seed
        else:
            bits = MT19937()
            if seed is not None:
                bits._legacy_seeding(draws.plain(seed))  # noqa: SLF001 - what NumPy's own class calls
        super().__init__(bits)
        self._inner = np.random.RandomState(bits)

    def seed(self, seed: Any = None) -> None:
        """Begin a new stream."""
        self._inner.seed(draws.plain(seed))

    def get_state(self, legacy: bool = True) -> Any:
        """Give the state."""
        inner: Any = self._inner
        return inner.get_state(legacy)

    def set_state(self, state: Any) -> None:
        """Continue from a state."""
        self._inner.set_state(draws.plain(state))

    def __getstate__(self) -> Any:
        return self.get_state(legacy=False)

    def __setstate__(self, state: Any) -> None:
        self.set_state(state)

    def __reduce__(self) -> Any:
        bits = self._inner._bit_generator  # noqa: SLF001
        return RandomState, (bits,), self.get_state(legacy=False)

    def rand(self, *args: Any) -> Any:
        """Draw uniform numbers; the arguments are the shape."""
        return draws.drawn(self._inner, "random_sample", (), {"size": args} if args else {})

    def randn(self, *args: Any) -> Any:
        """Draw normal numbers; the arguments are the shape."""
        return draws.drawn(self._inner, "standard_normal", (), {"size": args} if args else {})

    def random_integers(self, low: Any, high: Any = None, size: Any = None) -> Any:
        """Draw integers up to `high` included; deprecated in NumPy, which warns."""
        draws.PROBES[True].random_integers(low, high)
        low, high = (1, low) if high is None else (low, high)
        named = {"low": low, "high": int(high) + 1, "size": size, "dtype": "l"}
        return draws.drawn(self._inner, "randint", (), named)

    def shuffle(self, x: Any) -> None:
        """Put into random order in place, as NumPy does; the places have to fit memory."""
        draws.shuffled(self._inner, x, (), {})

    def permutation(self, x: Any) -> Any:
        """Give in random order, as NumPy does; the places have to fit memory."""
        return draws.permutation(self._inner, x, (), {})

    def bytes(self, length: int) -> Any:
        """Give random bytes."""
        draws.check_room("bytes", length, (length,))
        return self._inner.bytes(length)


def _method(name: str, kind: type[Any]) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return draws.drawn(self._inner, name, args, kwargs)

    method.__name__ = name
    method.__qualname__ = f"{kind.__name__}.{name}"
    method.__doc__ = f"Draw as `numpy.random.{kind.__name__}.{name}` does."
    method.__signature__ = inspect.signature(getattr(kind, name))  # type: ignore[attr-defined]
    return method


for _own, _numpy, _names in (
    (Generator, np.random.Generator, draws.PARAMETERS[False]),
    (RandomState, np.random.RandomState, draws.PARAMETERS[True]),
):
    for _name in _names.keys() - {"random_integers"}:
        setattr(_own, _name, _method(_name, _numpy))

_shared = RandomState(np.random.MT19937(0))
_shared._inner = draws.SHARED  # noqa: SLF001 - our methods on NumPy's shared generator


def default_rng(seed: Any = None) -> Generator:
    """Give a generator; a seed gives the stream that it gives in NumPy."""
    if isinstance(seed, Generator):
        return seed
    if isinstance(seed, np.random.BitGenerator):
        return Generator(seed)
    if isinstance(seed, np.random.Generator | np.random.RandomState):
        inner: Any = getattr(seed, "_inner", seed)
        return Generator(inner._bit_generator)  # noqa: SLF001 - both classes have it
    return Generator(PCG64(draws.plain(seed)))


def seed(seed: Any = None) -> None:
    """Begin a new stream of NumPy's shared generator."""
    np.random.seed(draws.plain(seed))  # noqa: NPY002 - what is asked for


get_bit_generator = mtrand.get_bit_generator
set_bit_generator = mtrand.set_bit_generator

beta = _shared.beta
binomial = _shared.binomial
bytes = _shared.bytes
chisquare = _shared.chisquare
choice = _shared.choice
dirichlet = _shared.dirichlet
exponential = _shared.exponential
f = _shared.f
gamma = _shared.gamma
geometric = _shared.geometric
get_state = _shared.get_state
gumbel = _shared.gumbel
hypergeometric = _shared.hypergeometric
laplace = _shared.laplace
logistic = _shared.logistic
lognormal = _shared.lognormal
logseries = _shared.logseries
multinomial = _shared.multinomial
multivariate_normal = _shared.multivariate_normal
negative_binomial = _shared.negative_binomial
noncentral_chisquare = _shared.noncentral_chisquare
noncentral_f = _shared.noncentral_f
normal = _shared.normal
pareto = _shared.pareto
permutation = _shared.permutation
poisson = _shared.poisson
power = _shared.power
rand = _shared.rand
randint = _shared.randint
randn = _shared.randn
random = _shared.random_sample
random_integers = _shared.random_integers
random_sample = _shared.random_sample
ranf = _shared.random_sample
rayleigh = _shared.rayleigh
sample = _shared.random_sample
set_state = _shared.set_state
shuffle = _shared.shuffle
standard_cauchy = _shared.standard_cauchy
standard_exponential = _shared.standard_exponential
standard_gamma = _shared.standard_gamma
standard_normal = _shared.standard_normal
standard_t = _shared.standard_t
triangular = _shared.triangular
uniform = _shared.uniform
vonmises = _shared.vonmises
wald = _shared.wald
weibull = _shared.weibull
zipf = _shared.zipf

__all__ = [
    "MT19937",
    "PCG64",
    "PCG64DXSM",
    "SFC64",
    "BitGenerator",
    "Generator",
    "Philox",
    "RandomState",
    "SeedSequence",
    "beta",
    "binomial",
    "bytes",
    "chisquare",
    "choice",
    "default_rng",
    "dirichlet",
    "exponential",
    "f",
    "gamma",
    "geometric",
    "get_bit_generator",
    "get_state",
    "gumbel",
    "hypergeometric",
    "laplace",
    "logistic",
    "lognormal",
    "logseries",
    "multinomial",
    "multivariate_normal",
    "negative_binomial",
    "noncentral_chisquare",
    "noncentral_f",
    "normal",
    "pareto",
    "permutation",
    "poisson",
    "power",
    "rand",
    "randint",
    "randn",
    "random",
    "random_integers",
    "random_sample",
    "ranf",
    "rayleigh",
    "sample",
    "seed",
    "set_bit_generator",
    "set_state",
    "shuffle",
    "standard_cauchy",
    "standard_exponential",
    "standard_gamma",
    "standard_normal",
    "standard_t",
    "triangular",
    "uniform",
    "vonmises",
    "wald",
    "weibull",
    "zipf",
]
