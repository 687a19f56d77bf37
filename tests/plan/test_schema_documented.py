"""The documented subset: what is taken, what is refused and where, and the limits (contract messages-and-inference 6)."""

from __future__ import annotations

from typing import Any

import pytest
from anthropic import transform_schema
from hypothesis import given, settings
from pydantic import BaseModel, Field

from antiphon.core.errors import InvalidRequest
from antiphon.plan.schema.documented import MAX_ENUM, Demand, check, check_limits
from antiphon.plan.schema.lowering import lower
from antiphon.plan.schema.structure import MAX_DEPTH, MAX_VALUES
from random_schemas import TEMPLATE, rooted, schemas

ROOT = "output_config.format.schema"


def an_object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": sorted(properties),
        "additionalProperties": False,
    }


TAKEN: list[Any] = [
    *({"type": kind} for kind in ("string", "integer", "number", "boolean", "null")),
    {"type": "array"},
    {"type": "array", "items": {"type": "string"}},
    {"type": "array", "items": {"type": "string"}, "minItems": 0},
    {"type": "array", "items": {"type": "string"}, "minItems": 1},
    {"type": ["string", "null"]},
    {"enum": ["a", 1, 1.5, True, None]},
    {"const": "a"},
    {"anyOf": [{"type": "string"}, {"type": "null"}]},
    {"allOf": [{"type": "string"}, {"enum": ["a", 1]}]},
    {**an_object(), "additionalProperties": False},
    {"$ref": "#/$defs/x", "$defs": {"x": {"type": "string"}}},
    {"$ref": "#/definitions/x", "definitions": {"x": {"type": "string"}}},
    an_object(a={"$ref": "#/$defs/x"}, b={"$ref": "#/$defs/x"}) | {"$defs": {"x": {"type": "string"}}},
    *(
        {"type": "string", "format": name}
        for name in (
            "date-time",
            "time",
            "date",
            "duration",
            "email",
            "hostname",
            "uri",
            "ipv4",
            "ipv6",
            "uuid",
        )
    ),
    *(
        {"type": "string", "pattern": pattern}
        for pattern in ("^a$", "a*b+c?", "a{2}b{1,3}", "[a-z][^0-9]", ".\\d\\w\\s", "(a|b)(?:c)", "")
    ),
    {"type": "string", "default": "x", "title": "T", "description": "D", "$comment": "c", "examples": ["x"]},
    {"type": "string", "deprecated": True, "readOnly": True, "writeOnly": False, "x-mine": {"maximum": 1}},
    {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "https://example.com/s", "type": "string"},
    {"type": "integer", "format": "int32"},  # a format of numbers is no string format: without effect
]


@pytest.mark.parametrize("schema", TAKEN, ids=str)
def test_the_documented_subset_is_taken(schema: Any) -> None:
    check(schema, ROOT)
    check(an_object(p=schema) if "$ref" not in str(schema) else schema, ROOT)
    assert lower(schema, TEMPLATE, strict=True).rules


OBJECT = "For 'object' type, "
REFUSED: list[tuple[Any, str, str]] = [
    ({"enum": ["a", {"b": 1}]}, ".enum.1", "'enum' values should be strings, numbers, booleans or null"),
    ({"enum": []}, ".enum", "at least one value"),
    ({"enum": "a"}, ".enum", "should be a list"),
    ({"const": [1]}, ".const", "'const' should be a string"),
    ({"$ref": "https://example.com/s.json"}, ".$ref", "External `$ref` is not supported"),
    ({"$ref": "other.json#/a"}, ".$ref", "External `$ref` is not supported"),
    ({"$ref": "#name"}, ".$ref", "`$ref` to an anchor is not supported"),
    ({"$ref": "#/$defs/none"}, ".$ref", "`$ref` points to nothing"),
    ({"$ref": 1}, ".$ref", "should be a string"),
    ({"type": "integer", "minimum": 1}, ".minimum", "For 'integer' type, property 'minimum' is not supported"),
    ({"type": "number", "maximum": 1}, ".maximum", "For 'number' type, property 'maximum' is not supported"),
    ({"type": "number", "exclusiveMinimum": 1}, ".exclusiveMinimum", "not supported"),
    ({"type": "number", "exclusiveMaximum": 1}, ".exclusiveMaximum", "not supported"),
    ({"type": "integer", "multipleOf": 2}, ".multipleOf", "For 'integer' type, property 'multipleOf'"),
    ({"type": "string", "minLength": 1}, ".minLength", "For 'string' type, property 'minLength' is not supported"),
    ({"type": "string", "maxLength": 1}, ".maxLength", "For 'string' type, property 'maxLength' is not supported"),
    ({"type": "array", "minItems": 2}, ".minItems", "For 'array' type, 'minItems' values other than 0 or 1"),
    ({"type": "array", "maxItems": 2}, ".maxItems", "For 'array' type, property 'maxItems' is not supported"),
    ({"type": "array", "uniqueItems": True}, ".uniqueItems", "not supported"),
    ({"type": "array", "contains": {}}, ".contains", "not supported"),
    ({"type": "array", "prefixItems": []}, ".prefixItems", "not supported"),
    ({"type": "array", "items": [{}]}, ".items", "should be an object"),
    ({"type": "array", "items": True}, ".items", "should be an object"),
    ({"type": "object"}, "", f"{OBJECT}'additionalProperties' must be explicitly set to false"),
    ({"properties": {}}, "", f"{OBJECT}'additionalProperties' must be explicitly set to false"),
    ({"type": ["object", "null"]}, "", f"{OBJECT}'additionalProperties' must be explicitly set to false"),
    (
        {"type": "object", "additionalProperties": True},
        "",
        f"{OBJECT}'additionalProperties: true' is not supported. Please set 'additionalProperties' to false",
    ),
    ({"type": "object", "additionalProperties": {}}, "", f"{OBJECT}'additionalProperties: object' is not supported"),
    ({**an_object(), "patternProperties": {}}, ".patternProperties", f"{OBJECT}property 'patternProperties'"),
    ({**an_object(), "minProperties": 1}, ".minProperties", f"{OBJECT}property 'minProperties'"),
    ({**an_object(), "propertyNames": {}}, ".propertyNames", "not supported"),
    ({**an_object(), "dependentRequired": {}}, ".dependentRequired", "not supported"),
    ({**an_object(), "unevaluatedProperties": False}, ".unevaluatedProperties", "not supported"),
    ({**an_object(), "required": ["a"]}, ".required.0", "'a' is not among 'properties'"),
    ({**an_object(), "required": [1]}, ".required.0", "should be a valid string"),
    ({**an_object(), "required": "a"}, ".required", "should be a valid list"),
    ({**an_object(), "properties": []}, ".properties", "should be an object"),
    ({"oneOf": [{"type": "string"}]}, ".oneOf", "use 'anyOf' instead"),
    ({"not": {}}, ".not", "'not' is not supported"),
    ({"if": {}, "then": {}}, ".if", "'if' is not supported"),
    ({"$dynamicRef": "#x"}, ".$dynamicRef", "'$dynamicRef' is not supported"),
    ({"anyOf": []}, ".anyOf", "at least one schema"),
    ({"allOf": {}}, ".allOf", "at least one schema"),
    (
        {"allOf": [{"$ref": "#/$defs/x"}], "$defs": {"x": {"type": "string"}}},
        ".allOf.0.$ref",
        "'$ref' in 'allOf' is not supported",
    ),
    ({"type": "text"}, ".type", "Schema type 'text' is not supported; use object, array"),
    ({"type": []}, ".type", "should be a type"),
    ({"type": "string", "format": "iri"}, ".format", "String format 'iri' is not supported; use date-time, time"),
    ({"type": "string", "pattern": "(a)\\1"}, ".pattern", "Unsupported regex feature in pattern field: backreferences"),
    ({"type": "string", "pattern": "(?=a)"}, ".pattern", "Unsupported regex feature in pattern field: lookaround"),
    ({"type": "string", "pattern": "(?<!a)b"}, ".pattern", "Unsupported regex feature in pattern field: lookaround"),
    ({"type": "string", "pattern": "\\bx"}, ".pattern", "Unsupported regex feature in pattern field: word boundaries"),
    ({"type": "string", "pattern": "a{1001}"}, ".pattern", "a count above 1000"),
    ({"type": "string", "pattern": 1}, ".pattern", "should be a valid string"),
    (True, "", "should be an object"),
    ([], "", "should be an object"),
]


@pytest.mark.parametrize(("schema", "at", "told"), REFUSED, ids=str)
def test_what_lies_outside_is_refused_at_its_place(schema: Any, at: str, told: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        check(schema, ROOT)
    assert refusal.value.message.startswith(f"{ROOT}{at}: ")
    assert told in refusal.value.message


@pytest.mark.parametrize(("schema", "at"), [(schema, at) for schema, at, _ in REFUSED], ids=str)
def test_and_so_it_is_deep_inside(schema: Any, at: str) -> None:
    deep = an_object(a={"type": "array", "items": {"anyOf": [{"type": "null"}, schema]}})
    with pytest.raises(InvalidRequest) as refusal:
        check(deep, ROOT)
    assert refusal.value.message.startswith(f"{ROOT}.properties.a.items.anyOf.1{at}: ")


@pytest.mark.parametrize(
    ("schema", "at"),
    [
        ({"$ref": "#"}, "$ref"),
        (an_object(next={"$ref": "#"}), "properties.next.$ref"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "$defs.a.$ref"),
        (
            {
                "$ref": "#/$defs/a",
                "$defs": {"a": an_object(b={"$ref": "#/$defs/b"}), "b": an_object(a={"$ref": "#/$defs/a"})},
            },
            "$defs.b.properties.a.$ref",
        ),
    ],
)
def test_recursive_schemas_are_refused(schema: Any, at: str) -> None:
    with pytest.raises(InvalidRequest, match=r"Circular \$ref detected") as refusal:
        check(schema, ROOT)
    assert refusal.value.path == f"{ROOT}.{at}"


def test_what_nothing_refers_to_is_not_looked_at() -> None:
    check({"type": "string", "$defs": {"unused": {"type": "integer", "minimum": 1}}}, ROOT)


def test_an_object_made_of_parts_is_closed_once() -> None:
    parts = [{"properties": {"a": {"type": "string"}}}, {"properties": {"b": {"type": "null"}}}]
    check({"type": "object", "allOf": parts, "additionalProperties": False}, ROOT)
    check({"type": "object", "allOf": [*parts, {"additionalProperties": False}]}, ROOT)
    with pytest.raises(InvalidRequest, match="must be explicitly set to false"):
        check({"type": "object", "allOf": parts}, ROOT)


@given(schemas() | rooted())
@settings(max_examples=100, deadline=None)
def test_random_schemas_of_the_subset_are_taken(schema: Any) -> None:
    check(schema, ROOT)


def test_what_the_official_sdk_sends_is_taken() -> None:
    class Part(BaseModel):
        name: str = Field(pattern="^a+$", max_length=10)
        price: float | None = Field(default=None, ge=0)

    class Order(BaseModel):
        id: int = Field(ge=1)
        parts: list[Part] = Field(min_length=1, max_length=9)
        first: Part
        tags: list[str] = []
        other: Part | str | None = None

    demand = check(transform_schema(Order), ROOT)
    assert demand == Demand(strict_tools=0, optional=3, unions=2)
    assert lower(transform_schema(Order), TEMPLATE, strict=True).rules


STRING = {"type": "string"}
NULLABLE = {"type": ["string", "null"]}


@pytest.mark.parametrize(
    ("schema", "optional", "unions"),
    [
        (an_object(a=STRING), 0, 0),
        ({**an_object(a=STRING, b=STRING), "required": ["b"]}, 1, 0),
        (an_object(a={**an_object(b=STRING), "required": []}), 1, 0),
        (an_object(a=NULLABLE, b={"anyOf": [STRING, {"type": "null"}]}, c=STRING), 0, 2),
        (an_object(a={"type": "array", "items": NULLABLE}), 0, 1),
        (an_object(a={"anyOf": [NULLABLE, {"anyOf": [STRING, {"type": "null"}]}]}), 0, 1),
        ({"anyOf": [an_object(a=NULLABLE), {"type": "null"}]}, 0, 1),
        ({**an_object(a=STRING), "required": [], "allOf": [{"required": ["a"]}]}, 0, 0),
        (an_object(a={"$ref": "#/$defs/x"}, b={"$ref": "#/$defs/x"}) | {"$defs": {"x": NULLABLE}}, 0, 1),
    ],
    ids=str,
)
def test_optional_and_union_parameters_are_counted(schema: Any, optional: int, unions: int) -> None:
    assert check(schema, ROOT, tool=True) == Demand(1, optional, unions)
    assert check(schema, ROOT) == Demand(0, optional, unions)


@pytest.mark.parametrize(
    ("each", "limit", "told"),
    [
        (Demand(strict_tools=1), 20, r"^tools: Too many strict tools \(21\).*limit: 20"),
        (Demand(optional=1), 24, r"Schemas contains too many optional parameters \(25\).*limit: 24"),
        (Demand(unions=1), 16, r"Schemas contains too many parameters with union types \(17\).*limit: 16"),
    ],
)
def test_limits_hold_for_all_schemas_of_a_request_together(each: Demand, limit: int, told: str) -> None:
    check_limits([each] * limit)
    check_limits([])
    with pytest.raises(InvalidRequest, match=told):
        check_limits([each] * (limit + 1))


def nested(levels: int) -> Any:
    schema: Any = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


def test_bounds_on_depth_values_and_enums() -> None:
    check(nested(MAX_DEPTH - 3), ROOT)
    check({"enum": list(range(MAX_ENUM))}, ROOT)
    check({"enum": ["x" * 1000] * 50}, ROOT)
    for schema in (
        nested(MAX_DEPTH + 1),
        {"enum": list(range(MAX_ENUM + 1))},
        {"enum": list(range(MAX_VALUES + 1))},
        {"enum": ["x" * 10_000] * 50},
        {"type": "string", "pattern": "a" * 5_000},
        {"anyOf": [{"type": "string", "pattern": "[a-z]" * 390} for _ in range(30)]},
    ):
        with pytest.raises(InvalidRequest, match=r"Schema is too complex for compilation"):
            check(schema, ROOT)
    check({"type": "string", "description": "x" * 10**6, "title": "y" * 10**6, "default": [[]] * 10**5}, ROOT)
