"""What a library remembers that shares blocks of computed tokens between all its seats (OpenVINO): an account of it.

Each workspace has a salt, so that it finds its own blocks and nobody else's. The library tells nothing of what it
found, so the account does what the library does (docs/design/0014): a block is known by all tokens up to its end; a
prompt uses the blocks it finds from its start on; those of no running phase stay until their room is needed, and the
one longest unused goes first. It is an estimate: the library also knows the part of a block at a prompt's end.
"""

from __future__ import annotations

import secrets
from array import array
from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush

from antiphon.core.records import Scope
from antiphon.engine.contract import Remembered
from antiphon.engine.frames import Command, Done, Made, Progress, Report, Tokens
from antiphon.engine.seats import Seating
from antiphon.engine.slots import Placement

#: Tokens.
BLOCK = 32
_SALT_BITS = 60
#: Blocks that were never used before keep the age that they were made with, and so go before all others.
_FIRST_USED_AGAIN = 2**60


#: The list of unused blocks may hold so many times the room: entries of blocks that were used since are dropped later.
_STALE = 4


class _Block:
    """`last`: a prompt or an answer ends with it."""

    __slots__ = ("age", "last", "users")

    def __init__(self, age: int) -> None:
        self.age = age
        self.users = 1
        self.last = False


class _Run:
    """One phase: the blocks that it holds, from its start on."""

    def __init__(self, salt: int, ids: list[int]) -> None:
        self.ids = ids
        self.prompt = len(ids)
        self.computed = 0
        self.held: list[int] = []
        self._salt = salt

    def missing(self, blocks: int) -> Iterator[int]:
        """Those of its first so many blocks that it does not hold yet."""
        start = len(self.held)
        return chained(self.held[-1] if self.held else self._salt, self.ids[start * BLOCK : blocks * BLOCK])


def chained(before: int, ids: Sequence[int]) -> Iterator[int]:
    """A number for each full block that stands for it and all before it."""
    numbers = array("q", ids)
    for start in range(0, len(ids) - BLOCK + 1, BLOCK):
        before = hash((before, numbers[start : start + BLOCK].tobytes()))
        yield before


class SharedPrefixes:
    """Implements `slots.Remembers`. `resize` first: it begins with no room, and so with nothing remembered."""

    def __init__(self) -> None:
        self._room = 0
        self._evictions = 0
        self.forget()

    def resize(self, pool_tokens: int) -> None:
        """See `Remembers.resize`."""
        self._room = -(-pool_tokens // BLOCK)
        self.forget()

    def forget(self) -> None:
        """Nobody keeps a salt: what the library does hold after all is never found again."""
        self._salts: dict[Scope, int] = {}
        self._blocks: dict[int, _Block] = {}
        self._unused: list[tuple[int, int]] = []
        self._runs: dict[int, _Run] = {}
        #: The blocks of prompts whose turns have a seat and no token yet.
        self._coming: dict[int, list[int]] = {}
        self._fresh = 0
        self._clock = _FIRST_USED_AGAIN
        self._ends = 0
        self._nameless = 0

    def seating(self, scope: Scope, ids: list[int], chunk: int) -> Seating:
        """See `Remembers.seating`. What other phases of the workspace compute until it is asked counts."""
        return _Shared(self, list(chained(self._salt(scope), ids)), len(ids), chunk)

    def found(self, keys: list[int], tokens: int) -> int:
        """How much of a prompt is there, in tokens."""
        self._grow_all()
        blocks = next((place for place, key in enumerate(keys) if key not in self._blocks), len(keys))
        return _tokens(blocks, tokens)

    def is_coming(self, keys: list[int], tokens: int, chunk: int) -> bool:
        """Whether more than `chunk` tokens that a prompt lacks are those of one that has a seat and no token yet."""
        found = self.found(keys, tokens) if self._coming else 0
        for number, others in self._coming.items():
            run = self._runs.get(number)
            place = (max(found, run.computed if run is not None else 0) + chunk) // BLOCK
            if place < min(len(keys), len(others)) and keys[place] == others[place]:
                return True
        return False

    def comes(self, number: int, keys: list[int]) -> None:
        """A prompt has a seat. Where nothing is remembered, nothing comes."""
        if self._room:
            self._coming[number] = keys

    def came(self, number: int) -> None:
        """It has its first token, or has given up."""
        self._coming.pop(number, None)

    def place(self, number: int, scope: Scope, ids: list[int], keep_seconds: float) -> Placement:
        """See `Remembers.place`. The library keeps what was used last, however long it is to be kept."""
        self.ended(number)
        self._grow_all()
        salt = self._salt(scope)
        run = _Run(salt, ids)
        for key in run.missing(len(ids) // BLOCK):
            block = self._blocks.get(key)
            if block is None:
                break
            block.users += 1
            block.age = self._tick()
            run.held.append(key)
        self._runs[number] = run
        run.computed = _tokens(len(run.held), len(ids))
        return Placement(True, run.computed, salt)

    def heard(self, number: int | None, report: Report) -> tuple[Command, ...]:
        """See `Remembers.heard`: how much of a prompt is computed. The library is told nothing."""
        run = None if number is None else self._runs.get(number)
        if number is None or run is None:
            return ()
        match report:
            case Progress(computed=computed):
                run.computed = max(run.computed, min(computed, run.prompt))
            case Tokens() | Made() | Done():
                run.computed = run.prompt
                self.came(number)
        self._grow(run)
        return ()

    def ended(self, number: int) -> None:
        """See `Remembers.ended`. Its blocks are nobody's, and stay while there is room. The one that it did not fill
        takes room as well; of a prompt that was cut short it may be some more, which the next piece fills."""
        run = self._runs.pop(number, None)
        if run is None:
            return
        self._grow(run)
        if run.held:
            end = self._blocks[run.held[-1]]
            self._ends += not end.last
            end.last = True
        for key in run.held:
            block = self._blocks[key]
            block.users -= 1
            if not block.users:
                heappush(self._unused, (block.age, key))
        self._nameless -= 1
        if self._take(self._nameless):
            self._blocks[self._nameless].users = 0
            heappush(self._unused, (self._blocks[self._nameless].age, self._nameless))
        if len(self._unused) > _STALE * self._room:
            self._unused = [(block.age, key) for key, block in self._blocks.items() if not block.users]
            heapify(self._unused)

    def held(self) -> Remembered:
        """How many prompts and answers are there to their last full block."""
        return Remembered(prompts=self._ends, evictions=self._evictions)

    def _salt(self, scope: Scope) -> int:
        """Not to be guessed: who knew all that a block's 64 bits are made of could make another block of the same."""
        if scope not in self._salts:
            self._salts[scope] = 1 + secrets.randbelow(2**_SALT_BITS - 1)
        return self._salts[scope]

    def _grow_all(self) -> None:
        for run in self._runs.values():
            self._grow(run)

    def _grow(self, run: _Run) -> None:
        """The blocks that a phase has filled since; what it made last is not computed yet."""
        made = len(run.ids) - 1 if len(run.ids) > run.prompt else run.prompt
        filled = (made if run.computed >= run.prompt else run.computed) // BLOCK
        if filled <= len(run.held):
            return
        for key in run.missing(filled):
            if not self._take(key):
                return
            run.held.append(key)

    def _take(self, key: int) -> bool:
        """A phase fills this block; False where all room is in use."""
        block = self._blocks.get(key)
        if block is not None:
            block.users += 1
            block.age = self._tick()
            return True
        if self._fresh < self._room:
            self._fresh += 1
            self._blocks[key] = _Block(self._fresh)
            return True
        while self._unused:
            age, oldest = heappop(self._unused)
            gone = self._blocks.get(oldest)
            if gone is not None and not gone.users and gone.age == age:
                del self._blocks[oldest]
                self._ends -= gone.last
                self._evictions += 1
                self._blocks[key] = _Block(self._tick())
                return True
        return False

    def _tick(self) -> int:
        self._clock += 1
        return self._clock


class _Shared(Seating):
    """All seats are the same. `keys`: the prompt's blocks."""

    def __init__(self, account: SharedPrefixes, keys: list[int], tokens: int, chunk: int) -> None:
        self._account = account
        self._keys = keys
        self._tokens = tokens
        self._chunk = chunk

    def best(self, free: Sequence[int]) -> int:
        return free[0]

    def cold(self, number: int) -> bool:
        return self._tokens - self._account.found(self._keys, self._tokens) > self._chunk

    def follows(self) -> bool:
        return self._account.is_coming(self._keys, self._tokens, self._chunk)

    def seated(self, number: int) -> None:
        self._account.comes(number, self._keys)

    def left(self, number: int) -> None:
        self._account.came(number)


def _tokens(blocks: int, tokens: int) -> int:
    """What of a prompt is not computed again: the last token always is."""
    return min(blocks * BLOCK, max(0, tokens - 1))
