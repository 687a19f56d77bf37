"""Parameters and helpers of the official SDK: those that are served, those that only hint, and those that are refused.

Contract client-surface 2.1 and 7.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pydantic
import pytest

from running import Running, scripted_settings, text_of
from sdkwire import ANSWER, ASKED, COUNTED, Wire


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(scripted_settings(tmp_path_factory.mktemp("surface"), f"rules: [{{text: '{ANSWER}'}}]"))
    yield running
    running.close()


@pytest.fixture
def wire(server: Running) -> Wire:
    return Wire(server)


# -- parameters


@pytest.mark.behaviour(
    "client-surface-2.1-model",
    "client-surface-2.1-max-tokens",
    "client-surface-2.1-messages-required",
)
@pytest.mark.parametrize("name", ["model", "max_tokens", "messages"])
def test_what_is_required_is_missed_by_name(wire: Wire, name: str) -> None:
    body = {field: value for field, value in ASKED.items() if field != name}
    with pytest.raises(anthropic.BadRequestError) as refused:
        wire.client.post("/v1/messages", body=body, cast_to=object)
    assert refused.value.api_message == f"{name}: Field required"


@pytest.mark.behaviour("client-surface-2.1-messages-merge", "client-surface-2.3-message")
def test_neighbours_of_one_role_are_one_turn(wire: Wire) -> None:
    def count(*messages: Any) -> int:
        return wire.client.messages.count_tokens(model="claude-opus-5-5", messages=messages).input_tokens

    texts: Any = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    apart: Any = [{"role": "user", "content": [text]} for text in texts]
    assert count(*apart) == count({"role": "user", "content": texts})
    answered = {"role": "assistant", "content": "So"}
    assert count(*apart) < count(apart[0], answered, apart[1])


@pytest.mark.behaviour(
    "client-surface-2.1-compaction-read",
    "client-surface-2.1-mcp-servers-read",
    "client-surface-2.1-fallbacks-read",
    "client-surface-2.1-fallback-credit-read",
    "client-surface-2.1-billing-policy-others",
)
@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"compaction": {"type": "summarize"}, "betas": ["compact-2026-09-04"]}, "compaction"),
        ({"fallbacks": [{"model": "claude-opus-5"}]}, "fallbacks"),
        ({"fallback_credit_token": "credit"}, "fallback_credit_token"),
        ({"billing_policy": {"type": "billing_policy", "bill_to": "user_profile"}}, "billing_policy.bill_to"),
        ({"mcp_servers": [{"type": "url", "name": "a", "url": "https://a.example"}]}, "mcp_servers"),
    ],
)
def test_promises_of_the_beta_namespace_are_refused_by_path(wire: Wire, change: dict[str, Any], path: str) -> None:
    with pytest.raises(anthropic.BadRequestError) as refused:
        wire.client.beta.messages.create(**ASKED, **change)
    assert refused.value.api_message is not None
    assert refused.value.api_message.startswith(f"{path}: ")


@pytest.mark.behaviour("client-surface-2.1-fallback-credit-alone")
def test_credit_and_fallbacks_are_never_asked_for_together(wire: Wire) -> None:
    with pytest.raises(anthropic.BadRequestError, match="fallback_credit_token: may not be combined with `fallbacks`"):
        wire.client.beta.messages.create(
            **ASKED, fallbacks="default", fallback_credit_token={"token": "t", "mode": "best_effort"}
        )


@pytest.mark.behaviour(
    "client-surface-2.1-thinking-hints",
    "client-surface-2.1-output-config-task-budget",
    "client-surface-2.1-context-management-read",
    "client-surface-2.1-compaction-not-counted",
    "client-surface-2.1-fallbacks-default",
    "client-surface-2.1-billing-policy-self",
    "client-surface-2.2-flags-are-not-demanded",
    "client-surface-4.1-parameters",
    "client-surface-4.1-beta",
)
def test_what_only_hints_in_the_beta_namespace_is_taken(wire: Wire) -> None:
    options: dict[str, Any] = {
        "billing_policy": {"type": "billing_policy", "bill_to": "self"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "output_config": {"effort": "low", "task_budget": {"type": "tokens", "total": 20_000}},
        "thinking": {"type": "adaptive", "display": "updates"},
    }
    message = wire.client.beta.messages.create(**ASKED, **options, fallbacks="default")
    assert message.stop_reason == "end_turn"
    assert "antiphon-ignored" not in wire.got
    counted = wire.client.beta.messages.count_tokens(**COUNTED, **options, compaction={"type": "summarize"})
    assert "antiphon-ignored" not in wire.got
    assert counted.input_tokens == message.usage.input_tokens


@pytest.mark.behaviour(
    "client-surface-0-no-text-completions",
    "client-surface-4.3-absent",
    "client-surface-4.4-absent",
    "client-surface-4.5-absent",
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("post", "/v1/complete"),
        ("get", "/v1/messages/batches"),
        ("get", "/v1/files"),
        ("get", "/v1/skills"),
    ],
)
def test_what_is_not_served_is_not_found_in_the_envelope(wire: Wire, method: str, path: str) -> None:
    ask: Any = getattr(wire.client, method)
    with pytest.raises(anthropic.NotFoundError) as missing:
        ask(path, cast_to=object)
    assert missing.value.type == "not_found_error"
    assert missing.value.request_id == wire.got["request-id"]


# -- helpers


@pytest.mark.behaviour(
    "client-surface-1.3-helper-headers",
    "client-surface-2.1-stream",
    "client-surface-7-create-streamed",
    "client-surface-7-stream-helper",
)
def test_stream_helpers_of_both_namespaces_say_who_they_are(wire: Wire) -> None:
    with wire.client.messages.stream(**ASKED) as stream:
        plain = stream.get_final_message()
    assert (wire.sent["x-stainless-helper-method"], wire.sent["x-stainless-stream-helper"]) == ("stream", "messages")
    with wire.client.beta.messages.stream(**ASKED) as beta_stream:
        beta = beta_stream.get_final_message()
    assert wire.sent["x-stainless-stream-helper"] == "beta.messages"
    assert [block.to_dict() for block in beta.content] == [block.to_dict() for block in plain.content]
    assert text_of(plain) == ANSWER
    list(wire.client.messages.create(**ASKED, stream=True))
    assert "x-stainless-stream-helper" not in wire.sent
    assert wire.body(-1)["stream"] is True


class Answer(pydantic.BaseModel):
    text: str


@pytest.mark.behaviour(
    "client-surface-1.3-helper-headers",
    "client-surface-2.1-output-format-folded",
    "client-surface-7-parse",
)
def test_parse_gives_the_type_that_was_asked_for(wire: Wire) -> None:
    """What is said is no JSON at all; the answer fits nonetheless."""
    parsed = wire.client.messages.parse(**ASKED, output_format=Answer)
    assert isinstance(parsed.parsed_output, Answer)
    assert wire.sent["x-stainless-helper"] == "messages.parse"
    assert "anthropic-beta" not in wire.sent
    assert wire.body(-1)["output_config"]["format"]["type"] == "json_schema"


@anthropic.beta_tool(
    strict=False,
    defer_loading=False,
    cache_control={"type": "ephemeral"},
    allowed_callers=["direct"],
    eager_input_streaming=True,
    input_examples=[{"place": "Rome"}],
)
def weather(place: str) -> str:
    """Tell the weather.

    Args:
        place: Where.
    """
    return f"Rain in {place}"


@pytest.mark.behaviour(
    "client-surface-0-thread-refused-by-code",
    "client-surface-1.3-helper-headers",
    "client-surface-1.9-threads-tried",
    "client-surface-7-runner-headers",
    "client-surface-7-runner-falls-back",
    "client-surface-7-runner-stops",
    "client-surface-7-beta-tool",
    "client-surface-7-helper-tags",
)
def test_the_tool_runner_does_without_a_thread_when_it_is_told_so(wire: Wire) -> None:
    final = wire.client.beta.messages.tool_runner(**ASKED, tools=[weather], system="Be brief.").until_done()
    assert [block.type for block in final.content] == ["text"]
    assert (final.content[0].to_dict()["text"], final.stop_reason) == (ANSWER, "end_turn")
    assert [reply.status_code for reply in wire.seen] == [400, 200]
    assert "BetaToolRunner" in wire.sent["x-stainless-helper"]
    assert wire.body(0)["thread"] == {"type": "create"}
    assert wire.seen[0].json()["error"]["details"]["error_code"] == "thread_unsupported_request"
    assert "thread" not in wire.body(1)
    (tool,) = wire.body(1)["tools"]
    assert tool["input_schema"]["additionalProperties"] is False
    assert set(tool) == {
        "name", "description", "input_schema", "strict", "defer_loading", "cache_control", "allowed_callers",
        "eager_input_streaming", "input_examples",
    }  # fmt: skip
    assert "antiphon-ignored" not in wire.got


@pytest.mark.behaviour(
    "client-surface-1.6-code-selects-class",
    "client-surface-1.6-code-thread-unsupported",
    "client-surface-2.1-thread-read",
    "client-surface-7-runner-headers",
    "client-surface-7-bare-thread-raises",
)
def test_a_bare_thread_is_refused_in_its_own_class(wire: Wire) -> None:
    thread = wire.client.beta.messages.thread(model="claude-opus-5-5", max_tokens=20)
    with pytest.raises(anthropic.types.ThreadUnsupportedRequestError) as refused:
        thread.send(*ASKED["messages"])
    assert refused.value.error_code == "thread_unsupported_request"


@pytest.mark.behaviour("client-surface-2.3-beta-system-message")
def test_an_empty_system_message_of_the_beta_namespace_is_taken(wire: Wire) -> None:
    system: Any = {"role": "system", "output_config": {"effort": "low"}, "clear_at": "next_user_message"}
    wire.client.beta.messages.create(**ASKED | {"messages": [*ASKED["messages"], system]})
    assert "antiphon-ignored" not in wire.got


TAGS = [
    "beta.messages.parse", "BetaToolRunner", "browser-toolset", "compaction", "computer-toolset",
    "environments-work-poller", "environments-worker", "fallback-refusal-middleware", "mcp_content", "mcp_message",
    "mcp_resource_to_content", "mcp_resource_to_file", "mcp_tool", "message-thread", "messages.parse",
    "session-tool-runner",
]  # fmt: skip


@pytest.mark.behaviour("client-surface-7-helper-tags")
def test_every_tag_of_the_helpers_is_let_be(wire: Wire) -> None:
    message = wire.client.messages.create(**ASKED, extra_headers={"x-stainless-helper": ", ".join(TAGS)})
    assert text_of(message) == ANSWER
    assert "antiphon-ignored" not in wire.got
