"""One record per engine body: how it is made, what it can do, and who knows its true answers. And `Desk`, the way the
cases ask it."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import os
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import msgspec

from antiphon.core.clock import SystemClock
from antiphon.core.records import Scope
from antiphon.engine import preparing
from antiphon.engine.contract import Engine, EngineEvent, Finish, Phase, Prompt, Sampling, TokenSpan
from antiphon.engine.embedded import EmbeddedEngine, EmbeddedSettings
from antiphon.engine.llama_server import LlamaServerEngine, LlamaServerSettings
from antiphon.engine.scripted import Fault, Rule, Script, ScriptedEngine, Words
from antiphon.engine.tokenizer import Tokenizer
from antiphon.engine.vocabulary import Vocabulary, load_vocabulary
from engine_contract import direct

ONE, OTHER = Scope("org", "one"), Scope("org", "other")
GREEDY = Sampling(temperature=0.0)

#: Ends by itself, and what it has to say first; OpenVINO, at half precision, says a little more.
PARIS = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
PARIS_ANSWER = b"The capital of France is Paris"
#: Goes on for as long as it is let.
ENDLESS = "Count: 1, 2, 3, 4, 5, 6,"
#: Each goes on with its own word alone.
WORDS = ("red", "green", "blue", "house")
#: Their answers are compared with the library's, token by token: one that ends, characters that span tokens, and one
#: longer than a batch of any body.
SPOKEN = (PARIS, "😀 😃 😄 ä ö ü 😀 😃 😄 ä ö ü", "The quick brown fox jumps over the lazy dog. " * 10 + "And then")
SPOKEN_TOKENS = 20
#: Takes a while to be read, and some batches.
LONG_TOKENS = 3 * direct.BATCH_TOKENS


def repeated(word: str) -> str:
    """A prompt that goes on with its word."""
    return f"{word}, " * 6 + f"{word},"


class Ahead(SystemClock):
    """A clock that can be set ahead: a watchdog's long patience costs no waiting."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.seconds


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How an engine is made."""

    stall_seconds: float
    seats: int = 3
    cold_prompts: int = 1
    pool_tokens: int = 2560
    queue: int = 30
    queue_seconds: float = 60.0
    backlog: int = 4096


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

    def bar(self) -> None:
        """Make another start impossible, until it is mended."""
        ...

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
        gives_up: on a reader that takes nothing; another body holds the stream back, and loses none of it.
        stall_seconds: how long a silence it is to bear: long where our clock rules it, else as short as is safe.
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
    gives_up: bool = True
    stall_seconds: float = 60.0
    restart_seconds: float = 80.0

    @property
    def real(self) -> bool:
        return self.library is not None

    def roomy(self) -> Limits:
        """For what wants room: long prompts, many in the queue."""
        return Limits(stall_seconds=self.stall_seconds)

    def tight(self) -> Limits:
        """For what happens at the bounds."""
        return Limits(stall_seconds=self.stall_seconds, seats=2, pool_tokens=256, queue_seconds=2.0, backlog=24)

    def cold_places(self, limits: Limits) -> int:
        """How many long prompts without a token are inside at once; the scripted engine has a place for each seat."""
        return limits.cold_prompts if self.real else limits.seats


class Desk:
    """Asks one running engine."""

    def __init__(
        self,
        engine: Engine,
        encode: Callable[[str], list[int]],
        limits: Limits,
        clock: Ahead,
        child: Child | None = None,
    ) -> None:
        self.engine = engine
        self.encode = encode
        self.limits = limits
        self.clock = clock
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
        heard: list[EngineEvent] | None = None,
    ) -> Answer:
        """One turn of one phase. `seated` and `begun` are called when it has a seat, and at its first tokens; `heard`
        grows with the answer."""
        prompt = self.prompt(what) if isinstance(what, str) else what
        async with self.engine.seat(scope, prompt, phase.max_tokens) as seat:
            if seated is not None:
                seated()
            events = [] if heard is None else heard
            async for step in seat.generate(phase):
                if begun is not None and step.events and not events:
                    begun()
                events += step.events
                if step.finish is not None:
                    return Answer(tuple(events), step.finish)
        raise AssertionError("a stream ended without a finish")

    async def until(self, holds: Callable[[], bool], seconds: float = 60.0) -> None:
        """Wait for something that is about to come."""
        async with asyncio.timeout(seconds):
            while not holds():
                await asyncio.sleep(0.005)

    async def idle(self) -> None:
        """All that was taken has been given back: the oracle after every case."""
        await self.until(lambda: self.engine.health().seats_taken == 0 and self.engine.health().waiting == 0)

    async def until_lost(self) -> None:
        """Wait until the engine knows that its child is gone, with the clock running ahead; and yet not in leaps: between
        two, a child that lives has the time to say so."""
        async with asyncio.timeout(60):
            while self.engine.health().ready:
                self.clock.seconds += self.limits.stall_seconds / 4
                await asyncio.sleep(0.3)

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

    clock = Ahead()
    engine = ScriptedEngine(
        _script(), words=Words(decode, decode), window=limits.pool_tokens, seats=limits.seats, queue=limits.queue,
        queue_seconds=limits.queue_seconds, stall_seconds=limits.stall_seconds, clock=clock,
    )  # fmt: skip
    await engine.start()
    try:
        yield Desk(engine, lambda text: [ord(letter) for letter in text], limits, clock)
    finally:
        await engine.stop()


class SupervisedChild:
    """Watched and started again by the engine itself, from `link`, which leads to what it is started from."""

    def __init__(self, engine: EmbeddedEngine, link: Path, file: Path) -> None:
        self._engine = engine
        self._link = link
        self._file = file

    @property
    def pid(self) -> int | None:
        return self._engine.supervisor.pid

    def bar(self) -> None:
        self._link.unlink()

    def mend(self, blow: Blow) -> None:
        """Only what was barred needs it."""
        if not self._link.exists():
            self._link.symlink_to(self._file)


def _embedded(name: str) -> Callable[[Path | None, Limits], AbstractAsyncContextManager[Desk]]:
    @asynccontextmanager
    async def running(file: Path | None, limits: Limits) -> AsyncIterator[Desk]:
        if file is None:
            raise AssertionError("an embedded body runs a model")
        vocabulary, tokenizer = _words(file)
        settings: dict[str, Any] = msgspec.to_builtins(limits)
        clock = Ahead()
        ready = await salted_folder(file) if name == "openvino" else ""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(ready) if ready else file
            link = Path(folder, source.name)
            link.symlink_to(source)
            engine = EmbeddedEngine(
                EmbeddedSettings(
                    module=f"antiphon.engine.children.{name}", engine=name, model="smollm2",
                    model_path=str(file if ready else link), prepared_path=str(link) if ready else "",
                    window=limits.pool_tokens, threads=direct.THREADS, start_seconds=120.0,
                    end_tokens=vocabulary.end_tokens, chunk_tokens=direct.BATCH_TOKENS, **settings,
                ),
                tokenizer.encode,
                clock,
                tokenizer.made_bytes,
            )  # fmt: skip
            await engine.start()
            try:
                child = SupervisedChild(engine, link, source)
                yield Desk(engine, tokenizer.encode_with_control, limits, clock, child)
            finally:
                await engine.stop()

    return running


async def salted_folder(file: Path) -> str:
    """The model as OpenVINO has read it, with a place for a salt: made once beside the file, and kept for later runs."""
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return str(await preparing.prepare(file, digest, converter=preparing.AS_READ))


def _words(file: Path) -> tuple[Vocabulary, Tokenizer]:
    vocabulary = load_vocabulary(file, file.with_suffix(".vocabulary"))
    return vocabulary, Tokenizer(vocabulary)


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

    def bar(self) -> None:
        """Nobody starts it but `mend`."""

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
    _, tokenizer = _words(file)
    server = ServerElsewhere(file, limits)
    settings: dict[str, Any] = msgspec.to_builtins(limits)
    del settings["backlog"]  # the connection is read as fast as the reader reads
    clock = Ahead()
    engine = LlamaServerEngine(
        LlamaServerSettings(
            address=f"http://127.0.0.1:{server.port}", model="smollm2", window=limits.pool_tokens, start_seconds=120.0,
            look_seconds=0.5, answer_seconds=3.0, **settings,
        ),
        "",
        tokenizer,
        clock,
    )  # fmt: skip
    try:
        await engine.start()
        yield Desk(engine, tokenizer.encode_with_control, limits, clock, server)
    finally:
        await engine.stop()
        server.end()


def _never(_: Path | None, limits: Limits) -> AbstractAsyncContextManager[Desk]:
    raise AssertionError(f"there is no such body yet: {limits}")


BODIES = (
    Body(
        name="scripted", absent=_here, open=_scripted, pooled=False, seeded=False, has_child=False, gives_up=False,
        stall_seconds=0.5,
    ),
    Body(name="llama_cpp", absent=_here, open=_embedded("llama_cpp"), library="llama_cpp"),
    Body(
        name="openvino",
        absent=_missing("antiphon.engine.children.openvino", "openvino_genai"),
        open=_embedded("openvino"),
        library="openvino",
    ),
    Body(
        name="llama_server", absent=_here, open=_llama_server, library="llama_cpp", elsewhere=True, gives_up=False,
        stall_seconds=30.0,
    ),
    Body(name="vllm", absent=lambda: "vllm is not installed, and no body drives it yet", open=_never, library="vllm"),
)  # fmt: skip
_background = ThreadPoolExecutor(1)
_references: dict[str, Future[list[direct.Answer]]] = {}


def reference(body: Body, file: Path) -> Future[list[direct.Answer]]:
    """What the library itself answers to `SPOKEN`; each library is asked once, in the background."""
    if body.library is None:
        raise AssertionError(f"there is no library below {body.name}")
    if body.library not in _references:
        vocabulary, tokenizer = _words(file)
        prompts = [tokenizer.encode_with_control(text) for text in SPOKEN]
        ends = list(vocabulary.end_tokens)
        _references[body.library] = _background.submit(direct.answers, body.library, file, prompts, SPOKEN_TOKENS, ends)
    return _references[body.library]
