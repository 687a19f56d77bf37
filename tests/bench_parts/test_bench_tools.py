"""What `bench.tools` sends, what it reads of answers, and what its figures are held to."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import anthropic
import jsonschema_rs
import pytest

from bench import bfcl
from bench.bfcl import Call, Case, Heard, tool_of
from bench.bfcl_bare import Bare
from bench.bfcl_bare import heard as heard_of_completion
from bench.load import Unmeasurable, free_port
from bench.tools import Antiphon, Judged, Ran, figures
from conftest import StartScripted


def test_functions_become_tools_as_the_leaderboard_makes_them() -> None:
    properties = {
        "count": {"type": "integer", "description": "How many.", "default": 3},
        "price": {"type": "float", "description": "The price."},
        "where": {"type": "tuple", "items": {"type": "float"}, "description": "Where."},
        "budget": {"type": "dict", "properties": {"min": {"type": "float", "description": "Least."}}},
        "rows": {"type": "array", "items": {"type": "dict", "properties": {"a": {"type": "any"}}}},
        "what": {"type": "any"},
        "odd": {"type": "datetime"},
        "untyped": {"description": "?"},
    }
    given = {
        "name": "shop.find.near", "description": "Find.",
        "parameters": {"type": "dict", "properties": properties, "required": ["count"]},
    }  # fmt: skip
    before = json.dumps(given)
    tool = tool_of(given)
    assert tool.name == "shop_find_near"
    assert tool.description == "Find. Note that the provided function is in Python 3 syntax."
    number = {"type": "number", "format": "float"}
    assert tool.schema == {
        "type": "object",
        "required": ["count"],
        "properties": {
            "count": {"type": "integer", "description": "How many.", "default": 3},
            "price": number | {"description": "The price. This is a float type value."},
            "where": {"type": "array", "items": {"type": "number"}, "description": "Where."},
            "budget": {
                "type": "object",
                "properties": {"min": number | {"description": "Least. This is a float type value."}},
            },
            "rows": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}},
            "what": {"type": "string"},
            "odd": {"type": "string"},
            "untyped": {"type": "string", "description": "?"},
        },
    }
    jsonschema_rs.meta.validate(tool.schema)
    assert json.dumps(given) == before


def _wheel(folder: Path, category: str, questions: list[Any], answers: list[Any]) -> Path:
    file = folder / "some.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for place, lines in (("data", questions), ("data/possible_answer", answers)):
            text = "\n".join(json.dumps(line) for line in lines)
            archive.writestr(f"bfcl_eval/{place}/BFCL_v4_{bfcl.CATEGORIES[category]}.json", text)
    return file


def _question(name: str, text: str) -> dict[str, Any]:
    return {"id": name, "question": [[{"role": "user", "content": text}]], "function": [FUNCTION]}


FUNCTION: dict[str, Any] = {
    "name": "weather.now",
    "description": "The weather.",
    "parameters": {"type": "dict", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def test_cases_are_the_first_ones_with_their_answers(tmp_path: Path) -> None:
    answers = [{"id": f"s{n}", "ground_truth": [{"weather.now": {"city": [str(n)]}}]} for n in (2, 1, 0)]
    file = _wheel(tmp_path, "simple", [_question(f"s{n}", f"At {n}?") for n in range(3)], answers)
    first, second = bfcl.cases(file, "simple", 2)
    assert (first.name, first.question, first.answers) == ("s0", "At 0?", [{"weather.now": {"city": ["0"]}}])
    assert (second.name, second.answers) == ("s1", [{"weather.now": {"city": ["1"]}}])
    assert first.function_named("weather_now") == FUNCTION
    with pytest.raises(Unmeasurable, match="3 cases"):
        bfcl.cases(file, "simple", 4)


def test_irrelevant_cases_have_no_answers(tmp_path: Path) -> None:
    (case,) = bfcl.cases(_wheel(tmp_path, "irrelevance", [_question("i0", "?")], []), "irrelevance", 1)
    assert case.answers == []


def test_the_pin_names_a_version() -> None:
    assert bfcl.version().count(".") == 2


def _completion(finish: str, **message: Any) -> Heard:
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", **message}}
    return heard_of_completion(json.dumps({"choices": [choice]}).encode())


def test_chat_completions_are_read() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    assert _completion("tool_calls", content=None, tool_calls=[call]) == Heard(calls=(Call("f", '{"a":1}'),))
    assert _completion("stop", content="No.") == Heard(text="No.")
    assert _completion("length", content="No").cut


def test_a_server_that_does_not_answer_is_a_failed_request() -> None:
    assert Bare(free_port(), max_tokens=10, seconds=1).ask(_case("?")).failed.startswith("ConnectionRefusedError: ")


SCRIPT = """
seats: 1
rules:
  - {match: ask-both, text: "Both.", calls: [{name: weather_now, input: {city: Rome}}, {name: weather_now, input: {city: Oslo}}]}
  - {match: ask-cut, text: "One two three four five six."}
  - {match: ask-none, text: "No tool fits."}
  - {match: ask-fails, tokens: ["a ", "b ", "c "], fault: {kind: stop, after: 1}}
"""


def _case(question: str, category: str = "parallel") -> Case:
    return Case(category, question, question, [FUNCTION], [])


def test_antiphon_is_asked_and_heard_through_the_sdk(scripted: StartScripted) -> None:
    server = scripted(SCRIPT)
    with server.client() as client:
        side = Antiphon(client, "scripted", max_tokens=100)
        calls = tuple(Call("weather_now", json.dumps({"city": city})) for city in ("Rome", "Oslo"))
        assert side.ask(_case("ask-both")) == Heard(calls=calls, text="Both.")
        assert side.ask(_case("ask-none")) == Heard(text="No tool fits.")
        assert side.ask(_case("ask-fails")).failed
        assert Antiphon(client, "scripted", max_tokens=4).ask(_case("ask-cut")).cut
    with anthropic.Anthropic(api_key="sk-ant-no", base_url=server.base_url, max_retries=0) as stranger:
        assert (
            Antiphon(stranger, "scripted", max_tokens=100)
            .ask(_case("ask-none"))
            .failed.startswith("AuthenticationError: ")
        )


def test_the_end_of_it_is_judged_by_more_than_the_other_side_and_by_what_may_never_be() -> None:
    def ran(right: int, *, fault: bool = False) -> Ran:
        def judged(category: str) -> list[Judged]:
            told = [Judged(_case("?", category), Heard(), "" if n < right else "no", []) for n in range(50)]
            return [*told[:-1], Judged(told[-1].case, Heard(), told[-1].wrong, ["bad"] if fault else [])]

        return Ran({category: judged(category) for category in bfcl.CATEGORIES}, dict.fromkeys(bfcl.CATEGORIES, 1.0))

    def missed(ours: Ran, theirs: Ran) -> set[str]:
        return {each.name for each in figures(ours, theirs) if each.holds is False}

    assert missed(ran(45), ran(44)) == set()
    assert missed(ran(45), ran(0, fault=True)) == set()  # what the other side sends is only told
    assert missed(ran(44), ran(44)) == {f"Antiphon: {name}" for name in (*bfcl.CATEGORIES, "all")}
    assert missed(ran(45, fault=True), ran(44)) == {"Antiphon: faulty inputs"}
    assert [each.value for each in figures(ran(3), ran(2)) if each.name.endswith(": all")] == [12, 8]
