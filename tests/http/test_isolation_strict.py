"""`isolation = "strict"`: a process for each workspace, and nothing of one in another's."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from antiphon.core.records import DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE, Scope
from antiphon.core.settings import Settings
from antiphon.engine.apart import EngineForEach
from antiphon.engine.embedded import EmbeddedEngine
from running import Running

pytestmark = pytest.mark.real

MODEL = "smollm2-135m-instruct"
#: Longer than the least that is cached of this model.
SYSTEM: Any = [{"type": "text", "text": "The quick brown fox. " * 108, "cache_control": {"type": "ephemeral"}}]
ASKED: Any = {"model": MODEL, "max_tokens": 2, "system": SYSTEM, "messages": [{"role": "user", "content": "Go on"}]}


@pytest.fixture
def server(tmp_path: Path, smol_file: Path) -> Iterator[Running]:
    (tmp_path / "models").symlink_to(smol_file.parent)
    running = Running(
        Settings(
            home=str(tmp_path), models=(MODEL,), engine="llama_cpp", window=2048, isolation="strict", threads=1, port=0
        )
    )
    yield running
    running.close()


def engine_of(server: Running, scope: Scope) -> EmbeddedEngine:
    model = server.app.parts.models[MODEL].engine
    assert isinstance(model, EngineForEach)
    inner = model._of(scope).engine
    assert isinstance(inner, EmbeddedEngine)
    return inner


def test_each_workspace_has_a_process_and_loses_only_its_own(server: Running) -> None:
    first, other = server.client(), server.client(api_key=server.make_key(workspace="other"))
    usage = [client.messages.create(**ASKED).usage for client in (first, other, first, other)]
    written, read = usage[0].cache_creation_input_tokens, [each.cache_read_input_tokens for each in usage]
    assert written and usage[1].cache_creation_input_tokens == written
    assert read == [0, 0, written, written]
    model = server.app.parts.models[MODEL].engine
    assert isinstance(model, EngineForEach)
    scopes = list(model._engines)
    assert scopes[0] == Scope(DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE)
    pids = [engine_of(server, scope).supervisor.pid for scope in scopes]
    assert None not in pids and len(set(pids)) == 2
    os.kill(pids[1] or 0, signal.SIGKILL)
    while engine_of(server, scopes[1]).supervisor.pid == pids[1]:
        server.inside(asyncio.sleep(0.05))
    assert other.messages.create(**ASKED).usage.cache_read_input_tokens == 0
    assert first.messages.create(**ASKED).usage.cache_read_input_tokens == written
    reused = [record.attempts[0].reused_tokens for record in server.records()]
    assert reused[0] == 0 and all((each or 0) >= (written or 0) for each in reused[1:])
