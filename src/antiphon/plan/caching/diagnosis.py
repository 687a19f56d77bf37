"""Why a prompt was not read from the cache, in the terms of an earlier answer (contract messages-and-inference 7.9).

Of each request that asks for diagnostics the keys of its prefixes are kept for an hour, bounded, by workspace: no
content. A later request that names its answer is told the earliest level at which the two part."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal, TypeAlias

import msgspec

from antiphon.core.clock import Clock
from antiphon.core.records import Scope
from antiphon.plan.caching.positions import Level
from antiphon.plan.caching.prefixes import Prefixes
from antiphon.wire.options import DiagnosticsParams
from antiphon.wire.response import CacheMiss

#: How long an answer can be named, in seconds, and how many of a workspace.
_KEPT_SECONDS = 3600.0
_KEPT_ANSWERS = 256
_WORKSPACES = 1024
#: So many positions are compared; of a longer conversation its beginning.
_KEPT_POSITIONS = 2048

Reason: TypeAlias = Literal[
    "model_changed", "system_changed", "tools_changed", "messages_changed", "previous_message_not_found", "unavailable"
]
_CHANGED: dict[Level, Reason] = {
    "tools": "tools_changed",
    "system": "system_changed",
    "messages": "messages_changed",
}


class _Kept(msgspec.Struct, frozen=True):
    """`keys` are one behind the other: a long conversation has hundreds."""

    root: bytes
    levels: tuple[Level, ...]
    keys: bytes
    until: float


class Diagnoses:
    """What the answers of late were asked with."""

    def __init__(self, clock: Clock, *, answers: int = _KEPT_ANSWERS, workspaces: int = _WORKSPACES) -> None:
        """`answers`: of one workspace."""
        self._clock = clock
        self._answers = answers
        self._workspaces = workspaces
        self._of: OrderedDict[Scope, OrderedDict[str, _Kept]] = OrderedDict()

    def missed(
        self, scope: Scope, message_id: str, asked: DiagnosticsParams | None, keyed: Prefixes | None, tokens: int
    ) -> CacheMiss | None:
        """Why a prompt of so many tokens was not read from the cache, where its request asks; and it is kept, by the id
        of its answer, for the next one to ask about."""
        if asked is None or keyed is None:
            return None
        self._keep(scope, message_id, keyed)
        before = asked.previous_message_id
        return None if before is None else self._compared(scope, before, keyed, tokens)

    def _keep(self, scope: Scope, message_id: str, asked: Prefixes) -> None:
        kept = self._of.setdefault(scope, OrderedDict())
        self._of.move_to_end(scope)
        until = self._clock.monotonic() + _KEPT_SECONDS
        most = slice(_KEPT_POSITIONS)
        kept[message_id] = _Kept(asked.root, asked.levels[most], b"".join(asked.keys[most]), until)
        if len(kept) > self._answers:
            kept.popitem(last=False)
        if len(self._of) > self._workspaces:
            self._of.popitem(last=False)

    def _compared(self, scope: Scope, message_id: str, asked: Prefixes, tokens: int) -> CacheMiss | None:
        """Where a prompt parts from the one of an earlier answer; None where it goes on from it."""
        answers = self._of.get(scope)
        earlier = None if answers is None else answers.get(message_id)
        if earlier is None or earlier.until <= self._clock.monotonic():
            return _miss("previous_message_not_found")
        if earlier.root != asked.root:
            return _miss("model_changed", tokens)
        place = _parting(earlier, asked)
        if place in (len(earlier.levels), len(asked.levels)):
            return None  # one of them is the beginning of the other
        return _miss(_CHANGED[_level(earlier, asked, place)], _behind(asked, place, tokens))


def _miss(reason: Reason, tokens: int | msgspec.UnsetType = msgspec.UNSET) -> CacheMiss:
    return CacheMiss(reason, tokens)


def _parting(earlier: _Kept, asked: Prefixes) -> int:
    """How many positions both begin with. Keys cover all before them, so the first that differs ends it."""
    size = len(asked.root)
    for place, key in enumerate(asked.keys):
        if earlier.keys[place * size : (place + 1) * size] != key:
            return place
    return len(asked.keys)


def _level(earlier: _Kept, asked: Prefixes, place: int) -> Level:
    """The level at which they part: the earlier in order, where one of them has gone on to the next already."""
    order: tuple[Level, ...] = ("tools", "system", "messages")
    both = [levels[place] for levels in (earlier.levels, asked.levels) if place < len(levels)]
    return min(both, key=order.index)


def _behind(asked: Prefixes, place: int, tokens: int) -> int:
    """About how many tokens stand from a position on, by the share of the text."""
    whole = asked.sizes[-1] if asked.sizes else 0
    before = asked.sizes[place - 1] if place else 0
    return round(tokens * (whole - before) / whole) if whole else 0
