"""Grammars of schemas: what they let through fits and reads back the same, and what fits is let through."""

from __future__ import annotations

from random import Random
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.core.errors import InvalidRequest
from antiphon.engine.grammar import Grammar
from antiphon.engine.grammar import check as check_grammar
from antiphon.plan.schema import documented
from antiphon.plan.schema.formats import FORMATS
from antiphon.plan.schema.lowering import Lowered, Spacing, any_object, any_value, lower
from grammar_reference import accepts, derived
from random_schemas import COMPACT, FITTING, TEMPLATE, fitting, read, respelled, rooted, schemas, written

SPACINGS = [TEMPLATE, COMPACT]


def strictly(schema: Any, spacing: Spacing = TEMPLATE) -> Lowered:
    documented.check(schema, "schema")
    lowered = lower(schema, spacing, strict=True)
    check_grammar(Grammar(lowered.rules, lowered.root))
    return lowered


def loosely(schema: Any, spacing: Spacing = TEMPLATE) -> Lowered:
    lowered = lower(schema, spacing, strict=False)
    check_grammar(Grammar(lowered.rules, lowered.root))
    return lowered


def takes(lowered: Lowered, value: Any, spacing: Spacing = TEMPLATE) -> bool:
    return accepts(lowered.rules, lowered.root, written(value, spacing))


@given(schemas() | rooted(), st.integers(0, 10**9), st.sampled_from(SPACINGS))
@settings(max_examples=150, deadline=None)
def test_each_text_of_a_strict_grammar_fits_and_is_written_again_as_it_stood(
    schema: Any, seed: int, spacing: Spacing
) -> None:
    lowered = strictly(schema, spacing)
    validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True, offline=True)
    random = Random(seed)
    for _ in range(10):
        text = derived(lowered.rules, lowered.root, random)
        value, _ = read(text)
        assert written(value, spacing) == respelled(text)
        assert validator.is_valid(value), text


@given(st.data(), schemas() | rooted(), st.sampled_from(SPACINGS))
@settings(max_examples=150, deadline=None)
def test_each_value_that_fits_is_one_of_the_strict_grammar(data: st.DataObject, schema: Any, spacing: Spacing) -> None:
    lowered = strictly(schema, spacing)
    for _ in range(3):
        value = data.draw(fitting(schema))
        assert jsonschema_rs.is_valid(schema, value)
        assert takes(lowered, value, spacing)


@given(rooted(), st.integers(0, 10**9))
@settings(max_examples=50, deadline=None)
def test_without_strict_the_same_schema_is_the_same_grammar(schema: Any, seed: int) -> None:
    assert loosely(schema).rules == strictly(schema).rules


KEYWORDS: dict[str, Any] = {
    "type": st.sampled_from(["object", "array", "string", "number", ["object", "null"], "file", 3, []]),
    "properties": st.dictionaries(st.sampled_from("abc"), st.deferred(lambda: loose), max_size=3),
    "required": st.lists(st.sampled_from(["a", "z", 1]), max_size=2),
    "additionalProperties": st.booleans() | st.deferred(lambda: loose),
    "patternProperties": st.just({"^x-": {"type": "string"}}),
    "items": st.deferred(lambda: loose) | st.booleans() | st.lists(st.deferred(lambda: loose), max_size=2),
    "prefixItems": st.lists(st.deferred(lambda: loose), max_size=2),
    "minItems": st.sampled_from([0, 1, 3, 10**9, -1, "x"]),
    "maxItems": st.sampled_from([0, 1, 2, 5, 10**9]),
    "anyOf": st.lists(st.deferred(lambda: loose), max_size=3),
    "oneOf": st.lists(st.deferred(lambda: loose), max_size=2),
    "allOf": st.lists(st.deferred(lambda: loose), max_size=2),
    "not": st.deferred(lambda: loose),
    "if": st.deferred(lambda: loose),
    "$ref": st.sampled_from(["#", "#/properties/a", "#/anyOf/0", "#/$defs/x", "https://example.com/x", "#x"]),
    "$defs": st.fixed_dictionaries({"x": st.deferred(lambda: loose)}),
    "enum": st.lists(st.sampled_from([1, 1.5, "x", None, True, [1, {"a": []}], {"k": "v"}]), max_size=3),
    "const": st.sampled_from([{"b": [1, 2.0]}, "c"]),
    "pattern": st.sampled_from(["^a+$", "(?=x)", "(", "\\bword", "é"]),
    "format": st.sampled_from([*FORMATS, "binary", "int32"]),
    "maxLength": st.just(524_288),
    "minimum": st.just(3),
    "minProperties": st.just(1),
}
loose: st.SearchStrategy[Any] = st.recursive(
    st.just({}) | st.booleans(), lambda _: st.fixed_dictionaries({}, optional=KEYWORDS), max_leaves=8
)


@given(loose, st.integers(0, 10**9), st.sampled_from(SPACINGS))
@settings(max_examples=100, deadline=None)
def test_without_strict_any_schema_is_a_grammar_of_nothing_but_json(schema: Any, seed: int, spacing: Spacing) -> None:
    lowered = loosely(schema, spacing)
    random = Random(seed)
    for _ in range(5):
        text = derived(lowered.rules, lowered.root, random)
        value, twice = read(text)
        assert twice or written(value, spacing) == respelled(text)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("free", [any_value, any_object])
def test_what_is_free_is_any_json_in_our_spacing(free: Any, spacing: Spacing) -> None:
    lowered = free(spacing, "tool7")
    assert all(name.startswith("tool7") for name in lowered.rules)
    value = {"a": [1, -2.5, 1e-7, 3e20, 0.0, {}, [], [[None, True]]], "": 'q"\\\n\x00\x1f\x7f\u2028é😀'}
    assert takes(lowered, value, spacing)
    assert not takes(lowered, value, COMPACT if spacing == TEMPLATE else TEMPLATE)
    assert takes(lowered, [], spacing) is (free is any_value)
    random = Random(1)
    for _ in range(200):
        text = derived(lowered.rules, lowered.root, random)
        found, twice = read(text)
        assert twice or written(found, spacing) == respelled(text)


@pytest.mark.parametrize("text", ["01", "+1", ".5", "5.", "-", "00", "1e", "1e400", "1" * 19, "NaN", "0x1", ""])
def test_what_is_no_number_of_json_or_not_of_64_bits_is_none(text: str) -> None:
    lowered = strictly({"type": "number"})
    assert not accepts(lowered.rules, lowered.root, text)


@pytest.mark.parametrize("text", ["0.00", "12.57e-7", "1.50", "1.0E+05", "-0", "-0.0", "100.0", "0.000001", "9" * 18])
def test_numbers_are_taken_as_a_model_spells_them(text: str) -> None:
    lowered = strictly({"type": "number"})
    assert accepts(lowered.rules, lowered.root, text)


@pytest.mark.parametrize("text", ['"\\/"', '"\\u0041"', '"\\u000A"', '"\\u000a"', '"\x01"', "''", '"', '"\\"'])
def test_strings_have_one_spelling(text: str) -> None:
    lowered = strictly({"type": "string"})
    assert not accepts(lowered.rules, lowered.root, text)


@pytest.mark.parametrize("name", FORMATS)
def test_formats_are_what_a_validator_takes(name: str) -> None:
    schema = {"type": "string", "format": name}
    lowered, random = strictly(schema), Random(2)
    assert takes(lowered, FITTING[name])
    assert not takes(lowered, "")
    for _ in range(300):
        value, _ = read(derived(lowered.rules, lowered.root, random, 200))
        assert jsonschema_rs.is_valid(schema, value, validate_formats=True), value


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("date", ["1900-02-29", "2023-13-01", "2023-04-31", "2023-1-1", "0000-01-01"]),
        ("time", ["24:00:00Z", "10:60:00Z", "10:00:00", "10:00Z"]),
        ("date-time", ["2023-01-01", "2023-01-01 10:00:00Z", "2023-02-30T10:00:00Z"]),
        ("duration", ["P", "PT", "P1S", "PT1H1S", "P1WT1H", "1D"]),
        ("email", ["a@", "@b", "a..b@c.de", "a b@c.de", "a@-b.de"]),
        ("hostname", ["-a.b", "a-.b", "a..b", "a_b", "a.b.", "a" * 64]),
        ("ipv4", ["256.1.1.1", "1.2.3", "01.2.3.4", "1.2.3.4.5"]),
        ("ipv6", ["1:2:3:4:5:6:7:8:9", ":::", "1::2::3", "12345::", "1:2:3:4:5:6:7"]),
        ("uri", ["//example.com", "a b:c", "http://a b", "/x", "http://[::1", "x:%zz"]),
        ("uuid", ["123e4567e89b12d3a456426614174000", "g23e4567-e89b-12d3-a456-426614174000"]),
    ],
)
def test_formats_have_real_ranges(name: str, wrong: list[str]) -> None:
    lowered = strictly({"type": "string", "format": name})
    assert [text for text in wrong if takes(lowered, text)] == []


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("date", ["2000-02-29", "0001-12-31"]),
        ("uri", ["mailto:a@b.c", "urn:isbn:1", "http://[::1]:80/", "file:///etc/hosts", "https://example.com"]),
        ("ipv6", ["::", "::1", "1::", "1:2:3:4:5:6:7:8", "::ffff:1.2.3.4", "1:2:3:4:5:6:7::", "1:2:3:4:5:6:1.2.3.4"]),
        ("hostname", ["localhost", "ec2-54-12-33-44.compute-1.amazonaws.com", "www.a-rather-long-company-name.com"]),
        ("duration", ["PT5M", "P3W", "P1D", "PT1H30M", "P1Y"]),
        ("email", ["x@localhost", "o'brien@a.ie"]),
    ],
)
def test_formats_let_common_values_through(name: str, right: list[str]) -> None:
    lowered = strictly({"type": "string", "format": name})
    assert [text for text in right if not takes(lowered, text)] == []


def test_required_properties_come_first_in_the_schemas_order_and_then_optional_ones() -> None:
    properties: Any = {name: {"type": "integer"} for name in ("o1", "r1", "o2", "r2", "o3")}
    schema = {"type": "object", "properties": properties, "required": ["r2", "r1"], "additionalProperties": False}
    lowered = strictly(schema)
    for names in (["r1", "r2"], ["r1", "r2", "o1"], ["r1", "r2", "o2", "o3"], ["r1", "r2", "o1", "o2", "o3"]):
        assert takes(lowered, dict.fromkeys(names, 1))
    for names in (["r1"], ["r2", "r1"], ["r1", "r2", "o2", "o1"], ["o1", "r1", "r2"], [], ["r1", "r2", "x"]):
        assert not takes(lowered, dict.fromkeys(names, 1))


def test_any_of_the_optional_properties_may_be_absent_and_the_grammar_stays_linear() -> None:
    def grammar(count: int) -> Lowered:
        properties: Any = {f"p{number:03}": {"type": "boolean"} for number in range(count)}
        return loosely({"type": "object", "properties": properties, "additionalProperties": False})

    lowered, random = grammar(40), Random(3)
    for _ in range(50):
        chosen = {f"p{number:03}": True for number in range(40) if random.random() < 0.3}
        assert takes(lowered, chosen)
    assert takes(lowered, {})
    assert not takes(lowered, {"p001": True, "p000": True})
    assert len(grammar(80).rules) == pytest.approx(2 * len(lowered.rules), abs=4)


def test_all_of_is_merged() -> None:
    schema = {
        "type": ["object", "null"],
        "properties": {"a": {"type": ["string", "integer"]}},
        "additionalProperties": False,
        "allOf": [
            {"type": "object", "properties": {"a": {"type": ["integer", "null"]}, "b": {"enum": [1, 2, 3]}}},
            {"properties": {"b": {"enum": [3, 2.0, "x"]}}, "required": ["b"]},
        ],
    }
    lowered = strictly(schema)
    assert takes(lowered, {"b": 2})
    assert takes(lowered, {"b": 3, "a": 7})
    for wrong in (None, {}, {"a": 1}, {"b": 1}, {"b": "x"}, {"b": 2, "a": "s"}, {"b": 2, "a": None}):
        assert not takes(lowered, wrong)


def test_any_of_beside_other_keywords_narrows_each_option() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "additionalProperties": False,
        "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
    }
    lowered = strictly(schema)
    assert [takes(lowered, value) for value in ({"a": 1}, {"b": 1}, {"a": 1, "b": 2}, {})] == [True, True, True, False]


def test_an_enum_is_narrowed_by_what_stands_beside_it() -> None:
    lowered = strictly({"type": "string", "enum": ["ab", "abc", 1, None], "pattern": "^.b$"})
    assert [takes(lowered, value) for value in ("ab", "abc", 1, None)] == [True, False, False, False]


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [{"type": "string"}, {"type": "integer"}]},
        {"type": "string", "enum": [1]},
        {"const": 1, "enum": [2]},
        {
            "type": "object",
            "properties": {"a": {"type": "string", "const": 1}},
            "required": ["a"],
            "additionalProperties": False,
        },
        {"type": "array", "items": {"type": "null", "const": 1}, "minItems": 1},
        {
            "type": "object",
            "properties": {},
            "additionalProperties": False,
            "anyOf": [{"required": ["a"]}],
        },
    ],
)
def test_what_nothing_fits_is_refused(schema: Any) -> None:
    documented.check(schema, "schema")
    with pytest.raises(InvalidRequest) as refusal:
        lower(schema, TEMPLATE, strict=True, path="output_config.format.schema")
    assert refusal.value.path == "output_config.format.schema"
    loosely(schema)


def test_what_nothing_fits_is_left_out_where_it_may_be_absent() -> None:
    never = {"type": "null", "const": 1}
    schema = {
        "type": "object",
        "properties": {"a": never, "b": {"type": "array", "items": never}},
        "additionalProperties": False,
    }
    lowered = strictly(schema)
    tried: list[Any] = [{}, {"b": []}, {"a": 1}, {"b": [1]}]
    assert [takes(lowered, value) for value in tried] == [True, True, False, False]


def test_a_pattern_is_about_the_text_and_not_about_its_json() -> None:
    lowered = strictly({"type": "string", "pattern": '^["\\\\]\\n[\\x00-\\x1f]$'})
    for text in ('"\n\x00', "\\\n\t", '"\n\x1f'):
        assert takes(lowered, text)
    for text in ('"n\x00', "\\\\\n\t", '"\n ', ""):
        assert not takes(lowered, text)


def test_two_things_said_of_one_string_are_refused_if_they_were_promised() -> None:
    both = {"type": "string", "format": "uuid", "pattern": "^0"}
    with pytest.raises(InvalidRequest, match="keep one"):
        lower(both, TEMPLATE, strict=True)
    assert takes(loosely(both), FITTING["uuid"])


def test_without_strict_a_schema_may_come_back_to_itself() -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "parts": {"type": "array", "items": {"$ref": "#"}}},
        "required": ["name"],
    }
    lowered = loosely(schema)
    value: Any = {"name": "leaf"}
    for _ in range(20):
        value = {"name": "node", "parts": [value, {"name": "x"}]}
    assert takes(lowered, value)
    assert not takes(lowered, {"name": "node", "parts": [{"nam": 1}]})


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        ({"type": "object"}, [{}, {"any": [1]}], [[], 1]),
        ({"type": "object", "properties": {}}, [{"any": 1}], [1]),
        ({"type": "object", "properties": {}, "additionalProperties": False}, [{}], [{"any": 1}]),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, [{}, {"k": 1, "l": 2}], [{"k": "x"}]),
        ({"type": "object", "properties": {"a": {}}, "additionalProperties": True}, [{}, {"a": [1]}], [{"b": 1}]),
        ({"type": "object", "required": ["x"]}, [{"x": None}], [{}, {"y": 1}]),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 3}, [[1, 2], [1, 2, 3]], [[1], [1] * 4]),
        ({"type": "array", "minItems": 10**9}, [["x"] * 64], [["x"]]),
        ({"prefixItems": [{"type": "string"}, {"type": "integer"}]}, [["a", 1], ["a", 1, None]], [[1, "a"]]),
        ({"prefixItems": [{"type": "string"}], "items": False}, [["a"]], [["a", 1], [1]]),
        ({"type": "string", "minLength": 3, "maxLength": 524_288, "pattern": "(?=x)y"}, ["", "long"], [1]),
        ({"type": "integer", "minimum": 3, "multipleOf": 2}, [1], ["1", 1.5]),
        ({"enum": [{"a": [1, 2.0]}, [None]]}, [{"a": [1, 2.0]}, [None]], [{"a": []}]),
        ({"oneOf": [{"type": "string"}, {"type": "null"}]}, ["a", None], [1]),
        ({"properties": {"a": {"type": "string"}}, "not": {"required": ["a"]}}, [{"a": "x"}, {}], [{"a": 1}, 1]),
        ({"type": "object", "properties": {"a": {"$ref": "https://example.com/a"}}}, [{"any": 1}], [1]),
        (True, [1, {}], []),
        (False, [{"any": 1}], [1]),
        ([], [{"any": 1}], [1]),
        ({"type": "nonsense"}, [{"any": 1}], [1]),
    ],
)  # fmt: skip
def test_without_strict_what_cannot_be_said_is_left_out(schema: Any, right: list[Any], wrong: list[Any]) -> None:
    lowered = loosely(schema)
    assert [value for value in right if not takes(lowered, value)] == []
    assert [value for value in wrong if takes(lowered, value)] == []


def test_grammars_of_two_prefixes_share_no_rule() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}, "b": {}}}
    one, other = (lower(schema, TEMPLATE, strict=False, prefix=prefix) for prefix in ("t1", "t2"))
    assert not set(one.rules) & set(other.rules)
    check_grammar(Grammar({**one.rules, **other.rules}, one.root))
