"""Prompts that are kept beside the slots of the llama.cpp child: what it reports as not computed again."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from antiphon.core.clock import SystemClock
from antiphon.core.records import Scope
from antiphon.engine.contract import Phase, Prompt, Sampling, TokenSpan
from antiphon.engine.embedded import EmbeddedEngine, EmbeddedSettings
from antiphon.engine.saved_prefixes import SavedPrefixes

pytestmark = [pytest.mark.real, pytest.mark.anyio]

A, B = Scope("org", "a"), Scope("org", "b")
#: What a token of SmolLM2's cache takes: 30 layers of keys and values, 3 heads of 64 elements, 2 bytes each.
TOKEN_BYTES = 30 * 2 * 3 * 64 * 2


@asynccontextmanager
async def running(file: Path, **settings: Any) -> AsyncIterator[EmbeddedEngine]:
    made: dict[str, Any] = {
        "pool_tokens": 4096, "window": 2048, "seats": 2, "saved_bytes": 500_000_000, "token_bytes": TOKEN_BYTES,
    }  # fmt: skip
    made |= settings
    engine = EmbeddedEngine(
        EmbeddedSettings(
            module="antiphon.engine.children.llama_cpp", engine="llama_cpp", model="smollm2", model_path=str(file),
            threads=1, cold_prompts=2, queue=100, queue_seconds=120.0, stall_seconds=120.0, start_seconds=120.0, **made,
        ),
        lambda _: [],
        SystemClock(),
    )  # fmt: skip
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


def words(seed: int, tokens: int) -> list[int]:
    return [1000 + (seed * 7919 + i * 37) % 20_000 for i in range(tokens)]


def rhyme(seed: int, tokens: int) -> list[int]:
    """Eight words over and over: there is little doubt how it goes on, whatever the last digits are."""
    return [1000 + seed * 500 + i % 8 * 37 for i in range(tokens)]


async def ask(
    engine: EmbeddedEngine, scope: Scope, ids: list[int], tokens: int = 4, keep: float = 300.0
) -> tuple[int, list[int]]:
    """What was not computed again of a prompt, and what was made of it."""
    made: list[int] = []
    reused: int | None = None
    async with engine.seat(scope, Prompt((TokenSpan(ids),), keep), tokens) as seat:
        async for step in seat.generate(Phase(tokens, Sampling(temperature=0))):
            for event in step.events:
                made += engine.ids_of(event)
            if step.finish is not None:
                reused = step.finish.reused_tokens
    assert reused is not None
    return reused, made


def account(engine: EmbeddedEngine) -> SavedPrefixes:
    remembers = engine._remembers
    assert isinstance(remembers, SavedPrefixes)
    return remembers


async def test_conversations_that_take_turns_on_fewer_seats_stay_warm(smol_file: Path) -> None:
    async with running(smol_file) as engine:
        talks = [words(seed, 120) for seed in range(6)]
        for talk in talks:
            reused, made = await ask(engine, A, talk)
            assert reused == 0
            talk.extend(made)
        for turn in range(2):
            for number, talk in enumerate(talks):
                had = len(talk)
                talk.extend(words(100 * turn + number, 12))
                reused, made = await ask(engine, A, talk)
                assert reused >= 0.95 * had, (turn, number)
                talk.extend(made)
        held = account(engine).held()
        assert held.prompts >= 6
        assert held.evictions == 0
        assert 4 * 140 * TOKEN_BYTES < account(engine).saved_bytes < 7 * 240 * TOKEN_BYTES


async def test_what_comes_back_gives_the_same_answer(smol_file: Path) -> None:
    async with running(smol_file, seats=1) as engine:
        ids = rhyme(1, 200)
        _, first = await ask(engine, A, ids, 12)
        for seed in (2, 3):
            await ask(engine, A, words(seed, 100))
            reused, again = await ask(engine, A, ids, 12)
            assert reused >= 195
            assert again == first == rhyme(1, 212)[200:]


async def test_turns_at_once_do_not_get_into_each_others_way(smol_file: Path) -> None:
    async with running(smol_file, seats=3) as engine:
        talks = [rhyme(seed, 100) for seed in range(7)]
        for turn in range(2):
            answers = await asyncio.gather(*(ask(engine, A, talk, 8) for talk in talks))
            for number, (reused, made) in enumerate(answers):
                own = set(rhyme(number, 8))
                others = {word for seed in range(7) if seed != number for word in rhyme(seed, 8)}
                assert own & set(made)
                assert not others & set(made)
                assert reused >= 96 or not turn


async def test_nothing_crosses_from_one_workspace_to_another(smol_file: Path) -> None:
    async with running(smol_file) as engine:
        ids = words(1, 150)
        assert (await ask(engine, A, ids))[0] == 0
        assert (await ask(engine, B, ids))[0] == 0
        for seed in (2, 3, 4):  # both are displaced, and saved
            await ask(engine, A, words(seed, 80))
        assert (await ask(engine, Scope("org", "c"), ids))[0] == 0
        assert (await ask(engine, A, ids))[0] >= 148
        assert (await ask(engine, B, ids))[0] >= 148


async def test_a_child_that_was_lost_has_nothing(smol_file: Path) -> None:
    async with running(smol_file, seats=1) as engine:
        ids = words(1, 100)
        await ask(engine, A, ids)
        await ask(engine, A, words(2, 100))
        assert account(engine).saved_bytes > 0
        before, child = engine.epoch(A), engine.supervisor.pid
        assert child is not None
        os.kill(child, signal.SIGKILL)
        while engine.epoch(A) == before:
            await asyncio.sleep(0.05)
        assert account(engine).held().prompts == account(engine).saved_bytes == 0
        assert (await ask(engine, A, ids))[0] == 0
        assert (await ask(engine, A, ids))[0] >= 98


async def test_idle_slots_never_take_the_room_that_a_prompt_needs(smol_file: Path) -> None:
    async with running(smol_file, seats=4, pool_tokens=384, window=384) as engine:
        talks = [words(seed, 110) for seed in range(5)]
        for talk in talks:
            assert (await ask(engine, A, talk))[0] == 0
        assert (await ask(engine, A, words(50, 320)))[0] == 0  # nearly all there is
        assert (await ask(engine, B, words(50, 320), 40))[0] == 0
        for talk in talks:
            assert (await ask(engine, A, talk))[0] >= 104
        assert (await ask(engine, A, words(50, 320)))[0] >= 310
        assert account(engine).held().evictions == 0


async def test_a_small_room_keeps_what_was_promised(smol_file: Path) -> None:
    async with running(smol_file, seats=1, saved_bytes=2 * 120 * TOKEN_BYTES) as engine:
        promised = [words(1, 100), words(2, 100)]
        for ids in promised:
            await ask(engine, A, ids, keep=3600.0)
        for seed in range(10, 14):
            await ask(engine, A, words(seed, 100), keep=0.0)
        assert account(engine).saved_bytes <= 2 * 120 * TOKEN_BYTES
        for ids in promised:
            assert (await ask(engine, A, ids, keep=3600.0))[0] >= 94
        assert (await ask(engine, A, words(10, 100), keep=0.0))[0] == 0


async def test_a_turn_of_several_phases_stays_on_its_slot(smol_file: Path) -> None:
    async with running(smol_file, seats=1) as engine:
        ids = words(1, 100)
        await ask(engine, A, ids)
        await ask(engine, A, words(2, 100))
        saved = account(engine).saved_bytes
        async with engine.seat(A, Prompt((TokenSpan(words(2, 100)),), 60.0), 200) as seat:
            for phase in (Phase(60), Phase(20, appended=(5, 6, 7)), Phase(20, appended=(8, 9), instead=True)):
                finish = [step.finish async for step in seat.generate(phase)][-1]
                assert finish is not None
                assert finish.reused_tokens is not None
                assert finish.reused_tokens >= 98
        assert account(engine).saved_bytes == saved, "nothing that a phase leaves behind is worth saving"


@pytest.mark.parametrize("after", [0, 1, 3])
async def test_a_prompt_that_was_cancelled_is_known_as_far_as_it_came(smol_file: Path, after: int) -> None:
    """`after` so many reports: before the library began, in the prompt, and in the answer."""
    async with running(smol_file, seats=1, chunk_tokens=64) as engine:
        old, new = words(1, 100), words(2, 300)
        await ask(engine, A, old)
        before = len(engine._inboxes)
        async with engine.seat(B, Prompt((TokenSpan(new),), 60.0), 50) as seat:
            steps = seat.generate(Phase(50, Sampling(temperature=0)))
            async with aclosing(steps):
                reading = asyncio.ensure_future(anext(steps))
                if after == 0:
                    await asyncio.sleep(0)
                elif after == 1:
                    slot = account(engine)._slots[0]
                    while slot.scope != B or not slot.sure:
                        await asyncio.sleep(0.005)
                else:
                    await reading
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
        assert len(engine._inboxes) == before
        known = account(engine)._known(0, B, new)
        assert known <= 300
        assert (known > 0) == (after > 0)
        assert (await ask(engine, A, old))[0] >= 98, "it was saved before"
        assert (await ask(engine, B, new))[0] >= known - 1, "the library computes the last of a prompt in any case"


async def test_without_room_nothing_is_saved(smol_file: Path) -> None:
    async with running(smol_file, seats=1, saved_bytes=0) as engine:
        ids = words(1, 100)
        await ask(engine, A, ids)
        assert (await ask(engine, A, ids))[0] >= 98
        await ask(engine, A, words(2, 100))
        assert (await ask(engine, A, ids))[0] == 0
        assert account(engine).saved_bytes == 0
        assert account(engine).held().evictions == 2
