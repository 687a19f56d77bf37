"""Examples of a tool's input against its schema (contract messages-and-inference 5.1)."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

from antiphon.core.errors import InvalidRequest
from antiphon.plan.schema.examples import check_examples

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "minLength": 2}, "days": {"type": "array", "items": {"type": "integer"}}},
    "required": ["city"],
}
PATH = "tools.4.custom"


def refused(schema: Any, *examples: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refusal:
        check_examples(schema, examples, PATH)
    return refusal.value


def test_examples_that_fit_pass() -> None:
    check_examples(SCHEMA, [{"city": "Rome"}, {"city": "Oslo", "days": [1], "more": None}], PATH)
    check_examples(SCHEMA, [], PATH)
    check_examples(SCHEMA, None, PATH)
    check_examples({"$ref": "http://127.0.0.1:9/"}, None, PATH)  # nothing to check, nothing looked at


@pytest.mark.parametrize(
    ("examples", "at", "told"),
    [
        ([{"city": "Rome"}, {}], 1, "`required`"),
        ([{"city": 1}, {}], 0, "at `city`: `type`"),
        ([{"city": "R"}], 0, "at `city`: `minLength`"),
        ([{"city": "Rome", "days": [1, 2, "x"]}], 0, "at `days.2`: `type`"),
        (["Rome"], 0, "`type`"),
    ],
)
def test_the_first_that_does_not_fit_is_named(examples: list[Any], at: int, told: str) -> None:
    refusal = refused(SCHEMA, *examples)
    assert refusal.path == f"{PATH}.input_examples.{at}"
    assert told in refusal.message


def test_a_refusal_repeats_no_value() -> None:
    assert "secret" not in refused(SCHEMA, {"city": {"secret": "secret"}}).message


@pytest.mark.parametrize("schema", [{"type": "nonsense"}, {"properties": 1}, {"$ref": "#/$defs/x"}, {"required": "a"}])
def test_what_is_no_schema_is_refused_itself(schema: Any) -> None:
    assert refused(schema, {}).path == f"{PATH}.input_schema"


def test_nothing_is_fetched() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        called: list[bool] = []

        def wait() -> None:
            server.settimeout(20)
            try:
                server.accept()[0].close()
                called.append(True)
            except OSError:
                pass

        waiting = threading.Thread(target=wait, daemon=True)
        waiting.start()
        base = f"http://127.0.0.1:{server.getsockname()[1]}"
        outside: list[Any] = [
            {"$ref": f"{base}/s.json"},
            {"$ref": "file:///etc/hostname"},
            {"$schema": f"{base}/meta"},
            {"$id": f"{base}/root", "properties": {"a": {"$ref": "other.json"}}},
            {"allOf": [{"$dynamicRef": f"{base}/s.json#x"}]},
        ]
        for schema in outside:
            try:
                check_examples(schema, [{"a": 1}], PATH)
            except InvalidRequest as refusal:
                assert refusal.path == f"{PATH}.input_schema"
        with socket.create_connection(server.getsockname()):
            waiting.join()  # the first to call is ourselves
        assert called == [True]


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|a)*$", "(.*a){20}", "^(?=(a+)+$)"])
def test_patterns_run_in_linear_time_or_not_at_all(pattern: str) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": pattern}}}
    try:
        check_examples(schema, [{"a": "a" * 50_000 + "!"}], PATH)
    except InvalidRequest as refusal:
        assert refusal.path in (f"{PATH}.input_examples.0", f"{PATH}.input_schema")


def test_a_pattern_that_cannot_be_had_in_linear_time_does_not_refuse_the_rest() -> None:
    schema = {"properties": {"a": {"pattern": "^(?!x)", "type": "string"}}, "patternProperties": {"^(?!a)": {}}}
    check_examples(schema, [{"a": "x", "b": 1}], PATH)
    assert refused(schema, {"a": 1}).path == f"{PATH}.input_examples.0"


def test_of_too_many_patterns_none_is_checked() -> None:
    def many(count: int) -> Any:
        return {"properties": {f"p{number}": {"type": "string", "pattern": "^a$"} for number in range(count)}}

    assert refused(many(100), {"p99": "b"}).path == f"{PATH}.input_examples.0"
    check_examples(many(101), [{"p99": "b"}], PATH)
    assert refused(many(101), {"p99": 1}).path == f"{PATH}.input_examples.0"


def test_recursive_schemas_are_followed_as_far_as_the_example_goes() -> None:
    schema = {"type": "object", "properties": {"next": {"$ref": "#"}, "n": {"type": "integer"}}}
    value: Any = {"n": 0}
    for number in range(40):
        value = {"next": value, "n": number}
    check_examples(schema, [value], PATH)
    assert refused(schema, {"next": {"next": {"n": "x"}}}).message.count("next.next.n") == 1


def test_work_that_doubles_with_each_level_is_refused_before_it_is_done() -> None:
    twice: Any = {"anyOf": [{"properties": {"a": {"$ref": "#"}}}, {"properties": {"a": {"$ref": "#"}}, "x": 1}]}
    value: Any = {}
    for _ in range(40):
        value = {"a": value}
    assert "too complex" in refused(twice, value).message
    check_examples(twice, [{"a": {"a": {}}}], PATH)


def test_the_work_is_bounded_for_all_examples_together() -> None:
    schema: Any = {"items": {"enum": list(range(1_000))}}
    check_examples(schema, [list(range(100))] * 9, PATH)
    assert "too complex" in refused(schema, *[[number] * 100 for number in range(11)]).message
    assert "too complex" in refused({}, *[list(range(1_000))] * 21).message
