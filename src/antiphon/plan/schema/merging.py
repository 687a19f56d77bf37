"""A schema, or several that hold at once, as alternatives without `$ref`, `allOf` and `anyOf` in them.

`allOf` and what stands beside it are merged: types and values intersect, properties and required names unite, and an
object is closed to the properties of all parts as soon as one of them says `additionalProperties: false`. Taken by the
letter, parts closed one by one would leave no object at all; and the API asks for closing each (contract
messages-and-inference 6), so the union is what can be meant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from antiphon.plan.schema.structure import Document, TooComplex, Unlowerable

TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
#: What a schema without `type` is about, by the first keyword that tells.
_TELLING = {
    "object": (
        "properties",
        "required",
        "additionalProperties",
        "patternProperties",
        "propertyNames",
        "minProperties",
        "maxProperties",
        "dependentRequired",
    ),
    "array": ("items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains"),
    "string": ("pattern", "format", "minLength", "maxLength"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
#: Alternatives that the combinations of one place may come to.
_MAX_ALTERNATIVES = 1_000


class Shape(msgspec.Struct):
    """What one alternative says. None is no word on it."""

    types: frozenset[str] | None = None
    told: tuple[str, ...] = ()  # types its other keywords are about
    values: tuple[Any, ...] | None = None
    patterns: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    properties: dict[str, tuple[Any, ...]] = {}
    required: tuple[str, ...] = ()
    closed: bool = False
    additional: tuple[Any, ...] = ()
    items: tuple[Any, ...] = ()
    first_items: tuple[Any, ...] = ()
    min_items: int = 0
    max_items: int | None = None

    def kinds(self) -> tuple[str, ...]:
        """The types it allows, in the order of `TYPES`."""
        types = self.types if self.types is not None else frozenset(self.told or TYPES)
        return tuple(kind for kind in TYPES if kind in types and not (kind == "integer" and "number" in types))


class Budget:
    """Work that may still be done."""

    def __init__(self, work: int) -> None:
        self.left = work

    def spend(self, work: int = 1) -> None:
        """Raises:
        TooComplex: it is used up.
        """
        self.left -= work
        if self.left < 0:
            raise TooComplex("Try fewer tools, or a simpler schema.")


def alternatives(schemas: Sequence[Any], document: Document, budget: Budget) -> list[Shape]:
    """All shapes that a value may have which fits all of the schemas; none where nothing fits.

    Raises:
        TooComplex: there are too many.
        Unlowerable: a keyword is malformed, or a reference points nowhere.
    """
    return _Merging(document, budget).all(schemas)


class _State(msgspec.Struct):
    """One alternative while it grows: what it says so far, schemas still to merge, and choices still to make."""

    shape: Shape
    schemas: list[Any]
    choices: list[list[Any]]
    seen: set[int]  # merged already: twice is once, and a reference back to one of them says nothing new


class _Merging:
    def __init__(self, document: Document, budget: Budget) -> None:
        self._document = document
        self._budget = budget

    def all(self, schemas: Sequence[Any]) -> list[Shape]:
        found: list[Shape] = []
        todo = [_State(Shape(), list(reversed(schemas)), [], set())]
        while todo:
            state = todo.pop()
            if not self._merged(state):
                continue
            if not state.choices:
                found.append(state.shape)
                continue
            *rest, options = state.choices
            self._budget.spend(len(options) * (1 + len(rest) + len(state.seen)))
            todo += [_State(state.shape, [option], rest.copy(), state.seen.copy()) for option in reversed(options)]
            if len(found) + len(todo) > _MAX_ALTERNATIVES:
                raise TooComplex(f"`anyOf` comes to more than {_MAX_ALTERNATIVES} combinations.")
        return found

    def _merged(self, state: _State) -> bool:
        """Merge all schemas of a state into its shape; False where nothing can fit it."""
        while state.schemas:
            self._budget.spend()
            schema = state.schemas.pop()
            if schema is True or id(schema) in state.seen:
                continue
            if schema is False:
                return False
            if not isinstance(schema, Mapping):
                raise Unlowerable("A schema should be an object")
            state.seen.add(id(schema))
            shape = self._both(state.shape, plain(schema))
            if shape is None:
                return False
            state.shape = shape
            if "$ref" in schema:
                state.schemas.append(self._document.find(self._document.steps(schema["$ref"])))
            state.schemas += reversed(parts(schema, "allOf"))
            state.choices += [parts(schema, keyword) for keyword in ("anyOf", "oneOf") if keyword in schema]
        return True

    def _both(self, one: Shape, other: Shape) -> Shape | None:
        """What fits both; None where nothing can."""
        types = _types_of_both(one.types, other.types)
        if types is not None and not types:
            return None
        values = one.values if other.values is None else other.values
        if one.values is not None and other.values is not None:
            self._budget.spend(len(one.values) + len(other.values))
            known = {same(value) for value in other.values}
            values = tuple(value for value in one.values if same(value) in known)
        bounds = [shape.max_items for shape in (one, other) if shape.max_items is not None]
        self._budget.spend(len(one.properties) + len(other.properties) + len(one.required) + len(one.items) + 1)
        return Shape(
            types=types,
            told=tuple(dict.fromkeys(one.told + other.told)),
            values=values,
            patterns=tuple(dict.fromkeys(one.patterns + other.patterns)),
            formats=tuple(dict.fromkeys(one.formats + other.formats)),
            properties=_united(one.properties, other.properties),
            required=tuple(dict.fromkeys(one.required + other.required)),
            closed=one.closed or other.closed,
            additional=one.additional + other.additional,
            items=one.items + other.items,
            first_items=one.first_items or other.first_items,
            min_items=max(one.min_items, other.min_items),
            max_items=min(bounds) if bounds else None,
        )


def plain(schema: Mapping[str, Any]) -> Shape:
    """What a schema says by itself.

    Raises:
        Unlowerable: a keyword is malformed.
    """
    values: tuple[Any, ...] | None = None
    if "enum" in schema:
        values = tuple({same(value): value for value in _checked(schema, "enum", list)}.values())
    if "const" in schema:
        wanted = schema["const"]
        fits = values is None or same(wanted) in {same(value) for value in values}
        values = (wanted,) if fits else ()
    items = schema.get("items")
    first = items if isinstance(items, list) else parts(schema, "prefixItems")
    rest = schema.get("additionalItems") if isinstance(items, list) else items
    additional = schema.get("additionalProperties")
    return Shape(
        types=_types(schema),
        told=tuple(kind for kind, keywords in _TELLING.items() if any(keyword in schema for keyword in keywords)),
        values=values,
        patterns=(_checked(schema, "pattern", str),) if "pattern" in schema else (),
        formats=(_checked(schema, "format", str),) if "format" in schema else (),
        properties={name: (part,) for name, part in _checked(schema, "properties", Mapping).items()},
        required=tuple(name for name in _checked(schema, "required", list) if isinstance(name, str)),
        closed=additional is False,
        additional=(additional,) if isinstance(additional, Mapping) else (),
        items=() if rest is None else (rest,),
        first_items=tuple(first),
        min_items=_count(schema, "minItems") or 0,
        max_items=_count(schema, "maxItems"),
    )


def parts(schema: Mapping[str, Any], keyword: str) -> list[Any]:
    """The schemas in a list.

    Raises:
        Unlowerable: it is none.
    """
    return list(_checked(schema, keyword, list))


def same(value: Any) -> Any:
    """Equal for values that JSON Schema calls equal: 1 and 1.0 are, 1 and true are not."""
    if isinstance(value, bool) or value is None:
        return value is None, str(value)
    if isinstance(value, list):
        return "array", tuple(map(same, value))
    if isinstance(value, Mapping):
        return "object", frozenset((key, same(part)) for key, part in value.items())
    return value


def _checked(schema: Mapping[str, Any], keyword: str, kind: Any) -> Any:
    if keyword not in schema:
        return "" if kind is str else {} if kind is Mapping else []
    if not isinstance(schema[keyword], kind):
        raise Unlowerable(f"`{keyword}` is malformed")
    return schema[keyword]


def _types(schema: Mapping[str, Any]) -> frozenset[str] | None:
    if "type" not in schema:
        return None
    named = schema["type"]
    listed = named if isinstance(named, list) else [named]
    if not all(isinstance(kind, str) and kind in TYPES for kind in listed):
        raise Unlowerable("`type` is malformed")
    return frozenset(listed)


def _types_of_both(one: frozenset[str] | None, other: frozenset[str] | None) -> frozenset[str] | None:
    if one is None or other is None:
        return other if one is None else one
    both = one & other
    if ("integer" in one and "number" in other) or ("integer" in other and "number" in one):
        both |= {"integer"}
    return both


def _united(one: dict[str, tuple[Any, ...]], other: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    united = dict(one)
    for name, schemas in other.items():
        united[name] = united.get(name, ()) + schemas
    return united


def _count(schema: Mapping[str, Any], keyword: str) -> int | None:
    count = schema.get(keyword)
    if isinstance(count, float) and count.is_integer():
        return int(count)
    return count if isinstance(count, int) and not isinstance(count, bool) and count >= 0 else None
