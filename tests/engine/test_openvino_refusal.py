"""A grammar that OpenVINO's library refuses: its own request is told not to come again, and the engine is back soon."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from antiphon.core.clock import SystemClock
from antiphon.core.errors import EngineFailed
from antiphon.core.records import Scope
from antiphon.engine.contract import Phase, Prompt, Sampling, TokenSpan
from antiphon.engine.embedded import EmbeddedEngine, EmbeddedSettings
from antiphon.engine.grammar import Grammar, Text
from antiphon.engine.tokenizer import Tokenizer
from antiphon.engine.vocabulary import load_vocabulary

HERE = Path(__file__).parent


async def _ask(engine: EmbeddedEngine, prompt: Prompt, phase: Phase) -> bytes:
    said = b""
    async with engine.seat(Scope("org", "one"), prompt, phase.max_tokens) as seat:
        async for step in seat.generate(phase):
            said += b"".join(event.data for event in step.events)
    return said


@pytest.mark.real
@pytest.mark.anyio
async def test_only_its_own_request_is_told_not_to_come_again(smol_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino_telemetry", reason="the extra `openvino` is not installed")
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    vocabulary = load_vocabulary(smol_file, smol_file.with_suffix(".vocabulary"))
    tokenizer = Tokenizer(vocabulary)
    engine = EmbeddedEngine(
        EmbeddedSettings(
            module="refusing_openvino", engine="openvino", model="smollm2", model_path=str(smol_file), window=512,
            pool_tokens=1024, seats=3, threads=1, cold_prompts=2, queue=4, queue_seconds=60.0, stall_seconds=60.0,
            start_seconds=120.0, end_tokens=vocabulary.end_tokens, chunk_tokens=64,
        ),
        tokenizer.encode, SystemClock(), tokenizer.made_bytes,
    )  # fmt: skip
    prompt = Prompt((TokenSpan(tokenizer.encode("Count: 1, 2, 3,")),))

    def phase(root: str | None, tokens: int = 40) -> Phase:
        grammar = Grammar({root: Text('{"a": 1}')}, root) if root is not None else None
        return Phase(max_tokens=tokens, sampling=Sampling(temperature=0), grammar=grammar)

    await engine.start()
    try:
        assert await _ask(engine, prompt, phase("taken")) == b'{"a": 1}'
        beside = asyncio.create_task(_ask(engine, prompt, phase(None, 400)))
        await asyncio.sleep(1)
        with pytest.raises(EngineFailed) as its_own:
            await _ask(engine, prompt, phase("refused"))
        with pytest.raises(EngineFailed) as another:
            await beside
        assert (its_own.value.retry_helps, another.value.retry_helps) == (False, None)
        async with asyncio.timeout(120):
            while not engine.health().ready:
                await asyncio.sleep(0.1)
        assert await _ask(engine, prompt, phase("taken")) == b'{"a": 1}'
    finally:
        await engine.stop()
