"""JSON Schemas as rules of a grammar: the texts that our JSON writer would write for the values that fit.

What stands between things is fixed by `Spacing`, strings have one spelling each, required properties come first and
optional ones after them, both in the schema's order. So what a model writes under the grammar reads back and is written
again as the same text, but for numbers: a model that is held to a spelling it does not mean writes another value.
`strict` promises that every text fits the schema and refuses what cannot be
promised; without it what cannot be said in a grammar is left out, and a schema that cannot be lowered is any object.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from antiphon.core.errors import InvalidRequest
from antiphon.engine.grammar import Choice, Node, Reference, Repeat, Sequence, Text
from antiphon.plan.schema import ambiguity, anything, members
from antiphon.plan.schema.anything import BOOLEAN, INTEGER, NULL, NUMBER, STRING, Rules, Spacing
from antiphon.plan.schema.formats import FORMATS, format_node, format_string
from antiphon.plan.schema.merging import Budget, Shape, alternatives
from antiphon.plan.schema.regex import fits, pattern
from antiphon.plan.schema.strings import quoted, spelled, string
from antiphon.plan.schema.structure import Document, TooComplex, Unlowerable, structure
from antiphon.plan.schema.texts import Texts

#: What lowering one schema may take, in schemas merged and properties looked at.
_WORK = 20_000
#: Nodes and characters of one lowered schema, and of a strict one with every reference written out.
MAX_SIZE = 50_000
MAX_EXPANDED = 2_000_000
#: Characters of the shortest value.
MAX_SHORTEST = 100_000
#: What a library may take to compile it, in milliseconds of our estimate, and how many readings of a text it may have
#: to follow at once (`ambiguity`).
MAX_MILLISECONDS = 800
MAX_READINGS = 256
#: Schemas in each other, references followed.
_MAX_NESTED = 64
#: Bounds of arrays above this are not put into a grammar.
_MAX_ITEMS = 64

__all__ = ["MAX_EXPANDED", "MAX_SIZE", "Lowered", "Spacing", "any_object", "any_value", "lower"]


class Lowered(msgspec.Struct, frozen=True):
    """Rules for a larger grammar, and the name of the first of them."""

    rules: dict[str, Node]
    root: str


def any_value(spacing: Spacing, prefix: str = "") -> Lowered:
    """Any JSON value."""
    rules = Rules(spacing, prefix)
    root = rules.any("value").rule
    return Lowered(rules.rules, root)


def any_object(spacing: Spacing, prefix: str = "") -> Lowered:
    """Any JSON object."""
    rules = Rules(spacing, prefix)
    root = rules.any("object").rule
    return Lowered(rules.rules, root)


def lower(schema: Any, spacing: Spacing, *, strict: bool, prefix: str = "", path: str | None = None) -> Lowered:
    """The rules of a schema; names begin with `prefix`, so that several can stand in one grammar.

    A strict schema should have passed `documented.check`, which says more precisely what is wrong; `path` is where it
    stands in the request. One that is not strict never fails: it ends as `any_object`.

    Raises:
        InvalidRequest: a strict schema that nothing fits, or that is too complex.
    """
    try:
        kept = structure(schema)
        budget = Budget(_WORK)
        try:
            return _written(_Lowering(Document(kept), spacing, strict, prefix, budget), kept)
        except TooComplex:
            if strict:
                raise
            # What strings are held to is given up before all else is.
            return _written(_Lowering(Document(kept), spacing, strict, prefix, budget, strings=False), kept)
    except Unlowerable as error:
        if strict:
            raise InvalidRequest(str(error), path=path) from None
        return any_object(spacing, prefix)


def _written(lowering: _Lowering, schema: Any) -> Lowered:
    root = lowering.root(schema)
    return Lowered(_checked(lowering, root), root)


def _checked(lowering: _Lowering, root: str) -> dict[str, Node]:
    """The rules that the root needs, if engines will take them (`engine.grammar.check`), and soon.

    Raises:
        TooComplex: it is too large, can be read in too many ways, or comes to no end.
    """
    rules, strict = lowering.rules.rules, lowering.strict
    try:
        order = members.in_order(rules, root)
    except KeyError:  # a schema that is refused by what it asks of itself
        raise Unlowerable("No value can fit this schema") from None
    total = sum(members.size(rules[name]) for name in order)
    if total > MAX_SIZE or (strict and members.expanded(rules, order) > MAX_EXPANDED):
        raise TooComplex("Try fewer tools, or a simpler schema.")
    if members.shortest(rules, order) > MAX_SHORTEST:
        raise TooComplex("No value that ends soon fits it.")
    cost = ambiguity.cost(rules, order, lowering.formats)
    if cost.milliseconds > MAX_MILLISECONDS or cost.readings > MAX_READINGS:
        raise TooComplex("Try simpler patterns, or fewer optional parts and alternatives that begin alike.")
    return {name: rules[name] for name in order}


class _Lowering:
    def __init__(
        self,
        document: Document,
        spacing: Spacing,
        strict: bool,
        prefix: str,
        budget: Budget,
        *,
        strings: bool = True,
    ) -> None:
        self.rules = Rules(spacing, prefix)
        self.strict = strict
        #: The rules of formats.
        self.formats: set[str] = set()
        self._document = document
        #: Whether strings are held to formats and patterns.
        self._held = strings
        self._budget = budget
        self._texts = Texts(spacing)
        self._nested = 0
        self._patterns: dict[str, Node] = {}
        self._strings: dict[tuple[str, str], Reference] = {}
        #: By the way to it; None where nothing fits.
        self._references: dict[tuple[str, ...], Reference | None] = {}
        #: References that are being followed, and nothing has been written since.
        self._open: set[tuple[str, ...]] = set()

    def root(self, schema: Any) -> str:
        node = self._any_of((schema,))
        if node is None:
            raise Unlowerable("No value can fit this schema")
        return node.rule if isinstance(node, Reference) else self.rules.add(node).rule

    def _any_of(self, schemas: tuple[Any, ...]) -> Node | None:
        """What fits all of the schemas; None where nothing does."""
        self._budget.spend()
        self._nested += 1
        if self._nested > _MAX_NESTED:
            raise TooComplex(f"It is nested more than {_MAX_NESTED} levels deep.")
        node = self._lowered(schemas)
        self._nested -= 1
        return node

    def _lowered(self, schemas: tuple[Any, ...]) -> Node | None:
        if len(schemas) == 1:
            (only,) = schemas
            if isinstance(only, Mapping) and set(only) == {"$ref"}:
                return self._referred(only["$ref"])
            if isinstance(only, Mapping) and set(only) in ({"anyOf"}, {"oneOf"}):
                (options,) = only.values()
                if isinstance(options, list):
                    return _choice([self._any_of((option,)) for option in options])
        shapes = alternatives(schemas, self._document, self._budget)
        return _choice([self._shape(shape) for shape in shapes])

    def _referred(self, reference: object) -> Node | None:
        """One rule for all references to a schema, so that their number does not multiply."""
        steps = self._document.steps(reference)
        target = self._document.find(steps)
        seen = {steps}
        while isinstance(target, Mapping) and set(target) == {"$ref"}:
            steps = self._document.steps(target["$ref"])
            if steps in seen:
                raise Unlowerable("Circular $ref detected")
            seen.add(steps)
            target = self._document.find(steps)
        if steps in self._open:
            raise Unlowerable("Circular $ref detected")
        if steps in self._references:
            return self._references[steps]
        name = self.rules.name()
        self._references[steps] = Reference(name)
        self._open.add(steps)
        node = self._any_of((target,))
        self._open.discard(steps)
        if node is None:
            # Where it has been referred to meanwhile, by itself, the whole is refused in the end.
            self._references[steps] = None
            return None
        self.rules.rules[name] = node
        return Reference(name)

    def _shape(self, shape: Shape) -> Node | None:
        if shape.values is not None:
            return self._enumerated(shape)
        kinds = shape.kinds()
        if len(kinds) >= 6 and not shape.told:
            return self.rules.any("value")
        return _choice([self._kind(kind, shape) for kind in kinds])

    def _kind(self, kind: str, shape: Shape) -> Node | None:
        match kind:
            case "object" | "array":
                before, self._open = self._open, set()  # a bracket comes first
                node = self._object(shape) if kind == "object" else self._array(shape)
                self._open = before
                return node
            case "string":
                return self._string(shape)
            case "integer":
                return INTEGER
            case "number":
                return self.rules.shared("number", NUMBER)
            case "boolean":
                return BOOLEAN
        return NULL

    def _enumerated(self, shape: Shape) -> Node | None:
        values = shape.values or ()
        self._budget.spend(len(values))
        told = self._told(shape)
        node = self._content(*told) if told else None
        fitting = [value for value in values if self._fits(value, shape, node)]
        texts = dict.fromkeys(text for value in fitting if (text := self._texts.written(value)) is not None)
        return _choice([Text(text) for text in texts])

    def _fits(self, value: Any, shape: Shape, content: Node | None) -> bool:
        if shape.types is not None and not _is_of(value, shape.types):
            return False
        if content is None or not isinstance(value, str):
            return True
        self._budget.spend(1 + len(value) ** 2 * members.size(content) // 1_000)
        return fits(content, value)

    def _string(self, shape: Shape) -> Node:
        told = self._told(shape)
        if told is None:
            return self.rules.shared("string", STRING)
        # A rule of its own: the same format may stand at a hundred properties.
        if told not in self._strings:
            kind, text = told
            node = format_string(text) if kind == "format" else string(spelled(self._content(kind, text)))
            self._budget.spend(members.size(node) // 10)
            self._strings[told] = self.rules.add(node)
            if kind == "format":
                self.formats.add(self._strings[told].rule)
        return self._strings[told]

    def _told(self, shape: Shape) -> tuple[str, str] | None:
        """The format or pattern that a string is held to; None where it is to none."""
        if not self._held:
            return None
        told = [("format", name) for name in shape.formats if name in FORMATS]
        for text in shape.patterns:
            try:
                self._content("pattern", text)
                told.append(("pattern", text))
            except Unlowerable:
                if self.strict:
                    raise
        if len(told) > 1 and self.strict:
            raise Unlowerable("'pattern' and 'format', or two of them, are not supported for one string; keep one")
        return told[0] if told else None

    def _content(self, kind: str, text: str) -> Node:
        if kind == "format":
            return format_node(text)
        if text not in self._patterns:
            self._budget.spend(1 + len(text) // 2)
            self._patterns[text] = pattern(text)
        return self._patterns[text]

    def _object(self, shape: Shape) -> Node | None:
        properties, required = dict(shape.properties), set(shape.required)
        if not properties and not required and not shape.closed:
            return self._map(shape)
        for name in shape.required:
            if name not in properties:
                if shape.closed and self.strict:
                    raise Unlowerable(f"Required property {quoted(name[:80])} is not among `properties`")
                properties[name] = shape.additional or ({},)
        must: list[Node] = []
        may: list[Node] = []
        for name, schemas in properties.items():
            value = self._any_of(schemas)
            if value is None:
                if name in required:
                    return None
                continue  # what nothing fits is never written
            member = Sequence((Text(quoted(name) + self.rules.spacing.key), value))
            (must if name in required else may).append(member)
        return self.rules.add(members.written_object(must, may, self.rules))

    def _map(self, shape: Shape) -> Node | None:
        """An object without properties of its own."""
        if not shape.additional:
            return self.rules.any("object")
        value = self._any_of(shape.additional)
        if value is None:
            return Text("{}")
        member = Sequence((self.rules.shared("string", STRING), Text(self.rules.spacing.key), value))
        return self.rules.add(anything.listed("{", self.rules.add(member), "}", self.rules.spacing))

    def _array(self, shape: Shape) -> Node | None:
        first = [self._any_of((item,)) for item in shape.first_items]
        if None in first:
            return None if shape.min_items > first.index(None) else self._closed_array(first[: first.index(None)])
        most = shape.max_items
        if most is not None and most < shape.min_items:
            return None
        if first:
            return self._tuple([node for node in first if node is not None], shape)
        item = self._any_of(shape.items) if shape.items else self.rules.any("value")
        if item is None or most == 0:
            return Text("[]") if shape.min_items == 0 else None
        item = item if isinstance(item, Reference | Text) else self.rules.add(item)
        least = min(shape.min_items, _MAX_ITEMS)
        most = most if most is not None and most <= _MAX_ITEMS else None
        return self.rules.add(anything.listed("[", item, "]", self.rules.spacing, least, most))

    def _closed_array(self, first: list[Node | None]) -> Node:
        nodes = [node for node in first if node is not None]
        return self.rules.add(members.joined("[", nodes, "]", self.rules.spacing))

    def _tuple(self, first: list[Node], shape: Shape) -> Node | None:
        """Places with schemas of their own: all of them are written, and then what may follow."""
        if shape.max_items is not None and shape.max_items <= len(first):
            return self.rules.add(members.joined("[", first[: shape.max_items], "]", self.rules.spacing))
        item = self._any_of(shape.items) if shape.items else self.rules.any("value")
        if item is None:
            return self.rules.add(members.joined("[", first, "]", self.rules.spacing))
        rest = Repeat(self.rules.add(Sequence((Text(self.rules.spacing.item), item))), 0, None)
        return self.rules.add(members.joined("[", first, "]", self.rules.spacing, rest))


def _choice(nodes: list[Node | None]) -> Node | None:
    options: list[Node] = []
    for node in dict.fromkeys(nodes):
        if isinstance(node, Choice):
            options += node.options
        elif node is not None:
            options.append(node)
    options = list(dict.fromkeys(options))
    if not options:
        return None
    return options[0] if len(options) == 1 else Choice(tuple(options))


def _is_of(value: Any, types: frozenset[str]) -> bool:
    if isinstance(value, bool):
        return "boolean" in types
    if isinstance(value, int):
        return bool(types & {"integer", "number"})
    if isinstance(value, float):
        return math.isfinite(value) and ("number" in types or ("integer" in types and value.is_integer()))
    kind = {str: "string", list: "array", dict: "object", type(None): "null"}[type(value)]
    return kind in types
