"""What the slots of the llama.cpp child hold, kept in memory that has no name and put back.

The library saves a slot to a file that it opens by name. The name we give it leads to a descriptor of this process, of
memory that is nobody else's and is gone with us: nothing comes to a disk. Only Linux has such names.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path

import aiohttp
import msgspec

from antiphon.engine.frames import Drop, Erase, Restore, Restored, Save, Saved

#: What names the descriptors of the process that asks.
_DESCRIPTORS = "/proc/self/fd/"


def folder() -> str:
    """Where the library is to save slots: nowhere, where this system cannot do it in memory."""
    return _DESCRIPTORS if hasattr(os, "memfd_create") and Path(_DESCRIPTORS).is_dir() else ""


class _Acted(msgspec.Struct):
    """What the library answers, as far as we read it."""

    n_saved: int = 0
    n_written: int = 0
    n_restored: int = 0


class SlotStates:
    """Saves, restores and erases. What fails is told in the report and harms nobody.

    Attributes:
        spoilt: seats of which nobody knows what they hold, since restoring them failed.
    """

    def __init__(self, http: aiohttp.ClientSession, address: str, headers: dict[str, str]) -> None:
        self._http = http
        self._address = address
        self._headers = headers
        self._files: dict[int, int] = {}
        self.spoilt: set[int] = set()

    async def save(self, command: Save) -> Saved:
        """Waits until the library has ended what it does on the slot."""
        acted: _Acted | None = None
        if folder():
            file = self._files.get(command.place)
            if file is None:
                file = self._files[command.place] = os.memfd_create("antiphon-slot", os.MFD_CLOEXEC)
            acted = await self._act(command.seat, "save", file)
            if acted is not None and acted.n_saved and acted.n_written:
                return Saved(command.place, acted.n_saved, os.fstat(file).st_size)
        self.drop(command.place)
        return Saved(command.place, 0, 0 if acted is None or acted.n_saved else acted.n_written)

    async def restore(self, command: Restore) -> Restored:
        file = self._files.get(command.place)
        acted = await self._act(command.seat, "restore", file) if file is not None else None
        if acted is None or not acted.n_restored:
            self.spoilt.add(command.seat)
            return Restored(command.seat, command.place, 0)
        return Restored(command.seat, command.place, acted.n_restored)

    async def erase(self, command: Erase) -> None:
        await self._act(command.seat, "erase", None)

    def drop(self, place: int) -> None:
        file = self._files.pop(place, None)
        if file is not None:
            os.close(file)

    async def _act(self, seat: int, action: str, file: int | None) -> _Acted | None:
        body = msgspec.json.encode({} if file is None else {"filename": str(file)})
        url = f"{self._address}/slots/{seat}?action={action}"
        try:
            async with self._http.post(url, data=body, headers=self._headers) as reply:
                return msgspec.json.decode(await reply.read(), type=_Acted) if reply.status == 200 else None
        except (aiohttp.ClientError, msgspec.MsgspecError, OSError):
            return None


class InOrder:
    """Starts work at once, and lets it wait for earlier work that has hold of what it needs."""

    def __init__(self) -> None:
        self._holds: dict[asyncio.Task[None], frozenset[str]] = {}

    def start(
        self, work: Callable[[], Coroutine[None, None, None]], *, needs: set[str], holds: set[str]
    ) -> asyncio.Task[None]:
        earlier = [task for task, held in self._holds.items() if held & needs]
        task = asyncio.ensure_future(_after(earlier, work))
        self._holds[task] = frozenset(holds)
        task.add_done_callback(lambda done: self._holds.pop(done, None))
        return task

    def held(self, thing: str) -> bool:
        """Whether work that is not over has hold of it."""
        return any(thing in held for held in self._holds.values())

    def cancel(self) -> None:
        for task in list(self._holds):
            task.cancel()


async def _after(earlier: list[asyncio.Task[None]], work: Callable[[], Coroutine[None, None, None]]) -> None:
    if earlier:
        await asyncio.wait(earlier)
    await work()


def claims(command: Save | Restore | Erase | Drop) -> tuple[set[str], set[str]]:
    """What a command needs and what it has hold of meanwhile: its seat, its place, and the room that all share."""
    match command:
        case Save(seat, place):
            return {f"seat {seat}", f"place {place}"}, {f"seat {seat}", f"place {place}"}
        case Restore(seat, place):
            return {f"seat {seat}", f"place {place}", "room"}, {f"seat {seat}", f"place {place}"}
        case Erase(seat):
            return {f"seat {seat}"}, {f"seat {seat}", "room"}
        case Drop(place):
            return {f"place {place}"}, {f"place {place}"}
