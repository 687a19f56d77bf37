"""The members of an object or a tuple as grammar, and how large grammar is."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, isqrt

from antiphon.engine.grammar import Choice, Node, Reference, Repeat, Sequence, Text
from antiphon.plan.schema.anything import Rules, Spacing

#: Rules that need each other are looked at so often; one that has found no end by then has none that is short.
_ROUNDS = 12


def written_object(must: list[Node], may: list[Node], rules: Rules) -> Node:
    """All of `must`, then any of `may`, in this order and with the commas right; linear in their number."""
    comma = Text(rules.spacing.item)
    if must:
        optional = [Repeat(Sequence((comma, member)), 0, 1) for member in may]
        return joined("{", must, "}", rules.spacing, *optional)
    if not may:
        return Text("{}")
    # The first one that is there has no comma before it: `tails[n]` is what may follow the nth.
    members = [rules.add(member) for member in may]
    options: list[Node] = [Text("{}")]
    tail: Node = Text("}")
    for member in reversed(members):
        options.append(Sequence((Text("{"), member, tail)))
        tail = rules.add(Sequence((Repeat(Sequence((comma, member)), 0, 1), tail)))
    return Choice((*reversed(options[1:]), options[0]))


def joined(start: str, nodes: list[Node], end: str, spacing: Spacing, *rest: Node) -> Node:
    """All of the nodes between brackets, and then what brings its own comma."""
    between: list[Node] = []
    for node in nodes:
        between += [node] if not between else [Text(spacing.item), node]
    return Sequence((Text(start), *between, *rest, Text(end)))


def size(node: Node) -> int:
    """Nodes, and characters of texts."""
    total = 0
    todo = [node]
    while todo:
        at = todo.pop()
        total += 1
        match at:
            case Text(text):
                total += len(text)
            case Sequence(nodes) | Choice(nodes):
                todo += nodes
            case Repeat(part, least, most):
                total += 3 * isqrt(least if most is None else most)  # what engines make of a count
                todo.append(part)
    return total


def in_order(rules: Mapping[str, Node], root: str) -> list[str]:
    """The rules that the root needs, each after those that it needs itself, as far as they do not need each other."""
    done: dict[str, None] = {}
    seen = {root}
    path = [(root, referred(rules[root]))]
    while path:
        name, rest = path[-1]
        while rest:
            other = rest.pop()
            if other not in seen:
                seen.add(other)
                path.append((other, referred(rules[other])))
                break
        else:
            done[name] = None
            path.pop()
    return list(done)


def expanded(rules: Mapping[str, Node], order: list[str]) -> int:
    """What the last rule would be with every reference written out; one back to a rule around it counts nothing."""
    known: dict[str, int] = {}
    for name in order:
        known[name] = size(rules[name]) + sum(known.get(other, 0) for other in referred(rules[name]))
    return known[order[-1]]


def shortest(rules: Mapping[str, Node], order: list[str]) -> float:
    """How many characters the last rule asks for at least; infinitely many where no text of it ends."""
    known = dict.fromkeys(order, inf)
    for _ in range(_ROUNDS):
        before = dict(known)
        for name in order:
            known[name] = _shortest(rules[name], known)
        if known == before:
            break
    return known[order[-1]]


def _shortest(node: Node, known: Mapping[str, float]) -> float:
    match node:
        case Text(text):
            return len(text)
        case Sequence(parts):
            return sum(_shortest(part, known) for part in parts)
        case Choice(options):
            return min(_shortest(option, known) for option in options)
        case Repeat(part, least, _):
            return least * _shortest(part, known) if least else 0
        case Reference(rule):
            return known[rule]
    return 1


def referred(node: Node) -> list[str]:
    """The rules that a node refers to, as often as it does."""
    found: list[str] = []
    todo = [node]
    while todo:
        match todo.pop():
            case Reference(rule):
                found.append(rule)
            case Sequence(nodes) | Choice(nodes):
                todo += nodes
            case Repeat(part):
                todo.append(part)
    return found
