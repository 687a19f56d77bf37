"""Characters that a model cannot write: its vocabulary has no token for a byte of theirs, as SmolLM2's for F1 and F2.

A grammar that asks for one comes to a point at which no token is allowed. Libraries differ in what they do there, and
none ends well: xgrammar lets everything through. JSON can spell them in escapes, which every model can write.
"""

from __future__ import annotations

import re
from collections.abc import Set
from itertools import islice

import msgspec

from antiphon.engine.grammar import Characters, Choice, Node, Repeat, Sequence, Text, allowed
from antiphon.plan.schema.lowering import Lowered

_LAST = 0x10FFFF
#: Of a class that is all escapes, so many characters remain.
_FEW = 16

Ranges = tuple[tuple[int, int], ...]


def unwritable(missing: Set[int]) -> Ranges:
    """The characters from U+007F on that cannot be written where there is no token for these bytes."""
    if any(0x80 <= byte <= 0xBF for byte in missing):
        return ((0x80, _LAST),)  # each of them is in too many characters to tell apart
    found = [(0x7F, 0x7F)] if 0x7F in missing else []
    for byte in sorted(missing):
        if 0xC2 <= byte <= 0xF4:
            rest = 6 if byte < 0xE0 else 12 if byte < 0xF0 else 18
            least = {0xE0: 0x800, 0xF0: 0x10000}.get(byte, 0)
            low = (byte & (0x1F if rest == 6 else 0xF if rest == 12 else 7)) << rest
            found.append((max(low, least), min(low + (1 << rest) - 1, _LAST)))
    return tuple(found)


def writable(lowered: Lowered, without: Ranges) -> Lowered:
    """A grammar of JSON without these characters: exact texts are spelled in escapes, and so are some characters of
    classes that hold no other. Other classes stay: what has no token is never begun."""
    if not without:
        return lowered
    spelling = _Spelling(without)
    rules = {name: spelling.of(rule) for name, rule in lowered.rules.items()}
    return msgspec.structs.replace(lowered, rules=rules)


class _Spelling:
    def __init__(self, without: Ranges) -> None:
        self._without = without
        self._pattern = re.compile("[" + "".join(f"{chr(low)}-{chr(high)}" for low, high in without) + "]")

    def of(self, node: Node) -> Node:
        match node:
            case Text(text) if not text.isascii() or "\x7f" in text:
                return Text(self._pattern.sub(lambda found: _escaped(found[0]), text))
            case Characters() if self._holds_no_other(node):
                codes = (code for low, high in allowed(node) for code in range(low, high + 1))
                return Choice(tuple(Text(_escaped(chr(code))) for code in islice(codes, _FEW)))
            case Sequence(parts):
                return Sequence(tuple(map(self.of, parts)))
            case Choice(options):
                return Choice(tuple(map(self.of, options)))
            case Repeat(part, least, most):
                return Repeat(self.of(part), least, most)
        return node

    def _holds_no_other(self, characters: Characters) -> bool:
        ranges = allowed(characters)
        if ranges[0][0] < self._without[0][0]:
            return False  # nearly all of them
        others = allowed(Characters(ranges, negated=True))
        return not allowed(Characters((*others, *self._without), negated=True))


def _escaped(letter: str) -> str:
    """As JSON may spell it: above U+FFFF as a pair of surrogates."""
    digits = letter.encode("utf-16-be").hex()
    return "".join(f"\\u{digits[at : at + 4]}" for at in range(0, len(digits), 4))
