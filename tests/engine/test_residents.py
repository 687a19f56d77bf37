"""Models that share a budget. The engines inside are scripted ones, which load at once or, here, take a time for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from antiphon.core.clock import SystemClock
from antiphon.core.errors import EngineFailed, Overloaded
from antiphon.core.records import Scope
from antiphon.engine.contract import Phase, Prompt, TokenSpan
from antiphon.engine.residents import OnDemand, ResidentEngine, Residents
from antiphon.engine.scripted import Rule, Script, ScriptedEngine, Words

pytestmark = pytest.mark.anyio

SCOPE = Scope("org", "one")
PROMPT = Prompt((TokenSpan([ord(letter) for letter in "Go on"]),))


def _read(ids: Sequence[int]) -> str:
    return "".join(map(chr, ids))


class Loading(ScriptedEngine):
    """Counts its lives, can be held up while it loads, and fails as often as it is told."""

    def __init__(self) -> None:
        super().__init__(
            Script(rules=(Rule(match="Go", delay_ms=5),)), words=Words(_read, _read), window=100,
            seats=2, queue=10, queue_seconds=20, stall_seconds=20, clock=SystemClock(),
        )  # fmt: skip
        self.free = asyncio.Event()
        self.free.set()
        self.begun = 0
        self.ended = 0
        self.failing = 0

    async def start(self) -> None:
        self.begun += 1
        await self.free.wait()
        if self.failing:
            self.failing -= 1
            raise EngineFailed("no such kernel")
        await super().start()

    async def stop(self) -> None:
        self.ended += 1
        await super().stop()


class Shelf:
    """A budget for one model, and models that each take all of it, or half."""

    def __init__(self, residents: Residents, clock: SystemClock) -> None:
        self.residents = residents
        self._clock = clock
        self.checks = 0

    def model(self, name: str, need: int = 10) -> tuple[ResidentEngine, Loading]:
        inner = Loading()
        return ResidentEngine(name, inner, need, self.residents, self._clock, self._check), inner

    async def _check(self) -> None:
        self.checks += 1


@asynccontextmanager
async def shelf(**rules: float) -> AsyncIterator[Shelf]:
    clock = SystemClock()
    settings = {"budget": 10, "waiting": 10, "wait_seconds": 20.0, "stay_seconds": 0.0} | rules
    residents = Residents(OnDemand(**settings), clock)  # type: ignore[arg-type]
    try:
        yield Shelf(residents, clock)
    finally:
        for resident in residents._all:
            await resident.stop()


async def ask(engine: ResidentEngine, tokens: int = 2, begun: asyncio.Event | None = None) -> int:
    """How many tokens came."""
    made = 0
    async with engine.seat(SCOPE, PROMPT, tokens) as seat:
        async for step in seat.generate(Phase(max_tokens=tokens)):
            made += sum(event.tokens for event in step.events)
            if begun is not None:
                begun.set()
    return made


async def until(holds: object, what: str = "") -> None:
    async with asyncio.timeout(20):
        while not holds():  # type: ignore[operator]
            await asyncio.sleep(0.005)


async def test_what_fits_is_loaded_at_the_start_and_the_rest_when_it_is_asked_for() -> None:
    async with shelf() as on:
        (one, first), (two, second) = on.model("one"), on.model("two")
        await one.start()
        await two.start()
        assert (first.begun, second.begun) == (1, 0)
        assert one.health().loaded
        assert (two.health().ready, two.health().loaded, two.health().reason) == (True, False, "not loaded")
        assert await ask(two) == 2
        assert (one.here, two.here, first.ended) == (False, True, 1)
        assert await ask(one) == 2
        assert (one.here, two.here, on.checks) == (True, False, 3)


async def test_the_one_longest_unused_goes_and_one_in_use_stays() -> None:
    async with shelf() as on:
        (one, _), (two, _), (three, _) = on.model("one", 5), on.model("two", 5), on.model("three", 5)
        for model in (one, two):
            assert await ask(model) == 2
        assert await ask(one) == 2
        assert await ask(three) == 2
        assert (one.here, two.here, three.here) == (True, False, True)
        begun = asyncio.Event()
        busy = asyncio.create_task(ask(three, 40, begun))
        await begun.wait()
        assert await ask(one) == 2
        assert await ask(two) == 2  # three is older, but in use
        assert (one.here, three.here) == (False, True)
        assert await busy == 40


async def test_one_that_is_in_use_runs_out_first_and_comes_again_after() -> None:
    async with shelf() as on:
        (one, first), (two, second) = on.model("one"), on.model("two")
        begun = asyncio.Event()
        busy = asyncio.create_task(ask(one, 60, begun))
        await begun.wait()
        wanted = asyncio.create_task(ask(two))
        await until(lambda: one.leaving)
        late = asyncio.create_task(ask(one))  # does not keep it here
        assert not wanted.done()
        assert await busy == 60
        assert await wanted == 2
        assert await late == 2
        assert (first.begun, second.begun) == (2, 1)


async def test_many_who_wait_have_it_loaded_once_and_are_counted() -> None:
    async with shelf(waiting=3) as on:
        one, inner = on.model("one")
        inner.free.clear()
        waiting = [asyncio.create_task(ask(one)) for _ in range(3)]
        await until(lambda: one.health().waiting == 3)
        assert one.health().reason == "loading"
        with pytest.raises(Overloaded):
            await ask(one)
        inner.free.set()
        assert await asyncio.gather(*waiting) == [2, 2, 2]
        assert inner.begun == 1
        assert one.health().waiting == 0


async def test_where_nobody_is_to_wait_they_are_refused_until_it_is_there() -> None:
    async with shelf(refuse=True) as on:
        one, inner = on.model("one")
        inner.free.clear()
        for _ in range(3):
            with pytest.raises(Overloaded, match="being loaded"):
                await ask(one)
        inner.free.set()
        await until(lambda: one.health().loaded)
        assert await ask(one) == 2
        assert inner.begun == 1


async def test_one_who_waits_too_long_is_refused_and_the_loading_goes_on() -> None:
    async with shelf(wait_seconds=0.05) as on:
        one, inner = on.model("one")
        inner.free.clear()
        with pytest.raises(Overloaded, match="in time"):
            await ask(one)
        assert one.health().waiting == 0
        inner.free.set()
        await until(lambda: one.health().loaded)
        assert await ask(one) == 2


async def test_one_that_leaves_while_it_loads_takes_nothing_with_it() -> None:
    async with shelf() as on:
        one, inner = on.model("one")
        inner.free.clear()
        gone, stays = asyncio.create_task(ask(one)), asyncio.create_task(ask(one))
        await until(lambda: one.health().waiting == 2)
        gone.cancel()
        inner.free.set()
        assert await stays == 2
        assert one.users == 0


async def test_one_that_cannot_be_loaded_gives_its_room_back_and_is_tried_again_later() -> None:
    async with shelf() as on:
        (one, first), (two, _) = on.model("one"), on.model("two")
        first.failing = 1
        with pytest.raises(EngineFailed):
            await ask(one)
        assert (one.here, on.residents.taken) == (False, 0)
        assert (one.health().ready, one.health().reason) == (False, "no such kernel")
        with pytest.raises(Overloaded, match="not available"):
            await ask(one)
        assert await ask(two) == 2
        await asyncio.sleep(1.0)  # the first pause between two tries
        assert await ask(one) == 2
        assert one.health().ready


async def test_a_model_that_nobody_uses_goes_after_its_time() -> None:
    async with shelf(idle_seconds=0.01) as on:
        one, inner = on.model("one")
        await one.start()
        assert await ask(one) == 2
        await until(lambda: not one.here)
        assert inner.ended == 1
        assert await ask(one) == 2


async def test_two_that_do_not_fit_together_take_turns_under_load() -> None:
    async with shelf() as on:
        (one, first), (two, second) = on.model("one"), on.model("two")
        asked = [ask(one if number % 2 else two, 3) for number in range(16)]
        assert await asyncio.gather(*asked) == [3] * 16
        # Those who come together are served together: not one load for each.
        assert first.begun + second.begun < 8
        assert on.residents.taken <= 10
