"""Stop sequences in a stream of text: found across token borders, and never shown half.

Text that may be the beginning of a stop sequence is held back until it is decided. Where several match, the one that
ends first wins, and among those the longest, so that the outcome does not depend on how the text was cut into tokens.
"""

from __future__ import annotations

from collections.abc import Iterable


class StopMatcher:
    """Watches one answer for its stop sequences."""

    def __init__(self, sequences: Iterable[str]) -> None:
        self._sequences = tuple(sequences)
        self._longest = max((len(s) for s in self._sequences), default=0)
        self._held = ""

    def feed(self, text: str) -> tuple[str, str | None]:
        """More text. Returns what may be shown now, and the sequence that ended the answer, if one did."""
        if not self._sequences:
            return text, None
        text = self._held + text
        found = self._first(text)
        if found is not None:
            start, sequence = found
            self._held = ""
            return text[:start], sequence
        keep = self._undecided(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], None

    def rest(self) -> str:
        """What was held back, once it is known that nothing follows."""
        held, self._held = self._held, ""
        return held

    def _first(self, text: str) -> tuple[int, str] | None:
        best: tuple[int, int, str] | None = None
        for sequence in self._sequences:
            start = text.find(sequence)
            if start >= 0:
                candidate = (start + len(sequence), start, sequence)
                best = candidate if best is None else min(best, candidate)
        return None if best is None else (best[1], best[2])

    def _undecided(self, text: str) -> int:
        """Length of the longest end of the text with which some sequence begins."""
        for length in range(min(len(text), self._longest - 1), 0, -1):
            tail = text[len(text) - length :]
            if any(sequence.startswith(tail) for sequence in self._sequences):
                return length
        return 0
