"""What a marked prompt is billed as, what it costs, what of it is limited, and how a prompt is sent ahead (contract
messages-and-inference 3.5, 7.4, 7.6 to 7.8, 13)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from asking import FIVE, HOUR, MODEL, ask, block, figures, long, refusal, said, serving, tool, user

from antiphon.core.records import DEFAULT_ORGANIZATION
from antiphon.store import limits
from conftest import StartScripted
from running import Running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("bill")) as running:
        yield running


@pytest.fixture
def client(server: Running) -> anthropic.Anthropic:
    return server.client()


@pytest.mark.behaviour(
    "messages-and-inference-3.5-input-behind-the-cache",
    "messages-and-inference-3.5-cache-figures",
    "messages-and-inference-7.7-figures",
    "client-surface-2.6-usage-cache",
)
def test_usage_tells_what_was_written_and_read(client: anthropic.Anthropic) -> None:
    """In the sum that there has always been and by lifetime; and the whole is the prompt."""
    asked: Any = {
        "model": MODEL, "tools": [tool("look", long("usage"), HOUR)], "system": [block("Be kind. " * 40, FIVE)],
        "messages": [user("Hello")],
    }  # fmt: skip
    counted = client.messages.count_tokens(**asked).input_tokens
    first = client.messages.create(**asked, max_tokens=4).usage
    told = figures(first)
    assert min(told.input, told.write_5m, told.write_1h) > 0
    assert told.read == 0
    again = figures(client.messages.create(**asked, max_tokens=4).usage)
    assert again == (told.input, 0, 0, told.write)
    assert told.all == again.all == counted
    unmarked = ask(client, tools=[tool("look", long("usage"))])
    assert unmarked == (unmarked.all, 0, 0, 0)


@pytest.mark.behaviour("messages-and-inference-7.7-streams")
def test_a_stream_tells_it_at_its_start_and_at_its_end(client: anthropic.Anthropic) -> None:
    asked: Any = {"model": MODEL, "max_tokens": 4, "system": [block(long("streams"), FIVE)], "messages": [user("Hi")]}
    told = []
    for _ in range(2):
        with client.messages.stream(**asked) as stream:
            events = list(stream)
        starts = [event.message.usage for event in events if event.type == "message_start"]
        ends = [event.usage for event in events if event.type == "message_delta"]
        assert len(starts) == len(ends) == 1
        start = figures(starts[0])
        end = ends[0]
        assert (end.input_tokens, end.cache_creation_input_tokens, end.cache_read_input_tokens) == (
            start.input, start.write, start.read,
        )  # fmt: skip
        told.append(start)
    assert told[1] == (told[0].input, 0, 0, told[0].write_5m)
    assert told[0].write_5m > 1024


@pytest.mark.behaviour("messages-and-inference-7.4-mixed")
def test_mixed_lifetimes_are_split_by_the_documented_rule(client: anthropic.Anthropic) -> None:
    """A: what was read. B: the last mark of an hour behind it. C: the last mark."""
    tools, system = [tool("look", long("mixed"), HOUR)], [block("Rule. " * 60, HOUR)]
    message = user(block("Hello. " * 60, FIVE), block("So?"))
    a = ask(client, tools=tools).write_1h
    b = ask(client, tools=tools, system=[block("Another rule. " * 60, HOUR)])
    assert (b.read, b.write_5m) == (a, 0)
    assert b.write_1h > 0
    told = ask(client, message, tools=tools, system=system)
    assert told.read == a
    assert min(told.write_1h, told.write_5m, told.input) > 0
    # Nothing is there: A is 0. All of the hour is there: B is A.
    fresh = ask(client, message, tools=[tool("look", long("mixed too"), HOUR)], system=system)
    assert (fresh.read, fresh.write_1h > a, fresh.write_5m) == (0, True, told.write_5m)
    other = ask(client, user(block("Bye. " * 60, FIVE), block("So?")), tools=tools, system=system)
    assert (other.read, other.write_1h, other.write_5m > 0) == (a + told.write_1h, 0, True)


@pytest.mark.behaviour("messages-and-inference-7.6-write-5m", "messages-and-inference-7.6-write-1h")
@pytest.mark.behaviour("messages-and-inference-7.6-read", "messages-and-inference-7.6-read-exceptions")
@pytest.mark.parametrize(
    ("model", "input_nano", "read_nano"),
    [
        ("claude-opus-5", 5000, 500),
        ("claude-fable-5-1", 10_000, 250),
        ("claude-fable-5-2", 8000, 200),
        ("claude-opus-5-5", 4000, 200),
        ("claude-sonnet-5-5", 2000, 100),
    ],
)
def test_a_write_costs_more_and_a_read_less(
    model: str, input_nano: int, read_nano: int, scripted: StartScripted
) -> None:
    """In nano-dollars for each token: 1.25 and 2 times the input, and a tenth, or what the id's own row says."""
    server = scripted()
    client = server.client()
    told = [ask(client, model=model, system=[block(long("costs"), HOUR)], cache_control=FIVE) for _ in range(2)]
    assert min(told[0].write_1h, told[0].write_5m) > 0
    assert told[1].read == told[0].write
    for record, each in zip(server.records(), told, strict=True):
        cost = record.cost
        assert cost.input_nano == each.input * input_nano
        assert cost.cache_write_5m_nano == each.write_5m * input_nano * 5 // 4
        assert cost.cache_write_1h_nano == each.write_1h * input_nano * 2
        assert cost.cache_read_nano == each.read * read_nano
        usage = record.usage
        assert (usage.cache_write_5m_tokens, usage.cache_write_1h_tokens) == (each.write_5m, each.write_1h)
        assert usage.cache_read_tokens == each.read


async def _limit(running: Running, group: str, value: int) -> None:
    async with running.app.database.transaction() as connection:
        await limits.set_rate_limits(DEFAULT_ORGANIZATION, connection, group, {"input_tokens_per_minute": value})
    await running.app.gate.load()


@pytest.mark.behaviour("messages-and-inference-13-cache-reads")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the SDK's, of older models
@pytest.mark.parametrize(
    ("model", "group", "counts"), [(MODEL, "opus_5", False), ("claude-3-5-haiku-20241022", "haiku_3_5", True)]
)
def test_what_is_read_does_not_count_as_input(model: str, group: str, counts: bool, scripted: StartScripted) -> None:
    running = scripted()
    client = running.client()
    asked: Any = {"model": model, "system": [block(long("limits", 3000), FIVE)]}
    tokens = ask(client, **asked | {"system": [block(long("other", 3000), FIVE)]}).all
    running.inside(_limit(running, group, tokens + 5000))
    first = ask(client, **asked)  # a write, which counts
    assert first.write > 3000
    if counts:
        with pytest.raises(anthropic.RateLimitError, match="input tokens per minute"):
            ask(client, **asked)
        return
    assert [ask(client, **asked).read for _ in range(3)] == [first.write] * 3
    with pytest.raises(anthropic.RateLimitError, match="input tokens per minute"):
        ask(client, model=model, system=[block(long("new", 3000), FIVE)])


@pytest.mark.behaviour("messages-and-inference-7.8-warms", "client-surface-2.1-max-tokens-zero-warms")
def test_a_prompt_sent_ahead_is_read_later(client: anthropic.Anthropic) -> None:
    system = [block(long("ahead"), FIVE)]
    warmed = client.messages.create(model=MODEL, max_tokens=0, system=system, messages=[user("warmup")])
    assert (warmed.content, warmed.stop_reason, warmed.usage.output_tokens) == ([], "max_tokens", 0)
    told = figures(warmed.usage)
    assert told.write_5m > 1024
    assert told.input > 0
    assert ask(client, user("What now?"), system=system).read == told.write_5m


@pytest.mark.behaviour("messages-and-inference-7.8-refusals")
@pytest.mark.parametrize(
    "options",
    [
        {"stream": True},
        {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
        {"tools": [tool("look")], "tool_choice": {"type": "any"}},
        {"tools": [tool("look")], "tool_choice": {"type": "tool", "name": "look"}},
    ],
)
def test_what_cannot_be_sent_ahead_is_refused(options: Any, client: anthropic.Anthropic) -> None:
    asked: Any = {"model": MODEL, "max_tokens": 0, "system": [block(long("not ahead"), FIVE)]} | options
    with pytest.raises(anthropic.BadRequestError, match="max_tokens must be at least 1"):
        client.messages.create(**asked, messages=[user("warmup")])


@pytest.mark.behaviour("messages-and-inference-7.8-placeholder")
def test_the_placeholder_must_say_something(client: anthropic.Anthropic) -> None:
    for placeholder in ("", "  "):
        with pytest.raises(anthropic.BadRequestError):
            client.messages.create(
                model=MODEL, max_tokens=0, system=[block(long("blank"), FIVE)], messages=[user(block(placeholder))]
            )


@pytest.mark.behaviour("messages-and-inference-7.8-must-match")
def test_thinking_and_effort_must_be_those_of_later_traffic(client: anthropic.Anthropic) -> None:
    messages = [user(block(long("must match"), FIVE), block("warmup"))]
    later = [user(block(long("must match"), FIVE), block("What now?"))]
    client.messages.create(model=MODEL, max_tokens=0, messages=messages)
    assert ask(client, *later, thinking={"type": "adaptive"}).read == 0
    assert ask(client, *later, output_config={"effort": "low"}).read == 0
    assert ask(client, *later).read > 1024


def test_a_count_is_the_same_with_marks_and_after_a_read(server: Running, client: anthropic.Anthropic) -> None:
    text = long("counted")
    plain: Any = {"model": MODEL, "messages": [user(block(text)), said("Yes."), user("And?")]}
    marked: Any = {"model": MODEL, "messages": [user(block(text, HOUR)), said("Yes."), user("And?")]}
    before = client.messages.count_tokens(**plain).input_tokens
    for _ in range(2):
        assert ask(client, *marked["messages"], cache_control=FIVE).all == before
        assert client.messages.count_tokens(**marked, cache_control=FIVE).input_tokens == before
    status, _ = refusal(server, system=[block("Rule.", FIVE) for _ in range(5)])
    assert status == 400


_CRASH = """
rules:
  - match: "fall over"
    fault: {kind: crash}
    times: 1
"""


def test_after_a_crash_of_the_engine_all_is_written_again(scripted: StartScripted) -> None:
    running = scripted(_CRASH)
    client = running.client()
    system = [block(long("crash"), FIVE)]
    first = ask(client, system=system)
    assert ask(client, system=system).read == first.write > 1024
    with pytest.raises(anthropic.InternalServerError):
        ask(client, user("fall over"), system=system)
    assert ask(running.client(max_retries=5), system=system) == first
    assert ask(client, system=system).read == first.write


def test_a_request_that_failed_before_its_answer_wrote_nothing(scripted: StartScripted) -> None:
    client = scripted("rules: [{match: give up, fault: {kind: stop}, times: 1}]").client()
    asked: Any = {"system": [block(long("failed"), FIVE)]}
    with pytest.raises(anthropic.InternalServerError):
        ask(client, user("give up"), **asked)
    told = ask(client, user("give up"), **asked)
    assert (told.read, told.write > 1024) == (0, True)
