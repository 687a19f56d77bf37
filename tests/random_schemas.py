"""Random schemas inside the documented subset, values that fit them, and how our JSON is written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec
from hypothesis import strategies as st

from antiphon.plan.schema.formats import FORMATS
from antiphon.plan.schema.lowering import Spacing

TEMPLATE = Spacing(", ", ": ")
COMPACT = Spacing(",", ":")

Schema = dict[str, Any]
Schemas = st.SearchStrategy[Schema]

#: Patterns, and texts that they fit.
PATTERNS = {
    "^[a-z]{2,4}$": ["ab", "abcd"],
    "^(red|green|\\d+)$": ["red", "07"],
    'say "[^"]*"': ['say ""', 'they say "\u00e9\n" twice'],
    "^\\\\+$": ["\\", "\\\\\\"],
    "\\.(?:txt|md)$": ["a.txt", "\t.md"],
    "^\\w+(?:-\\w+)*": ["a-b-c d", "_"],
    "^(a?b?)*$": ["", "abba"],
    "^[^\\s]+@\\S$": ["x@y"],
    "": ["", "anything"],
}
FITTING = {
    "date-time": "2026-11-22T21:58:46.5+05:30",
    "time": "23:59:59Z",
    "date": "2024-02-29",
    "duration": "P1Y2M3DT4H5M6S",
    "email": "a.b+c@example.co.uk",
    "hostname": "bucket.s3.eu-west-1.amazonaws.com",
    "uri": "https://u@example.com:8080/a//b;c?x=%20#y",
    "ipv4": "255.0.10.99",
    "ipv6": "2001:db8::8a2e:370:7334",
    "uuid": "123E4567-e89b-12d3-a456-426614174000",
}
assert tuple(FITTING) == FORMATS

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
scalars = texts | st.integers(-(10**17), 10**18) | st.booleans() | st.none()
names = st.sampled_from(["a", "b", "c", 'q"q', "é ", "type", "properties", "$ref", "title"])


def schemas(depth: int = 3) -> Schemas:
    """Schemas that `documented.check` takes and that something fits."""
    leaves = (
        st.sampled_from([{"type": kind} for kind in ("string", "integer", "number", "boolean", "null")])
        | st.sampled_from(FORMATS).map(lambda name: {"type": "string", "format": name})
        | st.sampled_from(sorted(PATTERNS)).map(lambda text: {"type": "string", "pattern": text})
        | st.lists(scalars, min_size=1, max_size=4).map(lambda values: {"enum": values})
        | scalars.map(lambda value: {"const": value})
        | st.sampled_from([{"type": ["string", "null"]}, {"type": ["integer", "boolean", "number"]}])
    )
    if depth == 0:
        return leaves
    inner = schemas(depth - 1)
    arrays = st.fixed_dictionaries(
        {"type": st.just("array"), "items": inner}, optional={"minItems": st.sampled_from([0, 1])}
    )
    choices = st.lists(inner, min_size=1, max_size=3).map(lambda options: {"anyOf": options})
    return leaves | arrays | choices | objects(inner) | objects(inner).map(_split)


def rooted(depth: int = 3) -> Schemas:
    """With definitions, and references to them."""
    return st.tuples(schemas(depth - 1), schemas(depth - 1), objects(schemas(depth - 1))).map(_referring)


@st.composite
def objects(draw: st.DrawFn, inner: Schemas) -> Schema:
    properties = draw(st.dictionaries(names, inner, max_size=5))
    required = draw(st.permutations([name for name in properties if draw(st.booleans())]))
    return {
        "description": "an object",
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _split(schema: Schema) -> Schema:
    """The same said in parts."""
    required = schema["required"]
    parts: list[Schema] = [{"required": required[:1]}, {"required": required[1:], "type": ["object", "string"]}]
    for name, part in schema["properties"].items():
        if "type" in part and part["type"] != "object":  # an object would have to be closed once more
            parts.append({"properties": {name: {"type": part["type"]}}})
    return {**schema, "required": [], "allOf": parts}


def _referring(parts: tuple[Schema, Schema, Schema]) -> Schema:
    one, other, root = parts
    links = {"one": {"$ref": "#/$defs/one"}, "list": {"type": "array", "items": {"$ref": "#/definitions/ot~1h~0er"}}}
    return {
        **root,
        "properties": {**root["properties"], **links},
        "required": [*root["required"], "list"],
        "$defs": {"one": {"anyOf": [{"type": "null"}, {"$ref": "#/definitions/ot~1h~0er"}, one]}},
        "definitions": {"ot/h~er": other},
    }


def fitting(schema: Schema, root: Schema | None = None) -> st.SearchStrategy[Any]:
    """Values of a schema made here, with their members in the order in which they are written."""
    root = schema if root is None else root
    if "$ref" in schema:
        target: Any = root
        for step in schema["$ref"].split("/")[1:]:
            target = target[step.replace("~1", "/").replace("~0", "~")]
        return fitting(target, root)
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "anyOf" in schema:
        return st.one_of([fitting(option, root) for option in schema["anyOf"]])
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return st.one_of([_of_kind(kind, schema, root) for kind in kinds])


def _of_kind(kind: str, schema: Schema, root: Schema) -> st.SearchStrategy[Any]:
    match kind:
        case "object":
            return _members(schema, root)
        case "array":
            return st.lists(fitting(schema["items"], root), min_size=schema.get("minItems", 0), max_size=3)
        case "string" if "format" in schema:
            return st.just(FITTING[schema["format"]])
        case "string" if "pattern" in schema:
            return st.sampled_from(PATTERNS[schema["pattern"]])
        case "string":
            return texts
        case "integer":
            return st.integers(-(10**18) + 1, 10**19 - 1)
        case "number":
            return st.integers(-(10**17), 10**17) | st.floats(-1e6, 1e6).map(lambda number: round(number, 4) or 0.0)
    return st.booleans() if kind == "boolean" else st.none()


@st.composite
def _members(draw: st.DrawFn, schema: Schema, root: Schema) -> Any:
    required = {*schema["required"], *(name for part in schema.get("allOf", []) for name in part.get("required", []))}
    properties = schema["properties"]
    may = [name for name in properties if name not in required and draw(st.booleans())]
    return {name: draw(fitting(properties[name], root)) for name in [*(n for n in properties if n in required), *may]}


def written(value: Any, spacing: Spacing = TEMPLATE) -> str:
    """As our JSON is written (`dialect.json_text`)."""
    encoded = msgspec.json.encode(value)
    return (encoded if spacing == COMPACT else msgspec.json.format(encoded, indent=0)).decode()


def read(text: str) -> tuple[Any, bool]:
    """The value of a JSON text, and whether any of its objects names a member twice."""
    twice = False

    def members(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
        nonlocal twice
        twice = twice or len(dict(pairs)) < len(pairs)
        return dict(pairs)

    return json.loads(text, object_pairs_hook=members), twice


def respelled(text: str) -> str:
    """JSON with each of its numbers as our writer writes it; everything else as it stands."""

    def again(found: re.Match[str]) -> str:
        return found[0] if found[0].startswith('"') else msgspec.json.encode(json.loads(found[0])).decode()

    return re.sub(r'"(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*', again, text)
