"""What bodies share whose library has slots with a cache each: which slot a prompt goes to, and what it may reuse.

A slot's cache is used again only by the workspace that filled it: time tells whether a prefix was there.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Protocol

from antiphon.core.clock import Clock
from antiphon.core.errors import EngineFailed
from antiphon.core.records import Scope
from antiphon.engine.contract import EngineEvent, Phase, Prompt, Step, TokenSpan
from antiphon.engine.seats import Lease


class _Slot:
    """What a slot's cache holds, and whose it is."""

    def __init__(self) -> None:
        self.scope: Scope | None = None
        self.ids: list[int] = []
        self.used = 0.0


class SlotCaches:
    """The account of what the cache of each slot holds."""

    def __init__(self, slots: int, clock: Clock) -> None:
        self._slots = [_Slot() for _ in range(slots)]
        self._clock = clock

    def best(self, free: Sequence[int], scope: Scope, ids: list[int]) -> int:
        """The slot whose cache this prompt continues furthest; else the one longest unused."""

        return max(free, key=lambda number: (self.known(number, scope, ids), -self._slots[number].used))

    def known(self, number: int, scope: Scope, ids: list[int]) -> int:
        """How much of a prompt a slot's cache holds, in tokens."""
        slot = self._slots[number]
        return shared_prefix(slot.ids, ids) if slot.scope == scope else 0

    def cold(self, scope: Scope, ids: list[int], chunk: int) -> Callable[[int], bool]:
        """Whether on a slot more of a prompt has to be computed than the engine does in one go."""
        return lambda number: len(ids) - self.known(number, scope, ids) > chunk

    def fill(self, number: int, scope: Scope, ids: list[int]) -> bool:
        """A prompt goes to this slot. `ids` is kept, not copied: what is added to it later is in the cache too.
        Returns whether what is in the slot may be used for it."""
        slot = self._slots[number]
        own = slot.scope == scope
        slot.scope, slot.ids, slot.used = scope, ids, self._clock.monotonic()
        return own

    def forget(self) -> None:
        """The caches are gone, or nobody knows what they hold."""
        for slot in self._slots:
            slot.scope = None
            slot.ids = []


class RunsOnSlots(Protocol):
    """A body's side of a seat."""

    def run(
        self, seat: int, scope: Scope, ids: list[int], phase: Phase, lease: Lease | None
    ) -> AsyncGenerator[Step, None]:
        """Generate on a slot."""
        ...

    def ids_of(self, event: EngineEvent) -> Sequence[int]:
        """What an event adds to the text so far."""
        ...


class SlotSeat:
    """Implements `contract.Seat`."""

    def __init__(self, engine: RunsOnSlots, lease: Lease, scope: Scope, ids: list[int]) -> None:
        self._engine = engine
        self._lease = lease
        self._scope = scope
        self._ids = ids
        self._before = len(ids)

    async def generate(self, phase: Phase) -> AsyncGenerator[Step, None]:
        """See `contract.Seat.generate`."""
        kept = self._ids[: self._before] if phase.instead else self._ids
        self._ids = [*kept, *phase.appended]
        self._before = len(self._ids)
        steps = self._engine.run(self._lease.number, self._scope, self._ids, phase, self._lease)
        async with aclosing(steps):
            async for step in steps:
                for event in step.events:
                    self._ids += self._engine.ids_of(event)
                yield step


def made_ids(event: EngineEvent, encode: Callable[[str], list[int]]) -> Sequence[int]:
    """What an event adds to the text so far: nothing for an end token; for a character that spans tokens, whose ids
    the library does not tell, the ids our tokenizer gives its text."""
    if not event.data:
        return ()
    return event.ids if event.ids is not None else encode(event.data.decode())


def prompt_ids(prompt: Prompt) -> list[int]:
    """A prompt for a body that reads tokens alone.

    Raises:
        EngineFailed: there is something else in it.
    """
    ids: list[int] = []
    for segment in prompt.segments:
        if not isinstance(segment, TokenSpan):
            raise EngineFailed("this body serves no media", retry_helps=False)
        ids += segment.ids
    return ids


def shared_prefix(a: list[int], b: list[int]) -> int:
    """How many tokens two prompts share at their start. Compares by halves: slices are compared in C."""
    low, high = 0, min(len(a), len(b))
    if a[:high] == b[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low
