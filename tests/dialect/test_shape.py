"""The shape of a conversation that all families share: what is shown to the model, in which order, joined
how."""

from __future__ import annotations

import json
from typing import Any

import pytest

from antiphon.core.errors import InvalidRequest, WeightsError
from antiphon.dialect import dialect_named
from antiphon.dialect.base import Turn
from antiphon.wire.parse import parse_messages
from antiphon.wire.request import Conversation


def conversation(*messages: tuple[str, Any], **fields: Any) -> Conversation:
    body = {
        "model": "m",
        "max_tokens": 1,
        "messages": [{"role": role, "content": content} for role, content in messages],
        **fields,
    }
    return parse_messages(json.dumps(body).encode()).request


def turns(*messages: tuple[str, Any], **fields: Any) -> list[Turn]:
    return dialect_named("hermes").turns(conversation(*messages, **fields))


def shown(*messages: tuple[str, Any], **fields: Any) -> list[tuple[str, str]]:
    return [(turn.role, turn.text) for turn in turns(*messages, **fields)]


def text(value: str) -> dict[str, str]:
    return {"type": "text", "text": value}


@pytest.mark.behaviour("messages-and-inference-3.1-a-string-is-a-block")
def test_a_string_is_one_block() -> None:
    assert turns(("user", "hi")) == turns(("user", [text("hi")]))
    assert turns(("user", "hi"), system="s") == turns(("user", "hi"), system=[text("s")])


def test_every_block_has_its_path() -> None:
    made = turns(("user", [text("a"), text("b")]), ("assistant", "c"), system=[text("x"), text("y")])
    paths = [piece.path for turn in made for piece in turn.pieces if piece.path]
    assert paths == [
        "system.0",
        "system.1",
        "messages.0.content.0",
        "messages.0.content.1",
        "messages.1.content.0",
    ]


@pytest.mark.behaviour("messages-and-inference-3.1-user-and-user", "messages-and-inference-3.1-assistant-and-assistant")
@pytest.mark.behaviour("client-surface-2.1-messages-merge")
def test_neighbours_of_one_role_are_one_turn() -> None:
    assert shown(("user", "a"), ("user", "b"), ("assistant", "c"), ("assistant", "d"), ("user", "e")) == [
        ("user", "a\n\nb"),
        ("assistant", "cd"),
        ("user", "e"),
    ]


def test_blocks_of_a_person_are_paragraphs_and_those_of_an_answer_run_on() -> None:
    assert shown(("user", [text("a"), text("b")]), ("assistant", [text("It is "), text("so.")])) == [
        ("user", "a\n\nb"),
        ("assistant", "It is so."),
    ]


def test_tools_come_before_system_in_one_turn() -> None:
    tool = {"name": "look", "description": "Looks.", "input_schema": {"type": "object"}}
    first = turns(("user", "hi"), system="Be kind.", tools=[tool])[0]
    assert first.role == "system"
    assert first.text.index("Looks.") < first.text.index("Be kind.")
    assert first.text.endswith("\n\nBe kind.")
    assert [piece.path for piece in first.pieces if not piece.trusted] == ["tools.0", "system.0"]


@pytest.mark.behaviour("messages-and-inference-3.2-in-its-place")
def test_system_turns_amid_a_conversation_stay_in_place() -> None:
    assert [role for role, _ in shown(("user", "a"), ("system", "b"), ("assistant", "c"), ("user", "d"))] == [
        "user",
        "system",
        "assistant",
        "user",
    ]


@pytest.mark.behaviour("client-surface-2.3-thinking-let-be", "client-surface-2.3-fallback-in-place")
def test_thinking_and_the_fallback_mark_are_not_shown() -> None:
    assert shown(
        ("user", "a"),
        (
            "assistant",
            [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "redacted_thinking", "data": "x"},
                {"type": "fallback", "from": {"model": "a"}, "to": {"model": "b"}},
                text("b"),
            ],
        ),
        ("user", "c"),
    ) == [("user", "a"), ("assistant", "b"), ("user", "c")]


def test_a_message_of_which_nothing_is_shown_leaves_no_turn() -> None:
    only_thinking = ("assistant", [{"type": "thinking", "thinking": "hm", "signature": "s"}])
    assert shown(("user", "a"), only_thinking, ("user", "b")) == [("user", "a\n\nb")]


def test_the_attribution_block_is_dropped_only_where_it_comes_first() -> None:
    block = text("x-anthropic-billing-header: cc_version=2")
    assert shown(("user", "a"), system=[block, text("s")]) == [("system", "s"), ("user", "a")]
    assert shown(("user", "a"), system=[block]) == [("user", "a")]
    assert shown(("user", "a"), system=[text("s"), block])[0][1].endswith("cc_version=2")
    assert shown(("user", "a"), system=block["text"])[0] == ("system", block["text"])


def test_a_block_without_a_form_is_refused_by_name_and_path() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "x"}}
    with pytest.raises(InvalidRequest, match=r"messages\.0\.content\.1: `image`"):
        turns(("user", [text("a"), image]))
    result = {"type": "tool_result", "tool_use_id": "t", "content": [text("a"), image]}
    with pytest.raises(InvalidRequest, match=r"messages\.0\.content\.0\.content\.1: `image`"):
        turns(("user", [result]))


def test_a_dialect_that_is_not_known_is_named() -> None:
    with pytest.raises(WeightsError, match="'klingon' is not known; known are hermes, plain"):
        dialect_named("klingon")
