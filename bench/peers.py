"""`make bench-peers`: Antiphon and LiteLLM's proxy under the same load, in one run.

Both are gateways that speak the Messages API, written in Python, served by uvicorn with one worker; both check a key.
They do not do the same work behind that:

- Antiphon renders the prompt with the model's template, tokenizes and counts it, makes the answer itself (its engine is
  scripted and plays at full speed), counts that, and has a usage record on the disk before an answer ends.
- LiteLLM forwards to an upstream that answers at once with the very bytes that Antiphon answered (`bench.upstream`). It
  tokenizes nothing and keeps nothing on the disk, as it runs without a database; it routes, and reckons a price. It has
  one more hop, over the loopback on keep-alive connections. The upstream is on the core of the load or, if there is
  one, on a third, so that it takes nothing from LiteLLM's.

What an upstream costs is measured too: alone, in place of the server, it is a column of its own, and what the others
add to its latency is theirs. LiteLLM is there twice: as it comes, and with `LITELLM_RUST`, its beta of a way through
compiled code. The bars are for the better of the two, round by round. None of this says how fast a model answers: with
a real one, its own time is most of a request's.

Servers are on one core, `wrk` is on another, and they are measured in turn (A B C D, A B C D); ratios are taken within
a round, and what counts is their median. Of the rounds, those count in which others left the machine alone. `python -m
bench.peers --quick` measures one short round, without LiteLLM's beta, to see that everything runs.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import msgspec
from rich.console import Console

from bench import peer_litellm, subject
from bench.bare import FOLDER_VARIABLE, events_of
from bench.load import Bystanders, Load, Server, Unmeasurable, Wrk, exchange, free_port, need_wrk, server, two_cores
from bench.report import Bar, Figure, conclude, figure, machine

_SCRIPT = Path(__file__).parent / "gateway.yaml"
#: What clients ask all of them for: one of Claude's names, which each maps to what it serves.
_MODEL = "claude-sonnet-4-5"
_TOKENS, _PLAIN_TOKENS = 200, 40
_PLENTY = 4 * _TOKENS
_SYSTEM = "You are a careful assistant who answers in plain words."
_QUESTION = "Question 00000000: how far is it from the door of the old mill to the river?"

_CONNECTIONS = 16
#: A round in which others took more cores than this does not count, unless no quieter ones are to be had.
_QUIET = 0.1


class _Extent(msgspec.Struct, frozen=True):
    """How much is measured: rounds that count, rounds at most, seconds of each load and of what warms up for it."""

    rounds: int
    most: int
    seconds: int
    warm_seconds: int
    peers: tuple[str, ...]


_RATE_BAR = Bar("at least", 2)
_ADDED_BAR = Bar("at most", 0.5)
_MEMORY_BAR = Bar("at most", 1)

_ANTIPHON, _LITELLM, _NATIVE, _UPSTREAM = "Antiphon", "LiteLLM", "LiteLLM native", "upstream alone"

_FULL = _Extent(rounds=5, most=7, seconds=2, warm_seconds=3, peers=(_LITELLM, _NATIVE))
_SHORT = _Extent(rounds=1, most=1, seconds=1, warm_seconds=1, peers=(_LITELLM,))
#: LiteLLM imports much of itself with its first answer.
_FIRST_ANSWERS = 3


class _Side(msgspec.Struct, frozen=True):
    """One of those that are measured in turn."""

    name: str
    server: Server


def main() -> int:
    out = Console(highlight=False, stderr=True)
    began, where, quick = time.monotonic(), machine(), "--quick" in sys.argv[1:]
    extent = _SHORT if quick else _FULL
    try:
        need_wrk(out)
        out.print(f"The peer is LiteLLM {peer_litellm.version()}; it is installed once, which takes a minute or two.")
        interpreter = peer_litellm.python(subject.installed() / "bench")
        with subject.home(out) as home:
            figures = _Bench(home, interpreter, extent, out).figures()
    except Unmeasurable as error:
        out.print(f"[bold red]bench-peers:[/] {error}", soft_wrap=True)
        return 2
    return conclude(
        "peers-quick" if quick else "peers",
        figures,
        where=where,
        setting={
            "peer": f"LiteLLM {peer_litellm.version()} (litellm[proxy]), no database, no callbacks, no telemetry",
            "work": "Antiphon tokenizes, makes and counts the answer and keeps a durable usage record; "
            "LiteLLM forwards to an instant upstream, one hop more, and keeps nothing",
            "answers": f"streams of {_TOKENS} tokens, one event each; plain ones of {_PLAIN_TOKENS}; the same bytes",
            "connections": f"{_CONNECTIONS}, and 1 for the latency",
            "rounds": f"the quietest {extent.rounds}, all in turn in each, {extent.seconds} s a load; "
            "figures are medians, ratios are taken within a round",
            "workers": "1 each, on the same core; wrk and the peer's upstream elsewhere",
            "bars": f"for the better of {' and '.join(extent.peers)} in each round; native is with LITELLM_RUST",
        },
        seconds=time.monotonic() - began,
    )


class _Bench:
    """One run of the bench, in a data folder of its own."""

    def __init__(self, home: Path, interpreter: Path, extent: _Extent, out: Console) -> None:
        self._home = home
        self._interpreter = interpreter
        self._extent = extent
        self._out = out
        self._wrk = Wrk()
        cores = sorted(os.sched_getaffinity(0))
        self._server_core, load_core = two_cores()
        self._upstream_core = cores[2] if len(cores) > 2 else load_core
        os.sched_setaffinity(0, {load_core})  # for us, and so for wrk
        self._key = subject.command("keys", "create", "--quiet", "--home", str(home))
        self._answered = 0
        self._whole: dict[tuple[str, str], int] = {}  # how long an answer is, by side and kind

    def figures(self) -> list[Figure]:
        with ExitStack() as stack:
            antiphon = stack.enter_context(subject.served(self._home, _SCRIPT, self._server_core))
            sides = [self._side(_ANTIPHON, antiphon)]  # whose answers are the upstreams'
            behind = stack.enter_context(self._upstream("behind", self._upstream_core))
            peer_litellm.configure(self._home, model=_MODEL, key=self._key, upstream=behind.port)
            for name in self._extent.peers:
                sides.append(self._side(name, stack.enter_context(self._litellm(name))))
            for side in sides:
                self._refuse_strangers(side)
            alone = stack.enter_context(self._upstream("alone", self._server_core))
            sides.append(self._side(_UPSTREAM, alone))
            for side in sides:
                self._warm(side)
            rounds = self._rounds(sides, Bystanders(behind, *(side.server for side in sides)))
            if (written := subject.journalled(antiphon)) < self._answered:
                raise Unmeasurable(f"Antiphon gave {self._answered} answers, but its journal has {written} records")
            return _figures(rounds, self._extent.peers, {side.name: side.server.rss_mb() for side in sides})

    @contextmanager
    def _upstream(self, name: str, core: int) -> Iterator[Server]:
        port = free_port()
        arguments = ["uvicorn", "--factory", "bench.upstream:app", "--port", str(port), "--loop", "uvloop", "--http"]
        arguments += ["httptools", "--no-access-log", "--no-server-header", "--no-date-header", "--lifespan", "off"]
        arguments += ["--log-level", "error"]
        with server(arguments, port, core, self._home / f"{name}.log", {FOLDER_VARIABLE: str(self._home)}) as started:
            yield started

    @contextmanager
    def _litellm(self, name: str) -> Iterator[Server]:
        port = free_port()
        arguments = ["bench.peer_litellm", str(self._interpreter), str(self._home), str(port)]
        if name == _NATIVE:
            arguments.append("native")
        with server(arguments, port, self._server_core, self._home / f"litellm-{port}.log") as started:
            yield started

    def _side(self, name: str, target: Server) -> _Side:
        """See that it answers as is to be measured, and remember how long its answers are."""
        for kind, good in (("plain", _good_plain), ("stream", _good_stream)):
            body = _body(stream=kind == "stream")
            (self._home / f"{kind}.request").write_bytes(subject.raw_request(body, key=self._key))
            status, answer = _first_answer(target, subject.raw_request(body, key=self._key, close=True))
            if status != 200 or not good(answer):
                raise Unmeasurable(f"{name}: the {kind} answer is not as expected: {status} {answer[:500]!r}")
            self._whole[name, kind] = len(answer)
            if name == _ANTIPHON:
                (self._home / kind).write_bytes(answer)
        return _Side(name, target)

    def _refuse_strangers(self, side: _Side) -> None:
        """See that it does check the key."""
        wrong = subject.raw_request(_body(stream=False), key=self._key[:-4] + "11AA", close=True)
        if exchange(side.server.port, wrong)[0] < 400:
            raise Unmeasurable(f"{side.name} takes a wrong key")

    def _warm(self, side: _Side) -> None:
        for kind in ("plain", "stream"):
            self._load(side, kind, _CONNECTIONS, self._extent.warm_seconds)

    def _rounds(self, sides: list[_Side], bystanders: Bystanders) -> list[dict[str, float]]:
        """Rounds until enough of them had the machine to themselves; failing that, the quietest ones."""
        rounds: list[dict[str, float]] = []
        extent = self._extent
        while len(rounds) < extent.most and sum(each["others"] <= _QUIET for each in rounds) < extent.rounds:
            with bystanders:
                measured = self._round(sides)
            rounds.append(measured | {"others": bystanders.cores})
            self._out.print(f"round {len(rounds)}: others took {bystanders.cores:.2f} of the machine's cores")
        return sorted(rounds, key=lambda each: each["others"])[: extent.rounds]

    def _round(self, sides: list[_Side]) -> dict[str, float]:
        """Plain answers, streams, and plain answers at one connection; each side in turn."""
        seen: dict[str, float] = {}
        for side in sides:
            before = side.server.cpu_seconds()
            load = self._load(side, "plain", _CONNECTIONS, self._extent.seconds)
            seen[f"plain {side.name}"] = load.per_second
            seen[f"p99 {side.name}"] = load.p99_ms
            seen[f"cpu {side.name}"] = (side.server.cpu_seconds() - before) / load.requests * 1000
        for side in sides:
            load = self._load(side, "stream", _CONNECTIONS, self._extent.seconds)
            seen[f"events {side.name}"] = load.per_second * _TOKENS
        for side in sides:
            seen[f"p50 {side.name}"] = self._load(side, "plain", 1, self._extent.seconds).p50_ms
        for name in (_ANTIPHON, *self._extent.peers):
            seen[f"added {name}"] = seen[f"p50 {name}"] - seen[f"p50 {_UPSTREAM}"]
        for key in ("plain", "events"):
            seen[key] = seen[f"{key} {_ANTIPHON}"] / max(seen[f"{key} {name}"] for name in self._extent.peers)
        seen["added"] = seen[f"added {_ANTIPHON}"] / min(seen[f"added {name}"] for name in self._extent.peers)
        return seen

    def _load(self, side: _Side, kind: str, connections: int, seconds: int) -> Load:
        """One run in which every answer was good and whole, and after which the server is idle again."""
        load = self._wrk.run(side.server.port, [self._home / f"{kind}.request"], connections, seconds)
        # wrk counts the bytes of answers that its end cut off, too, and headers: never less than the bodies.
        if load.refused or load.bytes < load.requests * self._whole[side.name, kind] * 0.98:
            raise Unmeasurable(
                f"{side.name}: {load.refused} of {load.requests} answers were refusals; {load.bytes:,} bytes came"
            )
        if side.name == _ANTIPHON:
            self._answered += load.requests
        side.server.settle()
        return load


def _figures(rounds: list[dict[str, float]], peers: tuple[str, ...], memory: dict[str, float]) -> list[Figure]:
    def of(name: str, unit: str, key: str, bar: Bar | None = None) -> Figure:
        return figure(name, unit, [each[key] for each in rounds], bar)

    figures = [
        of("plain requests, of LiteLLM's", "×", "plain", _RATE_BAR),
        of("stream events, of LiteLLM's", "×", "events", _RATE_BAR),
        of("added to the p50 at one connection, of what LiteLLM adds", "×", "added", _ADDED_BAR),
        figure(
            "memory after the run, of LiteLLM's",
            "×",
            [memory[_ANTIPHON] / min(memory[name] for name in peers)],
            _MEMORY_BAR,
        ),
    ]
    every = (_ANTIPHON, *peers, _UPSTREAM)
    figures += [of(f"plain requests, {name}", "/s", f"plain {name}") for name in every]
    figures += [of(f"plain p99, {name}", "ms", f"p99 {name}") for name in every]
    figures += [of(f"CPU of a plain answer, {name}", "ms", f"cpu {name}") for name in every]
    figures += [of(f"stream events, {name}", "/s", f"events {name}") for name in every]
    figures += [of(f"p50 at one connection, {name}", "ms", f"p50 {name}") for name in every]
    figures += [of(f"added to the p50, {name}", "ms", f"added {name}") for name in (_ANTIPHON, *peers)]
    figures += [figure(f"memory after the run, {name}", "MiB", [memory[name]]) for name in every]
    return [*figures, of("CPU that others took meanwhile", "cores", "others")]


def _first_answer(target: Server, request: bytes) -> tuple[int, bytes]:
    for _ in range(_FIRST_ANSWERS):
        with suppress(TimeoutError):
            return exchange(target.port, request)
    target.check()
    raise Unmeasurable("a server does not answer")


def _body(*, stream: bool) -> bytes:
    return msgspec.json.encode(
        {
            "model": _MODEL,
            "max_tokens": _PLENTY if stream else _PLAIN_TOKENS,
            "stream": stream,
            "system": _SYSTEM,
            "messages": [{"role": "user", "content": _QUESTION}],
        }
    )


def _good_plain(answer: bytes) -> bool:
    return bool(msgspec.json.decode(answer)["usage"]["output_tokens"] == _PLAIN_TOKENS)


def _good_stream(answer: bytes) -> bool:
    """Whether it has an event for each token, and its end."""
    kinds = [event.partition(b"\n")[0] for event in events_of(answer)]
    return kinds.count(b"event: content_block_delta") == _TOKENS and kinds[-1] == b"event: message_stop"


if __name__ == "__main__":
    sys.exit(main())
