"""`make bench-gateway`: what the whole path of a request costs, beside a bare ASGI app that sends the same bytes.

Antiphon is as it is served: a real key, the plan with the Qwen template and tokenizer, the journal on the disk, its log
in a file, metrics. Only the engine is scripted: 200 tokens an answer at full speed, each an event of its own. Both
servers are uvicorn with one worker on one core, `wrk` is on another, and they are measured in turn (A B A B), so that
whatever else the machine does meets both; what counts is the median of the rounds' ratios.

Last, a second server answers 100,000 requests (plain, streamed, refused, failing half-way, left by their clients), and
must end with the memory it began with.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from rich.console import Console

from antiphon.core import settings
from bench.bare import FOLDER_VARIABLE, events_of
from bench.load import (
    Leavers,
    Load,
    Server,
    Unmeasurable,
    Wrk,
    exchange,
    free_port,
    need_wrk,
    server,
    two_cores,
)
from bench.report import Bar, Figure, conclude, figure, machine

_MODEL = "qwen2.5-coder-1.5b-instruct"
_SCRIPT = Path(__file__).parent / "gateway.yaml"
_FAILING = Path(__file__).parent / "gateway-failing.yaml"
_TOKENS = 200

_ROUNDS = 7
_CONNECTIONS = 16
_SECONDS = 2
_BATCHED_SECONDS = 1
_SYNCS = 50

_JSON_BAR = Bar("at least", 0.05)
_STREAM_BAR = Bar("at least", 0.40)
_ADDED_BAR = Bar("at most", 1)

_MIXED_REQUESTS = 100_000
_MIXED_SECONDS = 5
#: Enough for the tokenizer's bounded cache (4 million characters) to be full, and for every path to have been taken.
_WARM_REQUESTS = 20_000
#: 8 MiB over 100,000 requests are 84 bytes a request: about the smallest thing that could be kept of each, an id in a
#: set. What is less than that, an allocator's own coming and going hides.
_MEMORY_BAR = Bar("at most", 8.0)

_SYSTEM = "You are a careful assistant who answers in plain words."
_QUESTION = (
    "Question 000000000000: how far is it from the door of the old mill to the river, and who walked there last?"
)


def main() -> int:
    out = Console(highlight=False, stderr=True)
    began, where = time.monotonic(), machine()
    try:
        need_wrk(out)
        with _home(out) as home:
            figures = _Bench(home, out).figures()
    except Unmeasurable as error:
        out.print(f"[bold red]bench-gateway:[/] {error}", soft_wrap=True)
        return 2
    return conclude(
        "gateway",
        figures,
        where=where,
        setting={
            "answer": f"{_TOKENS} tokens, one event each",
            "connections": f"{_CONNECTIONS}, and 1 for the latency",
            "rounds": f"{_ROUNDS}, Antiphon and the bare app in turn; ratios are of one round, figures are medians",
            "cores": "server on one, wrk on another",
        },
        seconds=time.monotonic() - began,
    )


class _Bench:
    """One run of the bench, in a data folder of its own."""

    def __init__(self, home: Path, out: Console) -> None:
        self._home = home
        self._out = out
        self._wrk = Wrk()
        self._server_core, load_core = two_cores()
        os.sched_setaffinity(0, {load_core})  # for us, and so for wrk
        self._key = _antiphon("keys", "create", "--quiet", "--home", str(home))

    def figures(self) -> list[Figure]:
        with self._served(_SCRIPT) as antiphon:
            self._capture(antiphon)
            with self._bare() as bare:
                figures = self._compare(antiphon, bare)
        figures.append(figure("one sync of the disk under the journal, p50", "ms", [_sync_ms(self._home)]))
        with self._served(_FAILING) as antiphon:
            figures += self._endure(antiphon)
        return figures

    @contextmanager
    def _served(self, script: Path) -> Iterator[Server]:
        port = free_port()
        arguments = ["antiphon", "serve", "--home", str(self._home), "--port", str(port), "--scripted", str(script)]
        with server(arguments, port, self._server_core, self._home / "serve.log") as started:
            yield started

    @contextmanager
    def _bare(self) -> Iterator[Server]:
        port = free_port()
        arguments = ["uvicorn", "--factory", "bench.bare:app", "--port", str(port), "--loop", "uvloop", "--http"]
        arguments += ["httptools", "--no-access-log", "--no-server-header", "--lifespan", "off", "--log-level", "error"]
        variables = {FOLDER_VARIABLE: str(self._home)}
        with server(arguments, port, self._server_core, self._home / "bare.log", variables) as started:
            yield started

    def _capture(self, antiphon: Server) -> None:
        """Take one answer of each kind, see that it is what is to be measured, and keep it for the bare app."""
        status, plain = exchange(antiphon.port, self._message(stream=False, close=True))
        message = msgspec.json.decode(plain)
        if status != 200 or message["usage"]["output_tokens"] != _TOKENS + 1:  # the end of an answer is a token too
            raise Unmeasurable(f"the plain answer is not as expected: {status} {plain[:500]!r}")
        status, stream = exchange(antiphon.port, self._message(stream=True, close=True))
        kinds = [event.partition(b"\n")[0] for event in events_of(stream)]
        if (
            status != 200
            or kinds.count(b"event: content_block_delta") != _TOKENS
            or kinds[-1] != b"event: message_stop"
        ):
            raise Unmeasurable(f"the stream is not as expected: {status} {stream[:500]!r}")
        self._events = len(kinds)
        self._plain_bytes, self._stream_bytes = len(plain), len(stream)
        (self._home / "plain").write_bytes(plain)
        (self._home / "stream").write_bytes(stream)

    def _compare(self, antiphon: Server, bare: Server) -> list[Figure]:
        plain, stream = self._file("plain", stream=False), self._file("stream", stream=True)
        bare_plain, bare_stream, batched = (
            self._file(path, path=f"/{path}", stream=path != "plain") for path in ("plain", "stream", "batched")
        )
        runs: dict[str, list[float]] = {}

        def note(**figures: float) -> None:
            for name, value in figures.items():
                runs.setdefault(name, []).append(value)

        self._load(antiphon, plain, 1)
        self._load(antiphon, stream, 1)
        for number in range(_ROUNDS):
            self._out.print(f"round {number + 1} of {_ROUNDS}")
            a, cpu = self._whole_load(antiphon, plain)
            b = self._load(bare, bare_plain, _SECONDS)
            note(json=a.per_second, bare_json=b.per_second, json_ratio=a.per_second / b.per_second)
            note(json_p99=a.p99_ms, json_cpu=cpu)
            a, cpu = self._whole_load(antiphon, stream)
            b = self._load(bare, bare_stream, _SECONDS)
            c = self._load(bare, batched, _BATCHED_SECONDS)
            note(events=a.per_second * self._events, bare_events=b.per_second * self._events)
            note(stream_ratio=a.per_second / b.per_second, batched_ratio=a.per_second / c.per_second)
            note(stream_p99=a.p99_ms, stream_cpu=cpu)
            a = self._load(antiphon, plain, _SECONDS, connections=1)
            antiphon.settle()
            b = self._load(bare, bare_plain, _SECONDS, connections=1)
            note(p50=a.p50_ms, bare_p50=b.p50_ms, added=a.p50_ms - b.p50_ms)
        antiphon.check()
        return [
            figure("JSON requests, of the bare app's", "×", runs["json_ratio"], _JSON_BAR),
            figure("stream events, of the bare app's", "×", runs["stream_ratio"], _STREAM_BAR),
            figure("added to the p50 at one connection", "ms", runs["added"], _ADDED_BAR),
            figure("JSON requests", "/s", runs["json"]),
            figure("JSON requests, bare app", "/s", runs["bare_json"]),
            figure("JSON p99", "ms", runs["json_p99"]),
            figure("CPU of a JSON request", "ms", runs["json_cpu"]),
            figure("stream events", "/s", runs["events"]),
            figure("stream events, bare app, a send for each", "/s", runs["bare_events"]),
            figure("stream events, of a bare app's that joins 16 in a send", "×", runs["batched_ratio"]),
            figure("stream p99, whole answer", "ms", runs["stream_p99"]),
            figure("CPU of a stream", "ms", runs["stream_cpu"]),
            figure("p50 at one connection", "ms", runs["p50"]),
            figure("p50 at one connection, bare app", "ms", runs["bare_p50"]),
        ]

    def _load(self, target: Server, request: Path, seconds: int, connections: int = _CONNECTIONS) -> Load:
        """One run in which every answer was good and whole."""
        load = self._wrk.run(target.port, [request], connections, seconds)
        whole = self._plain_bytes if request.name.startswith("plain") else self._stream_bytes
        # wrk counts the bytes of answers that its end cut off, too, and headers: never less than the bodies.
        if load.refused or load.bytes < load.requests * whole * 0.98:
            raise Unmeasurable(f"{load.refused} of {load.requests} answers were refusals; {load.bytes:,} bytes came")
        return load

    def _whole_load(self, antiphon: Server, request: Path) -> tuple[Load, float]:
        """One run, and what each answer took of the CPU in all, ms."""
        before = antiphon.cpu_seconds()
        load = self._load(antiphon, request, _SECONDS)
        t=time.monotonic()
        antiphon.settle()
        print('settled', time.monotonic()-t)
        return load, (antiphon.cpu_seconds() - before) / load.requests * 1000

    def _endure(self, antiphon: Server) -> list[Figure]:
        """100,000 requests of all kinds, in phases; the memory before and after."""
        mixed, refusals = self._mixture()
        leaving = [
            self._file(f"leave-{stream}", stream=stream, question=f"take your time. {_QUESTION}", padded=True)
            for stream in (True, False)
        ]
        rss: list[float] = []
        answered, before, left = 0, 0.0, 0
        while answered < _WARM_REQUESTS + _MIXED_REQUESTS:
            with Leavers(antiphon.port, leaving, pause_s=0.01) as leavers:
                load = self._wrk.run(antiphon.port, mixed, _CONNECTIONS, _MIXED_SECONDS)
            antiphon.check()
            if abs(load.refused / load.requests - refusals) > 0.03:
                raise Unmeasurable(f"{load.refused} of {load.requests} mixed requests were refused, not {refusals:.0%}")
            answered += load.requests + leavers.left
            left += leavers.left
            if answered >= _WARM_REQUESTS:
                rss.append(antiphon.rss_mb())
                before = before or rss[0]
            self._out.print(f"{answered:,} mixed requests, {antiphon.rss_mb():.1f} MB")
        return [
            figure(f"memory grown over {_MIXED_REQUESTS:,} mixed requests", "MiB", [rss[-1] - before], _MEMORY_BAR),
            figure("memory while it answers them", "MiB", rss),
            figure("clients among them that left early", "", [float(left)]),
        ]

    def _mixture(self) -> tuple[list[Path], float]:
        """Raw requests to send in turn, and which part of them is refused."""
        good = [self._file("mixed-plain", stream=False, padded=True)] * 8
        good += [self._file("mixed-stream", stream=True, padded=True)] * 5
        good += [self._file("mixed-breaks", stream=True, question="Please fail half-way.", padded=True)]
        bad = [
            self._file("mixed-fails", stream=False, question="Please fail half-way."),
            self._write("mixed-no-json", self._raw("/v1/messages", b'{"model":')),
            self._write(
                "mixed-no-message", self._raw("/v1/messages", b'{"model":"claude","max_tokens":1,"messages":[]}')
            ),
            self._write("mixed-no-key", self._raw("/v1/messages", b"{}", key=None)),
            self._write("mixed-wrong-key", self._raw("/v1/messages", b"{}", key=self._key[:-4] + "11AA")),
            self._write("mixed-no-route", self._raw("/v1/nowhere", b"{}")),
        ]
        both = [*good, *bad]
        # Interleaved, so that every kind meets every other.
        return [both[place * 7 % len(both)] for place in range(len(both))], len(bad) / len(both)

    def _message(
        self, *, stream: bool, question: str = _QUESTION, path: str = "/v1/messages", close: bool = False
    ) -> bytes:
        body = {
            "model": _MODEL,
            "max_tokens": 4 * _TOKENS,
            "stream": stream,
            "system": _SYSTEM,
            "messages": [{"role": "user", "content": question}],
        }
        return self._raw(path, msgspec.json.encode(body), close=close)

    def _raw(self, path: str, body: bytes, *, key: str | None = "", close: bool = False) -> bytes:
        """The bytes of a request. `key`: the bench's own where it is empty, none where it is None."""
        headers = {
            "host": "127.0.0.1",
            "user-agent": "bench",
            "accept": "application/json",
            "anthropic-version": "2023-06-01",
            "content-type": "application/json",
            "content-length": str(len(body)),
        }
        if key is not None:
            headers["x-api-key"] = key or self._key
        if close:
            headers["connection"] = "close"
        lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    def _file(
        self,
        name: str,
        *,
        stream: bool,
        question: str = _QUESTION,
        path: str = "/v1/messages",
        padded: bool = False,
    ) -> Path:
        """The request in a file, for wrk. `padded`: long enough to fill caches soon."""
        if padded:
            question += " " + "It is a long story, and every part of it matters to somebody. " * 8
        where = name if path == "/v1/messages" else f"{name}-bare"
        return self._write(where, self._message(stream=stream, question=question, path=path))

    def _write(self, name: str, data: bytes) -> Path:
        path = self._home / f"{name}.request"
        path.write_bytes(data)
        return path


def _sync_ms(folder: Path) -> float:
    """What making a record's size of bytes durable takes here; it is part of every answer's latency."""
    taken: list[float] = []
    with (folder / "sync").open("wb", buffering=0) as file:
        for _ in range(_SYNCS):
            began = time.perf_counter()
            file.write(bytes(600))
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - began)
    return sorted(taken)[_SYNCS // 2] * 1000


@contextmanager
def _home(out: Console) -> Iterator[Path]:
    """A data folder for this run, on the same disk as the installation's own, with its weights."""
    installed = settings.load({}).home_path.resolve()
    installed.mkdir(parents=True, exist_ok=True, mode=0o700)
    _have_weights(installed, out)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=installed))
    try:
        (folder / "models").symlink_to(installed / "models")
        yield folder
    finally:
        shutil.rmtree(folder)


def _have_weights(home: Path, out: Console) -> None:
    out.print(f"Template and tokenizer are those of {_MODEL}.")
    done = subprocess.run(
        [sys.executable, "-m", "antiphon", "models", "pull", _MODEL, "--home", str(home)], check=False
    )
    if done.returncode:
        raise Unmeasurable(f"{_MODEL} cannot be fetched")


def _antiphon(*arguments: str) -> str:
    """Run a command of the command line; what it prints."""
    done = subprocess.run([sys.executable, "-m", "antiphon", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unmeasurable(f"antiphon {arguments[0]} failed: {done.stderr.strip()}")
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
