"""`isolation = "strict"`: each workspace has an engine of its own, in a process of its own, for every model.

Nothing at all is shared then but the processor and the budget of memory: a workspace's engine is loaded when it is
first asked for, and those longest unused go where memory ends (`residents.py`). The price is the weights, once for
each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from antiphon.core.records import DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE, Scope
from antiphon.engine.contract import Description, Health, Priority, Prompt, Remembered, Seat
from antiphon.engine.residents import ResidentEngine

#: The workspace whose engine is loaded at the start.
_FIRST = Scope(DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE)


class EngineForEach:
    """One model for many workspaces. Implements `contract.Engine`; `make` makes the engine of one of them."""

    def __init__(self, make: Callable[[Scope], ResidentEngine]) -> None:
        self._make = make
        self._engines = {_FIRST: make(_FIRST)}

    def describe(self) -> Description:
        return self._engines[_FIRST].describe()

    def health(self) -> Health:
        """Of all of them together: ready while none is in trouble."""
        each = [engine.health() for engine in self._engines.values()]
        return Health(
            ready=all(health.ready for health in each),
            loaded=any(health.loaded for health in each),
            reason=next((health.reason for health in each if not health.ready), ""),
            seats_taken=sum(health.seats_taken for health in each),
            waiting=sum(health.waiting for health in each),
            restarts=sum(health.restarts for health in each),
        )

    def epoch(self, scope: Scope) -> int:
        """See `contract.Engine.epoch`."""
        return self._of(scope).epoch(scope)

    def remembered(self) -> Remembered:
        """See `contract.TellsRemembered`."""
        each = [engine.remembered() for engine in self._engines.values()]
        return Remembered(
            prompts=sum(one.prompts for one in each),
            bytes=sum(one.bytes for one in each),
            evictions=sum(one.evictions for one in each),
        )

    async def start(self) -> None:
        """Load the first workspace's, if there is room."""
        await self._engines[_FIRST].start()

    async def stop(self) -> None:
        await asyncio.gather(*(engine.stop() for engine in self._engines.values()))

    def seat(
        self, scope: Scope, prompt: Prompt, max_tokens: int, priority: Priority = "interactive"
    ) -> AbstractAsyncContextManager[Seat]:
        """See `contract.Engine.seat`. Waits for the workspace's own engine first, if it is not in memory."""
        return self._of(scope).seat(scope, prompt, max_tokens, priority)

    def _of(self, scope: Scope) -> ResidentEngine:
        engine = self._engines.get(scope)
        if engine is None:
            engine = self._engines[scope] = self._make(scope)
        return engine
