"""The llama.cpp child and its process; what it answers is asked by `tests/engine_contract`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from antiphon.core.clock import SystemClock
from antiphon.core.errors import EngineFailed
from antiphon.engine.embedded import EmbeddedEngine, EmbeddedSettings
from antiphon.engine.slots import shared_prefix

pytestmark = [pytest.mark.real, pytest.mark.anyio]


@asynccontextmanager
async def running(file: Path) -> AsyncIterator[EmbeddedEngine]:
    settings = EmbeddedSettings(
        module="antiphon.engine.children.llama_cpp", engine="llama_cpp", model="smollm2", model_path=str(file),
        window=8192, pool_tokens=8192, seats=1, threads=1, cold_prompts=1, queue=1, queue_seconds=1.0,
        stall_seconds=20.0, start_seconds=60.0,
    )  # fmt: skip
    engine = EmbeddedEngine(settings, lambda _: [], SystemClock())
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


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
    async with running(smol_file) as engine:
        child = engine.supervisor.pid
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
