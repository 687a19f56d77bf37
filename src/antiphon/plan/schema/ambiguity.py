"""What a grammar costs an engine, from above and roughly: the time to compile it, and how many places of it a text can
be at once.

Both engines follow all readings of a text side by side, and try each token of the vocabulary against them; xgrammar
does most of that ahead, for every place of the grammar, while all streams wait. What makes it slow is not size but
readings: `[a-z]?` twenty times in a row compiles for 6 s, forty times for a minute. Measured with SmolLM2's 49 k tokens
(docs/design/0009-schemas.md), and good to a factor of three.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from math import isqrt

import msgspec

from antiphon.engine.grammar import Characters, Choice, Node, Reference, Repeat, Sequence, Text

#: Milliseconds of processor time: of a place with a wide class of characters, of a place in a counted run of them, of a
#: pair of places that follow on each other where either may be left out, of such a pair that begin with texts, and of a
#: node or a character.
_PLACE, _COUNTED, _PAIR, _TEXT_PAIR, _EACH = 3.6, 10.0, 2.2, 0.003, 0.012
#: A class is wide as far as the words of a vocabulary can be spelled with it.
_LETTERS, _WORD_LENGTH, _NARROWEST = 26, 4, 2e-4
#: Counts up to here are written out (`engine.grammar_text`); longer ones as blocks of about their root.
_WRITTEN_OUT = 16
_MOST = 1 << 40

#: ASCII characters, one bit each, and one for all others.
_OTHERS = 1 << 128
_SMALL = sum(1 << code for code in range(0x61, 0x7B))


class Cost(msgspec.Struct, frozen=True):
    """`milliseconds` to compile; `readings` that a text can have at once."""

    milliseconds: float
    readings: int


class _Seen(msgspec.Struct, frozen=True):
    """What a node can begin with, what can go on with it when it could have ended, and whether it may be empty. Sets of
    characters are bits."""

    first: int = 0
    more: int = 0
    empty: bool = False
    readings: int = 1
    #: Begins with a text, and so is soon told from others; or is nothing but one.
    texts: bool = False
    only: bool = False


def cost(rules: Mapping[str, Node], order: list[str], known: Collection[str] = ()) -> Cost:
    """Of all rules; `order` is them, each after those that it needs (`members.in_order`). The time for those that are
    `known`, the formats, is left out: they are ours, and have to be had."""
    looking = _Looking()
    for name in order:
        before = looking.milliseconds
        looking.rules[name] = looking.node(rules[name])
        looking.milliseconds = before if name in known else looking.milliseconds
    return Cost(looking.milliseconds, max(seen.readings for seen in looking.rules.values()))


class _Looking:
    def __init__(self) -> None:
        self.rules: dict[str, _Seen] = {}
        self.milliseconds = 0.0
        self._counted: set[Node] = set()

    def node(self, node: Node) -> _Seen:
        self.milliseconds += _EACH
        match node:
            case Text(text):
                self.milliseconds += _EACH * len(text)
                return _Seen(_bit(ord(text[0])) if text else 0, 0, not text, texts=True, only=True)
            case Characters():
                first = _bits(node)
                self.milliseconds += _PLACE * _width(first)
                return _Seen(first)
            case Sequence(parts):
                return self._sequence([self.node(part) for part in parts], parts)
            case Choice(options):
                return _choice([self.node(option) for option in options])
            case Repeat(part, least, most):
                return self._repeat(part, least, most)
            case Reference(rule):
                # One that is not known yet leads back here, and a bracket was read before.
                return self.rules.get(rule, _Seen())

    def _sequence(self, seen: list[_Seen], parts: tuple[Node, ...]) -> _Seen:
        """From the end: what can come next after each part, and how many parts a text may be in at once."""
        first, more, empty, readings, run = 0, 0, True, 1, 0
        most = 1
        for part, node in zip(reversed(seen), reversed(parts), strict=True):
            beside = part.empty or part.more & first
            own = 1 if part.texts else part.readings
            readings = readings + own if beside else own
            most = max(most, readings, part.readings)
            if part.empty and not (isinstance(node, Repeat) and node.most is None):
                run += 1
                self.milliseconds += _TEXT_PAIR * run if part.texts else _PAIR * (run - 1) ** 2 * _width(part.first)
            elif not part.empty:
                run = 0
            more = part.more | more | first if empty else more
            first = part.first | (first if part.empty else 0)
            empty = empty and part.empty
        return _Seen(first, more, empty, min(most, _MOST), bool(seen) and seen[0].texts)

    def _repeat(self, part: Node, least: int, most: int | None) -> _Seen:
        seen = self.node(part)
        times = least if most is None else most
        places = times if times <= _WRITTEN_OUT else _WRITTEN_OUT + 2 * isqrt(times)
        each = _PLACE if least == most else _COUNTED
        ambiguous = bool(seen.more & seen.first) and most != 1
        # What says the same is written once, and costs once; but not where each place is another one to go on from.
        if most != 1 and times > 1 and (ambiguous or Repeat(part, least, most) not in self._counted):
            self._counted.add(Repeat(part, least, most))
            self.milliseconds += places * each * _width(seen.first)
        varies = least != most
        readings = seen.readings
        if ambiguous:
            readings *= 2 * min(times, 1_000) if most is not None else 2
        elif varies and times > 1:
            readings += 1
        more = seen.more | (seen.first if varies else 0)
        return _Seen(seen.first, more, seen.empty or least == 0, min(readings, _MOST), seen.texts)


def _choice(options: list[_Seen]) -> _Seen:
    """Those that begin alike are followed side by side."""
    first, more, empty, readings = 0, 0, False, 1
    together: dict[int, int] = {}
    for option in options:
        first, more, empty = first | option.first, more | option.more, empty or option.empty
        readings = max(readings, option.readings)
        if not option.only:
            together[option.first] = together.get(option.first, 0) + (1 if option.texts else option.readings)
    for start in together:
        readings = max(readings, sum(count for other, count in together.items() if other & start))
    texts = all(option.texts for option in options)
    return _Seen(first, more, empty, min(readings, _MOST), texts, all(option.only for option in options))


def _bit(code: int) -> int:
    return 1 << code if code < 128 else _OTHERS


@lru_cache(512)  # schemas say the same few classes again and again
def _bits(characters: Characters) -> int:
    bits = 0
    for low, high in characters.ranges:
        top = min(high, 127)
        if low <= top:
            bits |= (1 << top + 1) - (1 << low)
        if high > 127:
            bits |= _OTHERS
    return bits ^ (2 * _OTHERS - 1) if characters.negated else bits


def _width(bits: int) -> float:
    """Of all that a vocabulary holds, what can be spelled with these: 1 is all."""
    letters = (bits & _SMALL).bit_count()
    return max(_NARROWEST, (letters / _LETTERS) ** _WORD_LENGTH)
