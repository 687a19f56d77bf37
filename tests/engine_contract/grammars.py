"""Grammars for the cases, random ones, and a reference matcher: Earley's, plain and slow, and not the one in `src`."""

from __future__ import annotations

import random
from typing import TypeAlias

from antiphon.engine.grammar import (
    Characters,
    Choice,
    Grammar,
    Lengths,
    Node,
    Reference,
    Repeat,
    Sequence,
    Text,
)

LETTER = Characters(((ord("a"), ord("z")),))
DIGIT = Characters(((ord("0"), ord("9")),))
#: What a JSON string may hold as it stands.
PLAIN = Characters(((0, 0x1F), (0x22, 0x22), (0x5C, 0x5C)), negated=True)
ESCAPE = Sequence((Text("\\"), Choice((Text('"'), Text("\\"), Text("n"), Sequence((Text("u"), Repeat(DIGIT, 4, 4)))))))
#: Each of these means something to some grammar language.
AWKWARD = "\"\\]^-[(){}|*+?.#/'`$<>\t\n\r\x01\x1b\x7f é\u0416\u2028\ufeff\U0001f600\U0010ffff"


def json_string(least: int, most: int | None) -> Node:
    return Sequence((Text('"'), Repeat(Choice((PLAIN, ESCAPE)), least, most), Text('"')))


def json_object(*properties: tuple[str, Node]) -> Node:
    parts: list[Node] = []
    for number, (name, value) in enumerate(properties):
        parts += [Text((", " if number else "{") + f'"{name}": '), value]
    return Sequence((*parts, Text("}")))


_WHOLE = Sequence(
    (Repeat(Text("-"), 0, 1), Choice((Text("0"), Sequence((Characters(((49, 57),)), Repeat(DIGIT, 0, 2))))))
)
#: Its blanks are where a model that likes compact JSON would rather have none.
PERSON = Grammar(
    {
        "person": json_object(
            ("name", json_string(1, 8)),
            ("age", Reference("whole")),
            ("colour", Choice((Text('"red"'), Text('"dark green"')))),
            ("marks", Sequence((Text("["), Reference("whole"), Repeat(Reference("more"), 0, 2), Text("]")))),
        ),
        "more": Sequence((Text(", "), Reference("whole"))),
        "whole": _WHOLE,
    },
    "person",
)
COLOURS = Grammar({"root": Repeat(Choice((Text("red;"), Text("blue;"))), 3, 3)}, "root")
#: Twenty brackets at least.
_LEVELS: dict[str, Node] = {
    f"d{depth}": Sequence((Text("["), Reference(f"d{depth + 1}"), Text("]"))) for depth in range(20)
}
DEEP = Grammar(_LEVELS | {"d20": Choice((Text("1"), Sequence((Text("["), Reference("d20"), Text("]")))))}, "d0")


def random_grammar(seed: int) -> Grammar:
    """Some rules that refer to later ones freely, and to any once they have read a character."""
    chance = random.Random(seed)
    names = [f"Rule {number}." for number in range(chance.randint(1, 5))]
    rules: dict[str, Node] = {}
    for number, name in enumerate(names):
        body = _random_node(chance, names[number + 1 :], 3)
        if chance.random() < 0.4:
            inner = Sequence((Text("("), Reference(chance.choice(names)), Text(")")))
            body = Choice((body, inner) if chance.random() < 0.5 else (inner, body))
        rules[name] = body
    return Grammar(rules, names[0])


def _random_node(chance: random.Random, later: list[str], depth: int) -> Node:
    kind = chance.choice(["text", "characters", "text"] if depth <= 0 else ["sequence", "choice", "repeat", "text"])
    if later and chance.random() < 0.3:
        return Reference(chance.choice(later))
    if kind == "text":
        return Text("".join(chance.choice(AWKWARD + "abc 012") for _ in range(chance.randint(1, 4))))
    if kind == "characters":
        places = sorted(ord(letter) for letter in chance.sample(AWKWARD + "abcxyz", 4))
        return Characters(((places[0], places[1]), (places[2], places[2])), negated=chance.random() < 0.3)
    inner = [_random_node(chance, later, depth - (2 if kind == "repeat" else 1)) for _ in range(chance.randint(1, 3))]
    if kind == "sequence":
        return Sequence(tuple(inner))
    if kind == "choice":
        return Choice(tuple(inner))
    least = chance.choice([0, 0, 1, 2, 17])
    return Repeat(Sequence((Text("."), inner[0])), least, chance.choice([least, least + 2, least + 20]))


def random_text(grammar: Grammar, seed: int) -> str:
    """One of its texts; after a while whatever ends it soonest."""
    chance = random.Random(seed)
    lengths = Lengths(grammar)
    out: list[str] = []
    todo: list[Node] = [Reference(grammar.root)]
    steps = 0
    while todo:
        steps += 1
        match todo.pop():
            case Text(text):
                out.append(text)
            case Characters() as characters:
                out.append(chance.choice([letter for letter in AWKWARD + "abcxyz012é" if holds(characters, letter)]))
            case Sequence(parts):
                todo += reversed(parts)
            case Choice(options):
                todo.append(chance.choice(options) if steps < 40 else min(options, key=lengths.of))
            case Repeat(part, least, most):
                times = chance.randint(least, least + 3 if most is None else most)
                todo += [part] * (times if steps < 40 else least)
            case Reference(rule):
                todo.append(grammar.rules[rule])
    return "".join(out)


def holds(characters: Characters, letter: str) -> bool:
    inside = any(low <= ord(letter) <= high for low, high in characters.ranges)
    return inside != characters.negated and letter != "\0"


_Symbol: TypeAlias = Characters | str
_Productions: TypeAlias = dict[str, list[tuple[_Symbol, ...]]]


def accepts(grammar: Grammar, text: str) -> bool:
    """Whether `text` is one of the grammar's."""
    productions, nullable = _plain(grammar)
    start = "rule:" + grammar.root
    chart: list[dict[tuple[str, tuple[_Symbol, ...], int, int], None]] = [{} for _ in range(len(text) + 1)]
    for production in productions[start]:
        chart[0][start, production, 0, 0] = None
    for place, items in enumerate(chart):
        todo = list(items)
        while todo:
            name, production, dot, origin = todo.pop()
            new = []
            if dot == len(production):
                new = [
                    (*other[:2], other[2] + 1, other[3])
                    for other in list(chart[origin])
                    if other[2] < len(other[1]) and other[1][other[2]] == name
                ]
            elif isinstance(symbol := production[dot], str):
                new = [(symbol, other, 0, place) for other in productions[symbol]]
                if symbol in nullable:
                    new.append((name, production, dot + 1, origin))
            elif place < len(text) and holds(symbol, text[place]):
                chart[place + 1][name, production, dot + 1, origin] = None
            todo += [item for item in new if item not in items]
            items.update(dict.fromkeys(new))
    return any(item[0] == start and item[2] == len(item[1]) and item[3] == 0 for item in chart[-1])


def _plain(grammar: Grammar) -> tuple[_Productions, set[str]]:
    """The grammar with nothing but rules of symbols in a row, and those of them that may be empty."""
    productions: _Productions = {}

    def rule(*options: tuple[_Symbol, ...]) -> str:
        name = f"made:{len(productions)}"
        productions[name] = list(options)
        return name

    def symbols(node: Node) -> tuple[_Symbol, ...]:
        match node:
            case Text(text):
                return tuple(Characters(((ord(letter), ord(letter)),)) for letter in text)
            case Characters():
                return (node,)
            case Sequence(parts):
                return tuple(symbol for part in parts for symbol in symbols(part))
            case Choice(options):
                return (rule(*map(symbols, options)),)
            case Repeat(part, least, most):
                once = rule(symbols(part))
                rest: tuple[_Symbol, ...] = ()
                if most is None:
                    name = rule(())
                    productions[name].append((once, name))
                    rest = (name,)
                for _ in range((most or least) - least):
                    rest = (rule((), (once, *rest)),)
                return (*([once] * least), *rest)
            case Reference(other):
                return ("rule:" + other,)

    for name, node in grammar.rules.items():
        productions["rule:" + name] = [symbols(node)]
    nullable: set[str] = set()
    while True:
        more = {
            name
            for name, options in productions.items()
            if any(all(isinstance(symbol, str) and symbol in nullable for symbol in option) for option in options)
        }
        if more == nullable:
            return productions, nullable
        nullable = more
