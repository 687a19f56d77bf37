"""Reads a written grammar back, by the languages' own descriptions, so that it can be held against what was meant."""

from __future__ import annotations

import re

from antiphon.engine.grammar import Characters, Choice, Grammar, Node, Reference, Repeat, Sequence, Text

_WORDS = re.compile(r'"(?:[^"\\\n]|\\.)*"|\[(?:[^\]\\\n]|\\.)*\]|[A-Za-z][A-Za-z0-9]*|\{\d+(?:,\d*)?\}|[()|*]|\S')
_LETTERS = re.compile(r"\\u([0-9A-F]{4})|\\U([0-9A-F]{8})|([A-Za-z0-9 ])")


def read(text: str) -> Grammar:
    """The grammar that a text of ours says.

    Raises:
        ValueError: it uses what is not in both languages.
    """
    rules: dict[str, Node] = {}
    for line in text.splitlines():
        name, _, body = line.partition(" ::= ")
        words = _WORDS.findall(body)
        if name in rules or not re.fullmatch("[a-z][a-z0-9]*", name):
            raise ValueError(line)
        rules[name] = _choice(words)
        if words:
            raise ValueError(line)
    return Grammar(rules, "root")


def _choice(words: list[str]) -> Node:
    options = [_sequence(words)]
    while words and words[0] == "|":
        words.pop(0)
        options.append(_sequence(words))
    return options[0] if len(options) == 1 else Choice(tuple(options))


def _sequence(words: list[str]) -> Node:
    parts: list[Node] = []
    while words and words[0] not in {"|", ")"}:
        parts.append(_item(words))
    if not parts:
        raise ValueError("nothing between two bars")
    return parts[0] if len(parts) == 1 else Sequence(tuple(parts))


def _item(words: list[str]) -> Node:
    word = words.pop(0)
    item: Node
    if word == "(":
        item = _choice(words)
        if words.pop(0) != ")":
            raise ValueError("a bracket is open")
    elif word[0] == '"':
        item = Text("".join(_letters(word[1:-1])))
    elif word[0] == "[":
        item = Characters(_ranges(word[1:-1]))
    elif word[0].isalpha():
        item = Reference(word)
    else:
        raise ValueError(word)
    if words and words[0] == "*":
        words.pop(0)
        item = Repeat(item, 0, None)
    elif words and words[0][0] == "{":
        least, comma, most = words.pop(0)[1:-1].partition(",")
        item = Repeat(item, int(least), int(most if comma else least))
    return item


def _letters(text: str) -> list[str]:
    letters: list[str] = []
    while text:
        found = _LETTERS.match(text)
        if found is None:
            raise ValueError(text)
        short, long, plain = found.groups()
        letters.append(plain or chr(int(short or long, 16)))
        text = text[found.end() :]
    return letters


def _ranges(text: str) -> tuple[tuple[int, int], ...]:
    ranges: list[tuple[int, int]] = []
    for part in re.findall(r"(?:\\u.{4}|\\U.{8}|[^\\-])(?:-(?:\\u.{4}|\\U.{8}|[^\\-]))?", text):
        ends = [ord(letter) for end in part.split("-") for letter in _letters(end)]
        ranges.append((ends[0], ends[-1]))
    return tuple(ranges)
