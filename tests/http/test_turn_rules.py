"""The rules of a conversation: who may say what, where a system message may stand, what each option may be (contract
messages-and-inference 3.1 to 3.4)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import pytest

from antiphon.routing.profile import claude_rules
from conftest import StartScripted
from running import Running, scripted_settings, text_of

USER: Any = {"role": "user", "content": "Hello"}
SAID: Any = {"role": "assistant", "content": "Yes."}
BRIEF: Any = {"role": "system", "content": "Be brief."}
TOOL: Any = {"name": "look", "input_schema": {"type": "object"}}
CALL: Any = {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "look", "input": {}}]}
RESULT: Any = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "seen"}]}
OLD = {"anthropic-version": "2023-06-01"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(scripted_settings(tmp_path_factory.mktemp("rules"), "rules: [{match: '', text: 'Well then.'}]"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def bound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Where the asked-for id's own rules bind."""
    running = Running(scripted_settings(tmp_path_factory.mktemp("bound"), "rules: []", profile="claude"))
    yield running
    running.close()


def post(server: Running, path: str = "/v1/messages", **change: Any) -> httpx2.Response:
    request = {"model": "claude-opus-4-5", "max_tokens": 5, "messages": [USER]} | change
    headers = {"x-api-key": server.key} | OLD
    return httpx2.post(f"{server.base_url}{path}", json=request, headers=headers, timeout=60)


def refused(server: Running, **change: Any) -> str:
    """What both endpoints say to it."""
    told = []
    for path in ("/v1/messages", "/v1/messages/count_tokens"):
        reply = post(server, path, **change)
        assert reply.status_code == 400, reply.text
        assert reply.json()["error"]["type"] == "invalid_request_error"
        told.append(str(reply.json()["error"]["message"]))
    assert told[0] == told[1]
    return told[0]


def count(server: Running, *messages: Any, **change: Any) -> int:
    reply = post(server, "/v1/messages/count_tokens", messages=list(messages), **change)
    assert reply.status_code == 200, reply.text
    return int(reply.json()["input_tokens"])


def text(*texts: str) -> list[Any]:
    return [{"type": "text", "text": each} for each in texts]


# -- turns


@pytest.mark.behaviour("messages-and-inference-3.1-stateless")
def test_nothing_of_an_earlier_request_is_known_to_the_next(scripted: StartScripted) -> None:
    server = scripted("rules: [{match: swordfish, text: known}, {match: '', text: unknown}]")
    client = server.client()

    def answer(*messages: Any) -> str:
        return text_of(client.messages.create(model="claude-opus-5-5", max_tokens=5, messages=messages))

    first = {"role": "user", "content": "The word is swordfish."}
    assert answer(first) == "known"
    assert answer({"role": "user", "content": "What is the word?"}) == "unknown"
    assert answer(first, SAID, {"role": "user", "content": "What is the word?"}) == "known"


@pytest.mark.behaviour("messages-and-inference-3.1-most-messages")
def test_a_hundred_thousand_messages_and_not_one_more(server: Running) -> None:
    many = [{"role": "user", "content": "a"}] * 100_000
    assert count(server, *many) > 100_000
    assert refused(server, messages=[*many, USER]) == "messages: at most 100000 messages are allowed"


@pytest.mark.behaviour("messages-and-inference-3.1-user-and-user", "messages-and-inference-3.1-assistant-and-assistant")
def test_neighbours_of_one_role_are_one_turn(server: Running) -> None:
    a, b = "Hello there.", "And hello again."
    apart = count(server, {"role": "user", "content": a}, {"role": "user", "content": b})
    assert apart == count(server, {"role": "user", "content": text(a, b)})
    split = [{"role": "assistant", "content": a}, {"role": "assistant", "content": b}]
    assert count(server, USER, *split, USER) == count(server, USER, {"role": "assistant", "content": text(a, b)}, USER)
    assert post(server, messages=[USER, USER, *split, USER, USER]).status_code == 200


@pytest.mark.behaviour("messages-and-inference-3.1-a-string-is-a-block")
@pytest.mark.parametrize("role", ["user", "assistant", "system"])
def test_a_string_is_one_block_of_text(server: Running, role: str) -> None:
    before, after = ([], [SAID]) if role == "user" else ([USER], [USER] if role == "assistant" else [])
    string = count(server, *before, {"role": role, "content": "Just so."}, *after)
    assert string == count(server, *before, {"role": role, "content": text("Just so.")}, *after)


@pytest.mark.behaviour("messages-and-inference-3.1-synthetic-history")
def test_what_the_model_never_said_may_be_put_in_its_mouth(server: Running) -> None:
    history = [USER, {"role": "assistant", "content": "I am a teapot."}, CALL, RESULT]
    assert post(server, messages=[*history, SAID, USER], tools=[TOOL]).status_code == 200


IMAGE: Any = {"type": "image", "source": {"type": "base64", "data": "aGk=", "media_type": "image/png"}}
SEARCH: Any = {"type": "search_result", "source": "s", "title": "t", "content": text("x")}
THINKING: Any = {"type": "thinking", "thinking": "hm", "signature": "s"}
SERVED: Any = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
FOUND: Any = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}


@pytest.mark.parametrize(
    ("block", "role"),
    [
        pytest.param(IMAGE, "assistant", marks=pytest.mark.behaviour("messages-and-inference-3.1-image-of-the-user")),
        pytest.param(SEARCH, "assistant", marks=pytest.mark.behaviour("messages-and-inference-3.1-search-result-of-the-user")),
        pytest.param(RESULT["content"][0], "assistant", marks=pytest.mark.behaviour("messages-and-inference-3.1-tool-result-of-the-user")),
        pytest.param(THINKING, "user", marks=pytest.mark.behaviour("messages-and-inference-3.1-thinking-of-the-assistant")),
        pytest.param({"type": "redacted_thinking", "data": "x"}, "user", marks=pytest.mark.behaviour("messages-and-inference-3.1-thinking-of-the-assistant")),
        pytest.param(CALL["content"][0], "user", marks=pytest.mark.behaviour("messages-and-inference-3.1-tool-use-of-the-assistant")),
        pytest.param(SERVED, "user", marks=pytest.mark.behaviour("messages-and-inference-3.1-server-tools-of-the-assistant")),
        pytest.param(FOUND, "user", marks=pytest.mark.behaviour("messages-and-inference-3.1-server-tools-of-the-assistant")),
    ],
)  # fmt: skip
def test_each_block_has_its_role(server: Running, block: Any, role: str) -> None:
    wrong = {"role": role, "content": [*text("x"), block]}
    messages = [wrong] if role == "user" else [USER, wrong, USER]
    place = f"messages.{len(messages) // 2}.content.1"
    assert refused(server, messages=messages) == f"{place}: `{block['type']}` blocks are not allowed in {role} messages"


@pytest.mark.behaviour("messages-and-inference-3.1-thinking-of-the-assistant")
def test_thinking_is_taken_back_from_an_assistant(server: Running) -> None:
    said = {"role": "assistant", "content": [THINKING, {"type": "redacted_thinking", "data": "x"}, *text("Yes.")]}
    assert post(server, messages=[USER, said, USER]).status_code == 200


@pytest.mark.behaviour("messages-and-inference-3.1-text-is-not-empty")
@pytest.mark.parametrize("role", ["user", "assistant", "system"])
@pytest.mark.parametrize(
    ("given", "told"), [("", "be non-empty"), (" \n\t", "contain non-whitespace text"), ("\u2003", "contain non-whitespace text")]
)  # fmt: skip
def test_no_text_may_be_empty_or_blank(server: Running, role: str, given: str, told: str) -> None:
    before, after = ([], []) if role == "user" else ([USER], [USER] if role == "assistant" else [])
    place = f"messages.{len(before)}.content"
    string = refused(server, messages=[*before, {"role": role, "content": given}, *after])
    assert string == f"{place}: messages: text content blocks must {told}"
    block = refused(server, messages=[*before, {"role": role, "content": text("x", given)}, *after])
    assert block == f"{place}.1.text: messages: text content blocks must {told}"


# -- system


@pytest.mark.behaviour("messages-and-inference-3.2-top-level")
def test_system_is_a_string_or_blocks_of_text(server: Running) -> None:
    marked = [text("Be kind.")[0] | {"cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    string = count(server, USER, system="Be kind.")
    assert string == count(server, USER, system=text("Be kind.")) == count(server, USER, system=marked)
    assert string > count(server, USER)
    assert post(server, system=marked).status_code == 200
    assert refused(server, system=[IMAGE]).startswith("system.0: Input tag 'image' found using 'type' does not match")


@pytest.mark.behaviour("messages-and-inference-3.2-models-with-system-messages")
@pytest.mark.parametrize(
    ("model", "takes"),
    [
        ("claude-fable-5", True), ("claude-mythos-5", True), ("claude-opus-4-8", True), ("claude-opus-5", True),
        ("claude-sonnet-5", False), ("claude-opus-4-7", False), ("claude-sonnet-4-6", False), ("claude-haiku-4-5", False),
    ],
)  # fmt: skip
def test_system_messages_are_for_some_models_and_need_no_beta(bound: Running, model: str, takes: bool) -> None:
    reply = post(bound, model=model, messages=[USER, BRIEF])
    assert reply.status_code == (200 if takes else 400)
    if not takes:
        told = "messages.1.role: role 'system' is not supported on this model"
        assert reply.json()["error"]["message"] == told


MISPLACED = "a system message must follow a user turn and be last or be followed by an assistant turn"


@pytest.mark.parametrize(
    ("messages", "place"),
    [
        pytest.param([BRIEF, USER], 0, marks=pytest.mark.behaviour("messages-and-inference-3.2-not-first")),
        pytest.param([BRIEF], 0, marks=pytest.mark.behaviour("messages-and-inference-3.2-not-first")),
        pytest.param([USER, SAID, BRIEF], 2, marks=pytest.mark.behaviour("messages-and-inference-3.2-after-a-user-turn")),
        pytest.param([USER, SAID, BRIEF, SAID, USER], 2, marks=pytest.mark.behaviour("messages-and-inference-3.2-after-a-user-turn")),
        pytest.param([USER, BRIEF, USER], 1, marks=pytest.mark.behaviour("messages-and-inference-3.2-before-an-assistant-turn")),
        pytest.param([USER, BRIEF, BRIEF, USER], 2, marks=pytest.mark.behaviour("messages-and-inference-3.2-before-an-assistant-turn")),
        pytest.param([USER, CALL, BRIEF, RESULT], 2, marks=pytest.mark.behaviour("messages-and-inference-3.2-not-within-a-call")),
    ],
)  # fmt: skip
def test_where_a_system_message_may_not_stand(server: Running, messages: list[Any], place: int) -> None:
    assert refused(server, messages=messages, tools=[TOOL]) == f"messages.{place}.role: {MISPLACED}"


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([USER, BRIEF], marks=pytest.mark.behaviour("messages-and-inference-3.2-before-an-assistant-turn")),
        pytest.param([USER, BRIEF, SAID, USER], marks=pytest.mark.behaviour("messages-and-inference-3.2-before-an-assistant-turn")),
        pytest.param([USER, CALL, RESULT, BRIEF], marks=pytest.mark.behaviour("messages-and-inference-3.2-after-a-user-turn")),
        pytest.param([USER, BRIEF, BRIEF, SAID, USER, BRIEF], marks=pytest.mark.behaviour("messages-and-inference-3.2-consecutive")),
    ],
)  # fmt: skip
def test_where_a_system_message_may_stand(server: Running, messages: list[Any]) -> None:
    reply = post(server, messages=messages, tools=[TOOL])
    assert reply.status_code == 200, reply.text


@pytest.mark.behaviour("messages-and-inference-3.2-consecutive")
def test_system_messages_in_a_row_are_one_section(server: Running) -> None:
    kind = {"role": "system", "content": "Be kind."}
    both = {"role": "system", "content": text("Be brief.", "Be kind.")}
    assert count(server, USER, BRIEF, kind) == count(server, USER, both)


@pytest.mark.behaviour("messages-and-inference-3.2-clear-at", "messages-and-inference-3.2-effort")
def test_a_system_message_may_say_how_long_it_holds_and_set_the_effort(server: Running) -> None:
    for more in ({"clear_at": "never"}, {"clear_at": "next_user_message"}, {"output_config": {"effort": "low"}}):
        reply = post(server, messages=[USER, BRIEF | more])
        assert reply.status_code == 200, reply.text
        assert "antiphon-ignored" not in reply.headers
    told = refused(server, messages=[USER, BRIEF | {"clear_at": "later"}])
    assert told == "messages.1.clear_at: Input should be 'never' or 'next_user_message'"
    told = refused(server, messages=[USER, BRIEF | {"output_config": {"effort": "huge"}}])
    assert told.startswith("messages.1.output_config.effort: Input should be")


@pytest.mark.behaviour("messages-and-inference-3.2-neither-content-nor-effort")
def test_a_system_message_says_something_or_sets_the_effort(server: Running) -> None:
    effort = {"role": "system", "output_config": {"effort": "low"}}
    assert post(server, messages=[USER, effort]).status_code == 200
    assert refused(server, messages=[USER, {"role": "system"}]) == "messages.1.content: Field required"
    assert (
        refused(server, messages=[USER, {"role": "system", "clear_at": "never"}])
        == "messages.1.content: Field required"
    )
    told = refused(server, messages=[USER, {"role": "system", "content": []}])
    assert told == "messages.1: system messages must have non-empty content"


# -- options


@pytest.mark.parametrize(
    ("change", "told"),
    [
        pytest.param({"temperature": -0.1}, "temperature: Input should be greater than or equal to 0", marks=pytest.mark.behaviour("messages-and-inference-3.3-temperature")),
        pytest.param({"temperature": 1.1}, "temperature: Input should be less than or equal to 1", marks=pytest.mark.behaviour("messages-and-inference-3.3-temperature")),
        pytest.param({"max_tokens": -1}, "max_tokens: Input should be greater than or equal to 0", marks=pytest.mark.behaviour("messages-and-inference-3.3-max-tokens")),
        pytest.param({"stop_sequences": "x"}, "stop_sequences: Input should be a valid list", marks=pytest.mark.behaviour("messages-and-inference-3.3-stop-sequences")),
        pytest.param({"stop_sequences": ["x", 5]}, "stop_sequences.1: Input should be a valid string", marks=pytest.mark.behaviour("messages-and-inference-3.3-stop-sequences")),
        pytest.param({"metadata": {"user_id": 5}}, "metadata.user_id: Input should be a valid string", marks=pytest.mark.behaviour("messages-and-inference-3.3-user-id")),
        pytest.param({"service_tier": "priority"}, "service_tier: Input should be 'auto' or 'standard_only'", marks=pytest.mark.behaviour("messages-and-inference-3.3-service-tier")),
        pytest.param({"inference_geo": "eu"}, "inference_geo: Input should be 'global' or 'us'", marks=pytest.mark.behaviour("messages-and-inference-3.3-geography")),
        pytest.param({"speed": "turbo"}, "speed: Input should be 'fast' or 'standard'", marks=pytest.mark.behaviour("messages-and-inference-3.3-speed")),
        pytest.param({"diagnostics": {"previous_message_id": 5}}, "diagnostics.previous_message_id: Input should be a valid string", marks=pytest.mark.behaviour("messages-and-inference-3.3-diagnostics")),
        pytest.param({"container": 5}, "container: Input should be a string or an object", marks=pytest.mark.behaviour("messages-and-inference-3.3-container")),
    ],
)  # fmt: skip
def test_what_an_option_may_not_be(server: Running, change: dict[str, Any], told: str) -> None:
    reply = post(server, **change)
    assert (reply.status_code, reply.json()["error"]["message"]) == (400, told)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"temperature": 0}, marks=pytest.mark.behaviour("messages-and-inference-3.3-temperature")),
        pytest.param({"temperature": 1.0}, marks=pytest.mark.behaviour("messages-and-inference-3.3-temperature")),
        pytest.param({"top_p": 0.5}, marks=pytest.mark.behaviour("messages-and-inference-3.3-top-p")),
        pytest.param({"top_k": 40}, marks=pytest.mark.behaviour("messages-and-inference-3.3-top-k")),
        pytest.param({"stop_sequences": []}, marks=pytest.mark.behaviour("messages-and-inference-3.3-stop-sequences")),
        pytest.param({"stop_sequences": [f"end {n}" for n in range(5_000)]}, marks=pytest.mark.behaviour("messages-and-inference-3.3-any-number-of-stops")),
        pytest.param({"metadata": {"user_id": None}}, marks=pytest.mark.behaviour("messages-and-inference-3.3-user-id")),
        pytest.param({"service_tier": "auto"}, marks=pytest.mark.behaviour("messages-and-inference-3.3-service-tier")),
        pytest.param({"service_tier": "standard_only"}, marks=pytest.mark.behaviour("messages-and-inference-3.3-service-tier")),
        pytest.param({"inference_geo": "global"}, marks=pytest.mark.behaviour("messages-and-inference-3.3-geography")),
        pytest.param({"inference_geo": "us"}, marks=pytest.mark.behaviour("messages-and-inference-3.3-geography")),
        pytest.param({"speed": "standard"}, marks=pytest.mark.behaviour("messages-and-inference-3.3-speed")),
        pytest.param({"speed": "fast"}, marks=pytest.mark.behaviour("messages-and-inference-3.3-speed")),
        pytest.param({"diagnostics": {"previous_message_id": None}}, marks=pytest.mark.behaviour("messages-and-inference-3.3-diagnostics")),
        pytest.param({"diagnostics": {"previous_message_id": "msg_1"}}, marks=pytest.mark.behaviour("messages-and-inference-3.3-diagnostics")),
    ],
)  # fmt: skip
def test_what_an_option_may_be(server: Running, change: dict[str, Any]) -> None:
    reply = post(server, **change)
    assert reply.status_code == 200, reply.text
    assert "antiphon-ignored" not in reply.headers


@pytest.mark.behaviour("messages-and-inference-3.3-max-tokens")
def test_max_tokens_is_required(server: Running) -> None:
    body = {"model": "claude-opus-5-5", "messages": [USER]}
    reply = httpx2.post(f"{server.base_url}/v1/messages", json=body, headers={"x-api-key": server.key})
    assert (reply.status_code, reply.json()["error"]["message"]) == (400, "max_tokens: Field required")


@pytest.mark.behaviour("messages-and-inference-3.3-over-the-maximum")
@pytest.mark.parametrize(("model", "most"), [("claude-haiku-4-5", 64_000), ("claude-opus-4-6", 128_000)])
def test_more_than_a_model_can_write_is_refused(bound: Running, model: str, most: int) -> None:
    assert post(bound, model=model, max_tokens=most, stop_sequences=["1"]).status_code == 200
    reply = post(bound, model=model, max_tokens=most + 1)
    told = f"max_tokens: {most + 1} > {most}, which is the maximum allowed number of output tokens for {model}"
    assert (reply.status_code, reply.json()["error"]["message"]) == (400, told)


@pytest.mark.behaviour("messages-and-inference-3.3-user-id")
def test_who_the_user_is_stands_in_the_record(scripted: StartScripted) -> None:
    server = scripted()
    server.client().messages.create(
        model="claude-opus-5-5", max_tokens=1, messages=[USER], metadata={"user_id": "opaque-1"}
    )
    (record,) = server.records()
    assert record.user_id == "opaque-1"


#: What each generation takes of the three: nothing but defaults, one of the first two, or any.
SAMPLING = {
    "default": ["claude-opus-4-7", "claude-opus-4-8", "claude-opus-5", "claude-sonnet-5", "claude-fable-5", "claude-mythos-5", "claude-mythos-preview", "claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5", "claude-fable-5-2"],
    "one": ["claude-opus-4-5", "claude-sonnet-4-5", "claude-haiku-4-5"],
    "any": ["claude-opus-4-6", "claude-sonnet-4-6"],
}  # fmt: skip


@pytest.mark.behaviour("messages-and-inference-3.3-sampling-newest", "messages-and-inference-3.3-sampling-4.5")
@pytest.mark.parametrize(("kind", "model"), [(kind, model) for kind, models in SAMPLING.items() for model in models])
def test_sampling_goes_by_the_model(bound: Running, kind: str, model: str) -> None:
    def taken(**change: Any) -> bool:
        reply = post(bound, model=model, **change)
        assert reply.status_code in (200, 400)
        return reply.status_code == 200

    assert taken(temperature=1)
    assert taken(top_p=1)
    for change in ({"temperature": 0.5}, {"top_p": 0.5}, {"top_k": 5}):
        assert taken(**change) == (kind != "default"), change
    assert taken(temperature=0.5, top_p=0.5) == (kind == "any")


@pytest.mark.behaviour("messages-and-inference-3.3-sampling-while-thinking")
@pytest.mark.parametrize("model", ["claude-opus-4-6", "claude-sonnet-4-6"])
def test_sampling_while_thinking(bound: Running, model: str) -> None:
    thinking: Any = {"type": "adaptive"}
    for change, status in (
        ({"temperature": 0.5}, 400), ({"top_k": 5}, 400), ({"top_p": 0.94}, 400), ({"top_p": 0.95}, 200), ({"top_p": 1}, 200)
    ):  # fmt: skip
        assert post(bound, model=model, thinking=thinking, **change).status_code == status


@pytest.mark.behaviour("messages-and-inference-3.3-geography-by-model")
@pytest.mark.parametrize("model", list(claude_rules()))
def test_geography_is_for_4_6_and_later(bound: Running, model: str) -> None:
    older = any(generation in model for generation in ("-4-5", "-3-"))
    for geography in ("us", "global"):
        reply = post(bound, model=model, inference_geo=geography)
        assert reply.status_code == (400 if older else 200)
        if older:
            assert reply.json()["error"]["message"].startswith("inference_geo: ")


# -- prefill


@pytest.mark.behaviour("messages-and-inference-3.4-continued")
def test_an_answer_goes_on_where_it_was_begun(scripted: StartScripted) -> None:
    """The model reads the beginning last, and the answer does not repeat it."""
    server = scripted("rules: [{match: 'The answer is$', text: ' forty-two.'}, {match: '', text: 'Begun anew.'}]")
    messages: Any = [USER, {"role": "assistant", "content": "The answer is"}]
    message = server.client().messages.create(model="claude-opus-4-5", max_tokens=9, messages=messages)
    assert text_of(message) == " forty-two."


@pytest.mark.behaviour("messages-and-inference-3.4-by-model", "messages-and-inference-4-recovery")
@pytest.mark.parametrize("model", list(claude_rules()))
def test_only_the_4_5_generation_takes_a_beginning(bound: Running, model: str) -> None:
    reply = post(bound, model=model, messages=[USER, SAID])
    if "-4-5" in model:
        assert reply.status_code == 200
    else:
        assert reply.status_code == 400
        assert reply.json()["error"]["message"].startswith("This model does not support assistant message prefill.")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000}, marks=pytest.mark.behaviour("messages-and-inference-3.4-not-while-thinking")),
        pytest.param({"output_config": {"format": {"type": "json_schema", "schema": {}}}}, marks=pytest.mark.behaviour("messages-and-inference-3.4-not-with-a-format")),
    ],
)  # fmt: skip
def test_a_beginning_does_not_go_with_everything(bound: Running, change: dict[str, Any]) -> None:
    told = refused(bound, model="claude-opus-4-5", messages=[USER, SAID], **change)
    assert told.startswith("assistant message prefill is not supported w")


@pytest.mark.behaviour("messages-and-inference-3.4-no-blank-at-the-end")
@pytest.mark.parametrize("end", [" ", "\n", "\t", "\u00a0", " \n"])
def test_a_beginning_does_not_end_in_a_blank(server: Running, end: str) -> None:
    for content in (f"So{end}", text("So", f"and{end}")):
        told = refused(server, messages=[USER, {"role": "assistant", "content": content}])
        assert told.endswith("final assistant content cannot end with trailing whitespace")
    assert post(server, messages=[USER, {"role": "assistant", "content": f"So{end}"}, USER]).status_code == 200


@pytest.mark.behaviour("messages-and-inference-3.4-fallback-credit")
def test_a_retry_on_credit_may_go_on_with_what_was_cut_short(bound: Running) -> None:
    """The credit itself is not redeemed here, which `best_effort` allows."""
    asked: Any = {"model": "claude-opus-5-5", "messages": [USER, SAID]}
    assert post(bound, **asked).status_code == 400
    credit = {"token": "credit", "mode": "best_effort"}
    assert post(bound, **asked, fallback_credit_token=credit).status_code == 200


@pytest.mark.behaviour("messages-and-inference-3.6-fallbacks-elsewhere")
def test_fallbacks_where_there_are_none(server: Running) -> None:
    """A list is refused, and `default` means nothing."""
    client = server.client()
    asked: Any = {"model": "claude-opus-5-5", "max_tokens": 9, "messages": [USER]}
    assert text_of(client.messages.create(**asked, extra_body={"fallbacks": "default"})) == "Well then."
    with pytest.raises(anthropic.BadRequestError, match="fallbacks: "):
        client.messages.create(**asked, extra_body={"fallbacks": [{"model": "claude-opus-5"}]})
