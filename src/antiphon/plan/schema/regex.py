"""The documented subset of regular expressions, read into grammar nodes (contract messages-and-inference 6).

A pattern says something about a text, not about its JSON: `strings.spelled` writes the result as JSON. Characters are
code points, `.` is anything but a line's end, `\\d` and `\\w` are ASCII and `\\s` is ECMAScript's. A pattern that is
not anchored may match anywhere. How much a pattern may come to is counted while it is read.
"""

from __future__ import annotations

from antiphon.engine.grammar import Characters, Choice, Node, Repeat, Sequence, Text
from antiphon.plan.schema.structure import TooComplex, Unlowerable

MAX_PATTERN = 2_000
#: The largest count in braces.
MAX_COUNT = 1_000
#: What all repeats of a pattern may come to when they are written out.
MAX_EXPANDED = 20_000
#: Groups in each other.
MAX_GROUPS = 14
#: Nodes, where what may be empty is repeated and so written in several ways.
MAX_NODES = 5_000

_LAST = 0x10FFFF
_EMPTY = Text("")
_DIGITS = ((0x30, 0x39),)
_WORD = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
_SPACE = (
    (0x09, 0x0D),
    (0x20, 0x20),
    (0xA0, 0xA0),
    (0x1680, 0x1680),
    (0x2000, 0x200A),
    (0x2028, 0x2029),
    (0x202F, 0x202F),
    (0x205F, 0x205F),
    (0x3000, 0x3000),
    (0xFEFF, 0xFEFF),
)
_LINE_ENDS = ((0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029))
_CONTROLS = {"t": 0x09, "n": 0x0A, "v": 0x0B, "f": 0x0C, "r": 0x0D}
_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")

Ranges = tuple[tuple[int, int], ...]
ANYTHING = Repeat(Characters(((0, _LAST),)), 0, None)


class UnsupportedPattern(Unlowerable):
    """A pattern that is no regular expression, or one outside of the subset (contract messages-and-inference 2.7)."""

    def __init__(self, what: str) -> None:
        super().__init__(f"Unsupported regex feature in pattern field: {what}")


def pattern(text: str) -> Node:
    """All texts that a client's pattern fits.

    Raises:
        UnsupportedPattern: no pattern, or outside of the subset.
        TooComplex: it comes to too much.
    """
    if len(text) > MAX_PATTERN:
        raise TooComplex(f"A pattern is longer than {MAX_PATTERN} characters.")
    node = read(text)
    if expanded(node) > MAX_EXPANDED:
        raise UnsupportedPattern(f"repeats that come to more than {MAX_EXPANDED} characters")
    return node


def read(text: str) -> Node:
    """All texts that a pattern fits, however long it is.

    Raises:
        UnsupportedPattern: no pattern, or outside of the subset.
    """
    return _Reader(text).whole()


def expanded(node: Node) -> int:
    """How many nodes it would be with its repeats written out."""
    match node:
        case Sequence(parts) | Choice(parts):
            return 1 + sum(map(expanded, parts))
        case Repeat(part, least, most):
            return 1 + expanded(part) * max(1, least if most is None else most)
    return 1


def fits(node: Node, text: str) -> bool:
    """Whether a pattern fits a text: in time that grows with the square of its length, and never faster."""
    return len(text) in _ends(node, text, frozenset([0]))


def _ends(node: Node, text: str, starts: frozenset[int]) -> frozenset[int]:
    """Where it can end, having begun at one of these places."""
    match node:
        case Text(wanted):
            return frozenset(at + len(wanted) for at in starts if text.startswith(wanted, at))
        case Characters(ranges):
            return frozenset(
                at + 1 for at in starts if at < len(text) and any(low <= ord(text[at]) <= high for low, high in ranges)
            )
        case Sequence(parts):
            for part in parts:
                starts = _ends(part, text, starts)
            return starts
        case Choice(options):
            return frozenset[int]().union(*(_ends(option, text, starts) for option in options))
        case Repeat(part, least, most):
            for _ in range(least):
                starts = _ends(part, text, starts)
            found, new, more = starts, starts, 0
            while new and (most is None or more < most - least):
                new = _ends(part, text, new) - found
                found, more = found | new, more + 1
            return found
    return frozenset()


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._groups = 0
        self._nodes = 0

    def whole(self) -> Node:
        """Alternatives, each of them anchored or not on either side."""
        options: list[Node] = []
        while True:
            start = self._take("^")
            parts = self._parts()
            end = self._take("$")
            if self._next() not in ("", "|"):
                raise UnsupportedPattern(self._told())
            parts = [*([] if start else [ANYTHING]), *parts, *([] if end else [ANYTHING])]
            options.append(_sequence(parts))
            if not self._take("|"):
                return _choice(options)

    def _parts(self) -> list[Node]:
        parts: list[Node] = []
        while self._next() not in ("", "|", ")", "$"):
            atom = self._atom()
            parts.append(self._repeated(atom))
        return parts

    def _told(self) -> str:
        if self._next() == ")":
            return "a `)` without its `(`"
        return "an anchor that is not at the start or the end of the pattern"

    def _atom(self) -> Node:
        letter = self._advance()
        if letter == "(":
            return self._group()
        if letter == "[":
            return _characters(self._class())
        if letter == ".":
            return Characters(complement(_LINE_ENDS))
        if letter == "\\":
            escaped = self._escape()
            return Text(escaped) if isinstance(escaped, str) else Characters(escaped)
        if letter == "^":
            raise UnsupportedPattern(self._told())
        if letter in "*+?":
            raise UnsupportedPattern(f"`{letter}` with nothing before it")
        if letter == "{":
            raise UnsupportedPattern("`{` that is neither escaped nor a count")
        return Text(letter)

    def _group(self) -> Node:
        if self._take("?"):
            kind = self._advance()
            if kind == "P" and self._next() == "<":
                kind = self._advance()
            if kind == "<" and self._next() not in ("=", "!", ""):
                name, _, _ = self._text[self._at :].partition(">")
                if not name.isidentifier():
                    raise UnsupportedPattern("a group with a malformed name")
                self._at += len(name) + 1
            elif kind != ":":
                around = kind in "=!<" and kind != ""
                raise UnsupportedPattern("lookaround" if around else "a group that begins with `(?`")
        self._groups += 1
        if self._groups > MAX_GROUPS:
            raise UnsupportedPattern(f"groups nested more than {MAX_GROUPS} deep")
        options = [_sequence(self._parts())]
        while self._take("|"):
            options.append(_sequence(self._parts()))
        if self._next() == "$":
            raise UnsupportedPattern(self._told())
        if not self._take(")"):
            raise UnsupportedPattern("a `(` without its `)`")
        self._groups -= 1
        return _choice(options)

    def _repeated(self, atom: Node) -> Node:
        bounds = self._bounds()
        if bounds is None:
            return atom
        self._take("?")  # as few as possible: the same texts
        if self._next() in ("*", "+", "?", "{") and self._next():
            raise UnsupportedPattern("a repeat of a repeat, or a possessive one")
        least, most = bounds
        if most == 0:
            return _EMPTY
        if may_be_empty(atom):
            atom, least = self._filled(atom), 0
            if atom == _EMPTY:
                return _EMPTY
        return Repeat(atom, least, most)

    def _bounds(self) -> tuple[int, int | None] | None:
        for letter, bounds in {"*": (0, None), "+": (1, None), "?": (0, 1)}.items():
            if self._take(letter):
                return bounds
        if not self._take("{"):
            return None
        inside, closed, _ = self._text[self._at :].partition("}")
        self._at += len(inside) + 1
        low, comma, high = inside.partition(",")
        counts = [low, high] if comma and high else [low]
        if not closed or not all(count.isascii() and count.isdigit() for count in counts):
            raise UnsupportedPattern("`{` that is neither escaped nor a count")
        if any(len(count) > 9 or int(count) > MAX_COUNT for count in counts):
            raise UnsupportedPattern(f"a count above {MAX_COUNT}")
        least = int(low)
        most = int(high) if high else None if comma else least
        if most is not None and most < least:
            raise UnsupportedPattern("a count that ends before it begins")
        return least, most

    def _filled(self, node: Node) -> Node:
        """The texts of a node that may be empty, without the empty one."""
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise TooComplex("A pattern repeats what may be empty too often.")
        match node:
            case Choice(options):
                filled = [self._filled(option) if may_be_empty(option) else option for option in options]
                return _choice([option for option in filled if option != _EMPTY])
            case Repeat(part, _, most):
                return Repeat(part, 1, most)
            case Sequence(parts):
                options_: list[Node] = []
                for index, part in enumerate(parts):
                    self._nodes += len(parts)
                    rest = self._filled(part)
                    if rest != _EMPTY:
                        options_.append(_sequence([rest, *parts[index + 1 :]]))
                return _choice(options_)
        return node

    def _escape(self) -> str | Ranges:
        """After a backslash: a letter, or a class."""
        letter = self._advance()
        classes = {"d": _DIGITS, "w": _WORD, "s": _SPACE}
        if letter in classes:
            return classes[letter]
        if letter.lower() in classes and letter:
            return complement(classes[letter.lower()])
        if letter in _CONTROLS:
            return chr(_CONTROLS[letter])
        if letter == "0" and not self._next().isdigit():
            return "\0"
        if letter in ("x", "u"):
            return self._code(2 if letter == "x" else 4)
        if letter in ("b", "B"):
            raise UnsupportedPattern("word boundaries")
        if letter.isdigit() or letter == "k":
            raise UnsupportedPattern("backreferences")
        if not letter or (letter.isascii() and letter.isalpha()):
            raise UnsupportedPattern(f"`\\{letter}`")
        return letter

    def _code(self, digits: int) -> str:
        if digits == 4 and self._take("{"):
            written, _, _ = self._text[self._at :].partition("}")
            self._at += len(written) + 1
        else:
            written = self._text[self._at : self._at + digits]
            self._at += digits
            written = written if len(written) == digits else ""
        if not written or len(written) > 6 or not _HEX_DIGITS.issuperset(written):
            raise UnsupportedPattern("a malformed character code")
        code = int(written, 16)
        if code > _LAST or 0xD800 <= code <= 0xDFFF:
            raise UnsupportedPattern("a code that is no character")
        return chr(code)

    def _class(self) -> Ranges:
        negated = self._take("^")
        ranges: list[tuple[int, int]] = []
        if self._next() == "]":
            raise UnsupportedPattern("an empty class")
        while not self._take("]"):
            low = self._member()
            if not isinstance(low, str):
                ranges += low
            elif self._next() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                self._advance()
                high = self._member()
                if not isinstance(high, str) or ord(low) > ord(high):
                    raise UnsupportedPattern("a range of a class that is none")
                ranges.append((ord(low), ord(high)))
            else:
                ranges.append((ord(low), ord(low)))
        return complement(tuple(ranges)) if negated else tuple(ranges)

    def _member(self) -> str | Ranges:
        letter = self._advance()
        if not letter:
            raise UnsupportedPattern("a `[` without its `]`")
        if letter == "[" and self._next() == ":":
            raise UnsupportedPattern("a class by name")
        if letter == "\\":
            return "\b" if self._take("b") else self._escape()
        return letter

    def _next(self) -> str:
        return self._text[self._at : self._at + 1]

    def _advance(self) -> str:
        letter = self._next()
        self._at += 1
        return letter

    def _take(self, letter: str) -> bool:
        if self._next() != letter:
            return False
        self._at += 1
        return True


def complement(ranges: Ranges) -> Ranges:
    """All characters outside of the ranges."""
    left: list[tuple[int, int]] = []
    start = 0
    for low, high in sorted(ranges):
        if low > start:
            left.append((start, low - 1))
        start = max(start, high + 1)
    return (*left, (start, _LAST)) if start <= _LAST else tuple(left)


def may_be_empty(node: Node) -> bool:
    """Whether the empty text is one of a pattern's."""
    match node:
        case Text(text):
            return not text
        case Sequence(parts):
            return all(map(may_be_empty, parts))
        case Choice(options):
            return any(map(may_be_empty, options))
        case Repeat(part, least, _):
            return least == 0 or may_be_empty(part)
    return False


def _characters(ranges: Ranges) -> Characters:
    if not any(low <= high and not (low >= 0xD800 and high <= 0xDFFF) for low, high in ranges):
        raise UnsupportedPattern("a class without any character")
    return Characters(ranges)


def _sequence(parts: list[Node]) -> Node:
    """Neighbouring letters become one text."""
    joined: list[Node] = []
    for part in parts:
        if isinstance(part, Text) and joined and isinstance(joined[-1], Text):
            joined[-1] = Text(joined[-1].text + part.text)
        elif part != _EMPTY and not (part is ANYTHING and joined and joined[-1] is ANYTHING):
            joined.append(part)
    if not joined:
        return _EMPTY
    return joined[0] if len(joined) == 1 else Sequence(tuple(joined))


def _choice(options: list[Node]) -> Node:
    unique = list(dict.fromkeys(options))
    if not unique:
        return _EMPTY
    return unique[0] if len(unique) == 1 else Choice(tuple(unique))
