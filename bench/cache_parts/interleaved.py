"""Conversations that take turns, more of them than there are seats: how much of what was sent before is computed, and
billed, again.

Each conversation begins with text of its own. A turn is asked of all of them, in their order, as many at a time as
there are seats; then comes the next. What could be reused in a turn is the prompt of the turn before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from bench.cache_parts.arithmetic import share
from bench.cache_parts.asking import MARK, Heard, Side, Texts
from bench.cache_parts.extent import Extent
from bench.cache_parts.watching import SEATS, Watched
from bench.load import Unmeasurable
from bench.report import Bar, Figure, figure

#: The server's counters, each with the label of the series meant: tokens billed as cache reads, prompt tokens that the
#: engine did not compute again, and tokens billed as reads that it computed all the same.
BILLED_METRIC = ("antiphon_tokens", 'kind="cache_read"')
REUSED_METRIC = ("antiphon_prompt_reused", "")
SHORT_METRIC = ("antiphon_cache_shortfall", "")
_BAR = Bar("at least", 95)
_TOKENS = 16


class Conversation(msgspec.Struct):
    """One of those that take turns: what was said, and what was heard at each turn."""

    opening: str
    messages: list[Any] = []
    turns: list[Heard] = []

    def take_turn(self, side: Side) -> None:
        """Ask on. The mark stands on the newest message, as clients set it."""
        question = f"Question {len(self.turns) + 1}: which word comes next?"
        text = question if self.messages else f"{self.opening}\n\n{question}"
        asked = {"role": "user", "content": [{"type": "text", "text": text, "cache_control": MARK}]}
        answer = side.ask("", [*self.messages, asked], _TOKENS)
        self.turns.append(answer)
        self.messages += [
            {"role": "user", "content": [{"type": "text", "text": text}]},
            {"role": "assistant", "content": answer.text.strip() or "None."},
        ]

    def reused(self) -> Iterator[tuple[float, float]]:
        """Of each turn but the first: what was read of a cache, and the prompt that was sent before."""
        for before, turn in zip(self.turns, self.turns[1:], strict=False):
            yield turn.read, before.prompt


def of_antiphon(name: str, watched: Watched, texts: Texts, extent: Extent) -> Iterator[Figure]:
    """By the bill of each answer, and by the server's own counters over all turns but the first."""
    held = _begun(watched.client, texts, extent)
    before = {metric: watched.counted(*metric) for metric in (BILLED_METRIC, REUSED_METRIC, SHORT_METRIC)}
    _go_on(held, watched.client, extent)
    after = {metric: watched.counted(*metric) for metric in before}
    sent = sum(whole for each in held for _, whole in each.reused())
    gained = {metric: after[metric].value - before[metric].value for metric in before}
    yield _figure(f"{name}, in turns: billed as read, of sent before", _shares(held), _BAR)
    reused = after[REUSED_METRIC]
    how = "" if reused.known else " (no such metric)"
    if reused.estimated:
        how = " (estimated)"
    yield _figure(
        f"{name}, in turns: truly reused{how}, of sent before", [share([(gained[REUSED_METRIC], sent)])], _BAR
    )
    if after[BILLED_METRIC].known:
        billed = sum(turn.read for each in held for turn in each.turns[1:])
        off = abs(gained[BILLED_METRIC] - billed)
        yield figure(f"{name}, in turns: billed, the metrics less the answers", "tokens", [off], Bar("at most", 0))
    if after[SHORT_METRIC].known:
        yield figure(f"{name}, in turns: billed as read and computed again", "tokens", [gained[SHORT_METRIC]])
    yield from _first_tokens(name, held)


def of_bare(name: str, side: Side, texts: Texts, extent: Extent) -> Iterator[Figure]:
    """By what the server tells of each answer."""
    held = _begun(side, texts, extent)
    _go_on(held, side, extent)
    yield _figure(f"{name}, in turns: truly reused, of sent before", _shares(held))
    yield from _first_tokens(name, held)


def _begun(side: Side, texts: Texts, extent: Extent) -> list[Conversation]:
    held = [Conversation(texts.new(extent.conversation)) for _ in range(extent.conversations)]
    _turn(held, side)
    return held


def _go_on(held: Sequence[Conversation], side: Side, extent: Extent) -> None:
    for _ in range(extent.turns - 1):
        _turn(held, side)


def _turn(held: Sequence[Conversation], side: Side) -> None:
    with ThreadPoolExecutor(SEATS) as pool:
        for _ in pool.map(lambda each: each.take_turn(side), held):
            pass


def _shares(held: Sequence[Conversation]) -> list[float]:
    """All conversations' share, one run for each turn but the first."""
    by_turn = list(zip(*(each.reused() for each in held), strict=True))
    if not by_turn:
        raise Unmeasurable("there is nothing to reuse in conversations of one turn")
    return [share(pairs) for pairs in by_turn]


def _first_tokens(name: str, held: Sequence[Conversation]) -> Iterator[Figure]:
    yield figure(f"{name}, in turns: first token, first turn", "ms", [each.turns[0].first * 1000 for each in held])
    later = [turn.first * 1000 for each in held for turn in each.turns[1:]]
    yield figure(f"{name}, in turns: first token, later turns", "ms", later)


def _figure(name: str, runs: list[float], bar: Bar | None = None) -> Figure:
    return figure(name, "%", runs, bar)
