"""The llama.cpp child: `python -m antiphon.engine.children.llama_cpp SOCKET`.

The library runs its own threads and does not hold the GIL, so that a plain event loop can stand between our socket and
it. Of its interfaces only the loopback listener streams token ids; it gets a random key, because any local user could
reach it. Facts and traps: `docs/design/0002-engines.md`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from functools import partial

import aiohttp
import msgspec
import xllamacpp

from antiphon.core.errors import EngineFailed
from antiphon.core.ids import secret
from antiphon.engine.children.llama_cpp_states import InOrder, SlotStates, claims, folder
from antiphon.engine.frames import (
    Cancel,
    Done,
    Drop,
    Erase,
    Failed,
    Generate,
    Load,
    Loaded,
    Made,
    Ping,
    Pong,
    Progress,
    Report,
    Restore,
    Save,
    Tokenize,
    Tokenized,
    pack,
    read_command,
)
from antiphon.engine.llama_stream import Heard, Wanted, in_blocks

#: Prompt tokens per step where we are not told. The library's 2,048 makes a cancel wait 8 s; 128 makes it under 1 s at
#: the same speed.
_BATCH = 128
_PARENT_SECONDS = 1.0


class _TokenizeReply(msgspec.Struct):
    tokens: list[int]


class Body:
    """The library, loaded, and the requests it works on."""

    def __init__(self, http: aiohttp.ClientSession, address: str, key: str, markup: tuple[int, ...]) -> None:
        self._http = http
        self._address = address
        self._headers = {"Authorization": f"Bearer {key}"}
        self._markup = markup
        self.states = SlotStates(http, address, self._headers)

    async def generate(self, command: Generate) -> AsyncGenerator[Heard, None]:
        """Run one phase. Leaving early closes the connection, at which the library stops within one step.

        Raises:
            EngineFailed: the library refuses, or its stream broke.
        """
        reuse = command.reuse and command.seat not in self.states.spoilt
        wanted = Wanted(
            prompt=command.prompt, max_tokens=command.max_tokens, sampling=command.sampling,
            stop_tokens=command.stop_tokens, slot=command.seat, reuse=reuse, grammar=command.grammar,
            logprobs=command.logprobs, markup=self._markup,
        )  # fmt: skip
        known = command.known if reuse else 0
        async with aclosing(in_blocks(len(wanted.prompt), known, partial(self._ask, wanted))) as stream:
            async for heard in stream:
                yield heard

    async def _ask(self, wanted: Wanted, end: int, goes_on: bool) -> AsyncGenerator[Heard, None]:
        """One block: see `llama_stream.in_blocks`."""
        request, reader = wanted.block(end, goes_on)
        body = msgspec.json.encode(request)
        async with self._http.post(f"{self._address}/completion", data=body, headers=self._headers) as reply:
            if reply.status != 200:
                text = await reply.text()
                own = reply.status == 400 and wanted.grammar is not None
                reason = f"the library answered {reply.status}: {text[:300]}"
                raise EngineFailed(reason, retry_helps=False if own else None)
            self.states.spoilt.discard(wanted.slot)
            async for data in reply.content.iter_any():
                heard = reader.feed(data)
                yield heard
                if heard.finish is not None:
                    return
            raise EngineFailed("the library's stream ended without a last event")

    async def tokenize(self, text: str) -> list[int]:
        body = msgspec.json.encode({"content": text, "parse_special": True})
        async with self._http.post(f"{self._address}/tokenize", data=body, headers=self._headers) as reply:
            return msgspec.json.decode(await reply.read(), type=_TokenizeReply).tokens


def _reports(request: int, heard: Heard) -> Iterator[Report]:
    """One report per read of each kind, however many tokens it brought."""
    if heard.reused is not None:
        yield Progress(request, heard.reused, heard.computed)
    if heard.events:
        yield Made(request, tuple([msgspec.structs.astuple(event) for event in heard.events]))
    if heard.finish is not None:
        yield Done(request, heard.finish.reason, heard.finish.reused_tokens or 0)


class Connection:
    """One API process. Requests live as long as their connection does."""

    def __init__(self, body: Body, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._body = body
        self._reader = reader
        self._writer = writer
        self._running: dict[int, asyncio.Task[None]] = {}
        self._in_order = InOrder()

    async def serve(self) -> None:
        """Read commands until the other side goes away."""
        try:
            while True:
                self._handle(await read_command(self._reader))
        except (asyncio.IncompleteReadError, ConnectionError, EngineFailed):
            pass
        finally:
            for task in self._running.values():
                task.cancel()
            self._in_order.cancel()

    def _handle(self, command: object) -> None:
        match command:
            case Generate():
                seat, busy = f"seat {command.seat}", f"busy {command.seat}"
                work = partial(self._generate, command)
                self._start(command.request, self._in_order.start(work, needs={seat, "room"}, holds={seat, busy}))
            case Erase(number) if self._in_order.held(f"busy {number}"):
                pass  # nobody is to wait for the end of what is made there
            case Save() | Restore() | Erase() | Drop():
                needs, holds = claims(command)
                self._in_order.start(partial(self._act, command), needs=needs, holds=holds)
            case Tokenize():
                self._start(command.request, self._tokenize(command))
            case Cancel(request):
                task = self._running.get(request)
                if task is not None:
                    task.cancel()
            case Ping(request):
                self._writer.write(pack(Pong(request)))

    def _start(self, request: int, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._running[request] = task
        task.add_done_callback(lambda _: self._running.pop(request, None))

    async def _generate(self, command: Generate) -> None:
        try:
            async with aclosing(self._body.generate(command)) as stream:
                async for heard in stream:
                    for report in _reports(command.request, heard):
                        self._writer.write(pack(report))
                    await self._writer.drain()
        except EngineFailed as error:
            self._writer.write(pack(Failed(command.request, error.reason, error.retry_helps is False)))
        except (aiohttp.ClientError, msgspec.MsgspecError, OSError) as error:
            self._writer.write(pack(Failed(command.request, f"{type(error).__name__}: {error}"[:300])))

    async def _act(self, command: Save | Restore | Erase | Drop) -> None:
        match command:
            case Save():
                self._writer.write(pack(await self._body.states.save(command)))
            case Restore():
                self._writer.write(pack(await self._body.states.restore(command)))
            case Erase():
                await self._body.states.erase(command)
            case Drop(place):
                self._body.states.drop(place)

    async def _tokenize(self, command: Tokenize) -> None:
        self._writer.write(pack(Tokenized(command.request, await self._body.tokenize(command.text))))


def load(command: Load, key: str) -> xllamacpp.Server:
    """Load the model. Blocks for as long as that takes."""
    params = xllamacpp.CommonParams()
    params.model.path = command.model_path
    params.n_ctx = command.pool_tokens
    params.n_parallel = command.seats
    params.kv_unified = True
    params.n_batch = command.chunk_tokens or _BATCH
    params.n_ubatch = command.chunk_tokens or _BATCH
    # Memory-mapped weights get paged out of an idle server and stall it for half a minute when it wakes.
    params.load_mode = xllamacpp.llama_load_mode.LLAMA_LOAD_MODE_NONE
    # Sizes are ours to choose; the library's own fitting loads the model's layout a second time (3 s of 6 at a start).
    params.fit_params = False
    params.ctx_shift = False
    params.cache_ram_mib = 0  # the host cache crosses workspaces, even with a pinned seat
    params.slot_save_path = folder()
    params.endpoint_slots = False
    params.endpoint_props = False
    params.api_keys = [key]
    params.cpuparams.n_threads = command.threads
    params.cpuparams_batch.n_threads = command.threads
    return xllamacpp.Server(params)


def _same_user(writer: asyncio.StreamWriter) -> bool:
    """Whether the other end of the socket runs as us (the folder is private already; this is the second lock)."""
    peer = writer.get_extra_info("socket")
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return bool(struct.unpack("3i", credentials)[1] == os.getuid())


async def _until_orphaned(parent: int) -> None:
    """End with the server, also when it was killed before it had connected, or while the model was loading."""
    while os.getppid() == parent:  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(_PARENT_SECONDS)
    os._exit(1)


async def main(path: str) -> None:
    """Serve on the socket until the first connection, the supervisor's, has gone."""
    watch = asyncio.ensure_future(_until_orphaned(os.getppid()))
    over = asyncio.Event()
    loaded: list[tuple[Body, xllamacpp.Server]] = []
    key = secret(43)
    # The listener closes connections that it kept as it likes, also while the next request is on its way.
    fresh = aiohttp.TCPConnector(force_close=True, limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=fresh, timeout=timeout, read_bufsize=2**20) as http:

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                if not _same_user(writer):
                    return
                if not loaded:
                    command = await read_command(reader)
                    if not isinstance(command, Load):
                        return
                    try:
                        server = await asyncio.to_thread(load, command, key)
                    except RuntimeError as error:
                        writer.write(pack(Failed(0, str(error)[:300])))
                        await writer.drain()
                        return
                    loaded.append((Body(http, server.listening_address, key, command.markup_tokens), server))
                    writer.write(pack(Loaded()))
                await Connection(loaded[0][0], reader, writer).serve()
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.close()
                over.set()

        os.umask(0o077)  # the socket is ours alone
        listener = await asyncio.start_unix_server(accept, path)
        async with listener:
            await over.wait()
    watch.cancel()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
    # The library's threads do not end with the interpreter, and there is nothing left to save.
    os._exit(0)
