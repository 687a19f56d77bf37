"""A prompt while it is put together: control tokens, the texts between them, and where the client's blocks
end."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate

import msgspec

from antiphon.core.errors import InvariantBroken
from antiphon.engine.tokenizer import Tokenizer


class BlockEnd(msgspec.Struct, frozen=True):
    """Where a block ends in the prompt. `path` is e.g. `tools.0`, `system.1` or `messages.3.content.0`; `end`
    is in tokens, exclusive. A token that reaches over the border belongs to the later block."""

    path: str
    end: int


class Layout:
    """A prompt being put together: control tokens, the texts between them, and where blocks end."""

    def __init__(self) -> None:
        self._segments: list[str | int] = []
        self._run: list[str] = []
        self._run_length = 0
        #: Path -> segment and offset in it, in characters.
        self._ends: dict[str, tuple[int, int]] = {}
        #: What the segments came to, where each of them starts and where the last one ends, all in tokens.
        self._read: list[array[int] | int] = []
        self._starts: list[int] = [0]
        self._tokenizer: Tokenizer | None = None
        #: Segment -> where its tokens end, as `Tokenizer.ends`.
        self._reached: dict[int, tuple[list[int], bool]] = {}
        #: The last border that was looked for: segment, characters and bytes in it.
        self._walked = (0, 0, 0)

    def add_text(self, text: str) -> None:
        self._run.append(text)
        self._run_length += len(text)

    def add(self, parts: Sequence[str | int]) -> None:
        """Trusted text that was cut at its control tokens."""
        for part in parts:
            if isinstance(part, str):
                self.add_text(part)
            else:
                self.close()
                self._segments.append(part)

    def end_block(self, path: str) -> None:
        """The block of this path ends here, or later where more of it follows."""
        self._ends[path] = (len(self._segments), self._run_length)

    def close(self) -> None:
        """A control token follows, or nothing more."""
        if self._run_length:
            self._segments.append("".join(self._run))
            self._run_length = 0
        self._run.clear()

    def least_tokens(self, tokenizer: Tokenizer) -> int:
        """How many tokens this has at least, told without reading it."""
        return sum(len(part) // tokenizer.longest if isinstance(part, str) else 1 for part in self._segments)

    def settle(self, paths: Iterable[str]) -> None:
        """All blocks of the request, in the prompt's order: one that wrote nothing ends where the one before it does,
        or where the prompt begins."""
        ends: dict[str, tuple[int, int]] = {}
        last = (0, 0)
        for path in paths:
            last = ends[path] = self._ends.get(path, last)
        self._ends = ends

    def measure(self, tokenizer: Tokenizer) -> int:
        """Read all of it: its length in tokens.

        Raises:
            InvalidRequest: as `Tokenizer.encode_batch`.
        """
        self._tokenizer = tokenizer
        texts = iter(tokenizer.encode_shared([part for part in self._segments if isinstance(part, str)]))
        self._read = [next(texts) if isinstance(part, str) else part for part in self._segments]
        sizes = [1 if isinstance(part, int) else len(part) for part in self._read]
        self._starts = [*accumulate(sizes, initial=0)]
        return self._starts[-1]

    def ids(self) -> list[int]:
        """The prompt, once it was measured."""
        ids: list[int] = []
        for part in self._read:
            if isinstance(part, int):
                ids.append(part)
            else:
                ids.extend(part)
        return ids

    def __contains__(self, path: str) -> bool:
        """Whether the request has a block of this path."""
        return path in self._ends

    def end_of(self, path: str) -> int:
        """Where one block ends (see `BlockEnd`), once the prompt was measured. Linear in the length of the turn it is
        in; nothing is encoded again.

        Raises:
            InvariantBroken: there is no such block.
        """
        place = self._ends.get(path)
        if place is None:
            raise InvariantBroken(f"no block of the path {path!r} was laid out")
        return self._token_at(*place)

    def block_ends(self) -> tuple[BlockEnd, ...]:
        """Where each of them ends, in the prompt's order."""
        return tuple([BlockEnd(path, self._token_at(*place)) for path, place in self._ends.items()])

    def _token_at(self, segment: int, characters: int) -> int:
        """How many tokens there are up to this place of the text."""
        part = self._segments[segment] if segment < len(self._segments) else ""
        if not isinstance(part, str) or not characters:
            return self._starts[segment]
        if characters == len(part):
            return self._starts[segment + 1]
        reached, in_bytes = self._ends_in(segment, part)
        border = self._bytes_before(segment, part, characters) if in_bytes else characters
        # Ends of tokens never go back, so those within the block are the first ones.
        return self._starts[segment] + bisect_right(reached, border)

    def _ends_in(self, segment: int, text: str) -> tuple[list[int], bool]:
        found = self._reached.get(segment)
        if found is None:
            ids = self._read[segment]
            if self._tokenizer is None or isinstance(ids, int):
                raise InvariantBroken("a prompt was not measured")
            found = self._reached[segment] = self._tokenizer.ends(text, ids)
        return found

    def _bytes_before(self, segment: int, text: str, characters: int) -> int:
        """From the last border on, where that is in front of this one: a walk over all borders is linear."""
        if text.isascii():
            return characters
        walked, before, size = self._walked
        if walked != segment or before > characters:
            before = size = 0
        size += len(text[before:characters].encode())
        self._walked = (segment, characters, size)
        return size
