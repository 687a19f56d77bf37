"""What is found again, when, and by whom (contract messages-and-inference 7.2, 7.3, 7.5)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from asking import FIVE, HOUR, MODEL, ask, block, figures, long, said, serving, tool, user

from conftest import StartScripted
from running import Running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("caching")) as running:
        yield running


@pytest.fixture
def client(server: Running) -> anthropic.Anthropic:
    return server.client()


@pytest.mark.behaviour("messages-and-inference-7.2-order")
def test_tools_come_first_then_system_then_messages(client: anthropic.Anthropic) -> None:
    tools, system = [tool("long", long("order"), FIVE)], [block("Be kind. " * 50, FIVE)]
    message = user(block("Hi there. " * 50, FIVE))
    whole = ask(client, message, tools=tools, system=system)
    tools_alone = ask(client, tools=tools)
    both = ask(client, tools=tools, system=system)
    assert 1024 < tools_alone.read < both.read < whole.write_5m
    assert (tools_alone.write, both.write) == (0, 0)


@pytest.mark.behaviour("messages-and-inference-7.2-only-at-breakpoints")
def test_entries_are_written_only_at_breakpoints(client: anthropic.Anthropic) -> None:
    """What stands before a mark was not written by itself, however long it is."""
    tools = [tool("long", long("breakpoints"))]
    ask(client, tools=tools, system=[block("Be kind.", FIVE)])
    other = ask(client, tools=tools, system=[block("Be terse.", FIVE)])
    assert other.read == 0
    assert other.write_5m > 1024


def _row(name: str, count: int, *marked: int) -> Any:
    """A message of so many blocks, the first of them long."""
    texts = [long(name), *[f"Part {number}." for number in range(1, count)]]
    return user(*[block(text, FIVE if place in marked else None) for place, text in enumerate(texts)])


@pytest.mark.behaviour("messages-and-inference-7.2-look-back")
@pytest.mark.parametrize(("last", "found"), [(19, True), (20, False)])
def test_an_earlier_write_is_looked_for_twenty_positions_back(
    last: int, found: bool, client: anthropic.Anthropic
) -> None:
    name = f"look back {last}"
    first = ask(client, _row(name, 1, 0), said("Yes."))
    assert first.write_5m > 1024
    told = ask(client, _row(name, last + 1, last))
    assert told.read == (first.write_5m if found else 0)
    assert told.write_5m > 0


@pytest.mark.behaviour("messages-and-inference-7.2-next-breakpoint")
def test_the_search_goes_on_from_the_next_breakpoint(client: anthropic.Anthropic) -> None:
    first = ask(client, _row("resumes", 1, 0), said("Yes."))
    assert ask(client, _row("resumes", 40, 39)).read == 0
    # A second mark within reach of what was written; its own place is in reach of it, the last one's is not.
    told = ask(client, _row("resumes", 70, 15, 69))
    assert told.read == first.write_5m


@pytest.mark.behaviour("messages-and-inference-7.2-identical")
def test_content_must_be_the_same_down_to_the_order_of_keys(client: anthropic.Anthropic) -> None:
    def conversation(text: str, given: Any, tools: Any) -> Any:
        call = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": given}
        result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "Seen.", "cache_control": FIVE}
        body: Any = {"messages": [user(text), said(call), user(result)], "tools": tools}
        return figures(client.messages.create(model=MODEL, max_tokens=1, **body).usage)

    schema = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}
    turned = {"properties": {"b": {"type": "string"}, "a": {"type": "string"}}, "type": "object"}
    given, tools = {"a": "x", "b": "y"}, [tool("look", input_schema=schema)]
    text = long("identical")
    first = conversation(text, given, tools)
    assert conversation(text, given, tools).read == first.write > 1024
    assert conversation(text + " ", given, tools).read == 0
    assert conversation(text, {"b": "y", "a": "x"}, tools).read == 0
    assert conversation(text, given, [tool("look", input_schema=turned)]).read == 0


@pytest.mark.behaviour("messages-and-inference-7.2-identical")
def test_a_string_is_the_one_text_block_that_it_stands_for(client: anthropic.Anthropic) -> None:
    first = ask(client, user(long("string")), cache_control=FIVE)
    assert ask(client, user(block(long("string"), FIVE))).read == first.write > 1024


_SLOW = """
rules:
  - match: "wait for it"
    tokens: ["a ", "b ", "c "]
    delay_ms: 1500
"""


@pytest.mark.behaviour("messages-and-inference-7.2-readable")
def test_what_was_written_can_be_read_once_the_answer_has_begun(scripted: StartScripted) -> None:
    """The first answer's tokens come late: before the first of them nothing can be read, after it all can."""
    client = scripted(_SLOW).client()
    system = [block(long("readable"), FIVE)]
    slow: Any = {"model": MODEL, "max_tokens": 5, "system": system, "messages": [user("wait for it")]}
    with client.messages.stream(**slow) as stream:
        start = next(iter(stream))
        assert start.type == "message_start"
        assert figures(start.message.usage).write_5m > 1024
        early = ask(client, system=system)
        assert (early.read, early.write_5m > 1024) == (0, True)
        stream.until_done()
    assert ask(client, system=system).read == early.write_5m


@pytest.mark.behaviour("messages-and-inference-7.2-readable")
def test_a_stream_need_not_have_ended(scripted: StartScripted) -> None:
    client = scripted(_SLOW).client()
    system = [block(long("going on"), FIVE)]
    slow: Any = {"model": MODEL, "max_tokens": 5, "system": system, "messages": [user("wait for it")]}
    with client.messages.stream(**slow) as stream:
        next(iter(stream.text_stream))
        told = ask(client, system=system)
        assert told.read > 1024
        assert stream.current_message_snapshot.stop_reason is None
        stream.until_done()


@pytest.mark.anyio
@pytest.mark.behaviour("messages-and-inference-7.2-parallel")
async def test_parallel_first_requests_all_miss(scripted: StartScripted) -> None:
    running = scripted(_SLOW)
    asked: Any = {
        "model": MODEL, "max_tokens": 5, "system": [block(long("parallel"), FIVE)], "messages": [user("wait for it")],
    }  # fmt: skip
    async with running.async_client() as client:
        answers = await asyncio.gather(*(client.messages.create(**asked) for _ in range(4)))
        later = figures((await client.messages.create(**asked)).usage)
    told = {figures(answer.usage) for answer in answers}
    assert len(told) == 1
    (first,) = told
    assert (first.read, first.write_5m) == (0, later.read)
    assert later.read > 1024


@pytest.mark.behaviour("messages-and-inference-7.2-workspaces")
def test_workspaces_share_nothing(server: Running, client: anthropic.Anthropic) -> None:
    asked: Any = {"system": [block(long("workspaces"), FIVE)]}
    first = ask(client, **asked)
    other = server.client(api_key=server.make_key(workspace="Other"))
    assert ask(other, **asked) == first
    assert ask(other, **asked).read == ask(client, **asked).read == first.write_5m > 1024
    # Two keys of one workspace are one.
    assert ask(server.client(api_key=server.make_key()), **asked).read == first.write_5m


@pytest.mark.behaviour("messages-and-inference-7.2-models-and-speeds", "messages-and-inference-14.4-fast-cache")
def test_models_and_speeds_share_nothing(client: anthropic.Anthropic) -> None:
    asked: Any = {"system": [block(long("models"), FIVE)]}
    first = ask(client, **asked)
    assert ask(client, **asked, model="claude-opus-4-8").read == 0
    assert ask(client, **asked, speed="fast").read == 0
    assert ask(client, **asked, speed="standard").read == first.write_5m > 1024
    assert ask(client, **asked, speed="fast").read == first.write_5m


@pytest.mark.behaviour("messages-and-inference-7.2-models-and-speeds")
def test_two_spellings_of_one_model_are_one(client: anthropic.Anthropic) -> None:
    asked: Any = {"system": [block(long("spellings"), FIVE)]}
    first = ask(client, **asked, model="claude-opus-4-5")
    assert ask(client, **asked, model="claude-opus-4-5-20251101").read == first.write_5m > 1024


@pytest.mark.behaviour("messages-and-inference-7.3-below")
def test_what_is_too_short_is_not_cached_and_not_refused(client: anthropic.Anthropic) -> None:
    for _ in range(2):
        told = ask(client, user("Hello"), system=[block("Be kind.", FIVE)])
        assert told == (told.all, 0, 0, 0)
    # A mark that is too short takes nothing from one that is not.
    mixed = ask(client, user(block(long("mixed"), FIVE)), system=[block("Be kind.", HOUR)])
    assert (mixed.write_1h, mixed.write_5m > 1024) == (0, True)


_MINIMUMS = {
    "claude-opus-5": 512, "claude-fable-5": 512, "claude-mythos-5": 512,
    "claude-opus-4-8": 1024, "claude-sonnet-5": 1024, "claude-sonnet-4-6": 1024, "claude-sonnet-4-5": 1024,
    "claude-opus-4-7": 2048, "claude-mythos-preview": 2048,
    "claude-opus-4-6": 4096, "claude-opus-4-5": 4096, "claude-haiku-4-5": 4096,
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the SDK's, of older models
@pytest.mark.behaviour("messages-and-inference-7.3-minimums")
def test_under_the_claude_profile_the_minimum_is_the_ids(scripted: StartScripted) -> None:
    """To the token: the same prompt one token shorter is not cached."""
    client = scripted(profile="claude").client()
    for model, minimum in _MINIMUMS.items():

        def written(letters: int, model: str = model) -> int:
            told = ask(client, model=model, system=[block("x" * letters, FIVE)])
            assert told.read == 0
            return told.write

        reached = written(minimum + 50)
        letters = minimum + 50 - (reached - minimum)
        assert written(letters) == minimum, model
        assert written(letters - 1) == 0, model


def _asked(name: str) -> Any:
    """A mark on each level, each of them long enough by itself."""
    return {
        "tools": [tool("look", long(f"{name} tools"), FIVE)],
        "system": [block(long(f"{name} system"), FIVE)],
        "messages": [user(block(long(f"{name} messages"), FIVE), block("So?"))],
    }  # fmt: skip


_FORMAT: Any = {"type": "json_schema", "schema": {"type": "object", "properties": {}, "additionalProperties": False}}


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        pytest.param({"tools": [tool("dig", "Digs.")]}, 0, marks=pytest.mark.behaviour("messages-and-inference-7.5-tools")),
        pytest.param({"tool_choice": {"type": "none"}}, 2, marks=pytest.mark.behaviour("messages-and-inference-7.5-tool-choice")),
        pytest.param({"tool_choice": {"type": "any"}}, 2, marks=pytest.mark.behaviour("messages-and-inference-7.5-tool-choice")),
        pytest.param({"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}, 2, marks=pytest.mark.behaviour("messages-and-inference-7.5-tool-choice")),
        pytest.param({"tool_choice": {"type": "auto", "disable_parallel_tool_use": False}}, 3, marks=pytest.mark.behaviour("messages-and-inference-7.5-tool-choice")),
        pytest.param({"thinking": {"type": "adaptive"}}, 2, marks=pytest.mark.behaviour("messages-and-inference-7.5-thinking")),
        pytest.param({"thinking": {"type": "disabled"}}, 3, marks=pytest.mark.behaviour("messages-and-inference-7.5-thinking")),
        pytest.param({"output_config": {"effort": "low"}}, 2, marks=pytest.mark.behaviour("messages-and-inference-7.5-effort")),
        pytest.param({"output_config": {"effort": "high"}}, 3, marks=pytest.mark.behaviour("messages-and-inference-7.5-effort")),
        pytest.param({"output_config": {"format": _FORMAT}}, 2, marks=pytest.mark.behaviour("messages-and-inference-7.5-format")),
        pytest.param({"speed": "fast"}, 0, marks=pytest.mark.behaviour("messages-and-inference-7.5-speed")),
        pytest.param({"max_tokens": 2, "stop_sequences": ["x"], "metadata": {"user_id": "u"}}, 3),
    ],
)  # fmt: skip
def test_what_a_change_invalidates(
    change: Any, kept: int, client: anthropic.Anthropic, request: pytest.FixtureRequest
) -> None:
    """`kept`: of the levels tools, system and messages, how many can still be read."""
    asked = _asked(request.node.name)
    first = ask(client, *asked.pop("messages"), **asked)
    ends = [0]
    for options in ({"tools": asked["tools"]}, {"tools": asked["tools"], "system": asked["system"]}):
        ends.append(ask(client, **options).read)
    ends.append(first.write)
    assert ends == sorted(set(ends))
    changed = asked | change
    if "tools" in change:
        changed["tools"] = [*asked["tools"], *change["tools"]]
        changed["tools"].reverse()
    told = ask(client, *_asked(request.node.name)["messages"], **changed)
    assert told.read == ends[kept]
    assert (told.write == 0) == (kept == 3)


@pytest.mark.behaviour("messages-and-inference-7.5-tool-choice")
def test_saying_that_calls_may_be_parallel_is_saying_nothing(client: anthropic.Anthropic) -> None:
    asked: Any = {"tools": [tool("look")], "max_tokens": 64}
    message = user(block(long("parallel calls"), FIVE))
    first = ask(client, message, **asked, tool_choice={"type": "any"})
    assert first.write > 1024
    told = ask(client, message, **asked, tool_choice={"type": "any", "disable_parallel_tool_use": False})
    assert told.read == first.write
    assert ask(client, message, **asked, tool_choice={"type": "any", "disable_parallel_tool_use": True}).read == 0


@pytest.mark.behaviour("messages-and-inference-7.5-user-turn-after-thinking")
def test_a_user_turn_after_thinking_keeps_what_was_cached(client: anthropic.Anthropic) -> None:
    thinking = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
    call: Any = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
    result: Any = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "Seen."}
    messages = [user(long("after thinking")), said(thinking, call), user(result)]
    asked: Any = {"tools": [tool("look")], "thinking": {"type": "adaptive"}, "cache_control": FIVE}
    first = ask(client, *messages, **asked)
    told = ask(client, *messages, said("It is there."), user("Thank you."), **asked)
    assert told.read == first.write > 1024


@pytest.mark.behaviour("messages-and-inference-7.5-mid-conversation")
def test_a_system_message_amid_the_conversation_keeps_the_prefix(client: anthropic.Anthropic) -> None:
    messages = [user(long("amid")), said("Yes."), user("And?")]
    first = ask(client, *messages, cache_control=FIVE)
    told = ask(client, *messages, {"role": "system", "content": "Be terse."}, cache_control=FIVE)
    assert told.read == first.write > 1024


@pytest.mark.behaviour("messages-and-inference-7.5-deferred-tools")
def test_a_deferred_tool_that_is_added_keeps_the_prefix(client: anthropic.Anthropic) -> None:
    tools = [tool("look", long("deferred"), FIVE)]
    first = ask(client, tools=tools)
    told = ask(client, tools=[*tools, tool("dig", defer_loading=True)])
    assert told.read == first.write > 1024


def test_the_attribution_block_of_a_session_is_no_part_of_the_prefix(client: anthropic.Anthropic) -> None:
    def asked(header: str, mark: Any = None) -> Any:
        return {"system": [block(f"x-anthropic-billing-header: {header}", mark), block(long("header"), FIVE)]}

    first = ask(client, **asked("cc_version=1"))
    assert first.write > 1024
    assert ask(client, **asked("cc_version=2", FIVE)).read == first.write
    assert ask(client, system=asked("")["system"][1:]).read == first.write
