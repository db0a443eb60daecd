"""What planning gives: steps, the table that explains them, and where the results will be."""

from __future__ import annotations

from dataclasses import field

from chunkarr.expr.node import Expr
from chunkarr.records import dataclass
from chunkarr.scheduler.steps import Step
from chunkarr.storage.store import Store


@dataclass(frozen=True, slots=True)
class Target:
    """A value that is wanted, and the store it goes to; without one the planner picks a place."""

    expr: Expr
    store: Store | None = None
    chunks: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What a plan may use; chunks, and what tasks share of the limit, decide about bits."""

    bytes_limit: int
    """The memory limit of all processes together."""
    bytes_available: int
    """What of it is free for this plan."""
    chunk_bytes: int
    workers: int
    shares_memory: bool = True
    lasting: bool = False
    """Whether what is made on the way lies in files, so that a later run can go on from there."""
    bytes_spare: int | None = None
    """What other programs leave of the machine, where nobody has set the limit."""

    @property
    def bytes_keep(self) -> int:
        """What of the free bytes may go to values that stand in memory."""
        spare = self.bytes_spare
        return self.bytes_available if spare is None else min(self.bytes_available, spare)

    @property
    def bytes_share(self) -> int:
        """Most bytes one task should hold: many tasks fit, whoever runs them."""
        return max(1, self.bytes_limit // 16)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of `explain()`."""

    name: str
    where: str
    tasks: int
    bytes_read: int
    bytes_written: int
    bytes_peak: int
    passes: int
    seconds: float


@dataclass(slots=True)
class Plan:
    """Steps in order, with what they need and what they leave."""

    steps: list[Step] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    results: list[Store] = field(default_factory=list)
    """One store per target."""
    kept: list[tuple[Expr, Store]] = field(default_factory=list)
    """Values that are computed on the way and stay, with the nodes whose values they are."""
    copied: list[Store] = field(default_factory=list)
    """Stores in memory that workers read copies of; they stay while the plan does."""
    bytes_peak: int = 0
    bytes_spilled: int = 0
    limits: Limits | None = None
