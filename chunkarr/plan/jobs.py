"""Which nodes get a store, and which of those share a step.

A job is a node whose value is put into a store: a wanted result, a reduction, a value that a live
name still holds, and whatever cannot be computed inside a box of its user. Jobs over the same index
space that read a common source and do not need each other become one group: one scan of the source.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import NamedTuple

from chunkarr.expr.node import (
    Algorithm,
    Blocks,
    Compress,
    Contract,
    Expr,
    Gather,
    Generate,
    Map,
    Overlay,
    Reduce,
    Regrid,
    Reshape,
    Scan,
    Scatter,
    Source,
    View,
)
from chunkarr.records import dataclass

NOTHING: frozenset[int] = frozenset()

PLACED = (Reduce, Scan, Compress, Gather, Scatter, Contract, Algorithm, Blocks, Reshape)
"""Kinds whose value stands in a store before anything reads it..."""

FINISHED = Contract | Blocks
"""...but what reads the boxes of these at its own index, while they are there."""


@dataclass(slots=True, eq=False)
class Job:
    """A node to be stored."""

    node: Expr
    shape: tuple[int, ...]
    """The index space that is visited to make it."""
    needs: frozenset[int]
    """Ids of the job nodes whose stores it reads."""
    skewed: frozenset[int]
    """Those of `needs` that it reads elsewhere than at its own index."""
    sources: frozenset[int]
    """Ids of the stores it reads."""

    @classmethod
    def plain(cls, node: Expr) -> Job:
        """Give the job of copying a value whose own needs are met."""
        return cls(node, node.shape, NOTHING, NOTHING, NOTHING)

    @property
    def sweeps(self) -> bool:
        """Whether it can share its visit with other jobs."""
        return isinstance(self.node, Reduce) or not isinstance(self.node, PLACED)


@dataclass(slots=True, eq=False)
class Group:
    """Jobs that share one visit of their index space."""

    jobs: list[Job] = field(default_factory=list)

    @property
    def rest(self) -> tuple[list[Job], list[Job]]:
        """The jobs that sweep: those that are stored, and reductions."""
        sweeping = [job for job in self.jobs if job.sweeps]
        return (
            [job for job in sweeping if not isinstance(job.node, Reduce)],
            [job for job in sweeping if isinstance(job.node, Reduce)],
        )

    @property
    def label(self) -> str:
        """What the visit makes."""
        return ", ".join(dict.fromkeys(job.node.label for job in self.jobs))


def find_jobs(
    order: Sequence[Expr], wanted: Iterable[Expr], kept: set[int], room: int
) -> list[Job]:
    """List the jobs among nodes that stand in topological order.

    What takes at most `room` bytes is stored where that saves some work, more only for much.
    """
    chosen = {id(node) for node in wanted if not (isinstance(node, Source) and node.stands)}
    layered: set[int] = set()
    for node in order:
        if isinstance(node, Overlay) or (
            not isinstance(node, PLACED) and any(id(o) in layered for o in node.operands)
        ):
            layered.add(id(node))
        if isinstance(node, PLACED) or (id(node) in kept and not _stands(node)):
            chosen.add(id(node))
        if isinstance(node, View) and not node.affine.boxed:
            # A diagonal of patches is no product of progressions: they are laid out first.
            below = node.operands[0]
            if id(below) in layered:
                chosen.add(id(below))
    chosen |= _often_read(order, chosen, room)
    reach: dict[int, Reach] = {}
    jobs = []
    for node in order:
        found = _reach(node, reach)
        if id(node) in chosen:
            shape = node.operands[0].shape if isinstance(node, Reduce) else node.shape
            jobs.append(Job(node, shape, *found))
            reach[id(node)] = Reach(frozenset((id(node),)), NOTHING, NOTHING)
        else:
            reach[id(node)] = found
    return jobs


def _stands(node: Expr) -> bool:
    """Whether there is nothing to keep of a value: it is what others hold, seen in some way."""
    while isinstance(node, Regrid):
        (node,) = node.operands
    return node.stands if isinstance(node, Source) else isinstance(node, Generate | View)


def _often_read(order: Sequence[Expr], chosen: set[int], room: int) -> set[int]:
    """Find values that would be computed again and again, because shifted boxes of them are read.

    A box of `x[1:] + x[:-1]` needs two boxes of x, a step of a stencil on that four, and so on. A
    value that is read at other places than its reader's, more than once, and is no light work, is
    stored: the work of a loop of such steps then grows with its length.
    """
    moving = [node for node in order if isinstance(node, View | Overlay)]
    shifted = {id(operand) for node in moving for operand in node.operands}
    readers = Counter(id(operand) for node in order for operand in node.operands)
    again = {key for key in shifted if readers[key] > 1}
    often = _heavy(order, chosen, dict.fromkeys(again, WORK_MAX))
    # What these are made of may be wanted elsewhere too.
    return often | _computed_apart(order, chosen | often, room)


def _computed_apart(order: Sequence[Expr], chosen: set[int], room: int) -> set[int]:
    """Find values that several jobs would compute, each for itself, where storing them costs less.

    That is so where they are likely to stay in memory, else only if they are much work.
    """
    jobs: dict[int, set[int]] = {id(node): set() for node in order}
    most: dict[int, int] = {}
    for node in reversed(order):
        users = jobs[id(node)]
        if id(node) in chosen:
            # Reductions of one value share its visit.
            users = {id(node.operands[0]) if isinstance(node, Reduce) else id(node)}
        elif len(users) > 1:
            most[id(node)] = WORK_MAX // (len(users) - 1) if node.nbytes <= room else WORK_MUCH
        for operand in node.operands:
            if len(jobs[id(operand)]) < 2 * WORK_MAX:  # more make no difference
                jobs[id(operand)] |= users
    return _heavy(order, chosen, most, drawing=WORK_DRAWN)


def _heavy(
    order: Sequence[Expr], chosen: set[int], most: Mapping[int, int], drawing: int = 0
) -> set[int]:
    """Find the nodes that take more operations on an element than `most` allows for them.

    Drawing a random number counts as `drawing` operations.
    """
    found: set[int] = set()
    if not most:
        return found
    work: dict[int, int] = {}
    for node in order:
        key = id(node)
        if key in chosen or isinstance(node, Generate):
            work[key] = 0
            continue
        if isinstance(node, Source):
            own = 0 if node.stands else drawing
        else:
            own = int(not isinstance(node, View | Regrid))
        work[key] = own + sum(work[id(operand)] for operand in node.operands)
        if own and key in most and work[key] > most[key]:
            found.add(key)
            work[key] = 0
    return found


WORK_MAX = 8
"""Operations on an element that are rather done twice than stored."""
WORK_MUCH = 64
"""The same where storing is likely to mean writing to disk."""
WORK_DRAWN = 32
"""Operations that take as long as drawing a random number."""


def read_whole(order: Sequence[Expr], roots: Iterable[Expr]) -> set[int]:
    """Find the nodes that computing the roots reads all of, not only a slice."""
    whole = {id(root) for root in roots}
    for node in reversed(order):
        if id(node) in whole:
            whole.update(
                id(operand)
                for operand in node.operands
                if not isinstance(node, View) or node.size >= operand.size
            )
    return whole


class Reach(NamedTuple):
    """What a node reads: jobs, those of them at other indices than its own, and stores."""

    needs: frozenset[int]
    skewed: frozenset[int]
    sources: frozenset[int]


NO_REACH = Reach(NOTHING, NOTHING, NOTHING)


def _reach(node: Expr, reach: dict[int, Reach]) -> Reach:
    if isinstance(node, Source):
        return Reach(NOTHING, NOTHING, frozenset((id(node.store),)))
    total = NO_REACH
    straight = isinstance(node, Map | Regrid | Reduce)
    for operand in node.operands:
        more = reach[id(operand)]
        same = straight and (isinstance(node, Reduce) or operand.shape == node.shape)
        if more.needs and not same:
            more = more._replace(skewed=more.needs)
        if total is NO_REACH:
            total = more
        elif not all(map(frozenset.issubset, more, total)):
            total = Reach(*map(frozenset.union, total, more))
    return total


def group_jobs(jobs: Sequence[Job]) -> list[Group]:
    """Put jobs that can share a scan together, keeping an order in which needs come first."""
    groups: list[Group] = []
    place: dict[int, int] = {}
    calls: dict[tuple[object, ...], int] = {}
    made = {id(job.node): job for job in jobs}
    for job in jobs:
        # A need can be read in the same visit if it is stored box by box at the reader's own index.
        late = {
            need
            for need in job.needs - job.skewed
            if isinstance(made[need].node, Map | Regrid | FINISHED)
            and made[need].shape == job.shape
        }
        first = max((place[need] + (need not in late) for need in job.needs), default=0)
        spot = len(groups)
        if job.sweeps:
            for number in range(first, len(groups)):
                if _fits(job, groups[number]):
                    spot = number
                    break
        elif isinstance(job.node, Blocks):
            # Results of the same calls: nothing that one of them needs comes after the other.
            spot = calls.setdefault(job.node.calls, spot)
        if spot == len(groups):
            groups.append(Group())
        groups[spot].jobs.append(job)
        place[id(job.node)] = spot
    return groups


def _fits(job: Job, group: Group) -> bool:
    first = group.jobs[0]
    if first.shape != job.shape:
        return False
    if isinstance(first.node, FINISHED):
        # A box that was made there is finished by what reads it, and by nothing else.
        return any(id(other.node) in job.needs for other in group.jobs)
    if not first.sweeps:
        return False
    return any(
        bool(job.sources & other.sources)
        or bool(job.needs & other.needs)
        or id(other.node) in job.needs
        for other in group.jobs
    )
