"""The subset of JSON Schema that strict tools and structured outputs take (contract messages-and-inference 6).

Only what can be reached from the top is looked at. What has no effect on values is let pass, and so are keywords that
nobody knows; what would have an effect and cannot be promised is refused, at its place and in the API's words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from antiphon.core.errors import InvalidRequest
from antiphon.plan.schema.formats import FORMATS
from antiphon.plan.schema.merging import TYPES
from antiphon.plan.schema.regex import pattern
from antiphon.plan.schema.structure import Document, Unlowerable, structure

MAX_STRICT_TOOLS = 20
MAX_OPTIONAL = 24
MAX_UNIONS = 16
#: All entries of one `enum`.
MAX_ENUM = 5_000
#: Characters of all patterns of a schema.
MAX_PATTERNS = 40_000
#: Schemas in each other, references followed.
_MAX_NESTED = 64

#: Keywords that the API refuses, by the type that they are about; what would do instead where there is something.
_REFUSED = {
    "integer": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "string": ("minLength", "maxLength"),
    "array": (
        "maxItems",
        "uniqueItems",
        "contains",
        "minContains",
        "maxContains",
        "prefixItems",
        "additionalItems",
        "unevaluatedItems",
    ),
    "object": (
        "patternProperties",
        "propertyNames",
        "minProperties",
        "maxProperties",
        "dependentRequired",
        "dependentSchemas",
        "dependencies",
        "unevaluatedProperties",
    ),
}
_TYPE_OF = {keyword: kind for kind, keywords in _REFUSED.items() for keyword in keywords}
_NEVER = {
    "oneOf": "use 'anyOf' instead",
    "not": "leave it out, and check the value when it arrives",
    "if": "use 'anyOf' with a schema for each case",
    "then": "use 'anyOf' with a schema for each case",
    "else": "use 'anyOf' with a schema for each case",
    "$dynamicRef": "use '$ref' to a schema in '$defs'",
    "$recursiveRef": "use '$ref' to a schema in '$defs'",
}
_SCALARS = (str, int, float, bool, type(None))


class Demand(msgspec.Struct, frozen=True):
    """What one schema takes of the limits that hold for a whole request."""

    strict_tools: int = 0
    optional: int = 0
    unions: int = 0


def check(schema: Any, path: str, *, tool: bool = False) -> Demand:
    """Check one schema; `path` is where it stands in the request, `tool` whether it is a strict tool's.

    Raises:
        InvalidRequest: it is outside of the subset, or too large; with the place.
    """
    try:
        kept = structure(schema)
    except Unlowerable as error:
        raise InvalidRequest(str(error), path=path) from None
    checking = _Checking(kept, path)
    checking.schema(kept, (), _Around())
    return Demand(int(tool), checking.optional, checking.unions)


def check_limits(demands: Iterable[Demand]) -> None:
    """Check all strict tools and the output format of a request together.

    Raises:
        InvalidRequest: they are over a limit.
    """
    listed = list(demands)
    tools = sum(demand.strict_tools for demand in listed)
    optional = sum(demand.optional for demand in listed)
    unions = sum(demand.unions for demand in listed)
    if tools > MAX_STRICT_TOOLS:
        raise InvalidRequest(
            f"Too many strict tools ({tools}). Make fewer tools strict (limit: {MAX_STRICT_TOOLS}).", path="tools"
        )
    if optional > MAX_OPTIONAL:
        raise InvalidRequest(
            f"Schemas contains too many optional parameters ({optional}), which would make grammar compilation "
            f"inefficient. Reduce the number of optional parameters in your tool schemas (limit: {MAX_OPTIONAL})."
        )
    if unions > MAX_UNIONS:
        raise InvalidRequest(
            f"Schemas contains too many parameters with union types ({unions}), which would make grammar compilation "
            f"inefficient. Reduce the number of parameters with 'anyOf' or a list of types (limit: {MAX_UNIONS})."
        )


class _Around(msgspec.Struct, frozen=True):
    """What holds around a schema."""

    #: Part of another schema by `allOf` or `anyOf`, which says itself that no other properties may be.
    closed: bool = False
    part: bool = False
    #: What the schemas it is a part of require.
    required: frozenset[str] = frozenset()
    #: Below a parameter that counts as a union already.
    in_union: bool = True


class _Checking:
    def __init__(self, root: Any, path: str) -> None:
        self.optional = 0
        self.unions = 0
        self._document = Document(root)
        self._path = path
        self._nested = 0
        self._patterns = 0
        #: References that are being followed (True), and that have been.
        self._followed: dict[tuple[str, ...], bool] = {}

    def schema(self, schema: Any, at: tuple[str, ...], around: _Around) -> None:
        """Check the schema at the end of a way, and all in it."""
        if not isinstance(schema, Mapping):
            raise self._wrong(at, "Input should be an object: a JSON Schema")
        self._nested += 1
        if self._nested > _MAX_NESTED:
            raise self._wrong(at, f"Schema is too complex for compilation: nested over {_MAX_NESTED} levels deep")
        kinds = self._types(schema, at)
        self._refused(schema, kinds, at)
        self._values(schema, at)
        self._string(schema, kinds, at)
        if not around.in_union and ("anyOf" in schema or len(kinds) > 1):
            self.unions += 1
            around = msgspec.structs.replace(around, in_union=True)
        self._array(schema, at, around)
        self._object(schema, kinds, at, around)
        self._combined(schema, at, around)
        if "$ref" in schema:
            self._reference(schema["$ref"], at, around)
        self._nested -= 1

    def _types(self, schema: Mapping[str, Any], at: tuple[str, ...]) -> frozenset[str]:
        if "type" not in schema:
            return frozenset()
        named = schema["type"]
        listed = named if isinstance(named, list) else [named]
        if not listed or len(listed) > len(TYPES):
            raise self._wrong((*at, "type"), "Input should be a type, or a list of types")
        for kind in listed:
            if kind not in TYPES:
                raise self._wrong((*at, "type"), f"Schema type {_shown(kind)} is not supported; use {_listed(TYPES)}")
        return frozenset(listed)

    def _refused(self, schema: Mapping[str, Any], kinds: frozenset[str], at: tuple[str, ...]) -> None:
        for keyword in schema:
            if keyword in _NEVER:
                raise self._wrong((*at, keyword), f"'{keyword}' is not supported; {_NEVER[keyword]}")
            kind = _TYPE_OF.get(keyword)
            if kind is not None:
                named = "number" if kind == "integer" and "integer" not in kinds else kind
                raise self._wrong(
                    (*at, keyword),
                    f"For '{named}' type, property '{keyword}' is not supported; say it in the description instead",
                )

    def _values(self, schema: Mapping[str, Any], at: tuple[str, ...]) -> None:
        if "const" in schema and not isinstance(schema["const"], _SCALARS):
            raise self._wrong((*at, "const"), "'const' should be a string, a number, a boolean or null")
        if "enum" not in schema:
            return
        values = schema["enum"]
        if not isinstance(values, list) or not values:
            raise self._wrong((*at, "enum"), "'enum' should be a list of at least one value")
        if len(values) > MAX_ENUM:
            raise self._wrong((*at, "enum"), f"Schema is too complex for compilation: over {MAX_ENUM} values in 'enum'")
        for index, value in enumerate(values):
            if not isinstance(value, _SCALARS):
                raise self._wrong(
                    (*at, "enum", str(index)), "'enum' values should be strings, numbers, booleans or null"
                )

    def _string(self, schema: Mapping[str, Any], kinds: frozenset[str], at: tuple[str, ...]) -> None:
        about = not kinds or "string" in kinds
        if about and "format" in schema and schema["format"] not in FORMATS:
            told = f"String format {_shown(schema['format'])} is not supported; use {_listed(FORMATS)}"
            raise self._wrong((*at, "format"), told)
        if about and "pattern" in schema:
            if not isinstance(schema["pattern"], str):
                raise self._wrong((*at, "pattern"), "Input should be a valid string")
            self._patterns += len(schema["pattern"])
            if self._patterns > MAX_PATTERNS:
                raise self._wrong((*at, "pattern"), "Schema is too complex for compilation: too many long patterns")
            try:
                pattern(schema["pattern"])
            except Unlowerable as error:
                raise self._wrong((*at, "pattern"), str(error)) from None

    def _array(self, schema: Mapping[str, Any], at: tuple[str, ...], around: _Around) -> None:
        if "minItems" in schema and (isinstance(schema["minItems"], bool) or schema["minItems"] not in (0, 1)):
            raise self._wrong(
                (*at, "minItems"), "For 'array' type, 'minItems' values other than 0 or 1 are not supported"
            )
        if "items" in schema:
            self.schema(schema["items"], (*at, "items"), _Around(in_union=around.in_union))

    def _object(self, schema: Mapping[str, Any], kinds: frozenset[str], at: tuple[str, ...], around: _Around) -> None:
        closed = around.closed or any(part.get("additionalProperties") is False for part in _same_value(schema))
        if "additionalProperties" in schema:
            if schema["additionalProperties"] is not False:
                shown = "true" if schema["additionalProperties"] is True else "object"
                told = f"For 'object' type, 'additionalProperties: {shown}' is not supported. "
                raise self._wrong(at, f"{told}Please set 'additionalProperties' to false")
        elif not closed and ("object" in kinds or (not kinds and not around.part and "properties" in schema)):
            raise self._wrong(at, "For 'object' type, 'additionalProperties' must be explicitly set to false")
        properties = schema.get("properties", {})
        if not isinstance(properties, Mapping):
            raise self._wrong((*at, "properties"), "Input should be an object")
        required = self._required(schema, properties, at, around)
        for name, part in properties.items():
            self.optional += name not in required
            self.schema(part, (*at, "properties", name), _Around(in_union=False))

    def _required(
        self, schema: Mapping[str, Any], properties: Mapping[str, Any], at: tuple[str, ...], around: _Around
    ) -> frozenset[str]:
        names = schema.get("required", [])
        if not isinstance(names, list):
            raise self._wrong((*at, "required"), "Input should be a valid list")
        alone = not around.part and not any(keyword in schema for keyword in ("allOf", "anyOf", "$ref"))
        for index, name in enumerate(names):
            if not isinstance(name, str):
                raise self._wrong((*at, "required", str(index)), "Input should be a valid string")
            if alone and name not in properties and "additionalProperties" in schema:
                raise self._wrong((*at, "required", str(index)), f"{_shown(name)} is not among 'properties'")
        beside = (name for part in _same_value(schema) for name in _strings(part.get("required")))
        return around.required | frozenset(names) | frozenset(beside)

    def _combined(self, schema: Mapping[str, Any], at: tuple[str, ...], around: _Around) -> None:
        same = list(_same_value(schema))
        inside = _Around(
            closed=around.closed or any(part.get("additionalProperties") is False for part in same),
            part=around.part or any(key not in ("anyOf", "allOf", "$defs", "definitions") for key in schema),
            required=around.required.union(*(_strings(part.get("required")) for part in same)),
            in_union=around.in_union,
        )
        for keyword in ("allOf", "anyOf"):
            if keyword not in schema:
                continue
            parts = schema[keyword]
            if not isinstance(parts, list) or not parts:
                raise self._wrong((*at, keyword), f"'{keyword}' should be a list of at least one schema")
            for index, part in enumerate(parts):
                where = (*at, keyword, str(index))
                if keyword == "allOf" and isinstance(part, Mapping) and "$ref" in part:
                    raise self._wrong((*where, "$ref"), "'$ref' in 'allOf' is not supported; put the schema there")
                whole = inside if keyword == "anyOf" else msgspec.structs.replace(inside, part=True)
                self.schema(part, where, whole)

    def _reference(self, reference: object, at: tuple[str, ...], around: _Around) -> None:
        try:
            steps = self._document.steps(reference)
            target = self._document.find(steps)
        except Unlowerable as error:
            raise self._wrong((*at, "$ref"), str(error)) from None
        if at[: len(steps)] == steps or self._followed.get(steps):
            raise self._wrong((*at, "$ref"), "Circular $ref detected. Recursive schemas are not supported")
        if steps in self._followed:
            return
        self._followed[steps] = True
        self.schema(target, steps, around)
        self._followed[steps] = False

    def _wrong(self, at: tuple[str, ...], told: str) -> InvalidRequest:
        shown = ".".join(step[:80] for step in at)
        return InvalidRequest(told, path=f"{self._path}.{shown}" if shown else self._path)


def _same_value(schema: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """The schema and its `allOf`: what holds at once."""
    parts = schema.get("allOf", [])
    return [schema, *(part for part in parts if isinstance(part, Mapping))] if isinstance(parts, list) else [schema]


def _strings(names: object) -> frozenset[str]:
    return frozenset(name for name in names if isinstance(name, str)) if isinstance(names, list) else frozenset()


def _shown(value: object) -> str:
    return f"'{value[:60]}'" if isinstance(value, str) else "of this kind"


def _listed(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
