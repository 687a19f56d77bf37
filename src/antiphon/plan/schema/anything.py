"""The rules that every schema may need: any value, any string, numbers in the one form in which they are written."""

from __future__ import annotations

import msgspec

from antiphon.engine.grammar import Characters, Choice, Node, Reference, Repeat, Sequence, Text
from antiphon.plan.schema.strings import ANY_CHARACTER, string


class Spacing(msgspec.Struct, frozen=True):
    """What stands between members, and after a key: (", ", ": ") as chat templates write JSON, (",", ":") compact."""

    item: str
    key: str


_DIGIT = Characters(((0x30, 0x39),))
_NOT_ZERO = Characters(((0x31, 0x39),))
_MINUS = Repeat(Text("-"), 0, 1)

STRING = string(Repeat(ANY_CHARACTER, 0, None))
BOOLEAN = Choice((Text("true"), Text("false")))
NULL = Text("null")


def _digits(least: int, most: int) -> Node:
    return Repeat(_DIGIT, least, most)


def _fraction(most: int) -> Node:
    """Digits that do not end in a zero."""
    return Sequence((_digits(0, most - 1), _NOT_ZERO))


#: No "-0", and no more than 64 bits hold on every side: 19 digits, 18 behind a minus.
INTEGER = Choice(
    (
        Text("0"),
        Sequence((_NOT_ZERO, _digits(0, 18))),
        Sequence((Text("-"), _NOT_ZERO, _digits(0, 17))),
    )
)


def _number() -> Node:
    """Every form has at most 15 digits that count, so that a double holds it and is written again as it stood. The
    bounds between plain and exponent form are our writer's (msgspec)."""
    whole = [
        Sequence((_NOT_ZERO, _digits(0, 5), Text("."), Choice((Text("0"), _fraction(9))))),
        Sequence((_NOT_ZERO, _digits(6, 11), Text("."), Choice((Text("0"), _fraction(3))))),
    ]
    small = Sequence((Text("0."), Choice((Text("0"), Sequence((Repeat(Text("0"), 0, 4), _small()))))))
    mantissa = Sequence((_NOT_ZERO, Repeat(Sequence((Text("."), _fraction(14))), 0, 1)))
    exponent = Sequence((Text("e"), Choice((_large(), _tiny()))))
    floats = Sequence((_MINUS, Choice((*whole, small, Sequence((mantissa, exponent))))))
    return Choice((INTEGER, floats))


def _small() -> Node:
    return Sequence((_NOT_ZERO, Repeat(_fraction(14), 0, 1)))


def _large() -> Node:
    """From 16 to 99."""
    teens = Sequence((Text("1"), Characters(((0x36, 0x39),))))
    return Choice((teens, Sequence((Characters(((0x32, 0x39),)), _DIGIT))))


def _tiny() -> Node:
    """From -6 to -99."""
    return Sequence((Text("-"), Choice((Characters(((0x36, 0x39),)), Sequence((_NOT_ZERO, _DIGIT))))))


NUMBER = _number()


def listed(start: str, item: Node, end: str, spacing: Spacing, least: int = 0, most: int | None = None) -> Node:
    """Items between brackets, `least` to `most` of them; `most` is not 0."""
    more = Sequence((Text(spacing.item), item))
    rest = Repeat(more, max(0, least - 1), None if most is None else most - 1)
    some = Sequence((Text(start), item, *(() if most == 1 else (rest,)), Text(end)))
    return some if least else Choice((Text(start + end), some))


class Rules:
    """Rules by name while a schema is being lowered."""

    def __init__(self, spacing: Spacing, prefix: str) -> None:
        self.spacing = spacing
        self.rules: dict[str, Node] = {}
        self._prefix = prefix
        self._names = 0

    def name(self) -> str:
        """A name that no rule has."""
        self._names += 1
        return f"{self._prefix}s{self._names}"

    def add(self, node: Node) -> Reference:
        """A rule of its own for a node."""
        name = self.name()
        self.rules[name] = node
        return Reference(name)

    def shared(self, name: str, node: Node) -> Reference:
        """The one rule of this name."""
        self.rules.setdefault(self._prefix + name, node)
        return Reference(self._prefix + name)

    def any(self, kind: str) -> Reference:
        """Any `value`, or any `object`."""
        if f"{self._prefix}value" not in self.rules:
            self._add_values()
        return Reference(self._prefix + kind)

    def _add_values(self) -> None:
        words = {word: Reference(self._prefix + word) for word in ("object", "array", "value", "member")}
        text, number = self.shared("string", STRING), self.shared("number", NUMBER)
        member = Sequence((text, Text(self.spacing.key), words["value"]))
        self.shared("value", Choice((words["object"], words["array"], text, number, BOOLEAN, NULL)))
        self.shared("object", listed("{", words["member"], "}", self.spacing))
        self.shared("array", listed("[", words["value"], "]", self.spacing))
        self.shared("member", member)
