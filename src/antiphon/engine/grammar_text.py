"""A lowered grammar in the words of a library: GBNF for llama.cpp, EBNF for xgrammar (in OpenVINO).

The two are one language as far as it is used here: rules on a line each, `"..."`, `[...]`, `( | )`, `*` and `{m,n}`.
What only one of them reads as we mean it is left out: classes are never negated, no `\\x` (xgrammar takes all hex
digits that follow), no `?` or `+`, names of letters and digits alone, and no count above `_DIRECT`, because llama.cpp
drops a bound above 2,000 without a word and xgrammar takes 20 s for a string of 1,000.

OpenVINO has xgrammar write the grammar down and read it again, and for a control character or one up to U+00FF it
writes that `\\x`: "é" before "d" comes back as U+0E9D. So before a hex digit such a character is a class.
"""

from __future__ import annotations

import re
import string
from math import isqrt

from antiphon.engine.grammar import (
    Characters,
    Choice,
    Grammar,
    Node,
    Reference,
    Repeat,
    Sequence,
    Text,
    allowed,
)

#: Counts up to here are written as they are: both libraries make a rule or two of each.
_DIRECT = 16
#: What xgrammar writes as `\\x` before what it then reads as more of it.
_SWALLOWING = re.compile(r"([\x01-\x1f\x7f-\xff])(?=[0-9A-Fa-f])")


def gbnf(grammar: Grammar) -> str:
    """For llama.cpp: the text of a checked grammar; its first rule is called `root`."""
    return _Writer(grammar).text()


def ebnf(grammar: Grammar) -> str:
    """For xgrammar; else as `gbnf`."""
    return _RecursiveWriter(grammar).text()


class _Writer:
    def __init__(self, grammar: Grammar) -> None:
        self._grammar = grammar
        self._names = {name: f"r{number}" for number, name in enumerate(grammar.rules)}
        self._shared: dict[str, str] = {}
        self._loops: dict[str, str] = {}
        self._lines: list[str] = []

    def text(self) -> str:
        rules = {self._names[name]: self._alternatives(rule) for name, rule in self._grammar.rules.items()}
        lines = [f"root ::= {self._names[self._grammar.root]}"]
        lines += [f"{name} ::= {body}" for name, body in rules.items()]
        lines += [f"{name} ::= {body}" for body, name in self._shared.items()]
        lines += self._lines
        return "\n".join(lines) + "\n"

    def _alternatives(self, node: Node) -> str:
        if isinstance(node, Choice):
            return " | ".join(map(self._sequence, node.options))
        return self._sequence(node)

    def _sequence(self, node: Node) -> str:
        if isinstance(node, Sequence):
            return " ".join(map(self._item, node.parts)) or '""'
        return self._item(node)

    def _item(self, node: Node) -> str:
        match node:
            case Text(text):
                return self._text(text)
            case Characters():
                return _class(allowed(node))
            case Reference(rule):
                return self._names[rule]
            case Repeat(part, least, most):
                return self._repeat(part, least, most)
            case Sequence((only,)) | Choice((only,)):
                return self._item(only)
            case Sequence() | Choice():
                return f"({self._alternatives(node)})"

    def _text(self, text: str) -> str:
        return '"' + "".join(map(_letter, text)) + '"'

    def _repeat(self, part: Node, least: int, most: int | None) -> str:
        if most == 0:
            return '""'
        if (least, most) == (1, 1):
            return self._item(part)
        # A part that is no single thing is a rule of its own, or a library would write it out for each time.
        word = self._item(part) if isinstance(part, Characters | Reference) else self._rule(self._alternatives(part))
        items = [self._exactly(word, least)] if least else []
        if most is None:
            items.append(self._any_times(part, word))
        elif most > least:
            items.append(self._up_to(word, most - least))
        return items[0] if len(items) == 1 else f"({' '.join(items)})"

    def _any_times(self, part: Node, word: str) -> str:
        return f"{word}*"

    def _exactly(self, word: str, times: int) -> str:
        if times == 1:
            return word
        if times <= _DIRECT:
            return f"{word}{{{times}}}"
        stride = isqrt(times)
        block = self._rule(f"{word}{{{stride}}}") if stride <= _DIRECT else self._rule(self._exactly(word, stride))
        whole, rest = divmod(times, stride)
        blocks = self._exactly(block, whole)
        return f"({blocks} {self._exactly(word, rest)})" if rest else blocks

    def _up_to(self, word: str, times: int) -> str:
        """Blocks of about the root of `times`, so that a long bound costs twice that many rules and not `times`."""
        if times <= _DIRECT:
            return f"{word}{{0,{times}}}"
        stride = max(_DIRECT, isqrt(times))
        block = self._rule(self._exactly(word, stride))
        few = self._rule(self._up_to_few(word, stride - 1))
        at = self._rule(self._up_to_few(word, times % stride))
        for _ in range(times // stride):
            at = self._rule(f"{few} | {block} {at}")
        return at

    def _up_to_few(self, word: str, times: int) -> str:
        """One rule for each time, of which each is shared with all longer ones."""
        if times <= _DIRECT:
            return f"{word}{{0,{times}}}" if times else '""'
        at = self._rule(f"{word}{{0,{_DIRECT}}}")
        for _ in range(times - _DIRECT):
            at = self._rule(f'{word} {at} | ""')
        return at

    def _rule(self, body: str) -> str:
        """A rule of ours, shared by all that say the same."""
        return self._shared.setdefault(body, f"s{len(self._shared)}")


class _RecursiveWriter(_Writer):
    """xgrammar decides before the first token which tokens a rule allows as far as the rule alone can tell, and tries
    out the others at each token. What repeats is therefore one rule with all that it says in itself: a token then costs
    next to nothing where a loop over another rule costs 50 ms."""

    def _text(self, text: str) -> str:
        """A class ends where its bracket does, whatever follows."""
        words: list[str] = []
        for at, piece in enumerate(_SWALLOWING.split(text)):
            if at % 2:
                words.append(f"[{_letter(piece)}]")
            elif piece:
                words.append(super()._text(piece))
        return " ".join(words) or '""'

    def _any_times(self, part: Node, word: str) -> str:
        while isinstance(part, Reference):
            part = self._grammar.rules[part.rule]
        name = self._loops.get(word)
        if name is None:
            name = self._loops[word] = f"l{len(self._loops)}"
            options = part.options if isinstance(part, Choice) else (part,)
            self._lines.append(
                f'{name} ::= "" | ' + " | ".join(f"{self._sequence(option)} {name}" for option in options)
            )
        return name


def _class(ranges: tuple[tuple[int, int], ...]) -> str:
    """Hex digits come first, behind nothing that could swallow them."""
    return "[" + "".join(map(_range, sorted(ranges, key=lambda bounds: chr(bounds[0]) not in string.hexdigits))) + "]"


def _range(bounds: tuple[int, int]) -> str:
    low, high = bounds
    return _letter(chr(low)) if low == high else f"{_letter(chr(low))}-{_letter(chr(high))}"


def _letter(letter: str) -> str:
    """One character, the same inside quotes and brackets: ASCII letters, digits and blanks as they are."""
    if letter == " " or (letter.isascii() and letter.isalnum()):
        return letter
    code = ord(letter)
    return f"\\u{code:04X}" if code <= 0xFFFF else f"\\U{code:08X}"
