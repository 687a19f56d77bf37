"""The metadata at the head of a GGUF file (versions 2 and 3), and nothing behind it.

A model file comes from somewhere else, so nothing in it is believed: every length is checked against what the
file still holds and against a bound of our own before anything is read or allocated, and arrays inside arrays
are refused as llama.cpp refuses them. A file cut off behind its metadata is read like a whole one, since
tensors are never looked at. Layout: `docs/gguf.md` in the ggml repository. The `gguf` package reads the same,
and takes 9.5 s and 545 MB for a vocabulary of 152,000 tokens; this takes about 0.1 s.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from antiphon.core.errors import WeightsError

Scalar: TypeAlias = int | float | bool | str
Value: TypeAlias = Scalar | tuple[Scalar, ...]

#: Bounds on what a sane file holds; the largest published vocabularies have 262,144 tokens and 514,906
#: merges.
MAX_ENTRIES = 1 << 16
MAX_KEY_BYTES = (1 << 16) - 1
MAX_STRING_BYTES = 16 << 20
MAX_ELEMENTS = 1 << 22
MAX_METADATA_BYTES = 512 << 20
MAX_DIMENSIONS = 8

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_STRING, _ARRAY = 8, 9
#: Value type -> `struct` code, little-endian.
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_LENGTH = struct.Struct("<Q")
_WORD = struct.Struct("<I")


def read_metadata(path: Path, wanted: Callable[[str], bool]) -> dict[str, Value]:
    """The entries of the file's metadata whose key is `wanted`; the others are checked and skipped, not
    decoded.

    Raises:
        WeightsError: the file cannot be read, is no GGUF file of a known version, is cut off within the
            metadata, or claims what no sane file holds.
    """
    try:
        with path.open("rb") as file:
            # Only the head is mapped: a whole model would not fit the address space a reader is given.
            size = min(path.stat().st_size, MAX_METADATA_BYTES)
            with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as content:
                return _Head(content).entries(wanted)
    except (OSError, ValueError) as error:  # ValueError: mmap of an empty file
        kind = type(error).__name__
        raise WeightsError(f"The model file {path.name} cannot be read ({kind})") from None


def read_tensor_types(path: Path) -> frozenset[int]:
    """The types of the file's tensors, as ggml numbers them. Raises what `read_metadata` raises."""
    try:
        with path.open("rb") as file:
            size = min(path.stat().st_size, MAX_METADATA_BYTES)
            with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as content:
                head = _Head(content)
                head.entries(lambda _: False)
                return head.tensor_types()
    except (OSError, ValueError) as error:
        kind = type(error).__name__
        raise WeightsError(f"The model file {path.name} cannot be read ({kind})") from None


class _Head:
    """A cursor over the file's first bytes. Its methods take what they name, or raise WeightsError."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content = content
        self._size = len(content)
        self._at = 0
        self._tensors = 0

    def entries(self, wanted: Callable[[str], bool]) -> dict[str, Value]:
        if self._take(4) != _MAGIC:
            raise WeightsError("The model file is not a GGUF file")
        version = self._number("I")
        if version not in _VERSIONS:
            raise WeightsError(f"The model file is GGUF version {version}; versions 2 and 3 are read (little-endian)")
        self._tensors = int(self._number("Q"))
        count = self._number("Q")
        if count > MAX_ENTRIES:
            raise WeightsError(f"The model file claims {count} metadata entries; {MAX_ENTRIES} is the most")
        found: dict[str, Value] = {}
        seen: set[str] = set()
        for _ in range(int(count)):
            key = self._string(MAX_KEY_BYTES)
            if key in seen:
                raise WeightsError(f"The model file has the metadata entry {key[:80]!r} twice")
            seen.add(key)
            kind = int(self._number("I"))
            if wanted(key):
                found[key] = self._value(kind, key)
            else:
                self._skip(kind, key)
        return found

    def tensor_types(self) -> frozenset[int]:
        """What stands right behind the entries, once they have been read."""
        if self._tensors > MAX_ENTRIES:
            raise WeightsError(f"The model file claims {self._tensors} tensors; {MAX_ENTRIES} is the most")
        types: set[int] = set()
        for _ in range(self._tensors):
            self._pass(self._length(MAX_KEY_BYTES))
            dimensions = int(self._number("I"))
            if dimensions > MAX_DIMENSIONS:
                raise WeightsError(f"The model file has a tensor of {dimensions} dimensions")
            self._pass(8 * dimensions)
            types.add(int(self._number("I")))
            self._pass(8)  # where it stands
        return frozenset(types)

    def _value(self, kind: int, key: str) -> Value:
        if kind == _STRING:
            return self._string(MAX_STRING_BYTES)
        if kind != _ARRAY:
            return self._number(self._code(kind, key))
        element, count = self._array_head(key)
        if element == _STRING:
            return tuple(self._strings(count))
        layout = struct.Struct(f"<{count}{self._code(element, key)}")
        return layout.unpack(self._take(layout.size))

    def _skip(self, kind: int, key: str) -> None:
        if kind == _STRING:
            self._pass(self._length(MAX_STRING_BYTES))
        elif kind != _ARRAY:
            self._pass(struct.calcsize(self._code(kind, key)))
        else:
            element, count = self._array_head(key)
            if element == _STRING:
                for _ in range(count):
                    self._pass(self._length(MAX_STRING_BYTES))
            else:
                self._pass(count * struct.calcsize(f"<{self._code(element, key)}"))

    def _array_head(self, key: str) -> tuple[int, int]:
        element, count = int(self._number("I")), int(self._number("Q"))
        if element == _ARRAY:
            raise WeightsError(f"The model file's metadata entry {key[:80]!r} is an array of arrays")
        if count > MAX_ELEMENTS:
            raise WeightsError(f"The model file's metadata entry {key[:80]!r} claims {count} elements")
        return element, count

    def _strings(self, count: int) -> list[str]:
        """The hot loop (300,000 turns for a big vocabulary), so the cursor and the bounds are local here."""
        content, at, size, unpack = self._content, self._at, self._size, _LENGTH.unpack_from
        taken: list[str] = []
        try:
            for _ in range(count):
                start = at + 8
                if start > size:
                    raise self._cut_off()
                at = start + unpack(content, at)[0]
                if at > size or at - start > MAX_STRING_BYTES:
                    raise self._cut_off()
                taken.append(content[start:at].decode())
        except UnicodeDecodeError:
            raise WeightsError("The model file's metadata holds text that is not UTF-8") from None
        self._at = at
        return taken

    def _string(self, bound: int) -> str:
        raw = self._take(self._length(bound))
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise WeightsError("The model file's metadata holds text that is not UTF-8") from None

    def _length(self, bound: int) -> int:
        length = int(self._number("Q"))
        if length > bound:
            raise WeightsError(f"The model file's metadata claims a text of {length} bytes; {bound} is the most")
        return length

    def _number(self, code: str) -> int | float | bool:
        layout = _LENGTH if code == "Q" else _WORD if code == "I" else struct.Struct(f"<{code}")
        number: int | float | bool = layout.unpack(self._take(layout.size))[0]
        return number

    def _take(self, size: int) -> bytes:
        start = self._at
        self._pass(size)
        return self._content[start : self._at]

    def _pass(self, size: int) -> None:
        if size > self._size - self._at:
            raise self._cut_off()
        self._at += size

    def _cut_off(self) -> WeightsError:
        return WeightsError("The model file ends, or runs past every sane bound, within its metadata")

    @staticmethod
    def _code(kind: int, key: str) -> str:
        code = _NUMBERS.get(kind)
        if code is None:
            raise WeightsError(f"The model file's metadata entry {key[:80]!r} is of the unknown type {kind}")
        return code
