"""What of a schema counts, within bounds: without titles, descriptions and the like, and no larger than can be read.

Everything else here works on what `structure` gives, so a bomb ends in this file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias
from urllib.parse import unquote

Schema: TypeAlias = Mapping[str, Any]

#: Levels of schemas in each other, and of values in an `enum`.
MAX_DEPTH = 64
#: All values in it: schemas, names, entries of an `enum`.
MAX_VALUES = 20_000
#: All characters of it, names included, annotations not.
MAX_CHARACTERS = 400_000

#: Say nothing about what a value may be.
ANNOTATIONS = frozenset(
    [
        "title",
        "description",
        "default",
        "examples",
        "example",
        "deprecated",
        "readOnly",
        "writeOnly",
        "$schema",
        "$id",
        "id",
        "$comment",
        "contentEncoding",
        "contentMediaType",
        "contentSchema",
    ]
)
#: Where schemas stand in a schema: by name, in a list, alone.
BY_NAME = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")
IN_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
ALONE = (
    "items",
    "additionalProperties",
    "not",
    "if",
    "then",
    "else",
    "contains",
    "propertyNames",
    "additionalItems",
    "unevaluatedItems",
    "unevaluatedProperties",
)


class Unlowerable(Exception):
    """A schema that no grammar can be made of. The text may be shown to a client."""


class TooComplex(Unlowerable):
    """It is larger, deeper or has more combinations than are worked through (contract messages-and-inference 2.7)."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"Schema is too complex for compilation. {reason}")


def structure(schema: object) -> Any:
    """A copy of what says anything about values, in the same order.

    Raises:
        TooComplex: it is too deep or too large.
        Unlowerable: it holds a character that no text can.
    """
    return _Reader().schema(schema, 0)


class _Reader:
    def __init__(self) -> None:
        self._values = 0
        self._characters = 0

    def schema(self, schema: object, depth: int) -> Any:
        if not isinstance(schema, Mapping):
            return self.value(schema, depth)
        self._count(depth)
        kept: dict[str, Any] = {}
        for key, value in schema.items():
            if key in ANNOTATIONS:
                continue
            self._text(key)
            if key in BY_NAME and isinstance(value, Mapping):
                kept[key] = self._named(value, depth)
            elif key in IN_LISTS and isinstance(value, list | tuple):
                self._room(len(value))
                kept[key] = [self.schema(part, depth + 1) for part in value]
            elif key in ALONE:
                kept[key] = self.schema(value, depth + 1)
            else:
                kept[key] = self.value(value, depth)
        return kept

    def value(self, value: object, depth: int) -> Any:
        """What is no schema: bounds, an `enum`, names."""
        self._count(depth)
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, Mapping):
            self._room(len(value))
            return {self._text(key): self.value(part, depth + 1) for key, part in value.items()}
        if isinstance(value, list | tuple):
            self._room(len(value))
            return [self.value(part, depth + 1) for part in value]
        return value

    def _named(self, schemas: Mapping[str, Any], depth: int) -> dict[str, Any]:
        self._room(len(schemas))
        return {self._text(name): self.schema(schema, depth + 1) for name, schema in schemas.items()}

    def _count(self, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise TooComplex(f"It is nested more than {MAX_DEPTH} levels deep.")
        self._values += 1
        self._room(0)

    def _room(self, more: int) -> None:
        if self._values + more > MAX_VALUES:
            raise TooComplex(f"It holds more than {MAX_VALUES} values.")

    def _text(self, text: str) -> str:
        self._characters += len(text)
        if self._characters > MAX_CHARACTERS:
            raise TooComplex(f"It holds more than {MAX_CHARACTERS} characters.")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise Unlowerable("A text holds half of a surrogate pair") from None
        return text


class Document:
    """A whole schema, to which its references point."""

    def __init__(self, root: Any) -> None:
        self._root = root

    def steps(self, reference: object) -> tuple[str, ...]:
        """The way from the top to what a `$ref` means.

        Raises:
            Unlowerable: it points outside of this schema, or is no pointer.
        """
        if not isinstance(reference, str):
            raise Unlowerable("`$ref` should be a string")
        if not reference.startswith("#"):
            raise Unlowerable("External `$ref` is not supported; put the schema into `$defs` and refer to it there")
        if reference != "#" and not reference.startswith("#/"):
            raise Unlowerable("`$ref` to an anchor is not supported; refer to it as `#/$defs/...`")
        return tuple(
            step.replace("~1", "/").replace("~0", "~") for step in unquote(reference).removeprefix("#").split("/")[1:]
        )

    def find(self, steps: tuple[str, ...]) -> Any:
        """The schema at the end of the way.

        Raises:
            Unlowerable: there is none.
        """
        place = self._root
        for step in steps:
            if isinstance(place, Mapping) and step in place:
                place = place[step]
            elif isinstance(place, list) and step.isascii() and step.isdigit() and int(step[:9]) < len(place):
                place = place[int(step[:9])]
            else:
                raise Unlowerable("`$ref` points to nothing in this schema")
        if not isinstance(place, Mapping | bool):
            raise Unlowerable("`$ref` points to what is no schema")
        return place


def subschemas(schema: Schema) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All schemas that stand in this one, each with the steps to it."""
    for key, value in schema.items():
        if key in BY_NAME and isinstance(value, Mapping):
            yield from (((key, name), part) for name, part in value.items())
        elif key in IN_LISTS and isinstance(value, list):
            yield from (((key, str(index)), part) for index, part in enumerate(value))
        elif key in ALONE and isinstance(value, Mapping | bool):
            yield (key,), value
