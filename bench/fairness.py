"""`make bench-fairness`: what a workspace that asks now and then suffers from one that asks ten times as much as the
server can answer.

Antiphon is as it is served, with its queue of 64; the scripted engine has four seats, and an answer lasts a tenth of a
second. The quiet workspace asks one thing after the other, first alone and then beside the noisy one (A B A B); the
noisy one sends its requests at a fixed rate, whether or not earlier ones were answered, so its queue is always full and
most are refused. What counts is the quiet one's time for a whole answer beside the noisy one, of its time alone: its
wait for a seat alone is nothing, and no ratio could be had of it. The waits themselves are told, too.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import aiohttp
import msgspec
from rich.console import Console

from bench import subject
from bench.load import Server, Unmeasurable, exchange, two_cores
from bench.report import Bar, Figure, conclude, figure, machine

_SCRIPT = Path(__file__).parent / "fairness.yaml"
_SEATS = 4
_TIMES = 10
_ROUNDS = 3
_ASKED = 100
_WARM = 20
#: Not a part of an answer's time, so that the quiet one comes at any moment of the noisy ones' answers.
_PAUSE_SECONDS = 0.037
_BAR = Bar("at most", 3.0)


class Noise(msgspec.Struct, frozen=True):
    """What the noisy workspace got."""

    seconds: float
    sent: int
    statuses: dict[int, int]

    @property
    def answered(self) -> int:
        return self.statuses.get(200, 0)


def main() -> int:
    if len(sys.argv) > 1:
        return _make_noise(int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]))
    out = Console(highlight=False, stderr=True)
    began, where = time.monotonic(), machine()
    try:
        with subject.home(out) as home:
            figures = _Bench(home, out).figures()
    except Unmeasurable as error:
        out.print(f"[bold red]bench-fairness:[/] {error}", soft_wrap=True)
        return 2
    return conclude(
        "fairness",
        figures,
        where=where,
        setting={
            "engine": f"scripted, {_SEATS} seats, answers of a tenth of a second, a queue of 64",
            "noisy": f"{_TIMES} times what the seats can answer, at a fixed rate",
            "quiet": f"{_ASKED} requests, one after the other, alone and beside the noisy one; {_ROUNDS} rounds",
            "cores": "server on one, both clients on another",
        },
        seconds=time.monotonic() - began,
    )


class _Bench:
    """One run of the bench, in a data folder of its own."""

    def __init__(self, home: Path, out: Console) -> None:
        self._home = home
        self._out = out
        self._server_core, load_core = two_cores()
        os.sched_setaffinity(0, {load_core})  # for us, and so for the noise
        noisy, quiet = (
            subject.command("keys", "create", "--quiet", "--workspace", name, "--home", str(home))
            for name in ("noisy", "quiet")
        )
        body = msgspec.json.encode(
            {"model": subject.MODEL, "max_tokens": 50, "messages": [{"role": "user", "content": "How far is it?"}]}
        )
        self._quiet = subject.raw_request(body, key=quiet, close=True)
        self._noisy = home / "noisy"
        self._noisy.write_bytes(msgspec.json.encode([noisy, body.decode()]))

    def figures(self) -> list[Figure]:
        rounds: list[dict[str, float]] = []
        with subject.served(self._home, _SCRIPT, self._server_core) as antiphon:
            self._ask(antiphon, _WARM)
            for number in range(_ROUNDS):
                rounds.append(self._round(antiphon))
                self._out.print(f"round {number + 1}: p99 {rounds[-1]['ratio99']:.2f} times that alone")
            antiphon.settle()
        self._add_waits(rounds)

        def of(name: str, unit: str, key: str, bar: Bar | None = None) -> Figure:
            return figure(name, unit, [each[key] for each in rounds if key in each] or [0.0], bar)

        return [
            of("quiet one's p50 beside the noisy one, of its p50 alone", "×", "ratio50", _BAR),
            of("quiet one's p99 beside the noisy one, of its p99 alone", "×", "ratio99", _BAR),
            of("quiet one's p50 alone", "ms", "alone50"),
            of("quiet one's p99 alone", "ms", "alone99"),
            of("quiet one's p50 beside", "ms", "beside50"),
            of("quiet one's p99 beside", "ms", "beside99"),
            of("its wait for a seat alone, p99", "ms", "waited_alone99"),
            of("its wait for a seat beside, p50", "ms", "waited50"),
            of("its wait for a seat beside, p99", "ms", "waited99"),
            of("quiet one's requests refused", "", "refused", Bar("at most", 0)),
            of("noisy one's requests", "/s", "sent"),
            of("noisy one's answers", "/s", "answered"),
            of("noisy one's requests refused", "%", "noisy_refused"),
        ]

    def _round(self, antiphon: Server) -> dict[str, float]:
        alone, refused_alone = self._ask(antiphon, _ASKED)
        if refused_alone:
            raise Unmeasurable(f"{refused_alone} requests were refused while nobody else asked")
        rate = _TIMES * _SEATS / _percentile(alone, 50)
        with _Noise(antiphon.port, rate, self._noisy) as noise:
            beside, refused = self._ask(antiphon, _ASKED)
        heard = noise.result
        if heard.sent / heard.seconds < 0.9 * rate:
            raise Unmeasurable(f"the noise was {heard.sent / heard.seconds:.0f} requests a second, not {rate:.0f}")
        if set(heard.statuses) - {200, 529}:
            raise Unmeasurable(f"the noisy workspace got {heard.statuses}")
        antiphon.check()
        return {
            "alone50": _percentile(alone, 50) * 1000,
            "alone99": _percentile(alone, 99) * 1000,
            "beside50": _percentile(beside, 50) * 1000,
            "beside99": _percentile(beside, 99) * 1000,
            "ratio50": _percentile(beside, 50) / _percentile(alone, 50),
            "ratio99": _percentile(beside, 99) / _percentile(alone, 99),
            "refused": float(refused),
            "sent": heard.sent / heard.seconds,
            "answered": heard.answered / heard.seconds,
            "noisy_refused": 100 * (1 - heard.answered / sum(heard.statuses.values())),
        }

    def _ask(self, antiphon: Server, count: int) -> tuple[list[float], int]:
        """Seconds that each answer took, and how many were refused; a refusal is as bad as the longest answer."""
        took: list[float] = []
        refused = 0
        for _ in range(count):
            time.sleep(_PAUSE_SECONDS)
            began = time.perf_counter()
            status, body = exchange(antiphon.port, self._quiet)
            took.append(time.perf_counter() - began)
            if status == 529:
                refused += 1
                took[-1] = 10.0
            elif status != 200:
                raise Unmeasurable(f"Antiphon answered {status}: {body[:300]!r}")
        return took, refused

    def _add_waits(self, rounds: list[dict[str, float]]) -> None:
        """What the ledger says of the quiet one's waits, in the order of its requests; nothing where some were refused,
        which have no record."""
        with closing(sqlite3.connect(self._home / "antiphon.db")) as database:
            rows = database.execute(
                "SELECT a.queue_us FROM usage_attempts a JOIN usage_records r ON r.request_id = a.request_id"
                " JOIN workspaces w ON w.id = r.workspace WHERE w.name = 'quiet' ORDER BY r.created_ms, r.request_id"
            ).fetchall()
        waits = [row[0] / 1000 for row in rows][_WARM:]
        if any(each["refused"] for each in rounds):
            return
        if len(waits) != 2 * _ASKED * _ROUNDS:
            raise Unmeasurable(f"the ledger has {len(waits)} of the quiet workspace's requests")
        for number, each in enumerate(rounds):
            begin = 2 * _ASKED * number
            alone, beside = waits[begin : begin + _ASKED], waits[begin + _ASKED : begin + 2 * _ASKED]
            each |= {"waited_alone99": _percentile(alone, 99)}
            each |= {"waited50": _percentile(beside, 50), "waited99": _percentile(beside, 99)}


class _Noise:
    """The noisy workspace, in a process of its own; `result` is there when it has ended."""

    def __init__(self, port: int, rate: float, request: Path) -> None:
        arguments = [sys.executable, "-m", "bench.fairness", str(port), str(rate), str(request)]
        self._process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent
        )
        self.result: Noise

    def __enter__(self) -> _Noise:
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            raise Unmeasurable("the noisy workspace's client ended before it began")
        return self

    def __exit__(self, *_: object) -> None:
        told, _rest = self._process.communicate(b"enough", timeout=120)
        self.result = msgspec.json.decode(told, type=Noise)


def _make_noise(port: int, rate: float, request: Path) -> int:
    """The noise's own process: says when the queue is full, and what came of it when its input ends."""
    key, body = msgspec.json.decode(request.read_bytes(), type=tuple[str, str])
    asyncio.run(_send(f"http://127.0.0.1:{port}/v1/messages", key, body.encode(), rate))
    return 0


async def _send(address: str, key: str, body: bytes, rate: float) -> None:
    headers = {"x-api-key": key, "anthropic-version": "2023-06-01", "content-type": "application/json"}
    statuses: Counter[int] = Counter()
    under_way: set[asyncio.Task[None]] = set()
    enough = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

    async def ask(http: aiohttp.ClientSession) -> None:
        async with http.post(address, data=body, headers=headers) as reply:
            await reply.read()
            statuses[reply.status] += 1

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        began, sent, told = time.monotonic(), 0, False
        while not enough.done():
            due = int((time.monotonic() - began) * rate)
            for _ in range(due - sent):
                task = asyncio.ensure_future(ask(http))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            sent = max(sent, due)
            if not told and statuses[529]:  # the queue has been full: now it counts
                print("full", flush=True)
                told = True
            await asyncio.sleep(0.005)
        seconds = time.monotonic() - began
        heard = dict(statuses)
        await asyncio.gather(*under_way)
    sys.stdout.buffer.write(msgspec.json.encode(Noise(seconds, sent, heard)))


def _percentile(values: Sequence[float], percent: int) -> float:
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


if __name__ == "__main__":
    sys.exit(main())
