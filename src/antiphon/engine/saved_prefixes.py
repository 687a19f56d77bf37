"""What a body remembers whose library can save a slot's cache and put it back: more prompts than it has slots.

A slot's content is saved when something else is about to take its place, and put back when a prompt of the same
workspace continues it. What is kept is decided by the time for which it was promised, and by workspace
(`saved_states.py`).

The account claims only what is surely there. A request that went wrong before it gave a sign may have left the slot as
it was: what both have in common is known then, and nothing if the slot was another workspace's.
"""

from __future__ import annotations

from collections.abc import Sequence

from antiphon.core.clock import Clock
from antiphon.core.records import Scope
from antiphon.engine.contract import Remembered
from antiphon.engine.frames import (
    Command,
    Done,
    Drop,
    Erase,
    Failed,
    Made,
    Progress,
    Report,
    Restore,
    Restored,
    Save,
    Saved,
)
from antiphon.engine.saved_states import SavedState, SavedStates, worth
from antiphon.engine.seats import Seating
from antiphon.engine.slots import OnSlots, Placement, shared_prefix

#: Fewer tokens than this are computed again about as fast as they are put back.
_LEAST = 64
#: Room that is left for what a seat in use makes. The library itself empties an idle slot where that is not enough.
_GROWTH = 512
#: What the library writes beside the cache: for each token, and for each file.
_TOKEN_BYTES, _FILE_BYTES = 32, 16 * 1024
#: After so many saves in a row that failed, it is not tried again on this child.
_PATIENCE = 3


class _Slot:
    """What a slot holds: `sure` tokens of `ids`, or, once the prompt is `whole`, all of them but the last one made.

    `began`: the request on it has given a sign. Before that it may hold what was there before (`cells` bounds its
    size), and, if `foreign`, that was another workspace's or nobody knows whose.
    """

    def __init__(self) -> None:
        self.seated = False
        self.empty()

    def empty(self) -> None:
        self.scope: Scope | None = None
        self.ids: list[int] = []
        self.prompt = 0
        self.sure = 0
        self.cells = 0
        self.began = True
        self.whole = False
        self.foreign = False
        self.restoring = 0
        self.used = self.until = 0.0

    @property
    def held(self) -> int:
        return max(self.prompt, len(self.ids) - 1) if self.whole else self.sure

    @property
    def most(self) -> int:
        """How many cells of the library's memory it takes, at most."""
        return len(self.ids) if self.began else max(self.cells, len(self.ids))

    def owner(self) -> Scope | None:
        return None if self.foreign and not self.began else self.scope


class SavedPrefixes:
    """Implements `slots.Remembers`.

    Args:
        room: bytes for what is saved.
        token_bytes: what a token of the cache takes; 0 where it is not known, and nothing is saved then.
        pool_tokens: what all slots can hold together.
    """

    def __init__(self, slots: int, clock: Clock, *, room: int, token_bytes: int, pool_tokens: int) -> None:
        self._slots = [_Slot() for _ in range(slots)]
        self._clock = clock
        self._token_bytes = token_bytes
        self._pool_tokens = pool_tokens
        self._states = SavedStates(room if token_bytes else 0, clock)
        self._failures = 0
        self._lost = 0

    @property
    def saved_bytes(self) -> int:
        """Bytes of what is saved, counted from above until they are told."""
        return self._states.bytes

    def seating(self, scope: Scope, ids: list[int], chunk: int) -> Seating:
        """See `slots.Remembers.seating`."""
        return OnSlots(self, scope, ids, chunk)

    def hold(self, number: int, *, seated: bool) -> None:
        """See `slots.KnowsSlots.hold`. A slot in use is not emptied for others."""
        self._slots[number].seated = seated

    def best(self, free: Sequence[int], scope: Scope, ids: list[int]) -> int:
        """The slot whose content this prompt continues furthest, unless what is saved covers clearly more; among those
        that are as good, the one whose loss costs least."""
        known = {number: self._known(number, scope, ids) for number in free}
        longest = max(known.values())
        _, covered = self._states.find(scope, ids)
        if longest >= _LEAST and covered - longest < _LEAST:
            free = [number for number in free if known[number] == longest]
        losses = {number: self._loss(number, scope, ids) for number in free}
        return min(free, key=lambda number: (losses[number][0], -known[number], losses[number]))

    def missing(self, number: int, scope: Scope, ids: list[int]) -> int:
        """See `slots.KnowsSlots.missing`; with what is saved put back."""
        return len(ids) - max(self._known(number, scope, ids), self._states.find(scope, ids)[1])

    def place(self, number: int, scope: Scope, ids: list[int], keep_seconds: float) -> Placement:
        """See `slots.Remembers.place`. The child is told to save what this prompt displaces, and to put back what is
        saved of it."""
        now, slot = self._clock.monotonic(), self._slots[number]
        before: list[Command] = [Drop(place) for place in self._states.old()]
        own, known = slot.owner() == scope, self._known(number, scope, ids)
        state, covered = self._states.find(scope, ids)
        if covered - known < _LEAST:
            state = None
        if not (own and known >= slot.prompt):
            before += self._save(number, known if state is None else 0, state)
        restored = 0 if state is None else len(state.ids)
        before += self._make_room(number, max(len(ids), restored), state)
        until = now + keep_seconds
        if state is not None:
            state.used, state.until = now, max(state.until, until)
            before.append(Restore(number, state.place))
        elif own and known >= slot.prompt:
            until = max(until, slot.until)
        slot.cells = max(slot.most, restored)
        slot.scope, slot.ids, slot.prompt, slot.used, slot.until = scope, ids, len(ids), now, until
        slot.began, slot.whole, slot.foreign, slot.sure = False, False, not own, known
        slot.restoring = 0 if state is None else state.place
        return Placement(own or state is not None, max(known, covered if state else 0), before=tuple(before))

    def heard(self, number: int | None, report: Report) -> tuple[Command, ...]:
        """See `slots.Remembers.heard`."""
        match report:
            case Saved(place, tokens, size):
                self._failures = 0 if size else self._failures + 1
                if tokens:
                    self._token_bytes = max(self._token_bytes, (size - _FILE_BYTES) // tokens - _TOKEN_BYTES)
                return tuple([Drop(gone) for gone in self._states.saved(place, tokens, size)])
            case Restored(seat, place, tokens):
                return self._restored(self._slots[seat], place, tokens)
        if number is not None:
            self._progressed(self._slots[number], report)
        return ()

    def ended(self, number: int) -> None:
        """See `slots.Remembers.ended`. What came of it was heard."""

    def resize(self, pool_tokens: int) -> None:
        """See `slots.Remembers.resize`. The room is what was given at the start."""
        self.forget()

    def forget(self) -> None:
        """All is gone, in the slots and beside them."""
        self._states.forget()
        self._failures = 0
        for slot in self._slots:
            slot.empty()

    def held(self) -> Remembered:
        """A prompt that is in a slot and saved as well counts once, its bytes twice: it takes them twice."""
        alone = cells = 0
        for slot in self._slots:
            cells += slot.held
            if slot.held and slot.scope is not None:
                state, covered = self._states.find(slot.scope, slot.ids)
                alone += state is None or covered < state.prompt
        return Remembered(
            prompts=len(self._states) + alone,
            bytes=self._states.bytes + cells * self._token_bytes,
            evictions=self._states.evictions + self._lost,
        )

    def _known(self, number: int, scope: Scope, ids: list[int]) -> int:
        slot = self._slots[number]
        return min(slot.held, shared_prefix(slot.ids, ids)) if slot.owner() == scope else 0

    def _covered(self, slot: _Slot) -> bool:
        """Whether what a slot holds is saved, but for an end not worth it."""
        if slot.scope is None:
            return True
        return slot.held - self._states.find(slot.scope, slot.ids)[1] <= _end(slot.held)

    def _loss(self, number: int, scope: Scope, ids: list[int]) -> tuple[int, int, float]:
        """What it costs to put a prompt into a slot; less is better."""
        slot = self._slots[number]
        if slot.owner() is None or not slot.held:
            return 0, 0, slot.used
        if slot.scope == scope and self._known(number, scope, ids) >= slot.prompt:
            return 0, 0, slot.used
        return (1 if self._covered(slot) else 2, *worth(self._clock.monotonic(), slot.used, slot.until))

    def _save(self, number: int, stays: int, pinned: SavedState | None) -> list[Command]:
        """Save what a slot holds before it goes, but for what `stays`, if it is worth it."""
        slot = self._slots[number]
        scope, held = slot.owner(), slot.held
        if scope is None or held < _LEAST or held - stays <= _end(held):
            return []
        state, covered = self._states.find(scope, slot.ids)
        if state is not None and held - min(covered, held) <= _end(held):
            state.used, state.until = max(state.used, slot.used), max(state.until, slot.until)
            return []
        instead = state if state is not None and covered >= state.prompt and state is not pinned else None
        if instead is not None and any(s.restoring == instead.place and not s.began for s in self._slots):
            instead = None  # nobody knows yet which of the two that slot holds
        new = SavedState(
            0, scope, slot.ids[:held], min(slot.prompt, held), self._size(held), slot.used,
            slot.until if instead is None else max(slot.until, instead.until),
        )  # fmt: skip
        gone = self._states.admit(new, instead=instead, pinned=pinned) if self._failures < _PATIENCE else None
        if gone is None:
            self._lost += 1
            return []
        return [*(Drop(place) for place in gone), Save(number, new.place)]

    def _size(self, tokens: int) -> int:
        return tokens * (self._token_bytes + _TOKEN_BYTES) + _FILE_BYTES

    def _make_room(self, number: int, tokens: int, pinned: SavedState | None) -> list[Command]:
        """Empty idle slots until the library's memory has room for a prompt on this one."""
        told: list[Command] = []
        growth = min(_GROWTH, self._pool_tokens // 8)
        others = [other for other in range(len(self._slots)) if other != number]
        taken = sum(self._slots[o].most + (growth if self._slots[o].seated else 0) for o in others)
        idle = [o for o in others if not self._slots[o].seated and self._slots[o].most]
        now = self._clock.monotonic()
        idle.sort(key=lambda o: worth(now, self._slots[o].used, self._slots[o].until))
        for other in idle:
            if taken + tokens + growth <= self._pool_tokens:
                break
            told += self._save(other, 0, pinned)
            told.append(Erase(other))
            taken -= self._slots[other].most
            self._slots[other].empty()
        return told

    def _restored(self, slot: _Slot, place: int, tokens: int) -> tuple[Command, ...]:
        gone = self._states.missed(place) if not tokens else []
        if slot.restoring == place and not slot.began:
            state = self._states.get(place)
            if not tokens:
                slot.sure = 0
            elif state is not None:
                slot.foreign = False
                slot.sure = max(slot.sure, min(shared_prefix(state.ids, slot.ids), tokens))
        return tuple([Drop(old) for old in gone])

    def _progressed(self, slot: _Slot, report: Report) -> None:
        match report:
            case Progress(_, reused, computed):
                slot.began = True
                slot.sure = max(reused or 0, computed)
            case Made() | Done():
                slot.began = slot.whole = True
            case Failed():
                slot.whole, slot.sure = False, 0


def _end(tokens: int) -> int:
    """An end so short is rather computed again than saved."""
    return max(8, tokens // 64)
