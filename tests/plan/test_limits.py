"""What of the wish for tokens is left: by the model's maximum, by its window, by the asked-for id's."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from antiphon.core.clock import SystemClock
from antiphon.core.errors import PromptTooLong
from antiphon.engine.contract import Sampling
from antiphon.engine.tokenizer import Tokenizer
from antiphon.engine.vocabulary import builtin_vocabulary
from antiphon.plan.plan import Limits, Planner
from antiphon.plan.render import Renderer
from antiphon.plan.schema.cache import LoweredCache
from antiphon.wire.parse import parse_messages
from antiphon.wire.request import MessagesRequest

_VOCABULARY = builtin_vocabulary()
LOWERED = LoweredCache(SystemClock())
PLANNER = Planner(
    Renderer(_VOCABULARY, Tokenizer(_VOCABULARY), "hermes", SystemClock()), Limits(window=400, max_output=100), LOWERED
)


def asked(max_tokens: int, **more: Any) -> MessagesRequest:
    body = {"model": "m", "max_tokens": max_tokens, "messages": [{"role": "user", "content": "Hello there"}], **more}
    return parse_messages(msgspec.json.encode(body)).request


PROMPT = PLANNER.count(asked(1))


@pytest.mark.parametrize(
    ("wanted", "window", "given", "clamped"),
    [
        (10, None, 10, False),
        (100, None, 100, False),
        (64_000, None, 100, False),  # over the model's maximum: clamped, and that is no end of the window
        (64_000, 10**6, 100, False),  # an id's window does not widen the model's
        (10, PROMPT + 10, 10, False),
        (11, PROMPT + 10, 10, True),
        (0, None, 0, False),
    ],
)
def test_what_may_be_generated(wanted: int, window: int | None, given: int, clamped: bool) -> None:
    plan = PLANNER.plan(asked(wanted), window)
    assert (plan.max_tokens, plan.course.clamped) == (given, clamped)
    assert plan.tokens == PROMPT


def test_a_prompt_that_fills_the_window_is_told_by_how_much() -> None:
    with pytest.raises(PromptTooLong, match=rf"^prompt is too long: {PROMPT} tokens > {PROMPT - 1} maximum$"):
        PLANNER.plan(asked(1), PROMPT)
    assert PLANNER.count(asked(1)) == PROMPT  # counting knows no window


@pytest.mark.behaviour("messages-and-inference-3.3-sampling-defaults", "messages-and-inference-3.3-top-k")
def test_sampling_that_is_given_stands_alone() -> None:
    planner = Planner(
        PLANNER._renderer, Limits(window=400, max_output=9, sampling=Sampling(temperature=0.3, top_k=7)), LOWERED
    )
    assert planner.plan(asked(1)).course.sampling == Sampling(temperature=0.3, top_k=7)
    assert planner.plan(asked(1, temperature=0)).course.sampling == Sampling(temperature=0)
    assert planner.plan(asked(1, top_k=2**70)).course.sampling.top_k == 2**31 - 1  # what an engine can hold
