"""Reads the calls of an answer as a model writes them under a grammar: first the name, then the input.

What is read is valid by construction; what is left to do is to show it in pieces that a client can use, and to leave a
valid object behind where `max_tokens` cut it (contract messages-and-inference 4, "Fine-grained").
"""

from __future__ import annotations

from antiphon.core.errors import EngineFailed, InvariantBroken
from antiphon.dialect.stretch import Between, Ending, How, Input, Name
from antiphon.engine.contract import EngineEvent

_OPENING, _CLOSING = frozenset("{["), frozenset("}]")


class InputReader:
    """One call's input.

    Shows whole members at a time, each with the comma before it; or, `eager`, every character as it comes, whatever may
    become of it; or, `whole`, all at the end.
    """

    ends_anywhere = False

    def __init__(self, stretch: Input, *, by_token: bool) -> None:
        self.how: How | None = None
        self._eager = stretch.eager and by_token
        self._whole = stretch.whole
        self._skip = len(stretch.leading)
        self._closing = len(stretch.closing)
        self._behind = 0
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._opened = False
        self._members: list[str] = []
        self._begun: list[str] = []
        self._shown = False

    def feed_all(self, texts: list[str]) -> list[str]:
        """What is to be shown now of more text. The end is seen at once, without waiting for the model's own."""
        shown = self._read("".join(texts))
        if self._done() and self._behind >= self._closing:
            self.how = "end"
            shown += "".join(self._members)
        return [shown]

    def feed(self, text: str, _: EngineEvent) -> list[str]:
        return self.feed_all([text])

    def rest(self, text: str) -> list[str]:
        """What is left to show once nothing follows; of an input that was cut, what makes a valid object of it.

        Raises:
            EngineFailed: the engine ended it by itself before it was whole.
        """
        shown = self._read(text) + "".join(self._members)
        if self.how == "end" and not self._done():
            raise EngineFailed("the engine left the grammar of an input")
        if self._done() or self._eager:
            return [shown]
        return [shown + "}" if shown or self._shown else "{}"]

    def ending(self, used: int, made: int) -> Ending:
        return Ending(how=self.how or "end", used=used, made=made)

    def _read(self, text: str) -> str:
        skipped = min(self._skip, len(text))
        self._skip -= skipped
        start = at = skipped
        while at < len(text) and not self._done():
            if self._ends_member(text[at]):
                # A comma goes with the member behind it, the last brace with the one before it.
                end = at + 1 if self._done() else at
                self._begun.append(text[start:end])
                self._members += self._begun
                self._begun.clear()
                start = end
            at += 1
        if self._done():
            self._behind += len(text) - at
        else:
            self._begun.append(text[start:])
        shown = "" if self._whole else "".join(self._taken())
        self._shown = self._shown or bool(shown)
        return shown

    def _done(self) -> bool:
        return self._opened and self._depth == 0

    def _taken(self) -> list[str]:
        taken, self._members = self._members, []
        if self._eager:
            taken += self._begun
            self._begun.clear()
        return taken

    def _ends_member(self, letter: str) -> bool:
        """Takes one character. Whether a member of the object itself ended before or with it."""
        if self._in_string:
            if self._escaped:
                self._escaped = False
            elif letter == "\\":
                self._escaped = True
            elif letter == '"':
                self._in_string = False
            return False
        if letter == '"':
            self._in_string = True
        elif letter in _OPENING:
            self._opened = True
            self._depth += 1
        elif letter in _CLOSING:
            self._depth -= 1
            return self._done()
        else:
            return letter == "," and self._depth == 1
        return False


class NameReader:
    """The name of a tool, up to what closes it. Nothing is shown."""

    ends_anywhere = False

    def __init__(self, stretch: Name) -> None:
        self.how: How | None = None
        self._closing = stretch.closing
        self._text = ""

    def feed_all(self, texts: list[str]) -> list[str]:
        self._text = self._text + "".join(texts)
        if self._text.endswith(self._closing):
            self.how = "end"
        return []

    def feed(self, text: str, _: EngineEvent) -> list[str]:
        return self.feed_all([text])

    def rest(self, text: str) -> list[str]:
        return self.feed_all([text])

    def ending(self, used: int, made: int) -> Ending:
        return Ending(how=self.how or "end", used=used, made=made, name=self._text.removesuffix(self._closing))


class BetweenReader:
    """What stands behind a call: the start of another one, or the end. Nothing is shown."""

    ends_anywhere = True

    def __init__(self, stretch: Between) -> None:
        self.how: How | None = None
        self._stretch = stretch
        self._text = ""

    def feed_all(self, texts: list[str]) -> list[str]:
        """For a reader that ends anywhere, `feed` is called."""
        raise InvariantBroken("a token at a time")

    def feed(self, text: str, event: EngineEvent) -> list[str]:
        if event.ids and event.ids[-1] == self._stretch.opener:
            self.how = "call"
            return []
        self._text = (self._text + text).lstrip()
        marker = self._stretch.marker.rstrip()
        if marker and self._text.startswith(marker):
            self.how = "call"
        elif self._text.startswith("{"):
            self.how = "spotted"  # small models leave the marker out
        elif self._text and not (marker and marker.startswith(self._text)):
            self.how = "end"
        return []

    def rest(self, _: str) -> list[str]:
        return []

    def ending(self, used: int, made: int) -> Ending:
        return Ending(how=self.how or "end", used=used, made=made)
