"""A prompt while it is put together: control tokens, the texts between them, and where the client's blocks
end."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import msgspec

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
        self._sizes: list[int] = []
        self._tokenizer: Tokenizer | None = None

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

    def encode(self, tokenizer: Tokenizer) -> list[int]:
        self._tokenizer = tokenizer
        texts = iter(tokenizer.encode_batch([part for part in self._segments if isinstance(part, str)]))
        ids: list[int] = []
        for part in self._segments:
            before = len(ids)
            if isinstance(part, str):
                ids += next(texts)
            else:
                ids.append(part)
            self._sizes.append(len(ids) - before)
        return ids

    def block_ends(self) -> tuple[BlockEnd, ...]:
        starts = [0, *accumulate(self._sizes)]
        offsets: dict[int, list[int]] = {}
        found: list[BlockEnd] = []
        for path, (segment, characters) in self._ends.items():
            text = self._segments[segment] if segment < len(self._segments) else None
            if isinstance(text, str) and characters == len(text):
                found.append(BlockEnd(path, starts[segment + 1]))
            elif isinstance(text, str) and characters and self._tokenizer is not None:
                if segment not in offsets:
                    offsets[segment] = [end for _, end in self._tokenizer.encode_with_offsets(text)[1]]
                # Ends of tokens never go back, so those within the block are the first ones.
                found.append(BlockEnd(path, starts[segment] + bisect_right(offsets[segment], characters)))
            else:
                found.append(BlockEnd(path, starts[segment]))
        return tuple(found)
