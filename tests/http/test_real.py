"""The official SDK against real models in real engine children."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

from running import Running, text_of

pytestmark = pytest.mark.real

PARIS: Any = [{"role": "user", "content": "What is the capital of France?"}]
#: The newest version of the API, which the SDK asks for, has no temperature any more.
GREEDY: Any = {"extra_body": {"temperature": 0}, "extra_headers": {"anthropic-version": "2023-06-01"}}
#: Without one the template puts its own there, with which this model wanders.
SYSTEM = "Answer the question."


def test_the_smallest_model_answers_streams_and_counts(smol: Running) -> None:
    client = smol.client()
    plain = client.messages.create(model="claude-haiku-5-5", max_tokens=60, messages=PARIS, system=SYSTEM, **GREEDY)
    assert "Paris" in text_of(plain)
    assert plain.stop_reason == "end_turn"
    with client.messages.stream(
        model="claude-haiku-5-5", max_tokens=60, messages=PARIS, system=SYSTEM, **GREEDY
    ) as stream:
        deltas = list(stream.text_stream)
        final = stream.get_final_message()
    assert len(deltas) > 3
    assert "".join(deltas) == text_of(plain)
    assert final.usage.output_tokens == plain.usage.output_tokens == len(deltas) + 1
    counted = client.messages.count_tokens(model="claude-haiku-5-5", messages=PARIS, system=SYSTEM)
    assert counted.input_tokens == plain.usage.input_tokens


def test_its_limits_are_the_real_ones(smol: Running) -> None:
    client = smol.client()
    with pytest.raises(anthropic.BadRequestError, match=r"prompt is too long: \d+ tokens > 8191 maximum"):
        client.messages.create(
            model="claude-haiku-5-5", max_tokens=5, messages=[{"role": "user", "content": "word " * 9000}]
        )
    short = client.messages.create(model="claude-haiku-5-5", max_tokens=3, messages=PARIS)
    assert (short.stop_reason, short.usage.output_tokens) == ("max_tokens", 3)
    warm = client.messages.create(model="claude-haiku-5-5", max_tokens=0, messages=PARIS)
    assert (warm.content, warm.usage.output_tokens) == ([], 0)


def test_a_stop_sequence_cuts_a_real_answer(smol: Running) -> None:
    message = smol.client().messages.create(
        model="claude-haiku-5-5", max_tokens=30, messages=PARIS, system=SYSTEM, stop_sequences=["France"],
        **GREEDY,
    )  # fmt: skip
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "France")
    assert text_of(message) == "The capital of "


@pytest.mark.behaviour("messages-and-inference-3.4-continued")
def test_prefill_is_continued(smol: Running) -> None:
    message = smol.client().messages.create(
        model="claude-haiku-5-5", max_tokens=10,
        messages=[*PARIS, {"role": "assistant", "content": "The capital of France is"}],
        **GREEDY,
    )  # fmt: skip
    assert text_of(message).startswith(" Paris")


@pytest.mark.anyio
async def test_several_at_once_and_one_that_leaves(smol: Running) -> None:
    import asyncio

    async with smol.async_client() as client:

        async def one(number: int) -> str:
            message = await client.messages.create(
                model="claude-haiku-5-5", max_tokens=8, messages=[{"role": "user", "content": f"Say {number}"}]
            )
            return text_of(message)

        leaving = asyncio.create_task(one(99))
        answers = asyncio.gather(*(one(n) for n in range(6)))
        await asyncio.sleep(0.2)
        leaving.cancel()
        assert len(await answers) == 6
    smol.settle()
