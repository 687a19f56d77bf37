"""One record per engine body: how it is made, what it can do, and who knows its true answers. And `Desk`, the way the
cases ask it."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import msgspec

from antiphon.core.clock import SystemClock
from antiphon.core.records import Scope
from antiphon.engine.contract import Engine, EngineEvent, Finish, Phase, Prompt, Sampling, TokenSpan
from antiphon.engine.embedded import EmbeddedEngine, EmbeddedSettings
from antiphon.engine.llama_server import LlamaServerEngine, LlamaServerSettings
from antiphon.engine.scripted import Fault, Rule, Script, ScriptedEngine
from antiphon.engine.tokenizer import Tokenizer
from antiphon.engine.vocabulary import load_vocabulary
from engine_contract import direct

ONE, OTHER = Scope("org", "one"), Scope("org", "other")
GREEDY = Sampling(temperature=0.0)

#: Ends by itself, and what it has to say first; OpenVINO, at half precision, says a little more.
PARIS = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
PARIS_ANSWER = b"The capital of France is Paris"
#: Goes on for as long as it is let.
ENDLESS = "Count: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,"
#: Each goes on with its own word alone.
WORDS = ("red", "green", "blue", "house", "water", "music")
#: Their answers are compared with the library's, token by token.
SPOKEN = (
    PARIS,
    ENDLESS,
    "<|im_start|>user\nSay something with an emoji and a German umlaut.<|im_end|>\n<|im_start|>assistant\n",
    "def fibonacci(n):\n    ",
    # Longer than one batch of any body.
    "The quick brown fox jumps over the lazy dog. " * 20 + "And then",
)
LONG_TOKENS = 600


def repeated(word: str) -> str:
    """A prompt that goes on with its word."""
    return f"{word}, " * 12 + f"{word},"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How an engine is made."""

    seats: int = 3
    cold_prompts: int = 1
    pool_tokens: int = 1024
    queue: int = 60
    queue_seconds: float = 60.0
    stall_seconds: float = 20.0


class Blow(msgspec.Struct, frozen=True):
    """What befalls a child. `hang`: it lives on and does nothing."""

    name: str
    hang: bool

    @property
    def signal(self) -> signal.Signals:
        return signal.SIGSTOP if self.hang else signal.SIGKILL


KILL, STOP = Blow("killed", hang=False), Blow("stopped", hang=True)


class Answer(msgspec.Struct, frozen=True):
    """One phase, whole."""

    events: tuple[EngineEvent, ...]
    finish: Finish

    @property
    def data(self) -> bytes:
        return b"".join(event.data for event in self.events)

    @property
    def tokens(self) -> int:
        return sum(event.tokens for event in self.events)


class Child(Protocol):
    """The process with the library in it."""

    @property
    def pid(self) -> int | None: ...

    def mend(self, blow: Blow) -> None:
        """What a person, or a service manager, does once it is lost."""
        ...


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """One engine, as the cases need to know it.

    Args:
        absent: why it cannot run here, or nothing.
        open: make one and start it; the file is a model's, for bodies that run one.
        library: its name in `direct`, or none where there is no library below it.
        pooled: memory is a bound.
        seeded: sampling is by chance, and a seed repeats it.
        has_child: there is a process that can be killed and stopped.
        elsewhere: that process is not ours to start again.
        restart_seconds: how long a child may take to be back, on a busy machine.
    """

    name: str
    absent: Callable[[], str]
    open: Callable[[Path | None, Limits], AbstractAsyncContextManager[Desk]]
    library: str | None = None
    pooled: bool = True
    seeded: bool = True
    has_child: bool = True
    elsewhere: bool = False
    restart_seconds: float = 40.0

    @property
    def real(self) -> bool:
        return self.library is not None

    def cold_places(self, limits: Limits) -> int:
        """How many prompts without a token are inside at once; the scripted engine has a place for each seat."""
        return limits.cold_prompts if self.real else limits.seats


class Desk:
    """Asks one running engine."""

    def __init__(
        self, engine: Engine, encode: Callable[[str], list[int]], limits: Limits, child: Child | None = None
    ) -> None:
        self.engine = engine
        self.encode = encode
        self.limits = limits
        self._child = child

    def prompt(self, text: str) -> Prompt:
        return Prompt((TokenSpan(self.encode(text)),))

    def long(self, mark: str, tokens: int = LONG_TOKENS) -> Prompt:
        """A prompt of so many tokens that takes its time; what `mark` is new in is computed, not remembered."""
        return Prompt((TokenSpan(self.encode(f"{mark} " + "word " * tokens)[:tokens]),))

    async def ask(
        self,
        what: str | Prompt,
        phase: Phase,
        scope: Scope = ONE,
        *,
        seated: Callable[[], object] | None = None,
        begun: Callable[[], object] | None = None,
    ) -> Answer:
        """One turn of one phase. `seated` and `begun` are called when it has a seat, and at its first tokens."""
        prompt = self.prompt(what) if isinstance(what, str) else what
        async with self.engine.seat(scope, prompt, phase.max_tokens) as seat:
            if seated is not None:
                seated()
            events: list[EngineEvent] = []
            async for step in seat.generate(phase):
                if begun is not None and step.events and not events:
                    begun()
                events += step.events
                if step.finish is not None:
                    return Answer(tuple(events), step.finish)
        raise AssertionError("a stream ended without a finish")

    async def until(self, holds: Callable[[], bool], seconds: float = 20.0) -> None:
        """Wait for something that is about to come."""
        async with asyncio.timeout(seconds):
            while not holds():
                await asyncio.sleep(0.005)

    async def idle(self) -> None:
        """All that was taken has been given back: the oracle after every case."""
        await self.until(lambda: self.engine.health().seats_taken == 0 and self.engine.health().waiting == 0, 10)

    @property
    def child(self) -> Child:
        """For a body that has one."""
        if self._child is None:
            raise AssertionError("there is no child")
        return self._child


def _here() -> str:
    return ""


def _missing(module: str, package: str) -> Callable[[], str]:
    def absent() -> str:
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed"
        return "" if importlib.util.find_spec(module) else "there is no body for it yet"

    return absent


#: What the scripted engine is asked for to be struck in that state. A crash takes the others with it, so that one is
#: enough.
DOOM = {
    (KILL, "answer"): "doomed to crash in the answer",
    (KILL, "prompt"): "slow, and lost with the other",
    (STOP, "answer"): "doomed to hang in the answer",
    (STOP, "prompt"): "doomed to hang in the prompt",
}


def _script() -> Script:
    rules = [Rule(match="capital of France", text=PARIS_ANSWER.decode() + ".")]
    rules += [
        Rule(match="doomed to crash in the answer", delay_ms=10, fault=Fault("crash", after=20, down_ms=300)),
        Rule(match="doomed to hang in the answer", delay_ms=10, fault=Fault("hang", after=20)),
        Rule(match="doomed to hang in the prompt", fault=Fault("hang")),
    ]
    rules += [Rule(match=rf"^{word}, {word}", text=repeated(word)) for word in WORDS]
    rules += [Rule(match="^Count", delay_ms=5), Rule(match="^slow", delay_ms=300)]
    return Script(rules=tuple(rules))


@asynccontextmanager
async def _scripted(_: Path | None, limits: Limits) -> AsyncIterator[Desk]:
    def decode(ids: Sequence[int]) -> str:
        return "".join(map(chr, ids))

    engine = ScriptedEngine(
        _script(), decode=decode, window=limits.pool_tokens, seats=limits.seats, queue=limits.queue,
        queue_seconds=limits.queue_seconds, stall_seconds=limits.stall_seconds, clock=SystemClock(),
    )  # fmt: skip
    await engine.start()
    try:
        yield Desk(engine, lambda text: [ord(letter) for letter in text], limits)
    finally:
        await engine.stop()


class SupervisedChild:
    """Watched and started again by the engine itself."""

    def __init__(self, engine: EmbeddedEngine) -> None:
        self._engine = engine

    @property
    def pid(self) -> int | None:
        return self._engine.supervisor.pid

    def mend(self, blow: Blow) -> None:
        """Not needed."""


def _embedded(name: str) -> Callable[[Path | None, Limits], AbstractAsyncContextManager[Desk]]:
    @asynccontextmanager
    async def running(file: Path | None, limits: Limits) -> AsyncIterator[Desk]:
        if file is None:
            raise AssertionError("an embedded body runs a model")
        vocabulary = load_vocabulary(file, file.with_suffix(".vocabulary"))
        tokenizer = Tokenizer(vocabulary)
        settings: dict[str, Any] = msgspec.to_builtins(limits)
        engine = EmbeddedEngine(
            EmbeddedSettings(
                module=f"antiphon.engine.children.{name}", engine=name, model="smollm2", model_path=str(file),
                window=limits.pool_tokens, threads=direct.THREADS, start_seconds=60.0,
                end_tokens=vocabulary.end_tokens, chunk_tokens=128, **settings,
            ),
            tokenizer.encode,
            SystemClock(),
            tokenizer.made_bytes,
        )  # fmt: skip
        await engine.start()
        try:
            yield Desk(engine, tokenizer.encode_with_control, limits, SupervisedChild(engine))
        finally:
            await engine.stop()

    return running


class ServerElsewhere:
    """A llama.cpp server that keeps its port over its lives."""

    def __init__(self, file: Path, limits: Limits) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._served = direct.Served(str(file), self.port, limits.pool_tokens, limits.seats)
        self._process = direct.serve(self._served)

    @property
    def pid(self) -> int:
        return self._process.pid

    def mend(self, blow: Blow) -> None:
        if blow.hang:
            os.kill(self.pid, signal.SIGCONT)
        else:
            self.end()
            self._process = direct.serve(self._served)

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@asynccontextmanager
async def _llama_server(file: Path | None, limits: Limits) -> AsyncIterator[Desk]:
    if file is None:
        raise AssertionError("a server runs a model")
    tokenizer = Tokenizer(load_vocabulary(file, file.with_suffix(".vocabulary")))
    server = ServerElsewhere(file, limits)
    settings: dict[str, Any] = msgspec.to_builtins(limits)
    engine = LlamaServerEngine(
        LlamaServerSettings(
            address=f"http://127.0.0.1:{server.port}", model="smollm2", window=limits.pool_tokens, start_seconds=60.0,
            look_seconds=0.5, **settings,
        ),
        "",
        tokenizer,
        SystemClock(),
    )  # fmt: skip
    try:
        await engine.start()
        yield Desk(engine, tokenizer.encode_with_control, limits, server)
    finally:
        await engine.stop()
        server.end()


def _never(_: Path | None, limits: Limits) -> AbstractAsyncContextManager[Desk]:
    raise AssertionError(f"there is no such body yet: {limits}")


BODIES = (
    Body(name="scripted", absent=_here, open=_scripted, pooled=False, seeded=False, has_child=False),
    Body(name="llama_cpp", absent=_here, open=_embedded("llama_cpp"), library="llama_cpp"),
    Body(
        name="openvino",
        absent=_missing("antiphon.engine.children.openvino", "openvino_genai"),
        open=_embedded("openvino"),
        library="openvino",
    ),
    Body(name="llama_server", absent=_here, open=_llama_server, library="llama_cpp", elsewhere=True),
    Body(name="vllm", absent=lambda: "vllm is not installed, and no body drives it yet", open=_never, library="vllm"),
)
_references: dict[tuple[str, int], list[direct.Answer]] = {}


def reference(body: Body, file: Path, desk: Desk, max_tokens: int) -> list[direct.Answer]:
    """What the library itself answers to `SPOKEN`; asked once."""
    if body.library is None:
        raise AssertionError(f"there is no library below {body.name}")
    key = body.library, max_tokens
    if key not in _references:
        ends = load_vocabulary(file, file.with_suffix(".vocabulary")).end_tokens
        prompts = [desk.encode(text) for text in SPOKEN]
        _references[key] = direct.answers(body.library, file, prompts, max_tokens, list(ends))
    return _references[key]
