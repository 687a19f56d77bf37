"""A lowered grammar: what a text must be, in a form that belongs to no engine.

Characters are Unicode code points. There is one way to say each thing, so that each body can write its library's own
text from it (`engine.grammar_text`). What the plan hands over has been checked by `check`; `design/0007-grammar.md`
says what each library lets slip.
"""

from __future__ import annotations

from math import isqrt
from typing import TypeAlias

import msgspec

from antiphon.core.errors import EngineFailed

#: Bounds on one grammar. `MAX_SIZE` covers nodes, characters of texts, and what repeats come to in a library.
MAX_SIZE = 100_000
MAX_DEPTH = 64
MAX_TIMES = 100_000
#: The shortest text that a grammar allows may have so many characters.
MAX_SHORTEST = 1_000_000

_LAST = 0x10FFFF
_SURROGATES = 0xD800, 0xDFFF
_NEVER = 1 << 60


class Text(msgspec.Struct, frozen=True, tag="text"):
    """Exactly this text, which may be empty."""

    text: str


class Characters(msgspec.Struct, frozen=True, tag="characters"):
    """One character out of the ranges (both ends included), or with `negated` one out of none of them. U+0000 and
    surrogates are never meant: no library can be asked for them."""

    ranges: tuple[tuple[int, int], ...]
    negated: bool = False


class Sequence(msgspec.Struct, frozen=True, tag="sequence"):
    """All parts, one after the other."""

    parts: tuple[Node, ...]


class Choice(msgspec.Struct, frozen=True, tag="choice"):
    """One of the options."""

    options: tuple[Node, ...]


class Repeat(msgspec.Struct, frozen=True, tag="repeat"):
    """`part`, at least `least` times and at most `most` times; None is no bound."""

    part: Node
    least: int
    most: int | None


class Reference(msgspec.Struct, frozen=True, tag="reference"):
    """What the rule of this name says."""

    rule: str


Node: TypeAlias = Text | Characters | Sequence | Choice | Repeat | Reference


class Grammar(msgspec.Struct, frozen=True):
    """Rules by name, and the one that the whole text follows."""

    rules: dict[str, Node]
    root: str


def allowed(characters: Characters) -> tuple[tuple[int, int], ...]:
    """What `characters` comes to: ranges in order that do not touch, without U+0000 and surrogates."""
    barred = [(0, 0), _SURROGATES]
    if characters.negated:
        return _without([(0, _LAST)], [*barred, *characters.ranges])
    return _without(_merged(characters.ranges), barred)


def check(grammar: Grammar) -> None:
    """See that every library can be asked for it, and that each text of it comes to an end.

    Raises:
        EngineFailed: an unknown rule, a loop that reads nothing (left recursion, a repeat of what may be empty), a rule
            or choice without any text, a character no text can hold, or more than the bounds allow.
    """
    if grammar.root not in grammar.rules:
        raise _refused("its root is no rule")
    size = 0
    for name, rule in grammar.rules.items():
        size += _size(name, rule, grammar.rules)
        if size > MAX_SIZE:
            raise _refused("it is too large")
    lengths = Lengths(grammar)
    for name, rule in grammar.rules.items():
        if lengths.of(rule) >= _NEVER:
            raise _refused(f"the rule {name[:80]!r} never ends")
        if lengths.of(rule) > MAX_SHORTEST:
            raise _refused(f"the rule {name[:80]!r} asks for too long a text")
        _check_repeats(name, rule, lengths)
    _check_recursion(grammar, lengths)


def shortest(grammar: Grammar) -> str:
    """The shortest text of a checked grammar; of several, the one of the first options."""
    lengths = Lengths(grammar)
    out: list[str] = []
    todo: list[Node] = [grammar.rules[grammar.root]]
    while todo:
        node = todo.pop()
        match node:
            case Text(text):
                out.append(text)
            case Characters():
                out.append(_plainest(node))
            case Sequence(parts):
                todo += reversed(parts)
            case Choice(options):
                todo.append(min(options, key=lengths.of))
            case Repeat(part, least, _):
                todo += [part] * least
            case Reference(rule):
                todo.append(grammar.rules[rule])
    return "".join(out)


class Lengths:
    """The least number of characters that each rule asks for."""

    def __init__(self, grammar: Grammar) -> None:
        self._rules = dict.fromkeys(grammar.rules, _NEVER)
        order = _needed_first(grammar.rules)
        changed = True
        while changed:  # twice, where no rule needs itself
            changed = False
            for name in order:
                length = self.of(grammar.rules[name])
                if length < self._rules[name]:
                    self._rules[name] = length
                    changed = True

    def of(self, node: Node) -> int:
        """In characters; a very large number where there is no text at all."""
        match node:
            case Text(text):
                return len(text)
            case Characters():
                return 1
            case Sequence(parts):
                return min(_NEVER, sum(map(self.of, parts)))
            case Choice(options):
                return min(map(self.of, options))
            case Repeat(part, least, _):
                return min(_NEVER, least * self.of(part)) if least else 0
            case Reference(rule):
                return self._rules[rule]


def matches(grammar: Grammar, text: str) -> bool:
    """Whether all of `text` is what a checked grammar says. Plain and slow: for scripts and checks."""
    try:
        return len(text) in _Reading(grammar, text).ends(grammar.rules[grammar.root], 0)
    except RecursionError:  # nested deeper than any script is
        return False


def longest(grammar: Grammar, text: str, start: int = 0) -> int | None:
    """Where the longest stretch of `text` ends that begins at `start` and is what a checked grammar says; None where
    none does. As slow as `matches`."""
    try:
        return max(_Reading(grammar, text).ends(grammar.rules[grammar.root], start), default=None)
    except RecursionError:
        return None


class _Reading:
    """One text. Checked grammars have no left recursion, so this ends."""

    def __init__(self, grammar: Grammar, text: str) -> None:
        self._rules = grammar.rules
        self._text = text
        self._known: dict[tuple[str, int], frozenset[int]] = {}

    def ends(self, node: Node, start: int) -> frozenset[int]:
        """All places at which `node` can end."""
        match node:
            case Text(text):
                return frozenset([start + len(text)] if self._text.startswith(text, start) else [])
            case Characters():
                return frozenset([start + 1] if self._holds(node, start) else [])
            case Sequence(parts):
                places = frozenset([start])
                for part in parts:
                    places = self._after(part, places)
                return places
            case Choice(options):
                return frozenset().union(*(self.ends(option, start) for option in options))
            case Repeat():
                return self._repeated(node, start)
            case Reference(rule):
                if (rule, start) not in self._known:
                    self._known[rule, start] = self.ends(self._rules[rule], start)
                return self._known[rule, start]

    def _after(self, node: Node, places: frozenset[int]) -> frozenset[int]:
        return frozenset().union(*(self.ends(node, place) for place in places))

    def _repeated(self, node: Repeat, start: int) -> frozenset[int]:
        places, found, times = frozenset([start]), frozenset[int](), 0
        while places and (node.most is None or times <= node.most):
            if times >= node.least:
                new = places - found
                if not new and times > node.least:
                    break
                found |= places
            places, times = self._after(node.part, places), times + 1
        return found

    def _holds(self, node: Characters, place: int) -> bool:
        return place < len(self._text) and any(low <= ord(self._text[place]) <= high for low, high in allowed(node))


def _refused(reason: str) -> EngineFailed:
    return EngineFailed(f"a grammar is refused: {reason}", retry_helps=False)


def _size(name: str, rule: Node, rules: dict[str, Node]) -> int:
    """What one rule adds to the size; refuses what is malformed in it."""
    size = 0
    todo = [(rule, 0)]
    while todo:
        node, depth = todo.pop()
        size += 1
        if depth > MAX_DEPTH:
            raise _refused(f"the rule {name[:80]!r} is nested too deeply")
        if size > MAX_SIZE:
            raise _refused("it is too large")
        match node:
            case Text(text):
                size += len(text)
                if any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in text):
                    raise _refused(f"the rule {name[:80]!r} holds a character that no text can")
            case Characters(ranges):
                size += len(ranges)
                if any(not 0 <= low <= high <= _LAST for low, high in ranges) or not allowed(node):
                    raise _refused(f"the rule {name[:80]!r} has an impossible range of characters")
            case Sequence(parts):
                todo += [(part, depth + 1) for part in parts]
            case Choice(options):
                if not options:
                    raise _refused(f"the rule {name[:80]!r} has a choice of nothing")
                todo += [(option, depth + 1) for option in options]
            case Repeat(part, least, most):
                times = least if most is None else most
                if not 0 <= least <= times <= MAX_TIMES:
                    raise _refused(f"the rule {name[:80]!r} repeats too often, or less than never")
                size += 3 * isqrt(times)
                todo.append((part, depth + 1))
            case Reference(other):
                if other not in rules:
                    raise _refused(f"the rule {name[:80]!r} refers to an unknown one")
    return size


def _check_repeats(name: str, rule: Node, lengths: Lengths) -> None:
    todo = [rule]
    while todo:
        match todo.pop():
            case Sequence(parts) | Choice(parts):
                todo += parts
            case Repeat(part, _, most):
                if most not in {0, 1} and lengths.of(part) == 0:
                    raise _refused(f"the rule {name[:80]!r} repeats what may be empty")
                todo.append(part)


def _check_recursion(grammar: Grammar, lengths: Lengths) -> None:
    """No rule may come back to itself before it has read a character."""
    first = {name: _first(rule, lengths) for name, rule in grammar.rules.items()}
    state: dict[str, bool] = {}  # False while its own rules are being followed
    for name in grammar.rules:
        path = [(name, iter(first[name]))] if name not in state else []
        state.setdefault(name, False)
        while path:
            at, rest = path[-1]
            for other in rest:
                if other not in state:
                    state[other] = False
                    path.append((other, iter(first[other])))
                    break
                if not state[other]:
                    raise _refused(f"the rule {other[:80]!r} comes back to itself without reading anything")
            else:
                state[at] = True
                path.pop()


def _needed_first(rules: dict[str, Node]) -> list[str]:
    """The rules, each after those that it needs, as far as they do not need each other."""
    order: list[str] = []
    seen: set[str] = set()
    for start, rule in rules.items():
        path = [(start, iter(_references(rule)))] if start not in seen else []
        seen.add(start)
        while path:
            name, rest = path[-1]
            other = next((each for each in rest if each not in seen), None)
            if other is None:
                order.append(name)
                path.pop()
            else:
                seen.add(other)
                path.append((other, iter(_references(rules[other]))))
    return order


def _references(rule: Node) -> set[str]:
    found: set[str] = set()
    todo = [rule]
    while todo:
        match todo.pop():
            case Reference(other):
                found.add(other)
            case Sequence(nodes) | Choice(nodes):
                todo += nodes
            case Repeat(part):
                todo.append(part)
    return found


def _first(rule: Node, lengths: Lengths) -> set[str]:
    """The rules that can come first of all in a rule."""
    found: set[str] = set()
    todo = [rule]
    while todo:
        match todo.pop():
            case Reference(other):
                found.add(other)
            case Choice(options):
                todo += options
            case Repeat(part, _, most) if most != 0:
                todo.append(part)
            case Sequence(parts):
                for part in parts:
                    todo.append(part)
                    if lengths.of(part) > 0:
                        break
    return found


def _plainest(characters: Characters) -> str:
    """A character of it that can be seen, where there is one."""
    ranges = allowed(characters)
    visible = [max(low, 0x21) for low, high in ranges if high > 0x20]
    return chr(visible[0] if visible else ranges[0][0])


def _merged(ranges: tuple[tuple[int, int], ...]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(high, merged[-1][1])
        else:
            merged.append((low, high))
    return merged


def _without(ranges: list[tuple[int, int]], barred: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    for from_, to in barred:
        kept: list[tuple[int, int]] = []
        for low, high in ranges:
            if low < from_:
                kept.append((low, min(high, from_ - 1)))
            if high > to:
                kept.append((max(low, to + 1), high))
        ranges = [(low, high) for low, high in kept if low <= high]
    return tuple(ranges)
