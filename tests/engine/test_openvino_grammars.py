"""Many grammars, each another: OpenVINO's library keeps all of them, and is made anew before they are too many."""

from __future__ import annotations

import asyncio
import os
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from antiphon.core.clock import SystemClock
from antiphon.core.records import Scope
from antiphon.engine.contract import Phase, Prompt, Sampling, TokenSpan
from antiphon.engine.embedded import EmbeddedEngine, EmbeddedSettings
from antiphon.engine.grammar import Characters, Grammar, Node, Repeat, Sequence, Text
from antiphon.engine.tokenizer import Tokenizer
from antiphon.engine.vocabulary import load_vocabulary

HERE = Path(__file__).parent
GREEDY = Sampling(temperature=0)
#: After the first so many the library is made anew; after all it is not so again.
FILLING, ALL = 6, 11
#: Bytes. Those that come after take as much as those that are gone, but for what the allocator cannot use again; they
#: would be 85 MiB more (17 each) if none were gone.
GROWN = 40 * 2**20


def _says(number: int) -> str:
    return f"{number}: so it is."


def _large(number: int) -> Grammar:
    """It begins with a text of its own; the parts behind are what takes memory, each with a set of tokens of its own."""
    parts: list[Node] = [Text(_says(number))]
    for place in range(number, number + 45):
        end = 33 + place % 90
        parts += [Repeat(Characters(((10, 10), (end, end)), negated=True), 0, 3), Text(chr(end))]
    return Grammar({f"r{number}": Sequence(tuple(parts))}, f"r{number}")


class Asked:
    """One engine, and the prompts it is asked."""

    def __init__(self, engine: EmbeddedEngine, tokenizer: Tokenizer) -> None:
        self.engine = engine
        self._tokenizer = tokenizer

    async def said(self, text: str, phase: Phase, begun: asyncio.Event | None = None) -> bytes:
        said = b""
        prompt = Prompt((TokenSpan(self._tokenizer.encode(text)),))
        async with self.engine.seat(Scope("org", "one"), prompt, phase.max_tokens) as seat:
            async for step in seat.generate(phase):
                said += b"".join(event.data for event in step.events)
                if begun is not None:
                    begun.set()
        return said

    async def right(self, number: int) -> None:
        """Ask under a grammar of its own; the answer is what this one allows and no other."""
        said = await self.said("The answer:", Phase(max_tokens=6, sampling=GREEDY, grammar=_large(number)))
        assert said.decode().startswith(f"{number}:") and _says(number).startswith(said.decode())

    def resident(self) -> int:
        """Bytes."""
        pages = Path(f"/proc/{self.engine.supervisor.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.real
@pytest.mark.anyio
async def test_however_many_grammars_come_memory_stays_bounded_and_all_are_answered(
    smol_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino_telemetry", reason="the extra `openvino` is not installed")
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    monkeypatch.setenv("GRAMMARS", str(FILLING))
    vocabulary = load_vocabulary(smol_file, smol_file.with_suffix(".vocabulary"))
    tokenizer = Tokenizer(vocabulary)
    engine = EmbeddedEngine(
        EmbeddedSettings(
            module="forgetful_openvino", engine="openvino", model="smollm2", model_path=str(smol_file), window=1600,
            pool_tokens=2048, seats=2, threads=1, cold_prompts=2, queue=8, queue_seconds=60.0, stall_seconds=60.0,
            start_seconds=120.0, end_tokens=vocabulary.end_tokens, chunk_tokens=64,
        ),
        tokenizer.encode, SystemClock(), tokenizer.made_bytes,
    )  # fmt: skip
    asked = Asked(engine, tokenizer)
    plain = Phase(max_tokens=12, sampling=GREEDY)
    await engine.start()
    try:
        with capture_logs() as logs:
            first = await asked.said("The capital of France is", plain)
            pid = engine.supervisor.pid
            # It is busy all the time, so that there is no moment for the library to be made anew in.
            begun = asyncio.Event()
            endless = Phase(max_tokens=1500, sampling=GREEDY)
            beside = asyncio.create_task(asked.said("Count: 1, 2, 3, 4, 5, 6,", endless, begun))
            await begun.wait()
            for number in range(FILLING):
                await asked.right(number)
            assert not beside.done() and not _renewed(logs)
            await _cancelled_while_it_waits(asked)
            last = asyncio.create_task(asked.right(FILLING))
            await asyncio.sleep(0.3)
            assert not last.done() and not beside.done()
            when_full = asked.resident()
            beside.cancel()
            await last
            assert _renewed(logs) == [FILLING]
            for number in range(FILLING + 1, ALL, 2):
                await asyncio.gather(asked.right(number), asked.right(number + 1))
            assert [await asked.said("The capital of France is", plain) for _ in range(2)] == [first, first]
            assert len(_renewed(logs)) == 1
        assert asked.resident() < when_full + GROWN
        assert engine.supervisor.pid == pid and engine.health().seats_taken == 0
    finally:
        await engine.stop()


async def _cancelled_while_it_waits(asked: Asked) -> None:
    waiting = asyncio.create_task(asked.right(ALL))
    await asyncio.sleep(0.3)
    assert asked.engine.health().seats_taken == 2 and not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert asked.engine.health().seats_taken == 1


def _renewed(logs: list[MutableMapping[str, Any]]) -> list[object]:
    """How many grammars it held, each time."""
    return [entry["grammars"] for entry in logs if entry["event"] == "engine.renewed"]
