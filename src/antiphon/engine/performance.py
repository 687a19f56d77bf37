"""What a script plays over the phases of one answer: one text, as a model would write all of it, gone through in order.

A phase goes on where the last one ended. What the platform writes in between is passed over, since the text holds it
as well; under a grammar the next stretch that it allows is played, or, where the text holds none, the shortest text
that it does allow. A grammar of JSON allows one spelling of each value, so an object that it does not allow as it is
written is tried with other blanks and its outermost properties in another order.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, permutations

import msgspec

from antiphon.engine.contract import EngineEvent
from antiphon.engine.grammar import Grammar, check, longest, shortest

#: What counts for finding the end of an object: strings and braces.
_MARKS = re.compile(r'"(?:[^"\\]|\\.)*"|[{}]', re.DOTALL)
#: An object of more properties is tried in its own order alone.
_MOST_ORDERED = 5
#: What a grammar says before an object is no longer than this; that bounds the tries.
_LEAD = 64
_WORD = re.compile(r"\s*\S+\s*$|\s*\S+")


class Score:
    """The text of an answer and its tokens. Made once, for every answer that plays it."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self.text = "".join(tokens)
        pieces = [token for token in tokens if token]
        self._borders = list(accumulate(map(len, pieces)))
        self._events = tuple([EngineEvent(piece.encode(), 1) for piece in pieces])

    def cut(self, start: int, end: int) -> tuple[EngineEvent, ...]:
        """The tokens between two places; one that lies across a border is cut there."""
        first, last = bisect_right(self._borders, start), bisect_left(self._borders, end)
        if last < len(self._borders) and self._borders[last] == end and start == (first and self._borders[first - 1]):
            return self._events[first : last + 1]
        pieces: list[str] = []
        while start < end:
            border = min(self._borders[bisect_right(self._borders, start)], end)
            pieces.append(self.text[start:border])
            start = border
        return tuple([EngineEvent(piece.encode(), 1) for piece in pieces])


class Performance:
    """One answer. Without a score it is numbered words without an end.

    Attributes:
        played: how many tokens have left so far, over all phases.
    """

    def __init__(self, score: Score | None) -> None:
        self._score = score
        self._text = "" if score is None else score.text
        self._at = 0
        self._before = 0
        self.played = 0

    def pass_over(self, written: str, *, instead: bool) -> None:
        """The platform wrote this: in the place of what the last phase played, or behind it."""
        if instead:
            self._at = self._before
        found = self._text.find(written.strip(), self._before) if written.strip() else -1
        if found >= 0:
            self._at = found + len(written.strip())
        self._before = self._at

    def free(self, stops: dict[str, int], most: int) -> tuple[tuple[EngineEvent, ...], bool]:
        """What is played without a grammar: up to the first of the texts that `stops` knows as a token, or the end.
        Returns whether one of those ended it."""
        if self._score is None:
            return numbered(most), False
        places = [(place, stop) for stop in stops if (place := self._text.find(stop, self._at)) >= 0]
        if not places:
            return self._cut(self._at, len(self._text)), False
        place, stop = min(places)
        events = self._cut(self._at, place)
        self._at = place + len(stop)
        return (*events, EngineEvent(b"", 1, (stops[stop],))), True

    def under(self, grammar: Grammar) -> tuple[EngineEvent, ...]:
        """What is played under a grammar.

        Raises:
            EngineFailed: it is none.
        """
        check(grammar)
        place, after, spellings = _object(self._text, self._at)
        if found := _allowed(grammar, self._text, range(self._at, place + 1)):
            return self._cut(*found)
        for spelling in spellings:
            text = self._text[:place] + spelling + self._text[after:]
            found = _allowed(grammar, text, range(max(self._at, place - _LEAD), place + 1))
            if found and found[1] >= place + len(spelling):
                self._at = found[1] - len(text) + len(self._text)
                return words(text[slice(*found)])
        if found := _allowed(grammar, self._text, range(place + 1, len(self._text))):
            return self._cut(*found)
        return words(shortest(grammar))

    def _cut(self, start: int, end: int) -> tuple[EngineEvent, ...]:
        self._at = end
        return () if self._score is None else self._score.cut(start, end)


def _allowed(grammar: Grammar, text: str, starts: range) -> tuple[int, int] | None:
    """The first stretch, not an empty one, that begins at one of `starts` and that the grammar allows."""
    for start in starts:
        end = longest(grammar, text, start)
        if end is not None and end > start:
            return start, end
    return None


def _object(text: str, start: int) -> tuple[int, int, Iterator[str]]:
    """Where the next JSON object begins and ends, and other ways to write it; the text's end where none is left."""
    place = text.find("{", start)
    while place >= 0:
        after = _closed(text, place)
        try:
            return place, after, _spelled(msgspec.json.decode(text[place:after], type=dict[str, object]))
        except (msgspec.MsgspecError, RecursionError):
            place = text.find("{", place + 1)
    return len(text), len(text), iter(())


def _closed(text: str, start: int) -> int:
    """Behind the brace that closes the one at `start`; the end of the text where none does."""
    depth = 0
    for mark in _MARKS.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(mark.group(), 0)
        if depth == 0:
            return mark.end()
    return len(text)


def _spelled(value: dict[str, object]) -> Iterator[str]:
    """With blanks, as dialects write inputs, and without, as the API writes documents."""
    orders = permutations(value) if len(value) <= _MOST_ORDERED else iter([tuple(value)])
    for order in orders:
        written = msgspec.json.encode({name: value[name] for name in order})
        yield msgspec.json.format(written, indent=0).decode()
        yield written.decode()


def words(text: str) -> tuple[EngineEvent, ...]:
    """A text word by word."""
    return tuple([EngineEvent(word.encode(), 1) for word in cut_words(text)])


def cut_words(text: str) -> list[str]:
    """The words of a text, each with the blanks before it; those at the end go with the last one."""
    return _WORD.findall(text) or ([text] if text else [])


def numbered(count: int) -> tuple[EngineEvent, ...]:
    """Numbered words, as many as are asked for."""
    return tuple([EngineEvent(b" %d" % number if number > 1 else b"1", 1) for number in range(1, count + 1)])
