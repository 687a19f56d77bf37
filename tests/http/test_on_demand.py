"""Two real models and memory for one: the one that is asked for is brought, and the other one goes."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest

from antiphon.core.settings import Settings
from running import Running, text_of

pytestmark = pytest.mark.real

PARIS: Any = [{"role": "user", "content": "What is the capital of France?"}]
GREEDY: Any = {"extra_body": {"temperature": 0}, "extra_headers": {"anthropic-version": "2023-06-01"}}
SYSTEM = "Answer the question."
ONE, TWO = "smollm2-135m-instruct", "smol-two"


@pytest.fixture
def home(tmp_path: Path, smol_file: Path) -> Path:
    (tmp_path / "models").symlink_to(smol_file.parent)
    digest = json.loads(smol_file.with_name(smol_file.name + ".stamp").read_bytes())["sha256"]
    (tmp_path / "models.toml").write_text(
        f"""
        [[models]]
        name = "{TWO}"
        display_name = "The same again"
        tiers = ["opus"]
        engine = "llama_cpp"
        dialect = "plain"
        window = 8192
        max_output = 8192
        created = 2026-01-02
        licence = "Apache-2.0"
        [models.weights]
        file = "{smol_file.name.partition("-")[2]}"
        size = {smol_file.stat().st_size}
        sha256 = "{digest}"
        sources = ["file:{smol_file}"]
        """
    )
    return tmp_path


def serving(home: Path, **settings: Any) -> Iterator[Running]:
    running = Running(
        Settings(
            home=str(home), models=(ONE, TWO), catalogue=str(home / "models.toml"), engine="llama_cpp", window=1024,
            memory=600_000_000, early_start_seconds=0.1, ping_seconds=0.1, threads=1, port=0, **settings,
        )
    )  # fmt: skip
    yield running
    running.close()


@pytest.fixture
def waiting(home: Path) -> Iterator[Running]:
    yield from serving(home)


@pytest.fixture
def refusing(home: Path) -> Iterator[Running]:
    yield from serving(home, loading="refuse")


def loaded(running: Running) -> list[str]:
    models = running.app.parts.models
    return [name for name in models if models[name].engine.health().loaded]


def ready(running: Running) -> bool:
    with urllib.request.urlopen(f"{running.base_url}/health/ready", timeout=10) as reply:
        return bool(reply.status == 200)


def test_a_stream_is_told_of_the_loading_by_pings_and_the_other_model_goes(waiting: Running) -> None:
    client = waiting.client(timeout=120)
    assert loaded(waiting) == [ONE]
    assert ready(waiting)
    # The SDK keeps pings to itself.
    with client.messages.with_streaming_response.create(
        model=TWO, max_tokens=24, messages=PARIS, system=SYSTEM, stream=True, **GREEDY
    ) as reply:
        lines = list(reply.iter_lines())
    kinds = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    assert kinds[0] == "message_start"
    assert "ping" in kinds[1 : kinds.index("content_block_start")]
    deltas = [json.loads(line.removeprefix("data: ")) for line in lines if "text_delta" in line]
    assert "Paris" in "".join(delta["delta"]["text"] for delta in deltas)
    assert loaded(waiting) == [TWO]
    assert ready(waiting)
    plain = client.messages.create(model=ONE, max_tokens=24, messages=PARIS, system=SYSTEM, **GREEDY)
    assert "Paris" in text_of(plain)
    assert loaded(waiting) == [ONE]
    assert {card.id for card in client.models.list()} >= {ONE, TWO}


def test_where_the_operator_wants_it_a_request_for_a_model_that_loads_is_refused(refusing: Running) -> None:
    client = refusing.client(timeout=120)
    with pytest.raises(anthropic.APIStatusError) as refused:
        client.messages.create(model=TWO, max_tokens=8, messages=PARIS)
    assert refused.value.status_code == 529
    assert refused.value.response.headers["retry-after"] == "5"
    patient = refusing.client(timeout=120, max_retries=12)
    assert "Paris" in text_of(
        patient.messages.create(model=TWO, max_tokens=24, messages=PARIS, system=SYSTEM, **GREEDY)
    )
    assert loaded(refusing) == [TWO]
