"""What `bench.tools` takes for a right call: the rule of the function calling leaderboard."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench.ast_check import faults, wrong
from bench.bfcl import Call, Case, Heard


def _function(name: str, properties: dict[str, Any], *required: str) -> dict[str, Any]:
    parameters = {"type": "dict", "properties": properties, "required": list(required)}
    return {"name": name, "description": f"It does {name}.", "parameters": parameters}


def _calls(*calls: tuple[str, Any], cut: bool = False) -> Heard:
    return Heard(calls=tuple(Call(name, json.dumps(arguments)) for name, arguments in calls), cut=cut)


def _of(schema: dict[str, Any], accepted: list[Any], value: Any) -> str:
    """What is wrong with one call that has this value for its only argument."""
    case = Case("simple", "one", "?", [_function("f", {"x": schema})], [{"f": {"x": accepted}}])
    return wrong(case, _calls(("f", {"x": value})))


NUMBER, FLOAT, TEXT, FLAG = {"type": "integer"}, {"type": "float"}, {"type": "string"}, {"type": "boolean"}
TEXTS = {"type": "array", "items": {"type": "string"}}
FLOATS = {"type": "tuple", "items": {"type": "float"}}
OBJECT = {"type": "dict", "properties": {"min": FLOAT, "max": FLOAT}}
OBJECTS = {"type": "array", "items": {"type": "dict"}}


@pytest.mark.parametrize(
    ("schema", "accepted", "value", "right"),
    [
        (NUMBER, [5], 5, True),
        (NUMBER, [5], 6, False),
        (NUMBER, [5], 5.0, False),
        (NUMBER, [5], "5", False),
        (NUMBER, [1], True, False),
        (NUMBER, ["", 0], 0, True),
        (NUMBER, ["side"], "side", True),  # a variable's name, which is compared as it is
        (NUMBER, ["side"], "Side", False),
        (FLOAT, [5.0], 5, True),
        (FLOAT, [0.5], 0.5, True),
        (FLOAT, [5.0], "5", False),
        (FLAG, [True, ""], True, True),
        (FLAG, [True, ""], False, False),
        (FLAG, [True], 1, False),
        (TEXT, ["New York, NY"], "new-york ny", True),
        (TEXT, ["it's"], 'it"s', True),
        (TEXT, ["New York"], "York", False),
        (TEXT, ["a", "b"], "B", True),
        (TEXT, ["a"], None, False),
        ({"type": "any"}, ["a"], "A", True),
        ({"type": "any"}, [7], 7, True),
        (TEXTS, [["New York", "Rome"]], ["new york", "ROME"], True),
        (TEXTS, [["New York", "Rome"]], ["Rome", "New York"], False),
        (TEXTS, [["New York"], ["Rome"]], ["Rome"], True),
        (TEXTS, [["a"]], [1], False),
        (TEXTS, [["a"]], "a", False),
        (TEXTS, [["a"], ""], [], True),
        (FLOATS, [[1.5, 2.0]], [1.5, 2.0], True),
        (FLOATS, [[1.5, 2.0]], [1.5, 2], False),  # within lists, a whole number is no float
        (FLOATS, [[1, 2]], [1, 2], True),
        (OBJECT, [{"min": [300000.0], "max": [400000.0]}], {"min": 300000, "max": 400000}, True),
        (OBJECT, [{"min": [1], "max": [2, ""]}], {"min": 1}, True),
        (OBJECT, [{"min": [1], "max": [2]}], {"min": 1}, False),
        (OBJECT, [{"min": [1]}], {"min": 1, "mean": 1}, False),
        (OBJECT, [{"name": ["The Times"]}], {"name": "the times"}, True),
        (OBJECTS, [[{"a": [1]}, {"a": [2]}]], [{"a": 1}, {"a": 2}], True),
        (OBJECTS, [[{"a": [1]}, {"a": [2]}]], [{"a": 2}, {"a": 1}], False),
        (OBJECTS, [[{"a": [1]}]], [], False),
    ],
)
def test_values(schema: dict[str, Any], accepted: list[Any], value: Any, right: bool) -> None:
    assert (_of(schema, accepted, value) == "") is right


AREA = _function("geo.area", {"base": NUMBER, "height": NUMBER, "unit": TEXT}, "base", "height")
AREA_ANSWER: dict[str, dict[str, list[Any]]] = {"geo.area": {"base": [10], "height": [5], "unit": ["units", ""]}}


@pytest.mark.parametrize(
    ("heard", "reason"),
    [
        (_calls(("geo_area", {"base": 10, "height": 5})), ""),
        (_calls(("geo_area", {"base": 10, "height": 5, "unit": "Units"})), ""),
        (_calls(("geo_area", {"base": 10, "height": 5, "unit": "cm"})), 'unit is "cm", not one of ["units",""]'),
        (_calls(("geo_area", {"base": 10})), "height is missing"),
        (_calls(("geo_area", {"base": 10, "height": 5, "depth": 1})), "depth is unexpected"),
        (_calls(("area", {"base": 10, "height": 5})), "area is called, not geo_area"),
        (_calls(("geo_area", [10, 5])), "the input is not a JSON object: Expected `object`, got `array`"),
        (_calls(), "0 calls, not 1"),
        (_calls(*[("geo_area", {"base": 10, "height": 5})] * 2), "2 calls, not 1"),
        (Heard(failed="500 no"), "500 no"),
    ],
)
def test_one_call(heard: Heard, reason: str) -> None:
    assert wrong(Case("simple", "one", "?", [AREA], [AREA_ANSWER]), heard) == reason


def test_an_argument_that_no_answer_leaves_out_is_missed_although_it_is_optional() -> None:
    case = Case("simple", "one", "?", [AREA], [{"geo.area": {"base": [10], "height": [5], "unit": ["cm"]}}])
    assert wrong(case, _calls(("geo_area", {"base": 10, "height": 5}))) == "unit is missing"


def test_several_calls_may_come_in_any_order_and_each_counts_once() -> None:
    play = _function("play", {"artist": TEXT}, "artist")
    answers = [{"play": {"artist": [name]}} for name in ("Taylor Swift", "Maroon 5")]
    case = Case("parallel", "two", "?", [play], answers)
    swift, maroon = ("play", {"artist": "taylor swift"}), ("play", {"artist": "Maroon 5"})
    assert wrong(case, _calls(swift, maroon)) == ""
    assert wrong(case, _calls(maroon, swift)) == ""
    assert wrong(case, _calls(swift, swift)) == 'artist is "taylor swift", not one of ["Maroon 5"]'
    assert wrong(case, _calls(("play", {"artist": "x"}), maroon)).startswith("no call fits")
    assert wrong(case, _calls(swift)) == "1 calls, not 2"


def test_where_nothing_is_relevant_any_call_is_wrong_and_so_is_no_answer() -> None:
    case = Case("irrelevance", "none", "?", [AREA], [])
    assert wrong(case, Heard(text="I cannot.")) == ""
    assert wrong(case, _calls(("geo_area", {"base": 10, "height": 5}))) != ""
    assert wrong(case, Heard(failed="timeout")) == "timeout"


def test_faults_are_inputs_that_are_no_json_or_off_the_schema_that_was_sent() -> None:
    case = Case("simple", "one", "?", [AREA], [AREA_ANSWER])

    def told(text: str, name: str = "geo_area", *, cut: bool = False) -> list[str]:
        return faults(case, Heard(calls=(Call(name, text),), cut=cut))

    assert told('{"base": 1, "height": 2}') == []
    assert told('{"base": 1, "height": 2, "unit": "cm"}') == []
    assert len(told('{"base": 1')) == 1
    assert told('{"base": 1', cut=True) == []  # the limit of tokens may leave half a call
    assert told('{"base": 1}') == ['geo_area: "height" is a required property']
    assert len(told('{"base": 1, "height": "2"}')) == 1
    assert told("{}", "volume") == ["volume: no such tool"]
    two = Heard(calls=(Call("geo_area", '{"base": 1'), Call("geo_area", "{")), cut=True)
    assert len(faults(case, two)) == 1
