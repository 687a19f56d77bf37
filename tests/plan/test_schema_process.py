"""Schema work in its own process: done there when it is much, ended when it is too much, never waited for on the loop."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from antiphon.core.clock import SystemClock
from antiphon.core.errors import InvalidRequest
from antiphon.engine.grammar import Grammar
from antiphon.engine.grammar import check as check_grammar
from antiphon.plan.schema.ambiguity import cost
from antiphon.plan.schema.cache import LoweredCache
from antiphon.plan.schema.child import Fitting, Written
from antiphon.plan.schema.documented import check
from antiphon.plan.schema.effort import Effort, TakesLonger
from antiphon.plan.schema.examples import check_examples
from antiphon.plan.schema.lowering import MAX_MILLISECONDS, MAX_READINGS, any_object, lower
from antiphon.plan.schema.members import in_order
from antiphon.plan.schema.outside import Outside, Spent
from random_schemas import TEMPLATE

#: Much work that is legal, and little.
PROPERTIES: Any = {f"property_{number}": {"type": "string", "minLength": 1} for number in range(1_000)}
LARGE: Any = {"type": "object", "properties": PROPERTIES, "required": list(PROPERTIES)}
SMALL: Any = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
#: Patterns that a library compiles for seconds, or follows in hundreds of readings.
SLOW = {
    "left out or not": "^" + "[a-z ]?" * 40 + "$",
    "different ones": "^" + "".join(f"[a-{chr(110 + number % 12)}]?" for number in range(40)) + "$",
    "repeats in repeats": "^(([a-z]{1,10}){1,10}){1,10}$",
    "alternatives": "^(" + "|".join(f"[a-z]*{number}" for number in range(300)) + ")$",
}


@pytest.fixture
def outside() -> Iterator[Outside]:
    made = Outside()
    yield made
    made.close()


def effort(outside: Outside, *, waits: bool, cache: LoweredCache | None = None) -> Effort:
    return Effort(LoweredCache(SystemClock()) if cache is None else cache, outside, waits=waits)


def lowering(schema: Any, **more: Any) -> dict[str, Any]:
    return {"do": "lower", "schema": schema, "path": "x", "spacing": [", ", ": "], "strict": False, "prefix": ""} | more


def test_what_comes_from_outside_is_the_same(outside: Outside) -> None:
    numbers = {"enum": [1, 1.0, 2**70, "\u00e4\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"), None]}
    for schema in (SMALL, numbers, {"type": "string", "format": "date"}):
        reply = outside.ask(lowering(schema))
        assert reply.answer == Written(lower(schema, TEMPLATE, strict=False))
        assert reply.seconds >= 0


@pytest.mark.parametrize(
    "task",
    [
        {"do": "check", "schema": {"type": "object"}, "path": "tools.0", "tool": True},
        {"do": "examples", "schema": SMALL, "path": "tools.0", "examples": [{"city": "Rome"}, {"city": 1}]},
        lowering({"type": "string", "const": 1}, strict=True),
    ],
)
def test_refusals_are_the_same(outside: Outside, task: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as there:
        outside.ask(task)
    with pytest.raises(InvalidRequest) as here:
        match task["do"]:
            case "check":
                check(task["schema"], "tools.0", tool=True)
            case "examples":
                check_examples(task["schema"], task["examples"], "tools.0")
            case _:
                lower(task["schema"], TEMPLATE, strict=True, path="x")
    assert (there.value.message, there.value.path) == (here.value.message, here.value.path)


def test_one_that_takes_too_long_is_ended_and_the_next_is_done() -> None:
    hasty = Outside(cpu_seconds=0.005)
    try:
        with pytest.raises(Spent):
            hasty.ask(lowering({"allOf": [{"anyOf": [{"type": "string"}]} for _ in range(4_000)]}))
        assert hasty.ask(lowering({"type": "null"})).answer == Written(lower({"type": "null"}, TEMPLATE, strict=False))
    finally:
        hasty.close()


@pytest.mark.parametrize("program", ["while True: pass", "import time; time.sleep(1000)", "pass", "print('{}' * 99)"])
def test_a_child_that_hangs_dies_or_talks_nonsense(program: str) -> None:
    broken = Outside((sys.executable, "-c", program), silence_seconds=1.0)
    with pytest.raises(Spent):
        broken.ask(lowering(SMALL))
    broken.close()


def test_memory_is_bounded() -> None:
    small = Outside(memory_bytes=120 << 20)
    try:
        with pytest.raises(Spent):
            small.ask({"do": "examples", "schema": {}, "path": "x", "examples": ["x" * (80 << 20)]})
    finally:
        small.close()


def test_one_that_was_killed_from_outside_is_started_again(outside: Outside) -> None:
    assert outside.ask(lowering(SMALL)).answer == outside.ask(lowering(SMALL)).answer
    child = outside._child
    assert child is not None
    child.kill()
    child.wait()
    assert outside.ask(lowering(SMALL)).answer == Written(lower(SMALL, TEMPLATE, strict=False))
    outside.close()
    assert outside._child is None
    assert outside.ask(lowering(SMALL)).seconds >= 0  # after the end, too


def test_from_many_threads(outside: Outside) -> None:
    def asked(number: int) -> bool:
        schema = {"const": number}
        return outside.ask(lowering(schema)).answer == Written(lower(schema, TEMPLATE, strict=False))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(asked, range(200)))


def test_little_is_done_here_and_much_is_not(outside: Outside) -> None:
    quick = effort(outside, waits=False)
    assert quick.lower(SMALL, TEMPLATE, strict=False) == lower(SMALL, TEMPLATE, strict=False)
    quick.examples(SMALL, [{"city": "Rome"}], "tools.0.custom")
    with pytest.raises(TakesLonger):
        quick.lower(LARGE, TEMPLATE, strict=False)
    pattern = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^a$"}}}
    with pytest.raises(TakesLonger):  # the validator compiles it, for as long as it likes
        effort(outside, waits=False).examples(pattern, [{"a": "a"}], "tools.0.custom")
    assert outside._child is None  # nobody was asked
    patient = effort(outside, waits=True)
    assert patient.lower(LARGE, TEMPLATE, strict=False) == lower(LARGE, TEMPLATE, strict=False)
    patient.examples(pattern, [{"a": "a"}], "tools.0.custom")
    with pytest.raises(InvalidRequest):
        patient.examples(pattern, [{"a": "b"}], "tools.0.custom")
    assert outside._child is not None


def test_many_small_ones_are_much(outside: Outside) -> None:
    def many() -> None:
        quick = effort(outside, waits=False)
        for number in range(1_000):
            quick.lower({"const": number, "pattern": "^(a?b?)*$"}, TEMPLATE, strict=False)

    with pytest.raises(TakesLonger):
        many()


def test_what_is_known_needs_no_effort(outside: Outside) -> None:
    cache = LoweredCache(SystemClock())
    middling = {**LARGE, "properties": dict(list(PROPERTIES.items())[:150]), "required": []}
    with pytest.raises(TakesLonger):
        effort(outside, waits=False, cache=cache).lower(middling, TEMPLATE, strict=False)
    first = effort(outside, waits=True, cache=cache).lower(middling, TEMPLATE, strict=False)
    assert effort(outside, waits=False, cache=cache).lower(middling, TEMPLATE, strict=False) is first


def test_what_takes_too_long_is_refused_or_any_object_and_remembered() -> None:
    hasty = Outside(cpu_seconds=0.005)
    cache = LoweredCache(SystemClock())
    heavy = {"allOf": [{"anyOf": [{"type": "string"}]} for _ in range(4_000)]}
    try:
        assert effort(hasty, waits=True, cache=cache).lower(heavy, TEMPLATE, strict=False) == any_object(TEMPLATE)
        with pytest.raises(InvalidRequest, match=r"^x: Schema is too complex for compilation\.") as refusal:
            effort(hasty, waits=True, cache=cache).lower(heavy, TEMPLATE, strict=True, path="x")
        assert refusal.value.path == "x"
        with pytest.raises(InvalidRequest) as refusal:
            effort(hasty, waits=True, cache=cache).examples(heavy, ["a"], "tools.7.custom")
        assert refusal.value.path == "tools.7.custom.input_examples"
        assert effort(hasty, waits=True, cache=cache).lower(heavy, TEMPLATE, strict=False) == any_object(TEMPLATE)
        assert hasty._child is None  # ended, and not asked again
    finally:
        hasty.close()


def test_one_request_gets_no_more_than_its_share() -> None:
    """Each of its schemas alone would be worked on; all together they are not."""
    hanging = Outside((sys.executable, "-c", "import sys; sys.stdin.buffer.read(1)"), silence_seconds=5.0)
    patient = effort(hanging, waits=True)
    start = time.monotonic()
    for number in range(200):
        heavy = {"const": number, "allOf": [{"type": "string"}] * 200}
        assert patient.lower(heavy, TEMPLATE, strict=False) == any_object(TEMPLATE)
    assert time.monotonic() - start < 60  # two children were begun, not two hundred
    hanging.close()


@pytest.mark.parametrize("name", SLOW)
def test_what_a_library_would_compile_for_seconds_is_not_handed_over(name: str) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": SLOW[name]}}, "required": ["a"]}
    with pytest.raises(InvalidRequest, match="too complex for compilation"):
        lower(schema, TEMPLATE, strict=True, path="x")
    loose = lower(schema, TEMPLATE, strict=False)
    assert loose.rules != any_object(TEMPLATE).rules  # the pattern alone is given up
    free: Any = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    assert loose == lower(free, TEMPLATE, strict=False)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "^[A-Z]{2}-\\d{4}(-[a-z0-9]{1,12})?$"},
        {"type": "string", "pattern": "^([a-z]{1,20}-){1,8}[a-z]{1,20}$"},
        {"type": "string", "pattern": "^[a-z0-9_]{1,64}$"},
        {"type": "string", "pattern": "^(a+)+$"},
        *({"type": "string", "format": name} for name in ("uri", "email", "hostname", "ipv6", "date-time", "duration")),
        {"enum": [f"value {number}" for number in range(2_000)]},
        LARGE,
        {"type": "object", "properties": dict(list(PROPERTIES.items())[:200])},
    ],
)
def test_what_people_ask_for_is(schema: Any) -> None:
    lowered = lower(schema, TEMPLATE, strict=True)
    check_grammar(Grammar(lowered.rules, lowered.root))
    found = cost(lowered.rules, in_order(lowered.rules, lowered.root))
    assert found.readings <= MAX_READINGS
    assert "format" in schema or found.milliseconds <= MAX_MILLISECONDS


def test_examples_are_known_the_second_time(outside: Outside) -> None:
    cache = LoweredCache(SystemClock())
    pattern = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^a$"}}}
    effort(outside, waits=True, cache=cache).examples(pattern, [{"a": "a"}], "tools.0.custom")
    effort(outside, waits=False, cache=cache).examples(pattern, [{"a": "a"}], "tools.9.custom")
    assert outside.ask({"do": "examples", "schema": pattern, "path": "x", "examples": []}).answer == Fitting()
