"""What bodies share whose library has slots with a cache each: which slot a prompt goes to, and what it may reuse.

A slot's cache is used again only by the workspace that filled it: time tells whether a prefix was there.
`Remembers` is what a body asks; `SlotCaches` is the plain answer to it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Protocol

import msgspec

from antiphon.core.clock import Clock
from antiphon.core.errors import EngineFailed
from antiphon.core.records import Scope
from antiphon.engine.contract import EngineEvent, Phase, Prompt, Remembered, Step, TokenSpan
from antiphon.engine.frames import Command, Report
from antiphon.engine.seats import Lease, Seating


class Placement(msgspec.Struct, frozen=True):
    """How a prompt goes to its seat. `reuse`: whether what is in the seat may be used for it. `known`: how many of its
    tokens the engine should not have to compute. `salt`: see `frames.Generate`. `before`: what the child is told first,
    in this order."""

    reuse: bool
    known: int = 0
    salt: int = 0
    before: tuple[Command, ...] = ()


class Remembers(Protocol):
    """What a body knows of what its library remembers, by workspace. Nothing crosses from one to another."""

    def seating(self, scope: Scope, ids: list[int], chunk: int) -> Seating:
        """What a prompt is to the seats. It is cold where more of it has to be computed than the engine does in one go,
        `chunk` tokens; the best seat is where least has to be."""
        ...

    def place(self, number: int, scope: Scope, ids: list[int], keep_seconds: float) -> Placement:
        """A phase's prompt goes to this seat. `ids` is kept, not copied: what is made is added to it."""
        ...

    def heard(self, number: int | None, report: Report) -> tuple[Command, ...]:
        """What the child said: of the phase on this seat, or of what it keeps. Returns what it is to be told."""
        ...

    def ended(self, number: int) -> None:
        """The phase on a seat is over, whether or not it came to its end."""
        ...

    def resize(self, pool_tokens: int) -> None:
        """The library is new: all is gone, or nobody knows what is there. It has room for so much; 0 where it remembers
        nothing."""
        ...

    def held(self) -> Remembered: ...


class _Slot:
    """What a slot's cache holds, and whose it is."""

    def __init__(self) -> None:
        self.scope: Scope | None = None
        self.ids: list[int] = []
        self.used = 0.0


class KnowsSlots(Protocol):
    """An account of slots with a cache each."""

    def best(self, free: Sequence[int], scope: Scope, ids: list[int]) -> int:
        """The free slot that a prompt goes to."""
        ...

    def missing(self, number: int, scope: Scope, ids: list[int]) -> int:
        """How many tokens of a prompt have to be computed on a slot."""
        ...

    def hold(self, number: int, *, seated: bool) -> None:
        """Whether a turn has the slot."""
        ...


class OnSlots(Seating):
    """A slot's cache is nobody else's while it is in use, so that no prompt follows another."""

    def __init__(self, account: KnowsSlots, scope: Scope, ids: list[int], chunk: int) -> None:
        self._account = account
        self._scope = scope
        self._ids = ids
        self._chunk = chunk

    def best(self, free: Sequence[int]) -> int:
        return self._account.best(free, self._scope, self._ids)

    def cold(self, number: int) -> bool:
        return self._account.missing(number, self._scope, self._ids) > self._chunk

    def seated(self, number: int) -> None:
        self._account.hold(number, seated=True)

    def left(self, number: int) -> None:
        self._account.hold(number, seated=False)


class SlotCaches:
    """The account of what the cache of each slot holds."""

    def __init__(self, slots: int, clock: Clock) -> None:
        self._slots = [_Slot() for _ in range(slots)]
        self._clock = clock

    def seating(self, scope: Scope, ids: list[int], chunk: int) -> Seating:
        """See `Remembers.seating`."""
        return OnSlots(self, scope, ids, chunk)

    def best(self, free: Sequence[int], scope: Scope, ids: list[int]) -> int:
        """See `KnowsSlots.best`: the slot whose cache this prompt continues furthest; else the one longest unused."""
        return max(free, key=lambda number: (self.known(number, scope, ids), -self._slots[number].used))

    def missing(self, number: int, scope: Scope, ids: list[int]) -> int:
        """See `KnowsSlots.missing`."""
        return len(ids) - self.known(number, scope, ids)

    def hold(self, number: int, *, seated: bool) -> None:
        """See `KnowsSlots.hold`. Nothing comes of it."""

    def known(self, number: int, scope: Scope, ids: list[int]) -> int:
        """How much of a prompt a slot's cache holds, in tokens."""
        slot = self._slots[number]
        return shared_prefix(slot.ids, ids) if slot.scope == scope else 0

    def place(self, number: int, scope: Scope, ids: list[int], keep_seconds: float) -> Placement:
        """See `Remembers.place`. A slot holds the last prompt it was given, however long that is to be kept."""
        slot = self._slots[number]
        own, known = slot.scope == scope, self.known(number, scope, ids)
        slot.scope, slot.ids, slot.used = scope, ids, self._clock.monotonic()
        return Placement(own, known)

    def heard(self, number: int | None, report: Report) -> tuple[Command, ...]:
        """See `Remembers.heard`. Nothing comes of it."""
        return ()

    def ended(self, number: int) -> None:
        """See `Remembers.ended`. Nothing comes of it."""

    def resize(self, pool_tokens: int) -> None:
        """See `Remembers.resize`. A slot holds one prompt, however long."""
        self.forget()

    def forget(self) -> None:
        """The caches are gone, or nobody knows what they hold."""
        for slot in self._slots:
            slot.scope = None
            slot.ids = []

    def held(self) -> Remembered:
        """Its slots are all there is."""
        return Remembered(prompts=sum(bool(slot.ids) for slot in self._slots))


class RunsOnSlots(Protocol):
    """A body's side of a seat."""

    def run(
        self, lease: Lease, scope: Scope, ids: list[int], phase: Phase, keep_seconds: float
    ) -> AsyncGenerator[Step, None]:
        """Generate on the slot that is held."""
        ...

    def ids_of(self, event: EngineEvent) -> Sequence[int]:
        """What an event adds to the text so far."""
        ...


class SlotSeat:
    """Implements `contract.Seat`."""

    def __init__(
        self, engine: RunsOnSlots, lease: Lease, scope: Scope, ids: list[int], keep_seconds: float = 0.0
    ) -> None:
        self._engine = engine
        self._keep_seconds = keep_seconds
        self._lease = lease
        self._scope = scope
        self._ids = ids
        self._before = len(ids)

    async def generate(self, phase: Phase) -> AsyncGenerator[Step, None]:
        """See `contract.Seat.generate`."""
        kept = self._ids[: self._before] if phase.instead else self._ids
        self._ids = [*kept, *phase.appended]
        self._before = len(self._ids)
        steps = self._engine.run(self._lease, self._scope, self._ids, phase, self._keep_seconds)
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
