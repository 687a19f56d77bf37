"""The official SDK against a scripted server: what it asks for, what it gets, and what it raises."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest
from anthropic import Anthropic

from conftest import StartScripted
from running import text_of

HELLO: Any = [{"role": "user", "content": "Hello"}]


@pytest.mark.behaviour(
    "client-surface-2.3-text-counts",
    "client-surface-2.3-answer-text",
    "client-surface-2.6-fields",
    "client-surface-2.6-stop-end-turn",
)
def test_create_answers_in_the_sdks_own_types(scripted: StartScripted) -> None:
    server = scripted("rules: [{match: Hello, text: 'Good day to you.'}]")
    message = server.client().messages.create(model="claude-sonnet-5-5", max_tokens=20, messages=HELLO)
    assert message.content[0].type == "text"
    assert text_of(message) == "Good day to you."
    assert (message.role, message.type, message.model) == ("assistant", "message", "claude-sonnet-5-5")
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    assert message.id.startswith("msg_")
    assert message.usage.output_tokens == 5  # four words and the end
    (record,) = server.records()
    assert record.usage.input_tokens == message.usage.input_tokens > 0
    assert (record.outcome, record.message_id, record.streamed) == ("end_turn", message.id, False)


@pytest.mark.behaviour(
    "client-surface-0-pings-are-skipped",
    "client-surface-0-request-id",
    "client-surface-3-text-delta",
    "client-surface-3-helper-events",
)
def test_stream_gives_deltas_and_the_same_final_message(scripted: StartScripted) -> None:
    server = scripted("rules: [{match: Hello, text: 'Good day to you.'}]")
    client = server.client()
    plain = client.messages.create(model="claude-sonnet-5-5", max_tokens=20, messages=HELLO)
    with client.messages.stream(model="claude-sonnet-5-5", max_tokens=20, messages=HELLO) as stream:
        texts = list(stream.text_stream)
        final = stream.get_final_message()
    assert texts == ["Good", " day", " to", " you."]
    assert [b.to_dict(exclude_none=True) for b in final.content] == [
        b.to_dict(exclude_none=True) for b in plain.content
    ]
    assert final.usage == plain.usage
    assert final.stop_reason == plain.stop_reason
    assert stream.response.headers["request-id"].startswith("req_")


@pytest.mark.behaviour(
    "client-surface-2.1-max-tokens",
    "client-surface-2.6-stop-max-tokens",
    "client-surface-7-create-streamed",
)
@pytest.mark.anyio
async def test_the_async_client_streams_too(scripted: StartScripted) -> None:
    server = scripted()
    async with server.async_client() as client:
        async with client.messages.stream(model="claude-haiku-5-5", max_tokens=3, messages=HELLO) as stream:
            assert "".join([text async for text in stream.text_stream]) == "1 2 3"
            assert (await stream.get_final_message()).stop_reason == "max_tokens"
        message = await client.messages.create(model="claude-haiku-5-5", max_tokens=2, messages=HELLO)
        assert message.usage.output_tokens == 2


@pytest.mark.behaviour("client-surface-4.1-answer")
def test_count_tokens_is_what_the_same_request_is_billed(scripted: StartScripted) -> None:
    client = scripted().client()
    count = client.messages.count_tokens(model="claude-opus-5-5", messages=HELLO, system="Be brief.")
    message = client.messages.create(model="claude-opus-5-5", messages=HELLO, system="Be brief.", max_tokens=1)
    assert count.input_tokens == message.usage.input_tokens


def test_models_list_and_retrieve(scripted: StartScripted) -> None:
    client = scripted().client()
    models = list(client.models.list(limit=5))  # pages to the end
    assert len({model.id for model in models}) == len(models) > 10
    assert "claude-opus-5-5" in {model.id for model in models}
    assert client.models.retrieve("claude-opus-5-5").type == "model"
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("gpt-4")


def _asks(client: Anthropic, **change: Any) -> None:
    request: dict[str, Any] = {"model": "claude-opus-5-5", "max_tokens": 5, "messages": HELLO}
    client.messages.create(**(request | change))


@pytest.mark.behaviour(
    "client-surface-1.6-envelope",
    "client-surface-1.6-attributes",
    "client-surface-1.6-status-400",
    "client-surface-1.6-status-401",
    "client-surface-1.6-status-403",
    "client-surface-1.6-status-404",
    "client-surface-2.1-messages-required",
)
def test_every_refusal_is_the_sdks_own_error(scripted: StartScripted) -> None:
    server = scripted()
    client = server.client()
    with pytest.raises(anthropic.AuthenticationError) as unknown:
        _asks(server.client(api_key="sk-ant-api03-wrong"))
    assert unknown.value.type == "authentication_error"
    assert unknown.value.request_id is not None
    with pytest.raises(anthropic.NotFoundError) as missing:
        _asks(client, model="gpt-4")
    assert missing.value.body == {
        "type": "error",
        "error": {"type": "not_found_error", "message": "model: gpt-4"},
        "request_id": missing.value.request_id,
    }
    with pytest.raises(anthropic.BadRequestError, match="messages: at least one message is required"):
        _asks(client, messages=[])
    with pytest.raises(anthropic.PermissionDeniedError):
        _asks(server.client(api_key=server.make_key(admin=True)))


@pytest.mark.behaviour("client-surface-1.6-status-413")
def test_a_body_over_the_limit_is_413(scripted: StartScripted) -> None:
    server = scripted(body_bytes=10_000)
    with pytest.raises(anthropic.ContentTooLargeError) as error:
        _asks(server.client(), messages=[{"role": "user", "content": "x" * 20_000}])
    assert error.value.body["error"]["type"] == "request_too_large"  # type: ignore[index]


def test_a_prompt_over_the_window_is_400_in_the_words_clients_compact_on(scripted: StartScripted) -> None:
    client = scripted().client()
    with pytest.raises(anthropic.BadRequestError, match=r"prompt is too long: 30\d\d\d\d tokens > 199999 maximum"):
        _asks(client, messages=[{"role": "user", "content": "x" * 300_000}])


@pytest.mark.behaviour(
    "client-surface-1.4-retried-statuses",
    "client-surface-1.4-retry-after",
    "client-surface-1.6-types-served",
    "client-surface-1.6-status-529",
)
def test_the_sdk_retries_529_by_itself(scripted: StartScripted) -> None:
    """One seat, no queue: the second request is refused at once, waits as the SDK does, and gets its answer."""
    server = scripted("rules: [{match: slow, text: 'a b c d e f', delay_ms: 100}]", seats=1, queue=0)
    with server.client().messages.stream(
        model="claude-opus-5-5", max_tokens=10, messages=[{"role": "user", "content": "slow"}]
    ) as held:
        next(iter(held.text_stream))
        with pytest.raises(anthropic.OverloadedError) as refused:
            _asks(server.client())
        assert refused.value.type == "overloaded_error"
        _asks(server.client(max_retries=5))
    outcomes = [record.outcome for record in server.records()]
    assert outcomes.count("max_tokens") == 1  # refused tries are no records
    assert len(outcomes) == 2


def test_closing_a_stream_stops_the_engine_and_bills_what_was_made(scripted: StartScripted) -> None:
    server = scripted("rules: [{match: Hello, text: '" + "word " * 1000 + "', delay_ms: 5}]")
    with server.client().messages.stream(model="claude-opus-5-5", max_tokens=1000, messages=HELLO) as stream:
        for index, _ in enumerate(stream.text_stream):
            if index == 10:
                break
    server.settle()
    (record,) = server.records()
    assert record.outcome == "client_closed"
    assert 10 <= record.usage.output_tokens < 500


@pytest.mark.behaviour("messages-and-inference-3.3-max-tokens-zero")
@pytest.mark.behaviour("client-surface-2.1-max-tokens-zero", "client-surface-2.6-stop-max-tokens")
def test_max_tokens_zero_reads_the_prompt_and_answers_nothing(scripted: StartScripted) -> None:
    message = scripted().client().messages.create(model="claude-opus-5-5", max_tokens=0, messages=HELLO)
    assert message.content == []
    assert message.stop_reason == "max_tokens"
    assert (message.usage.output_tokens, message.usage.input_tokens > 0) == (0, True)


@pytest.mark.behaviour("client-surface-2.1-stop-sequences", "client-surface-2.6-stop-sequence")
def test_stop_sequences_end_the_answer_and_are_named(scripted: StartScripted) -> None:
    server = scripted("rules: [{match: Hello, tokens: ['one ', 'ST', 'OP', ' two']}]")
    message = server.client().messages.create(
        model="claude-opus-5-5", max_tokens=20, messages=HELLO, stop_sequences=["nowhere", "STOP"]
    )
    assert text_of(message) == "one "
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "STOP")
    assert message.usage.output_tokens == 3  # up to and including the token that completed it


@pytest.mark.behaviour("client-surface-2.6-stop-end-turn")
def test_an_empty_answer_has_no_block(scripted: StartScripted) -> None:
    server = scripted("rules: [{match: Hello, tokens: []}]")
    message = server.client().messages.create(model="claude-opus-5-5", max_tokens=20, messages=HELLO)
    assert (message.content, message.stop_reason, message.usage.output_tokens) == ([], "end_turn", 1)


@pytest.mark.behaviour("client-surface-2.6-stop-window")
def test_the_window_ends_an_answer_with_its_own_reason(scripted: StartScripted) -> None:
    client = scripted().client()
    asked: dict[str, Any] = {"model": "claude-opus-5-5", "messages": [{"role": "user", "content": "x" * 199_960}]}
    used = client.messages.count_tokens(**asked).input_tokens
    message = client.messages.create(**asked, max_tokens=1000)
    assert message.stop_reason == "model_context_window_exceeded"
    assert message.usage.output_tokens == 200_000 - used
