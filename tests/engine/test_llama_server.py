"""A llama.cpp server elsewhere: a real one, in a process of its own. What it answers, and what becomes of those who leave,
is asked by `tests/engine_contract`."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anthropic
import pytest

from antiphon.core.clock import SystemClock
from antiphon.core.errors import EngineFailed, Overloaded, SettingsError
from antiphon.core.records import Scope
from antiphon.core.settings import Settings
from antiphon.engine import weights
from antiphon.engine.contract import Finish, Phase, Prompt, Sampling, TokenSpan
from antiphon.engine.llama_server import LlamaServerEngine, LlamaServerSettings
from antiphon.engine.tokenizer import Tokenizer
from antiphon.engine.vocabulary import load_vocabulary
from antiphon.routing import catalogue
from antiphon.serving import models_folder, served_models
from running import Running, text_of

pytestmark = [pytest.mark.real, pytest.mark.anyio]

ONE, OTHER = Scope("org", "one"), Scope("org", "other")
GREEDY = Sampling(temperature=0.0)
PARIS = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
#: Goes on for as long as it is let.
ENDLESS = "Count: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,"
KEY = "the-servers-key"

_SERVE = """
import json, sys
import xllamacpp as x
options = json.loads(sys.argv[1])
p = x.CommonParams()
p.model.path = options["model"]
p.port = options["port"]
p.api_keys = [options["key"]] if options["key"] else []
p.n_ctx, p.n_parallel, p.kv_unified = options["context"], options["slots"], False
p.n_batch = p.n_ubatch = 128
p.cache_ram_mib = options["cache_ram"]
p.endpoint_slots = False
p.sampling.penalty_repeat = options["repeat_penalty"]
p.warmup, p.fit_params = False, False
p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 1  # two would spin where others work too
server = x.Server(p)
print("ADDRESS", server.listening_address, flush=True)
sys.stdin.read()
"""


class Server:
    """A llama.cpp server on a port that it keeps over its lives."""

    def __init__(self, model: Path, **options: Any) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self._options: dict[str, Any] = {
            "model": str(model), "port": self.port, "key": KEY, "context": 4096, "slots": 2, "cache_ram": 0,
            "repeat_penalty": 1.0,
        } | options  # fmt: skip
        self._process: subprocess.Popen[str] | None = None

    def start(self, *, wait: bool = True, **change: Any) -> None:
        command = [sys.executable, "-c", _SERVE, json.dumps(self._options | change)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        if wait:
            assert self._process.stdout is not None
            assert any(line.startswith("ADDRESS") for line in self._process.stdout), "the server does not start"

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        self._process.communicate()
        self._process = None

    def asked_directly(self, ids: list[int], most: int) -> list[int]:
        """The ids that the library itself generates, greedily."""
        body = {"prompt": ids, "n_predict": most, "temperature": 0, "return_tokens": True, "cache_prompt": False}
        tokens: list[int] = self._asked("/completion", body)["tokens"]
        return tokens

    def own_answer(self, question: str, most: int) -> str:
        """What its own chat route answers, greedily."""
        messages = [{"role": "user", "content": question}]
        body = {"messages": messages, "max_tokens": most, "temperature": 0, "cache_prompt": False}
        text: str = self._asked("/v1/chat/completions", body)["choices"][0]["message"]["content"]
        return text

    def _asked(self, path: str, body: dict[str, Any]) -> Any:
        headers = {"Authorization": f"Bearer {KEY}"}
        request = urllib.request.Request(self.address + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.load(reply)


@contextlib.contextmanager
def serving(model: Path, *, start: bool = True, **options: Any) -> Iterator[Server]:
    server = Server(model, **options)
    try:
        if start:
            server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="module")
def server(smol_file: Path) -> Iterator[Server]:
    """One that no test harms."""
    with serving(smol_file) as server:
        yield server


@pytest.fixture(scope="module")
def other_model(smol_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights, whose vocabulary has another word."""
    path = tmp_path_factory.mktemp("other") / "other.gguf"
    hello = (5).to_bytes(8, "little") + b"Hello"
    data = smol_file.read_bytes()
    assert data.count(hello) == 1
    path.write_bytes(data.replace(hello, hello[:8] + b"Hxllo"))
    return path


class Bench:
    """An engine and its tokenizer."""

    def __init__(self, engine: LlamaServerEngine, tokenizer: Tokenizer) -> None:
        self.engine = engine
        self.tokenizer = tokenizer

    async def ask(
        self, text: str, phase: Phase, scope: Scope = ONE, started: asyncio.Event | None = None
    ) -> tuple[bytes, list[int], Finish]:
        ids = self.tokenizer.encode_with_control(text)
        data, made = b"", []
        async with self.engine.seat(scope, Prompt((TokenSpan(ids),)), phase.max_tokens) as seat:
            async for step in seat.generate(phase):
                if started is not None:
                    started.set()
                data += b"".join(event.data for event in step.events)
                made += [i for event in step.events for i in event.ids or [-1] * event.tokens]
                if step.finish is not None:
                    return data, made, step.finish
        raise AssertionError("no finish")

    async def paris(self) -> bytes:
        return (await self.ask(PARIS, Phase(max_tokens=24, sampling=GREEDY)))[0]

    async def until(self, ready: bool) -> None:
        async with asyncio.timeout(90):
            while self.engine.health().ready is not ready:
                await asyncio.sleep(0.02)

    async def idle(self) -> None:
        async with asyncio.timeout(60):
            while self.engine.health().seats_taken or self.engine.health().waiting:
                await asyncio.sleep(0.01)


def engine_for(address: str, model: Path, *, key: str = KEY, **change: Any) -> Bench:
    tokenizer = Tokenizer(load_vocabulary(model, model.with_suffix(".vocabulary")))
    settings: dict[str, Any] = {
        "address": address,
        "model": "smollm2",
        "window": 2048,
        "pool_tokens": 4096,
        "seats": 2,
        "cold_prompts": 2,
        "queue": 16,
        "queue_seconds": 60.0,
        "stall_seconds": 20.0,
        "start_seconds": 30.0,
        "look_seconds": 0.2,
    }
    return Bench(
        LlamaServerEngine(LlamaServerSettings(**(settings | change)), key, tokenizer, SystemClock()), tokenizer
    )


@asynccontextmanager
async def joined(server: Server, model: Path, **change: Any) -> AsyncIterator[Bench]:
    bench = engine_for(server.address, model, **change)
    await bench.engine.start()
    try:
        yield bench
    finally:
        await bench.engine.stop()


async def refusal(address: str, model: Path, **change: Any) -> str:
    bench = engine_for(address, model, **change)
    with pytest.raises(EngineFailed) as raised:
        await bench.engine.start()
    assert not bench.engine.health().ready
    assert KEY not in raised.value.reason
    return raised.value.reason


# -- answers


async def test_tokens_are_those_of_the_library_asked_directly(server: Server, smol_file: Path) -> None:
    async with joined(server, smol_file) as bench:
        for text, most in ((PARIS, 24), (ENDLESS, 30)):
            expected = await asyncio.to_thread(server.asked_directly, bench.tokenizer.encode_with_control(text), most)
            data, made, finish = await bench.ask(text, Phase(max_tokens=most, sampling=GREEDY))
            end = [bench.tokenizer.control_id("<|im_end|>")] if finish.reason == "stop" else []
            assert made == expected or made == expected + end
            assert data == bench.tokenizer.decode(made[: len(made) - len(end)])
        assert await bench.paris() == b"The capital of France is Paris."


async def test_only_a_workspaces_own_prompts_are_reused(server: Server, smol_file: Path) -> None:
    async with joined(server, smol_file, seats=1) as bench:
        phase = Phase(max_tokens=24, sampling=GREEDY)
        first = await bench.ask(PARIS, phase)
        again = await bench.ask(PARIS, phase)
        other = await bench.ask(PARIS, phase, OTHER)
        assert first[:2] == again[:2] == other[:2]
        assert first[2].reused_tokens == 0
        assert again[2].reused_tokens
        assert other[2].reused_tokens == 0  # not even by timing
    async with joined(server, smol_file, seats=1) as bench:  # nobody knows what the slots hold by now
        assert (await bench.ask(PARIS, phase))[2].reused_tokens == 0


async def test_what_the_server_refuses_is_said_to_the_log_alone(server: Server, smol_file: Path) -> None:
    async with joined(server, smol_file) as bench:
        async with bench.engine.seat(ONE, Prompt((TokenSpan([10**8]),)), 5) as seat:
            with pytest.raises(EngineFailed, match="Internal server error: the model stopped") as raised:
                await anext(seat.generate(Phase(max_tokens=5)))
        assert "answered 400" in raised.value.reason
        assert raised.value.retry_helps is False
        assert await bench.paris() == b"The capital of France is Paris."


# -- which server may serve


async def test_a_server_that_is_not_set_up_for_the_model_is_refused(
    server: Server, smol_file: Path, other_model: Path
) -> None:
    address = server.address
    assert "refuses the key" in await refusal(address, smol_file, key="wrong")
    assert "refuses the key" in await refusal(address, smol_file, key="")
    assert "holds 2048 tokens, and the model's window is 4096" in await refusal(address, smol_file, window=4096)
    assert "has 2 slots, and the setting `seats` asks for 3" in await refusal(address, smol_file, seats=3)
    assert "its tokenizer disagree on" in await refusal(address, other_model)


async def test_an_address_where_nobody_listens_is_an_error_after_the_time_to_start(smol_file: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        assert "nobody listens" in await refusal(address, smol_file, start_seconds=0.3)
    assert "connection to the server broke" in await refusal("http://127.0.0.1:99999", smol_file, start_seconds=0.3)


@pytest.mark.parametrize(
    ("reply", "complaint"),
    [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "does not answer as a llama.cpp server does"),
        ("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "answers 302"),
        ("HTTP/1.1 503 Busy\r\nContent-Length: 9\r\n\r\n/srv/path", "loading its model"),
        ("nonsense\r\n\r\n", "the connection to the server broke"),
        ("", "does not answer /health within 1 s"),
    ],
)
async def test_what_is_no_such_server_is_refused(smol_file: Path, reply: str, complaint: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if reply:
            writer.write(reply.encode())
            writer.close()
        else:
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.close()

    listener = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with listener:
        address = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        reason = await refusal(address, smol_file, start_seconds=0.1, answer_seconds=1.0)
    assert complaint in reason
    assert "/srv/path" not in reason


async def test_a_cache_behind_the_slots_is_found_and_none_is_used_then_and_the_servers_own_rules_do_not_count(
    smol_file: Path,
) -> None:
    with serving(smol_file, cache_ram=512, repeat_penalty=5.0, key="") as server:
        async with joined(server, smol_file, key="") as bench:
            for _ in range(2):
                data, _, finish = await bench.ask(PARIS, Phase(max_tokens=24, sampling=GREEDY))
                assert (data, finish.reused_tokens) == (b"The capital of France is Paris.", 0)


# -- a server that goes


async def test_start_waits_for_a_server_that_is_still_coming(smol_file: Path) -> None:
    with serving(smol_file, start=False) as server:
        bench = engine_for(server.address, smol_file)
        starting = asyncio.create_task(bench.engine.start())
        await asyncio.sleep(0.3)
        assert not bench.engine.health().ready
        server.start(wait=False)
        async with asyncio.timeout(30):
            await starting
        assert await bench.paris() == b"The capital of France is Paris."
        await bench.engine.stop()
        with pytest.raises(EngineFailed):
            await bench.engine.tokenize("x")


async def test_a_server_that_dies_takes_its_streams_along_and_is_joined_again_when_it_is_back(
    smol_file: Path, other_model: Path
) -> None:
    with serving(smol_file) as server:
        async with joined(server, smol_file) as bench:
            started = asyncio.Event()
            phase = Phase(max_tokens=1500)
            streams = [asyncio.create_task(bench.ask(ENDLESS, phase, started=started)) for _ in range(2)]
            waiting = asyncio.create_task(bench.paris())
            async with asyncio.timeout(30):
                await started.wait()
            server.kill()
            async with asyncio.timeout(30):
                outcomes = await asyncio.gather(*streams, return_exceptions=True)
            assert all(isinstance(outcome, EngineFailed) for outcome in outcomes)
            await bench.until(ready=False)
            assert "nobody listens" in bench.engine.health().reason

            await asyncio.to_thread(server.start, model=str(other_model))
            async with asyncio.timeout(30):
                while "disagree" not in bench.engine.health().reason:
                    await asyncio.sleep(0.02)
            with pytest.raises(Overloaded):  # for those who come now, after a few looks in vain
                while True:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.3):
                            await bench.paris()
            assert not waiting.done()  # who waits keeps their place
            server.kill()

            await asyncio.to_thread(server.start)
            async with asyncio.timeout(30):
                assert await waiting == b"The capital of France is Paris."
            assert bench.engine.health().ready
            assert bench.engine.health().restarts == 1
            assert (await bench.ask(PARIS, Phase(max_tokens=24, sampling=GREEDY)))[0].endswith(b"Paris.")
            await bench.idle()


async def test_a_server_that_is_exchanged_between_two_looks_is_noticed(smol_file: Path) -> None:
    with serving(smol_file) as server:
        async with joined(server, smol_file, look_seconds=1000.0) as bench:
            server.kill()
            await asyncio.to_thread(server.start)
            bench.engine._doubt.set()  # the look that would come by the clock
            async with asyncio.timeout(30):
                while bench.engine.health().restarts == 0:
                    await asyncio.sleep(0.02)
            assert await bench.paris() == b"The capital of France is Paris."


async def test_a_stream_without_progress_ends_and_a_server_that_hangs_is_not_ready_until_it_goes_on(
    smol_file: Path,
) -> None:
    with serving(smol_file) as server:
        async with joined(server, smol_file, stall_seconds=3.0, answer_seconds=1.5) as bench:
            started = asyncio.Event()
            stream = asyncio.create_task(bench.ask(ENDLESS, Phase(max_tokens=1500), started=started))
            async with asyncio.timeout(30):
                await started.wait()
                server.signal(signal.SIGSTOP)
                with pytest.raises(EngineFailed) as raised:
                    await stream
            assert "no progress for" in raised.value.reason
            await bench.idle()
            await bench.until(ready=False)
            assert "does not answer" in bench.engine.health().reason
            server.signal(signal.SIGCONT)
            await bench.until(ready=True)
            assert await bench.paris() == b"The capital of France is Paris."


# -- through the API


_ENTRY = """
[[models]]
name = "elsewhere"
display_name = "SmolLM2, elsewhere"
tiers = ["opus", "sonnet", "haiku"]
engine = "llama_server"
address = "{address}"
key_variable = "TEST_LLAMA_SERVER_KEY"
dialect = "plain"
window = 2048
max_output = 2000
created = 2026-01-02
licence = "Apache-2.0"

[models.weights]
file = "smol-metadata.gguf"
size = {size}
sha256 = "{sha256}"
sources = ["file:{source}"]
"""


def installed_entry(folder: Path, smol_file: Path, address: str) -> Settings:
    """Settings whose catalogue names the server. Only the first part of the model's file is here."""
    with smol_file.open("rb") as whole:
        first = whole.read(4 << 20)
    source = folder / "first.gguf"
    source.write_bytes(first)
    catalogue_file = folder / "models.toml"
    digest = hashlib.sha256(first).hexdigest()
    catalogue_file.write_text(_ENTRY.format(address=address, size=len(first), sha256=digest, source=source))
    settings = Settings(
        home=str(folder / "home"), models=("elsewhere",), catalogue=str(catalogue_file), port=0, seats=2,
        engine_start_seconds=30.0,
    )  # fmt: skip
    entry = catalogue.from_settings(settings).get("elsewhere")
    asyncio.run(weights.pull(entry.weights, models_folder(settings)))
    return settings


def ready(running: Running) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"{running.base_url}/health/ready", timeout=10) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def until_ready(running: Running, status: int) -> str:
    for _ in range(600):
        found, text = ready(running)
        if found == status:
            return text
        time.sleep(0.05)
    raise AssertionError(text)


def test_the_official_client_talks_to_a_server_elsewhere_and_sees_it_go_and_come_back(
    smol_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    question: Any = {
        "model": "elsewhere", "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "extra_body": {"temperature": 0}, "extra_headers": {"anthropic-version": "2023-06-01"},
    }  # fmt: skip
    with serving(smol_file) as server:
        settings = installed_entry(tmp_path, smol_file, server.address)
        with pytest.raises(SettingsError, match="TEST_LLAMA_SERVER_KEY; it is not set"):
            list(served_models(settings, SystemClock()))
        monkeypatch.setenv("TEST_LLAMA_SERVER_KEY", KEY)
        running = Running(settings)
        client = running.client()
        message = client.messages.create(max_tokens=30, **question)
        assert text_of(message) == server.own_answer("What is the capital of France?", 30)
        assert message.usage.output_tokens == 30
        counted = client.messages.count_tokens(model=question["model"], messages=question["messages"])
        assert message.usage.input_tokens == counted.input_tokens
        with client.messages.stream(max_tokens=30, **question) as stream:
            assert text_of(stream.get_final_message()) == text_of(message)

        endless = question | {"messages": [{"role": "user", "content": "Write a very long story about numbers."}]}
        with (
            pytest.raises(anthropic.APIStatusError) as raised,
            client.messages.stream(max_tokens=1500, **endless) as stream,
        ):
            for count, _ in enumerate(stream.text_stream):
                if count == 3:
                    server.kill()
        body: Any = raised.value.body
        assert body["error"] == {
            "type": "api_error",
            "message": "Internal server error: the model stopped before its answer was complete",
        }
        states = until_ready(running, 503)
        assert "nobody listens" in states
        assert str(server.port) not in states
        assert KEY not in states
        server.start()
        until_ready(running, 200)
        assert text_of(client.messages.create(max_tokens=30, **question)) == text_of(message)
        records = running.records()
        assert [record.outcome for record in records].count("failed") <= 1
        assert len(records) == 4
