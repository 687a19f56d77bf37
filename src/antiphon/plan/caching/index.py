"""Which prefixes were written and are alive: the cache as the bill sees it (contract messages-and-inference 7.2, 7.4).

    found = index.look_up(total, cacheable, epoch)   at the start of a request: what is there
    index.read(found)                                when it is let in: what it reads lives on
    index.write(found, epoch)                        at the start of its answer: what it wrote can be read

An entry belongs to one workspace, and to one life of the engine's memory (`epoch`): once that is lost the same prefix
is written again. Its tokens are compared with the prompt's before it is read, so that nothing is billed as read that
the model would have to read anew. In memory, bounded; every workspace has the same room."""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import msgspec

from antiphon.core.clock import Clock
from antiphon.core.ids import secret
from antiphon.core.records import Scope, Usage
from antiphon.plan.caching.bill import Breakpoint, Hit, bill, kept_seconds, written
from antiphon.plan.caching.positions import SECONDS, Lifetime

#: How far back from a breakpoint an earlier entry is looked for, in positions, the breakpoint's own among them.
LOOK_BACK = 20
#: Entries of one workspace, and workspaces: about 250 bytes each. The longest unused go first.
_ENTRIES = 4096
_WORKSPACES = 1024
_DIGEST_BYTES = 16
#: At the end of a block a token may reach over into the next one, or not, by what follows: so many tokens fewer may be
#: the same then.
_BORDER = 3


class Cacheable(msgspec.Struct, frozen=True):
    """What of a planned prompt can be cached: the positions' keys, the breakpoints that are long enough, and the ids of
    the whole prompt."""

    scope: Scope
    keys: tuple[bytes, ...]
    breakpoints: tuple[Breakpoint, ...]
    ids: list[int]


class Entry(msgspec.Struct, gc=False):
    """A prefix that was written. `until` is on the monotonic clock; `digests` are of its tokens, and of a few less."""

    tokens: int
    digests: tuple[bytes, ...]
    lifetime: Lifetime
    until: float
    epoch: int


class Found(msgspec.Struct, frozen=True):
    """What the cache is to a request: its usage, the entries that it keeps alive, what it will write, and for how long
    its prefix is promised."""

    usage: Usage
    cacheable: Cacheable | None = None
    alive: tuple[Entry, ...] = ()
    new: tuple[Breakpoint, ...] = ()
    started: float = 0.0
    keep_seconds: float = 0.0


class CacheIndex:
    """All entries of one server process."""

    def __init__(self, clock: Clock, *, entries: int = _ENTRIES, workspaces: int = _WORKSPACES) -> None:
        """`entries`: of one workspace."""
        self._clock = clock
        self._most = entries
        self._most_workspaces = workspaces
        self._of: OrderedDict[Scope, OrderedDict[bytes, Entry]] = OrderedDict()
        #: What keys are made with.
        self.secret = secret(32).encode()
        self.evictions = 0

    def __len__(self) -> int:
        return sum(map(len, self._of.values()))

    def look_up(self, total: int, cacheable: Cacheable | None, epoch: int) -> Found:
        """What a prompt of `total` tokens finds: the longest prefix that is there, and before it the entries at the
        request's own breakpoints."""
        if cacheable is None or not cacheable.breakpoints:
            return Found(Usage(input_tokens=total))
        now = self._clock.monotonic()
        entries = self._entries(cacheable.scope)
        digests = _Digests(cacheable.ids)

        def alive(places: Iterable[int]) -> Iterator[tuple[int, Entry]]:
            for place in places:
                if (entry := self._alive(entries, cacheable.keys[place], digests, now, epoch)) is not None:
                    yield place, entry

        hit: Hit | None = None
        kept: list[Entry] = []
        for place, entry in islice(alive(_looked_at(cacheable.breakpoints)), 1):
            hit = Hit(place, _same(entry, digests), float(SECONDS[entry.lifetime]))
            before = [mark.place for mark in cacheable.breakpoints if mark.place < place]
            kept = [entry, *(entry for _, entry in alive(before))]
        return Found(
            bill(total, cacheable.breakpoints, hit),
            cacheable,
            tuple(kept),
            tuple(written(cacheable.breakpoints, hit)),
            now,
            kept_seconds(cacheable.breakpoints, hit),
        )

    def read(self, found: Found) -> None:
        """The request is let in: what it found lives on, from when it came. One that is refused reads nothing."""
        for entry in found.alive:
            entry.until = max(entry.until, found.started + SECONDS[entry.lifetime])

    def write(self, found: Found, epoch: int) -> None:
        """The answer has begun: what its request wrote can be read from now on, and lives from when the request
        came."""
        if found.cacheable is None or not found.new:
            return
        digests = _Digests(found.cacheable.ids)
        entries = self._entries(found.cacheable.scope)
        for mark in found.new:
            key = found.cacheable.keys[mark.place]
            until = found.started + SECONDS[mark.lifetime]
            shortest = max(1, mark.tokens - _BORDER)
            ending = tuple([digests.of(tokens) for tokens in range(shortest, mark.tokens + 1)][::-1])
            entry = Entry(mark.tokens, ending, mark.lifetime, until, epoch)
            there = entries.get(key)
            if there is None or not _outlives(there, entry):
                entries[key] = entry
            entries.move_to_end(key)
        self._shrink(entries)

    def _alive(
        self,
        entries: OrderedDict[bytes, Entry],
        key: bytes,
        digests: _Digests,
        now: float,
        epoch: int,
    ) -> Entry | None:
        """The entry of a key, if it is there."""
        entry = entries.get(key)
        if entry is None:
            return None
        if entry.epoch != epoch or entry.until <= now:
            del entries[key]
            return None
        if not _same(entry, digests):
            return None
        entries.move_to_end(key)
        return entry

    def _entries(self, scope: Scope) -> OrderedDict[bytes, Entry]:
        entries = self._of.get(scope)
        if entries is None:
            entries = self._of[scope] = OrderedDict()
            if len(self._of) > self._most_workspaces:
                _, gone = self._of.popitem(last=False)
                self.evictions += len(gone)
        self._of.move_to_end(scope)
        return entries

    def _shrink(self, entries: OrderedDict[bytes, Entry]) -> None:
        while len(entries) > self._most:
            entries.popitem(last=False)
            self.evictions += 1


def _looked_at(breakpoints: Sequence[Breakpoint]) -> Iterator[int]:
    """Where an entry is looked for, in this order: from the last breakpoint back, then from the one before it."""
    for mark in reversed(breakpoints):
        yield from range(mark.place, max(-1, mark.place - LOOK_BACK), -1)


def _outlives(there: Entry, new: Entry) -> bool:
    """Whether an entry was written beside this request that holds the same, and longer."""
    same = (there.epoch, there.tokens, there.digests) == (new.epoch, new.tokens, new.digests)
    return same and there.until > new.until


def _same(entry: Entry, digests: _Digests) -> int:
    """How many tokens of an entry a prompt begins with: all, or all but those at its end that are read otherwise."""
    for less, digest in enumerate(entry.digests):
        if digests.of(entry.tokens - less) == digest:
            return entry.tokens - less
    return 0


class _Digests:
    """Digests of a prompt's beginnings. Each goes on from the longest shorter one that was asked for."""

    def __init__(self, ids: Sequence[int]) -> None:
        self._ids = array("I", ids)
        self._states = {0: hashlib.blake2b(digest_size=_DIGEST_BYTES)}

    def of(self, tokens: int) -> bytes:
        """Of so many tokens; where there are fewer, what is nobody's."""
        if tokens > len(self._ids):
            return b""
        if tokens not in self._states:
            before = max(length for length in self._states if length < tokens)
            state = self._states[before].copy()
            state.update(memoryview(self._ids)[before:tokens].cast("B"))
            self._states[tokens] = state
        return self._states[tokens].digest()
