"""A noisy workspace and a quiet one at the same engine, through HTTP (docs/design/0012). Nothing here is timed: which
rule of the script answered tells in which order the requests got their seats."""

from __future__ import annotations

import asyncio
from typing import TypeAlias

import anthropic

from conftest import StartScripted
from running import Running

#: The first request holds the one seat for as long as its client stays; each further one is told its number.
_SCRIPT = (
    "seats: 1\nrules:\n  - {match: hold, text: '" + "word " * 3000 + "', delay_ms: 20}\n"
    + "".join(f"  - {{text: '{number}', times: 1}}\n" for number in range(1, 100))
)  # fmt: skip

Asked: TypeAlias = list[asyncio.Task[int | None]]


class Two:
    """Requests of a noisy workspace and of a quiet one, while the one seat is held by the noisy one."""

    def __init__(self, server: Running) -> None:
        self._model = next(iter(server.app.parts.models.values()))
        self.noisy = server.async_client()
        self.quiet = server.async_client(api_key=server.make_key(workspace="quiet"))

    async def __aenter__(self) -> Two:
        self._held = await self.noisy.messages.create(
            model="claude-opus-5-5", max_tokens=4000, messages=[{"role": "user", "content": "hold"}], stream=True
        )
        await self.until(lambda: self._model.engine.health().seats_taken == 1)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._held.close()
        await self.noisy.close()
        await self.quiet.close()

    async def let_go(self) -> None:
        await self._held.close()

    def ask(self, client: anthropic.AsyncAnthropic, count: int) -> Asked:
        return [asyncio.create_task(self._ask(client)) for _ in range(count)]

    async def until_waiting(self, count: int) -> None:
        await self.until(lambda: self._model.engine.health().waiting == count)

    async def until(self, holds: object) -> None:
        assert callable(holds)
        async with asyncio.timeout(60):
            while not holds():
                await asyncio.sleep(0.01)

    async def _ask(self, client: anthropic.AsyncAnthropic) -> int | None:
        """When this request got its seat; None where it was refused."""
        try:
            message = await client.messages.create(
                model="claude-opus-5-5", max_tokens=20, messages=[{"role": "user", "content": "Hello"}]
            )
        except anthropic.OverloadedError as refused:
            assert refused.status_code == 529
            return None
        assert message.content[0].type == "text"
        return int(message.content[0].text)


def test_a_quiet_workspace_passes_a_noisy_ones_sixty(scripted: StartScripted) -> None:
    server = scripted(_SCRIPT, queue=64)

    async def play() -> None:
        async with Two(server) as two:
            noisy = two.ask(two.noisy, 60)
            await two.until_waiting(60)
            quiet = two.ask(two.quiet, 4)
            await two.until_waiting(64)
            await two.let_go()
            places = sorted([place or 0 for place in await asyncio.gather(*quiet)])
            others = await asyncio.gather(*noisy)
        assert all(place <= 2 * number for number, place in enumerate(places, 1)), places
        assert sorted([*places, *(place or 0 for place in others)]) == list(range(1, 65))

    asyncio.run(play())


def test_a_queue_that_a_noisy_workspace_has_filled_lets_a_quiet_one_in(scripted: StartScripted) -> None:
    server = scripted(_SCRIPT, queue=8)

    async def play() -> None:
        async with Two(server) as two:
            noisy = two.ask(two.noisy, 30)
            await two.until(lambda: sum(task.done() for task in noisy) == 22)
            await two.until_waiting(8)
            quiet = two.ask(two.quiet, 6)
            # Four places each: two of the quiet one's are refused, and four of the noisy one's have been put out.
            await two.until(lambda: sum(task.done() for task in (*noisy, *quiet)) == 22 + 4 + 2)
            await two.until_waiting(8)
            await two.let_go()
            places = [place for place in await asyncio.gather(*quiet) if place is not None]
            others = [place for place in await asyncio.gather(*noisy) if place is not None]
        assert (len(places), len(others)) == (4, 4)
        assert all(place <= 2 * number for number, place in enumerate(sorted(places), 1)), places

    asyncio.run(play())
    # Who is refused uses nothing, also after a wait.
    assert sorted(record.outcome for record in server.records()) == ["client_closed", *["end_turn"] * 4]
