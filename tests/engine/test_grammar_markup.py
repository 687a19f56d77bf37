"""A model's own markup, such as `<tool_call>`: a text under a grammar may look like it, and yet is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from antiphon.core.clock import SystemClock
from antiphon.core.records import Scope
from antiphon.engine.contract import Phase, Prompt, Sampling, TokenSpan
from antiphon.engine.embedded import EmbeddedEngine, EmbeddedSettings
from antiphon.engine.grammar import Grammar, Text
from antiphon.engine.tokenizer import Tokenizer
from antiphon.engine.vocabulary import load_vocabulary

pytestmark = [pytest.mark.real, pytest.mark.anyio]

#: So full of calls that the next thing to come is one.
CALLS = '<tool_call>\n{"a": 1}\n</tool_call>\n' * 3


async def test_markup_is_spelled_out_under_a_grammar(qwen_file: Path) -> None:
    vocabulary = load_vocabulary(qwen_file, qwen_file.with_suffix(".vocabulary"))
    tokenizer = Tokenizer(vocabulary)
    call = tokenizer.control_id("<tool_call>")
    assert call is not None
    settings = EmbeddedSettings(
        module="antiphon.engine.children.llama_cpp", engine="llama_cpp", model="qwen", model_path=str(qwen_file),
        window=512, pool_tokens=512, seats=1, threads=1, cold_prompts=1, queue=1, queue_seconds=1.0,
        stall_seconds=60.0, start_seconds=60.0, markup_tokens=(call,),
    )  # fmt: skip
    engine = EmbeddedEngine(settings, tokenizer.encode, SystemClock(), tokenizer.made_bytes)
    await engine.start()
    try:
        prompt = Prompt((TokenSpan(tokenizer.encode_with_control(CALLS)),))
        phase = Phase(16, Sampling(temperature=0.0), grammar=Grammar({"root": Text("<tool_call>{")}, "root"))
        async with engine.seat(Scope("org", "one"), prompt, 16) as seat:
            events = [event async for step in seat.generate(phase) for event in step.events]
    finally:
        await engine.stop()
    assert b"".join(event.data for event in events) == b"<tool_call>{"
    assert call not in {token for event in events for token in event.ids or ()}
