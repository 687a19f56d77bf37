"""What an engine child and the API process say to each other, over a private Unix socket.

A frame is four bytes of length (big endian) and a msgpack map with a closed set of types: data cannot choose code,
and a frame over the bound ends the connection (faults C14).
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator
from typing import TypeAlias, TypeVar

import msgspec

from antiphon.core.errors import EngineFailed
from antiphon.engine.contract import Sampling
from antiphon.engine.grammar import Grammar

#: A prompt of a million tokens is 5 MB as msgpack; nothing larger is ever said.
MAX_FRAME = 16 * 1024 * 1024
_LENGTH = struct.Struct(">I")


class Load(msgspec.Struct, frozen=True, tag="load"):
    """First of all commands: which model, and how much of the machine. `pool_tokens` is shared by all seats.

    What follows is for bodies that want it: a folder of weights made ready for them, the tokens that end a turn, how
    many tokens a step may compute, the library's own properties, and the tokens of the model's own markup.
    """

    model_path: str
    pool_tokens: int
    seats: int
    threads: int
    prepared_path: str = ""
    end_tokens: tuple[int, ...] = ()
    chunk_tokens: int = 0
    properties: dict[str, str] = {}
    markup_tokens: tuple[int, ...] = ()


class Generate(msgspec.Struct, frozen=True, tag="generate"):
    """Run a prompt on a seat. Without `reuse` nothing that the seat computed before may be used. Where a library shares
    what it computed between all seats, only prompts of the same `salt` may share it; `known` is how much of the prompt
    it most likely has."""

    request: int
    seat: int
    prompt: list[int]
    max_tokens: int
    sampling: Sampling
    stop_tokens: tuple[int, ...]
    reuse: bool
    grammar: Grammar | None = None
    logprobs: bool = False
    salt: int = 0
    known: int = 0


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    request: int


class Save(msgspec.Struct, frozen=True, tag="save"):
    """Keep what a seat holds under a number that we choose, in place of what was there. Told with `Saved`. What comes
    later for this seat waits for it; so it does with the next two."""

    seat: int
    place: int


class Restore(msgspec.Struct, frozen=True, tag="restore"):
    """Put what was kept under a number into a seat, which may be another than it came from. Told with `Restored`.
    Where it fails, the next `Generate` on the seat uses nothing that is there."""

    seat: int
    place: int


class Erase(msgspec.Struct, frozen=True, tag="erase"):
    """Have a seat that nobody uses hold nothing, so that others have its room."""

    seat: int


class Drop(msgspec.Struct, frozen=True, tag="drop"):
    """What is kept under a number is not wanted any more."""

    place: int


class Tokenize(msgspec.Struct, frozen=True, tag="tokenize"):
    """The engine's own ids for a text, control tokens in it recognised: to check our tokenizer against."""

    request: int
    text: str


class Ping(msgspec.Struct, frozen=True, tag="ping"):
    request: int


Command: TypeAlias = Load | Generate | Cancel | Save | Restore | Erase | Drop | Tokenize | Ping


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """The first report. `remembers`: whether the library may remember prompts; not where it could not keep those of
    different salts apart."""

    remembers: bool = True


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """A chunk of the prompt has been computed. `reused`: tokens that needed not be, where the library tells.
    `computed`: how far it has come, those included."""

    request: int
    reused: int | None
    computed: int = 0


class Made(msgspec.Struct, frozen=True, tag="made"):
    """What one step gave: `(bytes of whole characters, tokens, ids or None, log-probabilities or None)` each."""

    request: int
    events: tuple[tuple[bytes, int, tuple[int, ...] | None, tuple[float, ...] | None], ...]


class Tokens(msgspec.Struct, frozen=True, tag="tokens"):
    """What one step gave, from a library that makes no text. `stopped`: the last one ended the phase and is no text.
    `logprobs`: one for each, or none at all."""

    request: int
    ids: tuple[int, ...]
    stopped: bool = False
    logprobs: tuple[float, ...] = ()


class Done(msgspec.Struct, frozen=True, tag="done"):
    request: int
    reason: str
    reused: int | None


class Saved(msgspec.Struct, frozen=True, tag="saved"):
    """What a seat held is kept: so many tokens, in so many bytes. Of no tokens nothing is kept; without bytes, since it
    could not be."""

    place: int
    tokens: int
    bytes: int


class Restored(msgspec.Struct, frozen=True, tag="restored"):
    """A seat holds what was kept: so many tokens. None: it could not be put back."""

    seat: int
    place: int
    tokens: int


class Tokenized(msgspec.Struct, frozen=True, tag="tokenized"):
    request: int
    ids: list[int]


class Pong(msgspec.Struct, frozen=True, tag="pong"):
    request: int


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """A command failed, or (request 0) the whole body. The reason goes to the log, never to a client. `fault`: the
    command's own, so that it would fail again."""

    request: int
    reason: str
    fault: bool = False


class Renewed(msgspec.Struct, frozen=True, tag="renewed"):
    """The library was made anew in the same process, since it held so many compiled grammars; its caches are empty."""

    grammars: int


Report: TypeAlias = Loaded | Renewed | Progress | Made | Tokens | Done | Saved | Restored | Tokenized | Pong | Failed

M = TypeVar("M")
_encoder = msgspec.msgpack.Encoder()
_commands: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
_reports: msgspec.msgpack.Decoder[Report] = msgspec.msgpack.Decoder(Report)


def pack(message: Command | Report) -> bytes:
    """One frame."""
    body = _encoder.encode(message)
    if len(body) > MAX_FRAME:
        raise EngineFailed(f"a frame of {len(body)} bytes is over the bound", retry_helps=False)
    return _LENGTH.pack(len(body)) + body


def decode_command(body: bytes) -> Command:
    """A command, from a frame's body. Raises EngineFailed where it is malformed."""
    return _decode(_commands, body)


async def read_command(reader: asyncio.StreamReader) -> Command:
    """The next command. Raises EngineFailed where the frame is malformed, IncompleteReadError at the end."""
    return _decode(_commands, await _body(reader))


def reports_of(data: bytearray) -> Iterator[Report]:
    """The reports that are whole, taken off the front of what has come so far.

    Raises:
        EngineFailed: a frame is malformed.
    """
    start = 0
    try:
        while len(data) >= start + _LENGTH.size:
            (length,) = _LENGTH.unpack_from(data, start)
            if length > MAX_FRAME:
                raise EngineFailed(f"a frame of {length} bytes is over the bound")
            end = start + _LENGTH.size + length
            if len(data) < end:
                return
            body = bytes(data[start + _LENGTH.size : end])
            start = end
            yield _decode(_reports, body)
    finally:
        del data[:start]


async def _body(reader: asyncio.StreamReader) -> bytes:
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    if length > MAX_FRAME:
        raise EngineFailed(f"a frame of {length} bytes is over the bound")
    return await reader.readexactly(length)


def _decode(decoder: msgspec.msgpack.Decoder[M], body: bytes) -> M:
    try:
        return decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise EngineFailed(f"a frame is malformed: {error}") from None
