"""The llama.cpp child under its supervisor: answers, cancels, crashes and hangs, with a real model in it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from antiphon.core.clock import SystemClock
from antiphon.core.errors import EngineFailed, Overloaded
from antiphon.core.records import Scope
from antiphon.engine.contract import Finish, Phase, Prompt, Sampling, TokenSpan
from antiphon.engine.embedded import EmbeddedEngine, EmbeddedSettings, shared_prefix
from antiphon.engine.tokenizer import Tokenizer
from antiphon.engine.vocabulary import load_vocabulary

pytestmark = [pytest.mark.real, pytest.mark.anyio]

ONE, OTHER = Scope("org", "one"), Scope("org", "other")
GREEDY = Sampling(temperature=0.0)
PARIS = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
#: Goes on for as long as it is let.
ENDLESS = "Count: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,"


class Bench:
    """An engine and its tokenizer."""

    def __init__(self, engine: EmbeddedEngine, tokenizer: Tokenizer) -> None:
        self.engine = engine
        self.tokenizer = tokenizer

    async def ask(
        self, text: str, phase: Phase, scope: Scope = ONE, started: asyncio.Event | None = None
    ) -> tuple[bytes, int, Finish]:
        ids = self.tokenizer.encode_with_control(text)
        data, tokens = b"", 0
        async with self.engine.seat(scope, Prompt((TokenSpan(ids),)), phase.max_tokens) as seat:
            async for step in seat.generate(phase):
                if started is not None:
                    started.set()
                data += b"".join(event.data for event in step.events)
                tokens += sum(event.tokens for event in step.events)
                if step.finish is not None:
                    return data, tokens, step.finish
        raise AssertionError("no finish")

    async def idle(self) -> None:
        async with asyncio.timeout(5):
            while self.engine.health().seats_taken or self.engine.health().waiting:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running(file: Path, **change: Any) -> AsyncIterator[Bench]:
    tokenizer = Tokenizer(load_vocabulary(file, file.with_suffix(".vocabulary")))
    settings: dict[str, Any] = {
        "module": "antiphon.engine.children.llama_cpp",
        "engine": "llama_cpp",
        "model": "smollm2",
        "model_path": str(file),
        "window": 8192,
        "pool_tokens": 8192,
        "seats": 4,
        "threads": 2,
        "cold_prompts": 2,
        "queue": 16,
        "queue_seconds": 60.0,
        "stall_seconds": 20.0,
        "start_seconds": 60.0,
    }
    engine = EmbeddedEngine(EmbeddedSettings(**(settings | change)), tokenizer.encode, SystemClock())
    await engine.start()
    try:
        yield Bench(engine, tokenizer)
    finally:
        await engine.stop()


async def test_it_answers_counts_and_reuses_only_its_own_workspaces_prompts(smol_file: Path) -> None:
    async with running(smol_file, seats=1) as bench:
        phase = Phase(max_tokens=24, sampling=GREEDY)
        data, tokens, finish = await bench.ask(PARIS, phase)
        assert data == b"The capital of France is Paris."
        assert (tokens, finish.reason, finish.reused_tokens) == (8, "stop", 0)  # seven words and the end
        again, _, warm = await bench.ask(PARIS, phase)
        assert again == data
        assert warm.reused_tokens
        _, _, other = await bench.ask(PARIS, phase, OTHER)
        assert other.reused_tokens == 0  # not even by timing


async def test_limits_are_kept_and_zero_makes_nothing_visible(smol_file: Path) -> None:
    async with running(smol_file) as bench:
        data, tokens, finish = await bench.ask(ENDLESS, Phase(max_tokens=5, sampling=GREEDY))
        assert (tokens, finish.reason) == (5, "length")
        assert data
        data, tokens, finish = await bench.ask(ENDLESS, Phase(max_tokens=0))
        assert (data, tokens, finish.reason) == (b"", 0, "length")


async def test_stop_tokens_end_a_phase_and_their_text_is_left_out(smol_file: Path) -> None:
    async with running(smol_file) as bench:
        (comma,) = bench.tokenizer.encode(",")
        data, tokens, finish = await bench.ask(ENDLESS, Phase(max_tokens=50, sampling=GREEDY, stop_tokens=(comma,)))
        assert finish.reason == "stop"
        assert b"," not in data
        assert 1 < tokens < 6
        await bench.idle()
        assert (await bench.ask(PARIS, Phase(max_tokens=24, sampling=GREEDY)))[0].endswith(b"Paris.")


async def test_a_second_phase_goes_on_where_the_first_ended_and_its_prompt_is_not_computed_again(
    smol_file: Path,
) -> None:
    async with running(smol_file) as bench:
        ids = bench.tokenizer.encode_with_control(PARIS)
        appended = tuple(bench.tokenizer.encode(" The capital of Italy is"))
        async with bench.engine.seat(ONE, Prompt((TokenSpan(ids),)), 100) as seat:
            first = [step async for step in seat.generate(Phase(max_tokens=24, sampling=GREEDY))]
            second = [step async for step in seat.generate(Phase(max_tokens=2, sampling=GREEDY, appended=appended))]
        assert first[-1].finish is not None
        finish = second[-1].finish
        assert finish is not None
        assert finish.reused_tokens is not None
        assert finish.reused_tokens >= len(ids) + 6
        assert b"".join(event.data for step in second for event in step.events).strip().startswith(b"Rome")


async def test_streams_at_once_do_not_mix(smol_file: Path) -> None:
    async with running(smol_file) as bench:
        alone = [
            (await bench.ask(f"{n}, {n + 1}, {n + 2},", Phase(max_tokens=8, sampling=GREEDY)))[0] for n in range(5)
        ]
        together = await asyncio.gather(
            *(bench.ask(f"{n}, {n + 1}, {n + 2},", Phase(max_tokens=8, sampling=GREEDY)) for n in range(5))
        )
        for n, (data, tokens, _) in enumerate(together):
            assert tokens == 8
            assert data[:3] == alone[n][:3]


@pytest.mark.parametrize("where", ["queue", "prompt", "answer"])
async def test_a_cancel_gives_the_seat_back_and_stops_the_library(smol_file: Path, where: str) -> None:
    async with running(smol_file, seats=1) as bench:
        holder = None
        started = asyncio.Event()
        if where == "queue":
            holder = asyncio.create_task(bench.ask(ENDLESS, Phase(max_tokens=4000), started=started))
            await started.wait()
        text = "word " * 6000 if where == "prompt" else ENDLESS
        begun = asyncio.Event()
        task = asyncio.create_task(bench.ask(text, Phase(max_tokens=1500), started=begun))
        if where == "answer":
            await begun.wait()
        else:
            await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        if holder is not None:
            holder.cancel()
            await asyncio.wait([holder])
        await bench.idle()
        # Without a stop the library would work on for many seconds before it could read this.
        async with asyncio.timeout(10):
            assert (await bench.ask(PARIS, Phase(max_tokens=24, sampling=GREEDY)))[0].endswith(b"Paris.")


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_child_that_dies_or_hangs_is_replaced_and_its_streams_hear_of_it(
    smol_file: Path, blow: signal.Signals
) -> None:
    async with running(smol_file, seats=2, stall_seconds=6.0) as bench:
        started = asyncio.Event()
        streams = [asyncio.create_task(bench.ask(ENDLESS, Phase(max_tokens=3000), started=started)) for _ in range(2)]
        waiting = asyncio.create_task(bench.ask(PARIS, Phase(max_tokens=24, sampling=GREEDY)))
        async with asyncio.timeout(30):
            await started.wait()
        child = bench.engine.supervisor.pid
        assert child is not None
        os.kill(child, blow)
        async with asyncio.timeout(60):
            outcomes = await asyncio.gather(*streams, return_exceptions=True)
            assert all(isinstance(outcome, EngineFailed) for outcome in outcomes)
            assert not bench.engine.health().ready
            assert (await waiting)[0].endswith(b"Paris.")  # the queue outlives the child
        assert bench.engine.health().ready
        assert bench.engine.health().restarts == 1
        assert bench.engine.supervisor.pid != child
        await bench.idle()


async def test_a_hundred_requests_are_all_answered_or_refused(smol_file: Path) -> None:
    async with running(smol_file, queue=60) as bench:
        outcomes = await asyncio.gather(
            *(bench.ask(f"{n}", Phase(max_tokens=2)) for n in range(100)), return_exceptions=True
        )
        refused = [outcome for outcome in outcomes if isinstance(outcome, Overloaded)]
        answered = [outcome for outcome in outcomes if isinstance(outcome, tuple)]
        assert [o.reason for o in outcomes if isinstance(o, EngineFailed)] == []
        assert len(refused) == 100 - 60 - 2  # two cold prompts at once are inside
        assert len(answered) == 62
        await bench.idle()


async def test_a_model_that_cannot_be_loaded_is_an_error_at_the_start(tmp_path: Path, smol_file: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(smol_file.read_bytes()[:5_000_000])
    settings = EmbeddedSettings(
        module="antiphon.engine.children.llama_cpp", engine="llama_cpp", model="broken", model_path=str(broken),
        window=8192, pool_tokens=8192, seats=1, threads=1, cold_prompts=1, queue=1, queue_seconds=1.0,
        stall_seconds=5.0, start_seconds=30.0,
    )  # fmt: skip
    engine = EmbeddedEngine(settings, lambda _: [], SystemClock())
    with pytest.raises(EngineFailed):
        await engine.start()
    await engine.stop()


async def test_the_child_goes_when_its_server_goes(smol_file: Path) -> None:
    async with running(smol_file) as bench:
        child = bench.engine.supervisor.pid
        assert child is not None
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


async def test_shared_prefix_is_found_by_halves() -> None:
    assert shared_prefix([], [1]) == 0
    assert shared_prefix([1, 2, 3], [1, 2, 4, 5]) == 2
    assert shared_prefix([2], [1]) == 0
    assert shared_prefix(list(range(1000)), list(range(900))) == 900
    for n in range(40):
        assert shared_prefix(list(range(40)), [*range(n), -1, *range(n + 1, 40)]) == n
