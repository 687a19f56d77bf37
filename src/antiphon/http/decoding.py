"""What a request's headers say about the bytes of its body: `content-type` and `content-encoding`.

A compressed body is undone while it arrives, so that it is never held twice. Every layer of it may give at most the
endpoint's limit (contract messages-and-inference 2.3), which bounds the ratio as well as the total: a small body that
grows for ever is refused as soon as it is over, whatever it would have become (faults B9).
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterable, Iterator
from typing import Protocol

from antiphon.core.errors import InvalidRequest, RequestTooLarge

#: Encodings in a row. One is what clients do; more than two nobody does but to do harm.
_LAYERS = 2
#: Parts that one gzip stream may consist of; each costs time, even one that gives nothing. `bgzip` makes parts of
#: 64 KiB, so that the largest body there is, 256 MB, has some 4,000.
_MEMBERS = 8192
#: Compressed bytes that are looked at in one go, and decoded bytes that are made in one go. What is left of either is
#: copied each time, so that both are small.
_BITE = 16 * 1024
_PIECE = 64 * 1024
#: Up to this many bytes, compressed and decoded, the event loop does the work itself.
_INLINE_BYTES = 32 * 1024

_CHARSETS = (b"utf-8", b"utf8")


def check_type(content_type: bytes) -> None:
    """Check the `content-type` of a body that is read as JSON. Odd ones are tolerated: clients exist that send
    `text/plain`, or what their HTTP library sends by default.

    Raises:
        InvalidRequest: it is a form with files, or text of another encoding than UTF-8.
    """
    kind, *parameters = content_type.lower().split(b";", 16)
    if kind.strip().startswith(b"multipart/"):
        raise InvalidRequest("a multipart body is not understood here; send JSON with content-type: application/json")
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        if name.strip() == b"charset" and value.strip(b' \t"') not in _CHARSETS:
            raise InvalidRequest(
                "the request body must be in UTF-8; other charsets are not supported",
                details={"error_code": "unsupported_charset"},
            )


def decoding_of(headers: Iterable[bytes], limit: int) -> Decoding | None:
    """What undoes these `content-encoding` headers; None where there is nothing to undo. `limit` is in bytes.

    Raises:
        InvalidRequest: an encoding is unknown, or there are too many in a row.
    """
    names = [name.strip().lower() for name in b",".join(headers).split(b",")]
    names = [name for name in names if name not in (b"", b"identity")]
    if not names:
        return None
    if len(names) > _LAYERS:
        raise _unsupported(f"a request body may be encoded at most {_LAYERS} times")
    kinds = [_KINDS.get(name) for name in reversed(names)]  # the header names them in the order they were applied
    known = [kind for kind in kinds if kind is not None]
    if len(known) < len(kinds):
        raise _unsupported("the content-encoding of the request body is not supported; use gzip or deflate")
    return Decoding([kind() for kind in known], limit)


class Decoding:
    """One body on its way from what was sent to what was meant. Feed it parts; `finish` gives the whole."""

    def __init__(self, layers: list[Layer], limit: int) -> None:
        self._layers = layers
        self._made = [0] * len(layers)
        self._limit = limit
        self._fed = 0
        self._parts: list[bytes] = []

    async def feed(self, part: bytes) -> None:
        """The next part of what was sent. What takes long is done beside the event loop.

        Raises:
            RequestTooLarge: more comes out than the limit.
            InvalidRequest: it is not encoded as it claims.
        """
        self._fed += len(part)
        pieces = self._through(part, 0)
        # What a layer makes for another one may be much, with nothing to show for it.
        small = self._fed <= _INLINE_BYTES and len(self._layers) == 1
        if small and self._gather(pieces, _INLINE_BYTES):
            return
        await asyncio.to_thread(self._gather, pieces, self._limit)

    def finish(self) -> bytes:
        """The whole body.

        Raises:
            InvalidRequest: it ended too early.
        """
        if not all(layer.ended for layer in self._layers):
            raise _invalid("it ends too early")
        return b"".join(self._parts)

    def _gather(self, pieces: Iterator[bytes], enough: int) -> bool:
        """Keep what comes out; whether that was all before there was more than enough, in bytes."""
        for piece in pieces:
            self._parts.append(piece)
            if self._made[-1] > enough:
                return False
        return True

    def _through(self, data: bytes, depth: int) -> Iterator[bytes]:
        """What some bytes become by the layers from `depth` on."""
        if depth == len(self._layers):
            yield data
            return
        for piece in self._layers[depth].undo(data):
            self._made[depth] += len(piece)
            if self._made[depth] > self._limit:
                raise RequestTooLarge(
                    f"The request body is over the maximum of {self._limit} bytes after decoding",
                    details={"error_code": "request_body_too_large_after_decoding"},
                )
            yield from self._through(piece, depth + 1)


class Layer(Protocol):
    """One encoding of a body."""

    @property
    def ended(self) -> bool:
        """Whether what came so far is whole."""
        ...

    def undo(self, data: bytes) -> Iterator[bytes]:
        """The next bytes, decoded piece by piece.

        Raises:
            InvalidRequest: they are not encoded so.
        """
        ...


class _Gzip:
    """RFC 1952: one part or several behind each other."""

    def __init__(self) -> None:
        self._member: _Inflating | None = None
        self._members = 0

    @property
    def ended(self) -> bool:
        return self._members > 0 and self._member is None

    def undo(self, data: bytes) -> Iterator[bytes]:
        for bite in _bites(data):
            left = bite
            while left:
                if self._member is None:
                    self._members += 1
                    if self._members > _MEMBERS:
                        raise _invalid(f"it has more than {_MEMBERS} parts")
                    self._member = _Inflating(16 + zlib.MAX_WBITS)
                yield from self._member.undo(left)
                left = self._member.behind
                if self._member.ended:
                    self._member = None


class _Deflate:
    """RFC 1950 as HTTP means it, or RFC 1951 without the frame, as some clients understood it."""

    def __init__(self) -> None:
        self._stream: _Inflating | None = None

    @property
    def ended(self) -> bool:
        return self._stream is not None and self._stream.ended

    def undo(self, data: bytes) -> Iterator[bytes]:
        for bite in _bites(data):
            if self._stream is None:
                # A frame begins with its method, 8; a bare stream could only by a first block with bits that are 0.
                self._stream = _Inflating(zlib.MAX_WBITS if bite[0] & 0x0F == 8 else -zlib.MAX_WBITS)
            if self._stream.ended:
                raise _invalid("something comes after its end")
            yield from self._stream.undo(bite)
            if self._stream.behind:
                raise _invalid("something comes after its end")


class _Inflating:
    """One compressed stream."""

    def __init__(self, wbits: int) -> None:
        self._inflater = zlib.decompressobj(wbits)

    @property
    def ended(self) -> bool:
        return self._inflater.eof

    @property
    def behind(self) -> bytes:
        """What was fed and comes after the end."""
        return self._inflater.unused_data

    def undo(self, bite: bytes) -> Iterator[bytes]:
        try:
            piece = self._inflater.decompress(bite, _PIECE)
            while piece:
                yield piece
                piece = self._inflater.decompress(self._inflater.unconsumed_tail, _PIECE)
        except zlib.error:
            raise _invalid("it is not what its content-encoding says") from None


_KINDS: dict[bytes, type[_Gzip] | type[_Deflate]] = {b"gzip": _Gzip, b"x-gzip": _Gzip, b"deflate": _Deflate}


def _bites(data: bytes) -> Iterator[bytes]:
    return (data[at : at + _BITE] for at in range(0, len(data), _BITE))


def _invalid(why: str) -> InvalidRequest:
    return InvalidRequest(
        f"the request body cannot be decoded: {why}", details={"error_code": "request_body_encoding_invalid"}
    )


def _unsupported(message: str) -> InvalidRequest:
    return InvalidRequest(message, details={"error_code": "request_body_encoding_unsupported"})
