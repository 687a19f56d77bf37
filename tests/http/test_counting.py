"""`count_tokens`: what it takes, what it counts, and what it costs (contract messages-and-inference 8)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest

from conftest import StartScripted
from running import Running, scripted_settings

USER: Any = {"role": "user", "content": "Hello"}
SAID: Any = {"role": "assistant", "content": "Yes."}
TOOL: Any = {"name": "look", "description": "Looks.", "input_schema": {"type": "object"}}
CACHE: Any = {"type": "ephemeral"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(scripted_settings(tmp_path_factory.mktemp("counting"), "rules: []"))
    yield running
    running.close()


def ask(server: Running, *messages: Any, **options: Any) -> httpx2.Response:
    body = {"model": "claude-opus-5-5", "messages": list(messages) or [USER]} | options
    return httpx2.post(
        f"{server.base_url}/v1/messages/count_tokens", json=body, headers={"x-api-key": server.key}, timeout=60
    )


def count(server: Running, *messages: Any, **options: Any) -> int:
    reply = ask(server, *messages, **options)
    assert reply.status_code == 200, reply.text
    return int(reply.json()["input_tokens"])


@pytest.mark.behaviour("messages-and-inference-8-answer")
def test_the_answer_is_one_number(server: Running) -> None:
    reply = ask(server)
    assert set(reply.json()) == {"input_tokens"}
    assert type(reply.json()["input_tokens"]) is int
    counted = server.client().messages.count_tokens(model="claude-opus-5-5", messages=[USER])
    assert counted.input_tokens == reply.json()["input_tokens"] > 0


@pytest.mark.behaviour("messages-and-inference-8-what-counts")
def test_all_that_the_model_reads_counts(server: Running) -> None:
    alone = count(server)
    assert count(server, USER, SAID, USER) > alone
    assert count(server, system="Be kind.") > alone
    assert count(server, tools=[TOOL]) > alone


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"tools": [TOOL], "tool_choice": {"type": "auto"}}, marks=pytest.mark.behaviour("messages-and-inference-8-tool-choice")),
        pytest.param({"tools": [TOOL], "tool_choice": {"type": "none"}}, marks=pytest.mark.behaviour("messages-and-inference-8-tool-choice")),
        pytest.param({"thinking": {"type": "adaptive"}}, marks=pytest.mark.behaviour("messages-and-inference-8-thinking-option")),
        pytest.param({"thinking": {"type": "disabled"}}, marks=pytest.mark.behaviour("messages-and-inference-8-thinking-option")),
        pytest.param({"output_config": {"effort": "low"}}, marks=pytest.mark.behaviour("messages-and-inference-8-output-config")),
        pytest.param({"cache_control": CACHE}, marks=pytest.mark.behaviour("messages-and-inference-8-cache-control")),
        pytest.param({"speed": "fast"}, marks=pytest.mark.behaviour("messages-and-inference-8-speed")),
        pytest.param({"speed": "standard"}, marks=pytest.mark.behaviour("messages-and-inference-8-speed")),
        pytest.param({"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}}, marks=pytest.mark.behaviour("messages-and-inference-8-context-management")),
        pytest.param({"compaction": {"type": "summarize"}}, marks=pytest.mark.behaviour("messages-and-inference-8-compaction-is-ignored")),
    ],
)  # fmt: skip
def test_what_is_no_text_for_the_model_is_taken_and_not_counted(server: Running, options: dict[str, Any]) -> None:
    reply = ask(server, **options)
    assert reply.status_code == 200, reply.text
    assert "antiphon-ignored" not in reply.headers
    plain = count(server, **({"tools": [TOOL]} if "tools" in options else {}))
    assert reply.json()["input_tokens"] == plain


@pytest.mark.behaviour("messages-and-inference-8-no-caching")
def test_marks_of_the_cache_and_counting_again_change_nothing(server: Running) -> None:
    system = {"type": "text", "text": "Be kind. " * 2_000}
    asked = {"role": "user", "content": [{"type": "text", "text": "Hello", "cache_control": CACHE}]}
    first = count(server, USER, system=[system])
    for _ in range(2):
        assert count(server, asked, system=[system | {"cache_control": CACHE}]) == first


@pytest.mark.behaviour("messages-and-inference-8-earlier-thinking")
def test_thinking_of_an_earlier_turn_is_not_counted(server: Running) -> None:
    thought = [
        {"type": "thinking", "thinking": "Long and deep. " * 50, "signature": "s"},
        {"type": "redacted_thinking", "data": "x" * 500},
        {"type": "text", "text": "Yes."},
    ]
    assert count(server, USER, {"role": "assistant", "content": thought}, USER) == count(server, USER, SAID, USER)


@pytest.mark.behaviour("messages-and-inference-8-the-bill")
def test_a_count_is_the_input_of_the_same_request(server: Running) -> None:
    asked: Any = {
        "model": "claude-opus-5-5", "messages": [USER, SAID, USER], "system": "Be kind.", "tools": [TOOL],
        "thinking": {"type": "adaptive"},
    }  # fmt: skip
    client = server.client()
    usage = client.messages.create(**asked, max_tokens=1).usage
    assert client.messages.count_tokens(**asked).input_tokens == usage.input_tokens


@pytest.mark.behaviour("messages-and-inference-8-what-it-refuses")
def test_what_an_answer_is_refused_for_a_count_is_too(server: Running) -> None:
    client = server.client()
    for messages in ([], [SAID], [{"role": "user", "content": " "}]):
        with pytest.raises(anthropic.BadRequestError):
            client.messages.count_tokens(model="claude-opus-5-5", messages=messages)  # type: ignore[arg-type]
    with pytest.raises(anthropic.NotFoundError):
        client.messages.count_tokens(model="gpt-4", messages=[USER])


@pytest.mark.behaviour("messages-and-inference-8-free")
def test_counting_is_free_and_needs_no_seat(scripted: StartScripted) -> None:
    """The only seat is taken and nobody may wait for it; afterwards there is one record, and it is not the count's."""
    server = scripted("rules: [{match: slow, text: 'a b c d e f', delay_ms: 100}]", seats=1, queue=0)
    slow: Any = [{"role": "user", "content": "slow"}]
    with server.client().messages.stream(model="claude-opus-5-5", max_tokens=10, messages=slow) as held:
        next(iter(held.text_stream))
        assert count(server) > 0
        held.until_done()
    (record,) = server.records()
    assert record.streamed


@pytest.mark.real
@pytest.mark.behaviour("messages-and-inference-8-tokenizer")
def test_a_count_is_by_the_models_own_tokenizer(smol_file: Path, qwen_file: Path, tmp_path: Path) -> None:
    """Same words, two models: each counts as its own vocabulary cuts them."""
    counts = []
    for name, file in (("smollm2-135m-instruct", smol_file), ("qwen2.5-coder-1.5b-instruct", qwen_file)):
        folder = tmp_path / name
        (folder / "home").mkdir(parents=True)
        (folder / "home" / "models").symlink_to(file.parent)
        running = Running(scripted_settings(folder, f"model: {name}\nrules: []"))
        try:
            long, short = (count(running, {"role": "user", "content": text}) for text in ("日本語の文章。" * 50, "日"))
            counts.append(long - short)
        finally:
            running.close()
    assert counts[0] != counts[1]
    assert min(counts) > 0
