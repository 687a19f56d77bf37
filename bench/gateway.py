"""`make bench-gateway`: what the whole path of a request costs, beside a bare ASGI app that sends the same bytes.

Antiphon is as it is served: a real key, the plan with the Qwen template and tokenizer, the journal on the disk, its log
in a file, metrics. Only the engine is scripted, and plays at full speed: streams of 200 tokens, each an event of its
own; plain answers of 40, because what is long is streamed (those of 200 are measured, too, without a bar).

Both servers are uvicorn with one worker on one core, `wrk` is on another, and they are measured in turn (A B A B), so
that whatever else the machine does meets both. What counts is the median of the rounds' ratios; of the rounds, those
count in which others left the machine alone.

Last, a second server answers 100,000 requests (plain, streamed, refused, failing half-way, left by their clients), and
must end with the memory it began with.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import msgspec
from rich.console import Console

from bench import subject
from bench.bare import FOLDER_VARIABLE, events_of
from bench.load import (
    Bystanders,
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

_SCRIPT = Path(__file__).parent / "gateway.yaml"
_FAILING = Path(__file__).parent / "gateway-failing.yaml"
_TOKENS = 200
_PLAIN_TOKENS = 40
_PLENTY = 4 * _TOKENS

_ROUNDS = 5
#: Others may run on the machine, too. A round in which they took more than this many cores does not count, unless no
#: quieter ones are to be had.
_QUIET = 0.1
_MOST_ROUNDS = 8
_CONNECTIONS = 16
_SECONDS = 2
_BESIDE_SECONDS = 1
_SYNCS = 50

_JSON_BAR = Bar("at least", 0.05)
_STREAM_BAR = Bar("at least", 0.40)
_ADDED_BAR = Bar("at most", 1)

_MIXED_REQUESTS = 100_000
_MIXED_SECONDS = 5
#: Enough for the tokenizer's bounded cache (4 million characters) to be full, and for every path to have been taken.
_WARM_REQUESTS = 12_000
#: 8 MiB over 100,000 requests are 84 bytes a request: about the smallest thing that could be kept of each, an id in a
#: set. What is less than that, an allocator's own coming and going hides.
_MEMORY_BAR = Bar("at most", 8.0)

_SYSTEM = "You are a careful assistant who answers in plain words."
_QUESTION = "Question 00000000: how far is it from the door of the old mill to the river?"


def main() -> int:
    out = Console(highlight=False, stderr=True)
    began, where = time.monotonic(), machine()
    try:
        need_wrk(out)
        with subject.home(out) as home:
            figures = _Bench(home, out).figures()
    except Unmeasurable as error:
        out.print(f"[bold red]bench-gateway:[/] {error}", soft_wrap=True)
        return 2
    return conclude(
        "gateway",
        figures,
        where=where,
        setting={
            "answers": f"streams of {_TOKENS} tokens, one event each; plain ones of {_PLAIN_TOKENS}",
            "connections": f"{_CONNECTIONS}, and 1 for the latency",
            "rounds": f"the quietest {_ROUNDS}, Antiphon and the bare app in turn in each; figures are medians",
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
        self._answered: Counter[int] = Counter()
        self._server_core, load_core = two_cores()
        os.sched_setaffinity(0, {load_core})  # for us, and so for wrk
        self._key = subject.command("keys", "create", "--quiet", "--home", str(home))
        self._plain = self._file("plain", tokens=_PLAIN_TOKENS)
        self._long = self._file("long")
        self._stream = self._file("stream", stream=True)
        self._bare_plain, self._bare_long, self._bare_stream, self._bare_batched = (
            self._file(path, path=f"/{path}") for path in ("plain", "long", "stream", "batched")
        )
        self._whole: dict[str, int] = {}

    def figures(self) -> list[Figure]:
        with self._served(_SCRIPT) as antiphon:
            self._capture(antiphon)
            with self._bare() as bare:
                figures = self._compare(antiphon, bare)
        figures.append(figure("one sync of the disk under the journal, p50", "ms", [_sync_ms(self._home)]))
        with self._served(_FAILING) as antiphon:
            figures += self._endure(antiphon)
        return figures

    def _served(self, script: Path) -> AbstractContextManager[Server]:
        return subject.served(self._home, script, self._server_core)

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
        # The end of an answer counts as a token; one that is cut off has none.
        for name, tokens, expected in (("plain", _PLAIN_TOKENS, _PLAIN_TOKENS), ("long", _PLENTY, _TOKENS + 1)):
            status, body = exchange(antiphon.port, self._message(tokens=tokens, close=True))
            if status != 200 or msgspec.json.decode(body)["usage"]["output_tokens"] != expected:
                raise Unmeasurable(f"the {name} answer is not as expected: {status} {body[:500]!r}")
            self._keep(name, body)
        status, body = exchange(antiphon.port, self._message(stream=True, close=True))
        kinds = [event.partition(b"\n")[0] for event in events_of(body)]
        if (
            status != 200
            or kinds.count(b"event: content_block_delta") != _TOKENS
            or kinds[-1] != b"event: message_stop"
        ):
            raise Unmeasurable(f"the stream is not as expected: {status} {body[:500]!r}")
        self._events = len(kinds)
        self._keep("stream", body)
        self._keep("batched", body)

    def _keep(self, name: str, body: bytes) -> None:
        self._whole[name] = len(body)
        (self._home / name).write_bytes(body)

    def _compare(self, antiphon: Server, bare: Server) -> list[Figure]:
        """Rounds until enough of them had the machine to themselves; failing that, the quietest ones."""
        self._load(antiphon, self._long, 1)
        self._load(antiphon, self._stream, 1)
        rounds: list[dict[str, float]] = []
        while len(rounds) < _MOST_ROUNDS and sum(each["others"] <= _QUIET for each in rounds) < _ROUNDS:
            with Bystanders(antiphon, bare) as bystanders:
                measured = self._round(antiphon, bare)
            rounds.append(measured | {"others": bystanders.cores})
            self._out.print(f"round {len(rounds)}: others took {bystanders.cores:.2f} of the machine's cores")
        antiphon.check()
        self._check_journal(antiphon)
        kept = sorted(rounds, key=lambda each: each["others"])[:_ROUNDS]

        def of(name: str, unit: str, key: str, bar: Bar | None = None) -> Figure:
            return figure(name, unit, [each[key] for each in kept], bar)

        return [
            of("JSON requests, of the bare app's", "×", "json_ratio", _JSON_BAR),
            of("stream events, of the bare app's", "×", "stream_ratio", _STREAM_BAR),
            of("added to the p50 at one connection", "ms", "added", _ADDED_BAR),
            of("JSON requests", "/s", "json"),
            of("JSON requests, bare app", "/s", "bare_json"),
            of("JSON p99", "ms", "json_p99"),
            of("CPU of a JSON request", "ms", "json_cpu"),
            of(f"JSON requests of {_TOKENS} tokens, of the bare app's", "×", "long_ratio"),
            of(f"JSON requests of {_TOKENS} tokens", "/s", "long"),
            of("stream events", "/s", "events"),
            of("stream events, bare app, a send for each", "/s", "bare_events"),
            of("stream events, of a bare app's that joins 16 in a send", "×", "batched_ratio"),
            of("stream p99, whole answer", "ms", "stream_p99"),
            of("CPU of a stream", "ms", "stream_cpu"),
            of("p50 at one connection", "ms", "p50"),
            of("p50 at one connection, bare app", "ms", "bare_p50"),
            of("CPU that others took meanwhile", "cores", "others"),
        ]

    def _round(self, antiphon: Server, bare: Server) -> dict[str, float]:
        """A B A B A B: plain answers, streams, and plain answers at one connection."""
        json, json_cpu = self._whole_load(antiphon, self._plain)
        bare_json = self._load(bare, self._bare_plain)
        long, _ = self._whole_load(antiphon, self._long)
        bare_long = self._load(bare, self._bare_long, _BESIDE_SECONDS)
        stream, stream_cpu = self._whole_load(antiphon, self._stream)
        bare_stream = self._load(bare, self._bare_stream)
        batched = self._load(bare, self._bare_batched, _BESIDE_SECONDS)
        single = self._load(antiphon, self._plain, connections=1)
        antiphon.settle()
        bare_single = self._load(bare, self._bare_plain, connections=1)
        return {
            "json": json.per_second,
            "bare_json": bare_json.per_second,
            "json_ratio": json.per_second / bare_json.per_second,
            "json_p99": json.p99_ms,
            "long": long.per_second,
            "long_ratio": long.per_second / bare_long.per_second,
            "json_cpu": json_cpu,
            "events": stream.per_second * self._events,
            "bare_events": bare_stream.per_second * self._events,
            "stream_ratio": stream.per_second / bare_stream.per_second,
            "batched_ratio": stream.per_second / batched.per_second,
            "stream_p99": stream.p99_ms,
            "stream_cpu": stream_cpu,
            "p50": single.p50_ms,
            "bare_p50": bare_single.p50_ms,
            "added": single.p50_ms - bare_single.p50_ms,
        }

    def _load(self, target: Server, request: Path, seconds: int = _SECONDS, connections: int = _CONNECTIONS) -> Load:
        """One run in which every answer was good and whole."""
        load = self._wrk.run(target.port, [request], connections, seconds)
        self._answered[target.port] += load.requests
        whole = self._whole[request.name.partition("-")[0].partition(".")[0]]
        # wrk counts the bytes of answers that its end cut off, too, and headers: never less than the bodies.
        if load.refused or load.bytes < load.requests * whole * 0.98:
            raise Unmeasurable(f"{load.refused} of {load.requests} answers were refusals; {load.bytes:,} bytes came")
        return load

    def _whole_load(self, antiphon: Server, request: Path) -> tuple[Load, float]:
        """One run, and what each answer took of the CPU in all, ms."""
        before = antiphon.cpu_seconds()
        load = self._load(antiphon, request)
        antiphon.settle()
        return load, (antiphon.cpu_seconds() - before) / load.requests * 1000

    def _check_journal(self, antiphon: Server) -> None:
        """See that each of the answers has its usage record on the disk."""
        written, answered = subject.journalled(antiphon), self._answered[antiphon.port]
        if written < answered:
            raise Unmeasurable(f"{answered} answers, but the journal says {written}")

    def _endure(self, antiphon: Server) -> list[Figure]:
        """100,000 requests of all kinds, in phases; the memory before and after."""
        mixed, refusals = self._mixture()
        leaving = [
            self._file(name, stream=name == "leave-stream", question=f"take your time. {_QUESTION}", padded=True)
            for name in ("leave-stream", "leave-plain")
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
        good = [self._file("mixed-plain", padded=True)] * 8
        good += [self._file("mixed-stream", stream=True, padded=True)] * 5
        good += [self._file("mixed-breaks", stream=True, question="Please fail half-way.", padded=True)]
        bad = [
            self._file("mixed-fails", question="Please fail half-way."),
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
        self,
        *,
        stream: bool = False,
        tokens: int = _PLENTY,
        question: str = _QUESTION,
        path: str = "/v1/messages",
        close: bool = False,
    ) -> bytes:
        body = {
            "model": subject.MODEL,
            "max_tokens": tokens,
            "stream": stream,
            "system": _SYSTEM,
            "messages": [{"role": "user", "content": question}],
        }
        return self._raw(path, msgspec.json.encode(body), close=close)

    def _raw(self, path: str, body: bytes, *, key: str | None = "", close: bool = False) -> bytes:
        """The bytes of a request. `key`: the bench's own where it is empty, none where it is None."""
        return subject.raw_request(body, key=self._key if key == "" else key, path=path, close=close)

    def _file(
        self,
        name: str,
        *,
        stream: bool = False,
        tokens: int = _PLENTY,
        question: str = _QUESTION,
        path: str = "/v1/messages",
        padded: bool = False,
    ) -> Path:
        """The request in a file, for wrk. `padded`: long enough to fill caches soon."""
        if padded:
            question += " " + "It is a long story, and every part of it matters to somebody. " * 8
        where = name if path == "/v1/messages" else f"{name}-bare"
        return self._write(where, self._message(stream=stream, tokens=tokens, question=question, path=path))

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


if __name__ == "__main__":
    sys.exit(main())
