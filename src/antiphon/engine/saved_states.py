"""The account of what is saved of prompts, in bytes: who has how much of the room, and who goes when it is full.

order    what was promised to nobody, or for a time that is over, goes first, longest unused before all; then what
         was promised for the least time from now
quota    the share of a workspace is the room over the number of workspaces that have something. Another one pushes
         none below its share; while it is below its own, it takes what others have above theirs, promised or not
hour     what was promised to nobody and is unused for an hour is given up without need: none may hold more than
         its share for ever by being there first
"""

from __future__ import annotations

import itertools

import msgspec

from antiphon.core.clock import Clock
from antiphon.core.records import Scope
from antiphon.engine.slots import shared_prefix

#: In seconds; the longest time that a reader is ever promised.
_IDLE_SECONDS = 3600.0
#: Each is a descriptor of the child.
_MOST = 256
#: So many answers are remembered until something changes: those who wait for a seat ask again and again.
_MOST_FOUND = 64


class SavedState(msgspec.Struct, eq=False):
    """What is kept under the number `place`: what these ids gave. `prompt`: how many of them were a prompt; the rest
    was made. `used` and `until` (for how long it was promised) are in seconds of the monotonic clock."""

    place: int
    scope: Scope
    ids: list[int]
    prompt: int
    bytes: int
    used: float
    until: float
    misses: int = 0

    def worth(self, now: float) -> tuple[int, float]:
        return worth(now, self.used, self.until)


def worth(now: float, used: float, until: float) -> tuple[int, float]:
    """What of two is to be given up first is less by this."""
    return (1, until) if until > now else (0, used)


class SavedStates:
    """What is saved. `evictions` counts what was given up for room."""

    def __init__(self, room: int, clock: Clock) -> None:
        self._room = room
        self._clock = clock
        self._places = itertools.count(1)
        self._states: dict[int, SavedState] = {}
        self._by_scope: dict[Scope, int] = {}
        self._found: dict[int, tuple[list[int], int, Scope, SavedState | None, int]] = {}
        self.evictions = 0

    @property
    def bytes(self) -> int:
        return sum(self._by_scope.values())

    def __len__(self) -> int:
        return len(self._states)

    def of(self, scope: Scope) -> int:
        """Bytes that a workspace has."""
        return self._by_scope.get(scope, 0)

    def share(self, scope: Scope) -> int:
        """Bytes that a workspace cannot be pushed below, if this one has something or is to have."""
        return self._room // len(self._by_scope.keys() | {scope})

    def get(self, place: int) -> SavedState | None:
        return self._states.get(place)

    def find(self, scope: Scope, ids: list[int]) -> tuple[SavedState | None, int]:
        """What of a workspace's own covers most of a prompt, and how many tokens of it."""
        known = self._found.get(id(ids))
        if known is not None and known[0] is ids and known[1] == len(ids) and known[2] == scope:
            return known[3], known[4]
        best, covered = None, 0
        for state in self._states.values():
            if state.scope != scope or len(state.ids) <= covered or len(ids) <= covered:
                continue
            if state.ids[covered] == ids[covered] and (shared := shared_prefix(state.ids, ids)) > covered:
                best, covered = state, shared
        if len(self._found) >= _MOST_FOUND:
            self._found.clear()
        self._found[id(ids)] = (ids, len(ids), scope, best, covered)
        return best, covered

    def admit(self, new: SavedState, *, instead: SavedState | None, pinned: SavedState | None) -> list[int] | None:
        """Make room for something, and count it in. Its place is chosen here: that of what it is saved `instead` of, or
        a new one. What is `pinned` stays.

        Returns:
            The places whose content is to be dropped, or None where it is not worth what would have to go.
        """
        gone = self._leavers(new, instead, pinned)
        if gone is None:
            return None
        for state in gone:
            self._remove(state)
        self.evictions += len(gone)
        if instead is not None:
            self._remove(instead)
        new.place = next(self._places) if instead is None else instead.place
        self._states[new.place] = new
        self._count(new.scope, new.bytes)
        return [state.place for state in gone]

    def saved(self, place: int, tokens: int, size: int) -> list[int]:
        """What saving really gave. Returns the places to be dropped, since it takes more than it was counted with."""
        state = self._states.get(place)
        if state is None:
            return []
        if not tokens:
            self._remove(state)
            return []
        self._count(state.scope, size - state.bytes)
        state.bytes = size
        del state.ids[tokens:]
        self._found.clear()
        dropped = []
        while self.bytes > self._room:
            now = self._clock.monotonic()
            least = min((s for s in self._states.values() if s.scope == state.scope), key=lambda s: s.worth(now))
            self._remove(least)
            self.evictions += 1
            dropped.append(least.place)
        return dropped

    def missed(self, place: int) -> list[int]:
        """It could not be restored. Once that may have been for want of room. Returns the places to be dropped."""
        state = self._states.get(place)
        if state is None:
            return []
        state.misses += 1
        if state.misses < 2:
            return []
        self._remove(state)
        return [place]

    def old(self) -> list[int]:
        """Give up what nobody is promised and nobody has used for long. Returns the places to be dropped."""
        now = self._clock.monotonic()
        gone = [s for s in self._states.values() if s.until <= now and now - s.used > _IDLE_SECONDS]
        for state in gone:
            self._remove(state)
        return [state.place for state in gone]

    def forget(self) -> None:
        self._states.clear()
        self._by_scope.clear()
        self._found.clear()

    def _leavers(
        self, new: SavedState, instead: SavedState | None, pinned: SavedState | None
    ) -> list[SavedState] | None:
        now = self._clock.monotonic()
        had = 0 if instead is None else instead.bytes
        excess = self.bytes - had + new.bytes - self._room
        spare = len(self._states) - (instead is not None) + 1 - _MOST
        if new.bytes > self._room:
            return None
        share = self.share(new.scope)
        below = self.of(new.scope) - had + new.bytes <= share
        mine = new.worth(now)
        left = dict(self._by_scope)
        gone: list[SavedState] = []
        # Below its share a workspace keeps what it has, if others have more than theirs.
        for state in sorted(self._states.values(), key=lambda s: (below and s.scope == new.scope, s.worth(now))):
            if excess <= 0 and spare <= 0:
                break
            other = state.scope != new.scope
            if state is instead or state is pinned or (other and left[state.scope] - state.bytes < share):
                continue
            if state.worth(now) >= mine and not (other and below):
                continue
            gone.append(state)
            left[state.scope] -= state.bytes
            excess -= state.bytes
            spare -= 1
        return gone if excess <= 0 and spare <= 0 else None

    def _remove(self, state: SavedState) -> None:
        del self._states[state.place]
        self._count(state.scope, -state.bytes)

    def _count(self, scope: Scope, size: int) -> None:
        self._found.clear()
        total = self._by_scope.get(scope, 0) + size
        if total > 0:
            self._by_scope[scope] = total
        else:
            self._by_scope.pop(scope, None)
