"""The bytes of a journal: frames of length, CRC-32 and payload, one after the other.

A frame is whole or it is nothing: reading ends at the first one that is cut, empty or does not check out.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from antiphon.core.errors import invariant

#: What each file begins with; the number is the format's version.
HEADER = b"antiphon journal 1\n"
#: The largest payload, bytes. A length above it is damage, not a record.
LARGEST = 1 << 20

_PREFIX = struct.Struct("<II")
OVERHEAD = _PREFIX.size


def framed(payload: bytes) -> bytes:
    """A payload with its length and check sum in front."""
    length = len(payload)
    invariant(0 < length <= LARGEST, "a journal's payload has between 1 byte and 1 MiB")
    # The length seeds the sum, so that a damaged length does not check out either.
    return _PREFIX.pack(length, zlib.crc32(payload, length)) + payload


def frames(data: bytes, start: int = 0) -> Iterator[tuple[bytes, int]]:
    """The whole frames from `start` on: each payload, and the offset where its frame ends."""
    view = memoryview(data)
    while start + OVERHEAD <= len(data):
        length, checksum = _PREFIX.unpack_from(data, start)
        end = start + OVERHEAD + length
        # No frame is empty: a stretch of zeros, as a crash can leave behind, must not read as records.
        if not 0 < length <= LARGEST or end > len(data):
            return
        payload = view[start + OVERHEAD : end]
        if zlib.crc32(payload, length) != checksum:
            return
        yield bytes(payload), end
        start = end
