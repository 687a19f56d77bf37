"""The rules that every schema may need: any value, any string, any number."""

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
_EXPONENT = Characters(((0x45, 0x45), (0x65, 0x65)))
_SIGN = Characters(((0x2B, 0x2B), (0x2D, 0x2D)))

STRING = string(Repeat(ANY_CHARACTER, 0, None))
BOOLEAN = Choice((Text("true"), Text("false")))
NULL = Text("null")


def _digits(least: int, most: int) -> Node:
    return Repeat(_DIGIT, least, most)


#: No "-0", and no more than 64 bits hold on every side: 19 digits, 18 behind a minus.
INTEGER = Choice(
    (
        Text("0"),
        Sequence((_NOT_ZERO, _digits(0, 18))),
        Sequence((Text("-"), _NOT_ZERO, _digits(0, 17))),
    )
)


#: In any spelling: one that is forced into another than the model means, `1.257e-06` for 12.57e-7, changes the value.
#: Whole ones fit 64 bits, and none is infinite as a double.
NUMBER = Sequence(
    (
        _MINUS,
        Choice((Text("0"), Sequence((_NOT_ZERO, _digits(0, 17))))),
        Repeat(Sequence((Text("."), _digits(1, 17))), 0, 1),
        Repeat(Sequence((_EXPONENT, Repeat(_SIGN, 0, 1), _digits(1, 2))), 0, 1),
    )
)


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
