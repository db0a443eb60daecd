"""What a tiled algorithm asks of the planner that it emits its steps to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from chunkarr.expr.node import Expr
from chunkarr.grid import Grid
from chunkarr.kernels.recipe import Recipe
from chunkarr.scheduler.steps import Step
from chunkarr.storage.store import Store


class Bounds(Protocol):
    """What a step may use."""

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a cell's largest operand."""

    @property
    def workers(self) -> int:
        """How many tasks may run at once."""

    @property
    def bytes_share(self) -> int:
        """Most bytes one task should hold."""


class Lowers(Protocol):
    """Makes recipes over one index space."""

    def recipe(self, root: Expr) -> Recipe:
        """Give the recipe of a node."""


class Builder(Protocol):
    """The planner, seen from an algorithm."""

    @property
    def limits(self) -> Bounds:
        """What the plan may use."""

    def lowering(self, shape: tuple[int, ...]) -> Lowers:
        """Give the lowering over an index space."""

    def scratch(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        grid: Grid,
        name: str,
        parts: int = 2,
        *,
        stays: bool = False,
    ) -> Store:
        """Make a store for a value, which is read by this plan alone unless it `stays` after it."""

    def stays(self, node: Expr) -> bool:
        """Whether a node's value is wanted itself, and stands after the plan."""

    def target_of(self, node: Expr) -> Store | None:
        """Give the store that the user wants a node's value in."""

    def place(self, node: Expr, grid: Grid) -> Store:
        """Choose where a node's value goes."""

    def adopt(self, node: Expr, store: Store, scratch: Store) -> None:
        """Let readers of a node find its value in `store`, whose bytes `scratch` holds."""

    def add(self, step: Step, node: Expr, seconds: float, passes: int = 1) -> None:
        """Append a step after checking that it fits."""

    def release(self, stores: Sequence[Store]) -> None:
        """Let the last step so far free scratch stores."""
