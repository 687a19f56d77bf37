"""JSON strings as grammar: each character spelled as our JSON is written, and in no other way."""

from __future__ import annotations

from functools import lru_cache

import msgspec

from antiphon.engine.grammar import Characters, Choice, Node, Repeat, Sequence, Text

_LAST = 0x10FFFF
_SHORT = {0x08: "b", 0x09: "t", 0x0A: "n", 0x0C: "f", 0x0D: "r", 0x22: '"', 0x5C: "\\"}
_HEX = "0123456789abcdef"

Ranges = tuple[tuple[int, int], ...]


def quoted(text: str) -> str:
    """A text as a JSON string, quotes included."""
    return msgspec.json.encode(text).decode()


def inner(text: str) -> str:
    """A text as it stands between the quotes."""
    return quoted(text)[1:-1]


def spelled(node: Node) -> Node:
    """What stands between the quotes, for a node that says which text is meant. Characters are never negated there."""
    match node:
        case Text(text):
            return Text(inner(text))
        case Characters(ranges):
            return character(ranges)
        case Sequence(parts):
            return Sequence(tuple(map(spelled, parts)))
        case Choice(options):
            return Choice(tuple(map(spelled, options)))
        case Repeat(part, least, most):
            return Repeat(spelled(part), least, most)
    return node


@lru_cache(256)  # patterns say the same few classes again and again
def character(ranges: Ranges) -> Node:
    """One character out of the ranges, as it is or escaped."""
    options: list[Node] = []
    raw = _plain(ranges)
    if raw:
        options.append(Characters(raw))
    short = [code for code in _SHORT if _holds(ranges, code)]
    if short:
        letters = tuple((ord(_SHORT[code]),) * 2 for code in short)
        options.append(Sequence((Text("\\"), Characters(letters))))
    for high in (0, 1):
        low = [code for code in range(16) if code + 16 * high not in _SHORT and _holds(ranges, code + 16 * high)]
        if low:
            digits = tuple((ord(_HEX[code]),) * 2 for code in low)
            options.append(Sequence((Text(f"\\u00{high}"), Characters(digits))))
    return options[0] if len(options) == 1 else Choice(tuple(options))


def _plain(ranges: Ranges) -> Ranges:
    """What of the ranges stands in a JSON string as it is."""
    allowed = ((0x20, 0x21), (0x23, 0x5B), (0x5D, 0xD7FF), (0xE000, _LAST))
    both = [(max(low, start), min(high, end)) for low, high in ranges for start, end in allowed]
    return tuple((low, high) for low, high in both if low <= high)


def _holds(ranges: Ranges, code: int) -> bool:
    return any(low <= code <= high for low, high in ranges)


ANY_CHARACTER = character(((0, _LAST),))


def string(content: Node) -> Node:
    """A JSON string with this between its quotes."""
    return Sequence((Text('"'), content, Text('"')))
