"""Versions and betas: old clients go on as before, new names are no errors."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import samples
from antiphon.core.errors import InvalidRequest
from antiphon.wire.betas import KNOWN, betas_of
from antiphon.wire.parse import parse_messages
from antiphon.wire.request import MessagesRequest
from antiphon.wire.unknown import unknown_fields
from antiphon.wire.versions import NEWEST, OLDEST, check, version_of

SEARCH = {
    "type": "search_result",
    "source": "s",
    "title": "t",
    "content": [{"type": "text", "text": "x", "citations": samples.CITATIONS}],
}


def body(**change: Any) -> bytes:
    return msgspec.json.encode(
        {"model": "claude-opus-5-5", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]} | change
    )


@pytest.mark.behaviour("client-surface-0-sampling-from-extra-body")
@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"temperature": 1.0}, "temperature"),
        ({"top_p": 1}, "top_p"),
        ({"top_k": 0}, "top_k"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": [{"type": "document", "source": {"type": "url", "url": "u"}}]}]}, "messages.1.content.0"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "citations": samples.CITATIONS}]}]}, "messages.0.content.0.citations"),
        ({"messages": [{"role": "user", "content": [SEARCH]}]}, "messages.0.content.0.content.0.citations"),
    ],
)  # fmt: skip
def test_what_the_newest_version_took_away_is_refused_there_and_nowhere_else(change: dict[str, Any], path: str) -> None:
    request = parse_messages(body(**change)).request
    check(OLDEST, request)
    with pytest.raises(InvalidRequest) as refused:
        check(NEWEST, request)
    assert refused.value.path == path


@pytest.mark.behaviour("client-surface-0-older-version")
def test_without_a_header_a_request_is_of_the_oldest_version() -> None:
    assert version_of(None) == OLDEST
    assert version_of(b" 2026-10-21") == NEWEST
    for wrong in (b"", b"2024-01-01", b"2026-10-21\xff", b"latest"):
        with pytest.raises(InvalidRequest, match="anthropic-version"):
            version_of(wrong)


@pytest.mark.behaviour("client-surface-0-betas-in-one-header", "client-surface-2.2-list-is-open")
def test_betas_are_gathered_from_lists_and_repeated_headers() -> None:
    assert betas_of([b"a-1, b-2,,", b"a-1"]) == ("a-1", "b-2")
    assert betas_of([]) == ()
    assert "prompt-caching-2024-07-31" in KNOWN
    for wrong in (b"a b", b"a;b", b"\xff", b"x" * 5000):
        with pytest.raises(InvalidRequest, match="anthropic-beta"):
            betas_of([wrong])


def test_unknown_fields_are_named_wherever_they_stand() -> None:
    request = body(
        something=1,
        tools=[{"name": "a", "input_schema": {"type": "object", "anything": 1}, "novel": 1}],
        system=[{"type": "text", "text": "x", "bold": True}],
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "a", "colour": 1}], "mood": 1},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "a", "input": {"own": 1}, "caller": None}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "b", "deep": 1}]}]},
        ],
    )  # fmt: skip
    assert parse_messages(request).ignored == (  # in the body's own order
        "messages.0.content.0.colour",
        "messages.0.mood",
        "messages.2.content.0.content.0.deep",
        "something",
        "tools.0.novel",
        "system.0.bold",
    )


@given(st.dictionaries(st.text(max_size=5), st.none(), max_size=40))
def test_no_more_are_named_than_a_header_holds(fields: dict[str, None]) -> None:
    assert len(unknown_fields(msgspec.json.encode(fields | {"messages": []}), MessagesRequest)) <= 20
