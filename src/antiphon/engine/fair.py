"""A line in which workspaces take turns by the work that they bring: start-time fair queueing (docs/design/0012).

Each workspace has a virtual time, which goes on by a request's work when one of its requests is taken; the workspace
whose time is earliest is next. Who was away begins at the line's own time, so that being idle earns nothing, and who
leaves and comes back owes what it had ahead.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterator
from itertools import count
from typing import Generic, TypeVar

from antiphon.core.records import Scope

#: Workspaces whose debts are remembered while they have nobody in line. Far above what an organization may have.
_REMEMBERED = 1024


class Waits:
    """One in line. `work` is in tokens, whatever the line's owner counts as such."""

    def __init__(self, scope: Scope, work: int) -> None:
        self.scope = scope
        self.work = max(1, work)


W = TypeVar("W", bound=Waits)


class _Flow(Generic[W]):
    """Those of one workspace, in the order in which they came. `start`: when, in virtual time, its next one is due."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.number = 0
        self.waiting: OrderedDict[W, None] = OrderedDict()


class FairLine(Generic[W]):
    """Who waits, in fair order. Each operation takes the logarithm of how many workspaces wait, save `excess`, which
    looks at each of them."""

    def __init__(self) -> None:
        self._now = 0
        self._flows: dict[Scope, _Flow[W]] = {}
        self._order: list[tuple[int, int, _Flow[W]]] = []
        self._owed: OrderedDict[Scope, int] = OrderedDict()
        self._numbers = count()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def add(self, waiter: W) -> None:
        """Behind all others of its workspace."""
        flow = self._flows.get(waiter.scope)
        if flow is None:
            flow = self._flows[waiter.scope] = _Flow(max(self._now, self._owed.pop(waiter.scope, 0)))
            self._put(flow)
        flow.waiting[waiter] = None
        self._length += 1

    def heads(self) -> Iterator[W]:
        """The foremost of each workspace, whose turn is next first. The line must not change meanwhile."""
        for _, _, flow in self._order:
            yield next(iter(flow.waiting))

    def take(self, waiter: W) -> None:
        """One of the heads is served: its work is its workspace's to bear.

        The line's time goes on where it was the first: one that was let past takes nobody's turn.
        """
        flow = self._flows[waiter.scope]
        if self._order[0][2] is flow:
            self._now = flow.start
        self._cut(flow)
        flow.start += waiter.work
        self._put(flow)
        self._drop(flow, waiter)

    def remove(self, waiter: W) -> bool:
        """One gives up, or is put out, and owes nothing. Returns whether it was in line."""
        flow = self._flows.get(waiter.scope)
        if flow is None or waiter not in flow.waiting:
            return False
        self._drop(flow, waiter)
        return True

    def excess(self, newcomer: W) -> W:
        """Who must go where one is too many: the newest of the workspace with the most, which is the newcomer where
        its own workspace has as many as any. `newcomer` is the newest of its workspace."""
        own = self._flows[newcomer.scope]
        most = max(self._flows.values(), key=lambda flow: (len(flow.waiting), flow is own))
        return next(reversed(most.waiting))

    def forget(self) -> None:
        """Nobody is served, and nobody waits: all are even."""
        if not self._length:
            self._now = 0
            self._owed.clear()

    def _drop(self, flow: _Flow[W], waiter: W) -> None:
        del flow.waiting[waiter]
        self._length -= 1
        if flow.waiting:
            return
        self._cut(flow)
        del self._flows[waiter.scope]
        if flow.start > self._now:
            self._owed[waiter.scope] = flow.start
            if len(self._owed) > _REMEMBERED:
                self._owed.popitem(last=False)

    def _put(self, flow: _Flow[W]) -> None:
        # A number of its own settles ties: of two that are even, the one that has waited longer for its turn is first.
        flow.number = next(self._numbers)
        insort(self._order, (flow.start, flow.number, flow))

    def _cut(self, flow: _Flow[W]) -> None:
        del self._order[bisect_left(self._order, (flow.start, flow.number, flow))]
