"""Where a prompt can be marked, and how often (contract messages-and-inference 7.1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import msgspec
import pytest
from asking import FIVE, HOUR, MODEL, ask, block, long, refusal, said, serving, tool, user

from antiphon.plan.caching.positions import marks, positions
from antiphon.wire.parse import parse_messages
from running import Running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("caching")) as running:
        yield running


@pytest.fixture
def client(server: Running) -> anthropic.Anthropic:
    return server.client()


CALL: Any = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "it"}}
RESULT: Any = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "Seen."}


@pytest.mark.parametrize(
    ("options", "messages"),
    [
        pytest.param({"tools": [tool("look", mark=FIVE)]}, [user("Hi")], marks=pytest.mark.behaviour("messages-and-inference-7.1-tools")),
        pytest.param({"system": [block("Be kind.", FIVE)]}, [user("Hi")], marks=pytest.mark.behaviour("messages-and-inference-7.1-system")),
        pytest.param({}, [user(block("Hi", FIVE), block("there"))], marks=pytest.mark.behaviour("messages-and-inference-7.1-text")),
        pytest.param({}, [user("Hi"), said(block("Yes", FIVE)), user("And?")], marks=pytest.mark.behaviour("messages-and-inference-7.1-text")),
        pytest.param({"tools": [tool("look")]}, [user("Hi"), said(CALL | {"cache_control": FIVE}), user(RESULT)], marks=pytest.mark.behaviour("messages-and-inference-7.1-tool-use")),
        pytest.param({"tools": [tool("look")]}, [user("Hi"), said(CALL), user(RESULT | {"cache_control": FIVE}, block("So?"))], marks=pytest.mark.behaviour("messages-and-inference-7.1-tool-result")),
        pytest.param({"tools": [tool("look")]}, [user("Hi"), said(CALL), user(RESULT | {"content": [block("Seen.", FIVE)]}, block("So?"))], marks=pytest.mark.behaviour("messages-and-inference-7.1-tool-result")),
        pytest.param({"tools": [tool("look"), tool("dig", defer_loading=True)]}, [user("Hi"), said(CALL), user(RESULT | {"content": [{"type": "tool_reference", "tool_name": "dig", "cache_control": FIVE}]}, block("So?"))], marks=pytest.mark.behaviour("messages-and-inference-7.1-tool-reference")),
        pytest.param({"tools": [tool("look")]}, [user("Hi"), said(CALL), user(RESULT | {"content": [{"type": "search_result", "source": "s", "title": "t", "content": [block("x")], "cache_control": FIVE}]}, block("So?"))], marks=pytest.mark.behaviour("messages-and-inference-7.1-search-result")),
        pytest.param({"tools": [tool("look")]}, [user("Hi"), said(CALL), user(RESULT | {"content": [{"type": "document", "source": {"type": "text", "data": "x", "media_type": "text/plain"}, "cache_control": FIVE}]}, block("So?"))], marks=pytest.mark.behaviour("messages-and-inference-7.1-document")),
    ],
)  # fmt: skip
def test_what_can_be_marked_is_written_and_read(
    options: dict[str, Any], messages: list[Any], client: anthropic.Anthropic, request: pytest.FixtureRequest
) -> None:
    """Each behind a tool that is long enough by itself, and another one each time."""
    tools = [tool("long", long(request.node.name)), *options.get("tools", [])]
    asked = options | {"tools": tools}
    first, second = (ask(client, *messages, **asked) for _ in range(2))
    assert first.write_5m > 1024
    assert first.input > 0  # what stands behind the mark
    assert second == (first.input, 0, 0, first.write_5m)


@pytest.mark.behaviour("messages-and-inference-7.1-automatic", "client-surface-2.1-cache-control")
def test_a_mark_at_the_top_marks_the_last_block(client: anthropic.Anthropic) -> None:
    messages = [user(long("top"))]
    first = ask(client, *messages, cache_control=FIVE)
    assert first.write_5m > 1024
    asked = [*messages, said("Yes."), user("And then?")]
    grown = ask(client, *asked, cache_control=FIVE)
    assert (grown.read, grown.write_1h) == (first.write_5m, 0)
    assert grown.write_5m > 0
    # The same place as an explicit mark there.
    explicit = ask(client, *asked[:-1], user(block("And then?", FIVE)))
    assert explicit.read == grown.read + grown.write_5m


@pytest.mark.behaviour("messages-and-inference-7.1-default-ttl")
@pytest.mark.parametrize(
    ("control", "hour"), [({}, False), ({"ttl": "5m"}, False), ({"ttl": None}, False), ({"ttl": "1h"}, True)]
)
def test_five_minutes_where_nothing_is_said(control: Any, hour: bool, client: anthropic.Anthropic) -> None:
    mark = {"type": "ephemeral"} | control
    for options in ({"system": [block(long(f"ttl {control}"), mark)]}, {"cache_control": mark}):
        message = user(long(f"message {control}")) if "cache_control" in options else user("Hi")
        told = ask(client, message, **options)
        assert (told.write_1h > 0, told.write_5m > 0) == (hour, not hour)


_FOUR: Any = {"system": [block(f"Rule {number}.", FIVE) for number in range(4)]}


@pytest.mark.behaviour("messages-and-inference-7.1-four", "messages-and-inference-7.1-automatic-takes-one")
def test_four_are_allowed_and_five_are_not(server: Running, client: anthropic.Anthropic) -> None:
    ask(client, **_FOUR)
    three = {"system": _FOUR["system"][1:]}
    ask(client, **three, cache_control=FIVE)
    for asked in (_FOUR | {"tools": [tool("look", mark=FIVE)]}, _FOUR | {"cache_control": FIVE}):
        told = (400, "A maximum of 4 blocks with cache_control may be provided. Found 5.")
        assert refusal(server, **asked) == told
    with pytest.raises(anthropic.BadRequestError):
        ask(client, user(block("Hello", FIVE)), **_FOUR)


@pytest.mark.behaviour("messages-and-inference-7.1-automatic-same")
def test_a_last_block_that_says_the_same_is_marked_once(client: anthropic.Anthropic) -> None:
    """It takes no second slot: three marks before it are still allowed."""
    three = [block("Rule.", FIVE) for _ in range(3)]
    told = ask(client, user(block(long("same"), {"type": "ephemeral", "ttl": "5m"})), system=three, cache_control=FIVE)
    assert told.write_5m > 1024
    assert told.write_1h == 0


@pytest.mark.behaviour("messages-and-inference-7.1-automatic-other")
@pytest.mark.parametrize(("top", "last"), [(FIVE, HOUR), (HOUR, FIVE)])
def test_a_last_block_that_says_another_ttl_is_refused(top: Any, last: Any, server: Running) -> None:
    status, _ = refusal(server, user(block("Hello", last)), cache_control=top)
    assert status == 400


@pytest.mark.behaviour("messages-and-inference-7.1-automatic-walks-back", "messages-and-inference-7.1-never")
@pytest.mark.parametrize(
    "thought",
    [{"type": "thinking", "thinking": "Hm.", "signature": "s"}, {"type": "redacted_thinking", "data": "x"}],
    ids=["thinking", "redacted"],
)
def test_a_mark_at_the_top_passes_over_what_cannot_be_marked(thought: Any, client: anthropic.Anthropic) -> None:
    messages = [user(long(f"back {thought['type']}")), said(block("Well,"), thought)]
    first = ask(client, *messages, cache_control=FIVE)
    assert first.write_5m > 1024
    marked = ask(client, messages[0], said(block("Well,", FIVE), thought))
    assert marked.read == first.write_5m
    # Inside a prefix it is cached with the rest.
    whole = [*messages, user("Go on.")]
    assert ask(client, *whole, cache_control=FIVE).read == first.write_5m
    assert ask(client, *whole, said("On."), user("More."), cache_control=FIVE).read > first.write_5m


@pytest.mark.behaviour("messages-and-inference-7.1-automatic-skipped")
def test_where_nothing_can_be_marked_nothing_is() -> None:
    """Nothing that the API takes is so: it always has a user's message."""
    thinking: Any = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
    body = {"model": MODEL, "max_tokens": 4, "messages": [said(thinking)], "cache_control": FIVE}
    asked = parse_messages(msgspec.json.encode(body)).request
    found = positions(asked)
    assert len(found) == 1
    assert marks(asked, found) == []


@pytest.mark.behaviour("messages-and-inference-7.1-never")
def test_thoughts_are_part_of_the_prefix_that_they_stand_in(client: anthropic.Anthropic) -> None:
    def conversation(thought: str) -> list[Any]:
        thinking = {"type": "thinking", "thinking": thought, "signature": "s"}
        return [user(block(long("thoughts"), FIVE)), said(thinking, block("Yes.")), user(block("And?", FIVE))]

    first = ask(client, *conversation("Hm."))
    assert ask(client, *conversation("Hm.")).read == first.write
    other = ask(client, *conversation("Oh."))
    assert 0 < other.read < first.write
    assert other.write == first.write - other.read


@pytest.mark.behaviour("messages-and-inference-7.1-never")
def test_neither_empty_text_nor_a_deferred_tool_can_be_marked(server: Running) -> None:
    assert refusal(server, user(block("", FIVE)))[0] == 400
    assert refusal(server, system=[block("", FIVE)])[0] == 400
    status, told = refusal(server, tools=[tool("look"), tool("dig", mark=FIVE, defer_loading=True)])
    assert (status, "defer_loading" in told) == (400, True)


@pytest.mark.behaviour("messages-and-inference-7.1-toolset")
def test_a_mark_on_a_toolset_stands_behind_its_last_tool(client: anthropic.Anthropic) -> None:
    tools = [tool("long", long("toolset")), {"type": "computer_toolset_20260801", "cache_control": FIVE}]
    first = ask(client, tools=tools)
    assert ask(client, user("Something else"), tools=tools).read == first.write_5m
    alone = ask(client, tools=[tool("long", long("alone"), FIVE), {"type": "computer_toolset_20260801"}])
    assert first.write_5m > alone.write_5m + 100  # the definitions of all its members


@pytest.mark.behaviour("messages-and-inference-7.4-order")
def test_an_hour_behind_five_minutes_is_refused(server: Running, client: anthropic.Anthropic) -> None:
    wrong: list[Any] = [
        {"tools": [tool("look", mark=FIVE)], "system": [block("Rule.", HOUR)]},
        {"system": [block("One.", FIVE), block("Two.", HOUR)]},
        {"system": [block("One.", FIVE)], "cache_control": HOUR},
    ]
    for asked in wrong:
        status, told = refusal(server, **asked)
        assert (status, "must not come after" in told) == (400, True)
    ask(client, tools=[tool("look", mark=HOUR)], system=[block("Rule.", HOUR)], cache_control=FIVE)


def test_refusals_name_their_path(server: Running) -> None:
    _, told = refusal(server, system=[block("One.", FIVE), block("Two.", HOUR)])
    assert told.startswith("system.1.cache_control.ttl: ")
