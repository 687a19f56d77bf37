"""Buckets in this process. No call waits, so each is atomic on the event loop; not for several threads."""

from __future__ import annotations

from collections.abc import Sequence

from antiphon.core.clock import Clock
from antiphon.core.errors import invariant
from antiphon.gate.limits.buckets import (
    UNITS,
    Bucket,
    Demand,
    Hold,
    Level,
    Refused,
    Taken,
    level_of,
    refusal,
)


class _State:
    """One bucket; the words are those of `buckets`. `at` is when it was last brought up to date, ms."""

    __slots__ = ("at", "born", "deficit", "limit", "served")

    def __init__(self, at: int, limit: int, born: int) -> None:
        self.at = at
        self.born = born
        self.deficit = 0
        self.limit = limit
        self.served = 0


class MemoryBuckets:
    """Buckets that only this process takes from. Full ones are forgotten as new ones come, two looked at for each:
    there are never many more than are in use."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._states: dict[str, _State] = {}
        self._births = 0

    def __len__(self) -> int:
        return len(self._states)

    async def take(self, demands: Sequence[Demand]) -> Taken | Refused:
        """See `Buckets.take`."""
        now = int(self._clock.monotonic() * 1000)
        found = self._states.get
        deficits: list[int] = []
        short = False
        for demand in demands:
            bucket = demand.bucket
            state = found(bucket.name)
            if state is None:
                deficit = 0
            else:
                if now != state.at or bucket.limit != state.limit:
                    self._update(state, bucket.limit, now)
                deficit = state.deficit
            deficits.append(deficit)
            wanted = demand.amount if demand.amount > demand.needs else demand.needs
            if wanted and deficit > (bucket.limit - wanted) * UNITS:
                short = True
        if short:
            return refusal(demands, deficits)
        holds: list[Hold] = []
        levels: list[Level] = []
        for demand, missing in zip(demands, deficits, strict=True):
            bucket, amount = demand.bucket, demand.amount
            deficit = missing + amount * UNITS
            if amount:
                # Looked up again: making another bucket may just have forgotten this one, if it was full.
                held = found(bucket.name) or self._new(bucket, now)
                held.deficit = deficit
                holds.append(Hold(bucket, amount, held.served + deficit, now, held.born))
            levels.append(level_of(bucket, deficit))
        return Taken(tuple(holds), tuple(levels))

    async def settle(self, used: Sequence[tuple[Hold, int]]) -> None:
        """See `Buckets.settle`; always answers."""
        now = int(self._clock.monotonic() * 1000)
        for hold, tokens in used:
            if tokens > hold.amount:
                self._spend(hold.bucket, tokens - hold.amount, now)
                continue
            state = self._states.get(hold.bucket.name)
            if state is not None and state.born == hold.born:
                self._update(state, state.limit, now)
                queued = max(hold.end - state.served, hold.amount * UNITS - (now - hold.at) * state.limit, 0)
                back = min((hold.amount - tokens) * UNITS, queued, state.deficit)
                state.deficit -= back
                state.served += back

    async def spend(self, spent: Sequence[tuple[Bucket, int]]) -> None:
        """See `Buckets.spend`; always answers."""
        now = int(self._clock.monotonic() * 1000)
        for bucket, tokens in spent:
            if tokens:
                self._spend(bucket, tokens, now)

    async def look(self, buckets: Sequence[Bucket]) -> tuple[Level, ...]:
        """See `Buckets.look`; always answers."""
        now = int(self._clock.monotonic() * 1000)
        states = ((bucket, self._current(bucket, now)) for bucket in buckets)
        return tuple(level_of(bucket, 0 if state is None else state.deficit) for bucket, state in states)

    def _spend(self, bucket: Bucket, tokens: int, now: int) -> None:
        state = self._states.get(bucket.name) or self._new(bucket, now)
        # Only who takes decides what the limit is: what is spent may be of a request from before it was changed.
        self._update(state, state.limit, now)
        state.deficit += tokens * UNITS

    def _current(self, bucket: Bucket, now: int) -> _State | None:
        """The bucket as it stands now; None if it is full and nobody has taken from it lately."""
        state = self._states.get(bucket.name)
        if state is not None:
            self._update(state, bucket.limit, now)
        return state

    def _update(self, state: _State, limit: int, now: int) -> None:
        if now > state.at:
            refilled = min((now - state.at) * state.limit, state.deficit)
            state.deficit -= refilled
            state.served += refilled
            state.at = now
        if state.limit != limit:
            self._rescale(state, limit)

    def _rescale(self, state: _State, limit: int) -> None:
        if state.limit:
            state.deficit = -(-state.deficit * limit // state.limit)
        else:
            state.deficit = min(state.deficit, limit * UNITS)
        state.limit, state.served, state.born = limit, 0, self._birth()

    def _new(self, bucket: Bucket, now: int) -> _State:
        for _ in range(2):
            oldest = next(iter(self._states), None)
            if oldest is None:
                break
            state = self._states.pop(oldest)
            if (now - state.at) * state.limit < state.deficit:
                self._states[oldest] = state
        invariant(bucket.name not in self._states, "a bucket was made anew while it was in use")
        made = self._states[bucket.name] = _State(now, bucket.limit, self._birth())
        return made

    def _birth(self) -> int:
        self._births += 1
        return self._births
