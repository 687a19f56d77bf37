"""What a grammar means, written as plainly as can be: texts drawn from one, and whether a text is one of its own.

Apart from the source on purpose: it shares nothing with it but the nodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from antiphon.engine.grammar import Characters, Choice, Node, Reference, Repeat, Sequence, Text

Rules = Mapping[str, Node]
_BARRED = (0,)


def derived(rules: Rules, root: str, random: Random, size: int = 60) -> str:
    """A text of the grammar. After about `size` steps every choice is the one that ends soonest."""
    return _Deriving(rules, random, size).text(rules[root])


def accepts(rules: Rules, root: str, text: str) -> bool:
    """Whether the whole text is one of the grammar's."""
    return len(text) in _Reading(rules, text).ends(rules[root], 0)


def letters(node: Characters) -> list[int]:
    """Some characters of a class: the ends of its ranges, and some between."""
    if node.negated:
        tried = {*range(0x20, 0x7F), 0xE9, 0x4E2D, 0x1F600}
        return [code for code in sorted(tried) if not any(low <= code <= high for low, high in node.ranges)]
    found: list[int] = []
    for low, high in node.ranges:
        found += [low, high, *(code for code in (0x20, 0x61, 0xE9, 0x2028, 0x1F600) if low <= code <= high)]
    return [code for code in found if code and not 0xD800 <= code <= 0xDFFF]


class _Deriving:
    def __init__(self, rules: Rules, random: Random, size: int) -> None:
        self._rules = rules
        self._random = random
        self._left = size
        self._lengths = shortest_lengths(rules)

    def text(self, node: Node) -> str:
        self._left -= 1
        match node:
            case Text(text):
                return text
            case Characters():
                return chr(self._random.choice(letters(node)))
            case Sequence(parts):
                return "".join(map(self.text, parts))
            case Choice(options):
                if self._left > 0:
                    return self.text(self._random.choice(options))
                return self.text(min(options, key=lambda option: length(option, self._lengths)))
            case Repeat(part, least, most):
                some = self._random.choice([0, 0, 1, 1, 2, 5]) if self._left > 0 else 0
                times = least + some if most is None else min(most, least + some)
                return "".join(self.text(part) for _ in range(times))
            case Reference(rule):
                return self.text(self._rules[rule])


def shortest_lengths(rules: Rules) -> dict[str, float]:
    """The least number of steps of each rule, so that a derivation can be brought to its end."""
    lengths = dict.fromkeys(rules, float("inf"))
    while True:
        new = {name: length(rule, lengths) for name, rule in rules.items()}
        if new == lengths:
            return lengths
        lengths = new


def length(node: Node, lengths: Mapping[str, float]) -> float:
    match node:
        case Sequence(parts):
            return 1 + sum(length(part, lengths) for part in parts)
        case Choice(options):
            return 1 + min(length(option, lengths) for option in options)
        case Repeat(part, least, _):
            return 1 + (least * length(part, lengths) if least else 0)
        case Reference(rule):
            return 1 + lengths[rule]
    return 1


class _Reading:
    def __init__(self, rules: Rules, text: str) -> None:
        self._rules = rules
        self._text = text
        self._known: dict[tuple[str, int], set[int]] = {}

    def ends(self, node: Node, start: int) -> set[int]:
        match node:
            case Text(text):
                return {start + len(text)} if self._text[start : start + len(text)] == text else set()
            case Characters(ranges, negated):
                if start >= len(self._text):
                    return set()
                code = ord(self._text[start])
                inside = any(low <= code <= high for low, high in ranges)
                return {start + 1} if inside != negated and code not in _BARRED else set()
            case Sequence(parts):
                at = {start}
                for part in parts:
                    at = {end for place in at for end in self.ends(part, place)}
                return at
            case Choice(options):
                return {end for option in options for end in self.ends(option, start)}
            case Repeat(part, least, most):
                return self._repeated(part, least, most, start)
            case Reference(rule):
                if (rule, start) not in self._known:
                    self._known[rule, start] = self.ends(self._rules[rule], start)
                return self._known[rule, start]

    def _repeated(self, part: Node, least: int, most: int | None, start: int) -> set[int]:
        at, found, times = {start}, {start} if least == 0 else set[int](), 0
        while at and (most is None or times < most):
            at = {end for place in at for end in self.ends(part, place)}
            times += 1
            if times >= least:
                if at <= found:
                    break
                found |= at
        return found
