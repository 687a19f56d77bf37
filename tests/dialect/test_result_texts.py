"""What tools returned, as the model reads it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from antiphon.core.errors import InvalidRequest
from antiphon.dialect import dialect_named
from antiphon.dialect.hermes import Hermes
from antiphon.wire.parse import parse_messages


def read(content: Any, tools: list[Any] | None = None, **fields: Any) -> str:
    """What stands between the marks of one result."""
    block = {"type": "tool_result", "tool_use_id": "t", "content": content, **fields}
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": [block]}], "tools": tools or []}
    turn = dialect_named("hermes").turns(parse_messages(json.dumps(body).encode()).request)[-1]
    assert all(piece.trusted or piece.path == "messages.0.content.0" for piece in turn.pieces)
    said = turn.text.removesuffix(Hermes.after_results)
    return said.removeprefix("<tool_response>\n").removesuffix("\n</tool_response>")


def text(value: str) -> dict[str, str]:
    return {"type": "text", "text": value}


def test_texts_are_paragraphs() -> None:
    assert read([text("a"), text("b")]) == "a\n\nb"
    assert read("a") == "a"
    assert read(None) == read([]) == read("") == ""


def test_a_search_result_is_its_title_its_source_and_its_texts() -> None:
    found = {
        "type": "search_result",
        "source": "https://a.example",
        "title": "Bread",
        "content": [text("x"), text("y")],
    }
    assert read([found]) == "Bread\nhttps://a.example\nx\ny"


@pytest.mark.parametrize(
    "source",
    [
        {"type": "text", "data": "x", "media_type": "text/plain"},
        {"type": "content", "content": "x"},
        {"type": "content", "content": [text("x")]},
    ],
)
def test_a_document_of_text_is_its_title_its_context_and_its_text(source: dict[str, Any]) -> None:
    assert read([{"type": "document", "source": source}]) == "x"
    assert read([{"type": "document", "source": source, "title": "T", "context": "C"}]) == "T\nC\nx"


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ({"type": "url", "url": "https://a.example"}, "messages.0.content.0.content.1: `document`"),
        ({"type": "base64", "data": "", "media_type": "application/pdf"}, "messages.0.content.0.content.1: `document`"),
        (
            {"type": "content", "content": [text("x"), {"type": "image", "source": {"type": "url", "url": "x"}}]},
            "messages.0.content.0.content.1.source.content: `image`",
        ),
    ],
)
def test_a_document_without_words_is_refused_by_path(source: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidRequest, match=path):
        read([text("a"), {"type": "document", "source": source}])


@pytest.mark.behaviour("client-surface-2.3-browser-state")
def test_the_browsers_state_is_told() -> None:
    state = {
        "type": "browser_state",
        "tabs": [
            {"tab_id": "1", "title": "Bread", "url": "https://a.example"},
            {"tab_id": 2, "title": "Salt", "url": "https://b.example", "active": True},
        ],
        "state_changes": [
            {"type": "tab_opened", "tab_id": 2},
            {"type": "download_started", "download_id": "d1", "url": "https://a.example/f"},
            {"type": "download_completed", "download_id": "d1", "url": "u", "path": "/tmp/f", "size_bytes": 0},
            {"type": "download_failed", "download_id": "d2", "url": "v", "error": "cut off"},
        ],
    }
    assert read([text("Clicked."), state], toolset_name="browser") == (
        "Clicked.\n\nOpen tabs:\n- tab 1: Bread | https://a.example\n- tab 2 (active): Salt | https://b.example\n"
        "Changes:\n- tab opened: tab 2\n- download started: d1 from https://a.example/f\n"
        "- download completed: d1 from u, saved at /tmp/f, 0 bytes\n- download failed: d2 from v, error: cut off"
    )
    assert read([{"type": "browser_state", "tabs": []}]) == "No tab is open."


LOOK: dict[str, Any] = {"name": "look", "description": "Looks.", "input_schema": {"type": "object"}}


def test_a_reference_to_a_deferred_tool_brings_its_definition() -> None:
    named = [{"type": "tool_reference", "tool_name": "look"}]
    assert read(named, [LOOK]) == "The tool look can be used."
    assert read(named, [LOOK | {"defer_loading": True}]) == (
        "The tool look can be used from now on:\n"
        '{"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": {"type": "object"}}}'
    )


def test_a_definition_is_told_once() -> None:
    """Told again at every reference, a small request would make a prompt without bounds."""
    named = {"type": "tool_reference", "tool_name": "look"}
    said = read([named, named, named], [LOOK | {"defer_loading": True}])
    assert said.count('"description": "Looks."') == 1
    assert said.endswith("}}\n\nThe tool look can be used.\n\nThe tool look can be used.")


def test_a_reference_to_a_deferred_toolset_brings_all_its_members() -> None:
    members = ["screenshot", "zoom"]
    entry = {
        "type": "computer_toolset_20260801",
        "configs": {
            name: {"enabled": name in members, "defer_loading": True}
            for name in (
                "key", "hold_key", "type", "cursor_position", "mouse_move", "left_mouse_down", "left_mouse_up",
                "left_click", "left_click_drag", "right_click", "middle_click", "double_click", "triple_click", "scroll",
                "wait", "screenshot", "zoom",
            )
        },
    }  # fmt: skip
    said = read([{"type": "tool_reference", "tool_name": "computer"}], [LOOK, entry]).splitlines()
    assert said[0] == "The tool computer can be used from now on:"
    assert [json.loads(line)["function"]["name"] for line in said[1:]] == ["computer.screenshot", "computer.zoom"]
