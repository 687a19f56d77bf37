"""Reads the text of an answer: shows it as it comes, but for what may still turn out to be something else.

Held back are: the start of a possible stop sequence; where there are tools, the start of what may be a call in another
form, and blanks at the end, which would stand between the text and a call.
"""

from __future__ import annotations

import msgspec

from antiphon.core.errors import EngineFailed
from antiphon.dialect.spotter import CallSpotter, NoCall, Spotted
from antiphon.dialect.stretch import Answer, Ending, How
from antiphon.engine.contract import EngineEvent
from antiphon.reply.stops import StopMatcher


class TextReader:
    """One stretch of free text. `by_token` false gives all of it at the end."""

    def __init__(self, stretch: Answer, stops: StopMatcher | None, *, by_token: bool) -> None:
        self._stretch = stretch
        self._stops = stops
        self._by_token = by_token
        self._spotter = CallSpotter(stretch.names, stretch.bare) if stretch.names else None
        self._markers = StopMatcher((stretch.marker,)) if stretch.marker else None
        self._calls = bool(stretch.names) or stretch.opener is not None or bool(stretch.marker)
        self._unread: list[str] = []
        self._blanks = ""
        self._all: list[str] = []
        self._sequence: str | None = None
        self._name = ""
        self.how: How | None = None
        #: Whether it can end within a step. What cannot is read a step at a time, which is faster.
        self.ends_anywhere = stops is not None or self._calls

    def feed_all(self, texts: list[str]) -> list[str]:
        """The texts of a step's tokens."""
        if self._by_token:
            return texts
        self._unread += texts
        return []

    def feed(self, text: str, event: EngineEvent) -> list[str]:
        """The text of one token."""
        if event.ids and event.ids[-1] == self._stretch.opener:
            self.how = "call"
            return self._released()
        if self._spotter is not None:
            verdict = self._spotter.feed(text, event.tokens)
            self._unread.append(text)
            if isinstance(verdict, Spotted):
                self.how, self._name = "spotted", verdict.name
                self._unread.clear()
                return []
            if not isinstance(verdict, NoCall):
                return []
            self._spotter = None
            if self._stretch.hidden:
                self.how = "no_call"
                return []
            text = "".join(self._unread)
            self._unread.clear()
        return [self._read(text)]

    def rest(self, text: str) -> list[str]:
        """What was held back, once it is known that nothing follows."""
        if self._stretch.hidden:
            self.how = "no_call" if self.how == "end" else self.how
            return []
        text = "".join(self._unread) + text
        self._unread.clear()
        shown = self._read(text)
        if self.how != "sequence":
            if self._markers is not None:
                shown += self._stopped(self._markers.rest())
            if self._stops is not None:
                shown += self._stops.rest()
            shown, self._blanks = shown + self._blanks, ""
        return [shown]

    def ending(self, used: int, made: int) -> Ending:
        how = self.how or "end"
        kept = "".join(self._all).rstrip() if how == "call" else ""
        return Ending(how=how, used=used, made=made, sequence=self._sequence, name=self._name, kept=kept)

    def _released(self) -> list[str]:
        """A call follows what was said: blanks between are the dialect's to write."""
        shown = "" if self._stretch.hidden else "".join(self._unread)
        self._unread.clear()
        if shown:
            shown = self._read(shown)
        if self._stops is not None and not self._stretch.hidden:
            shown += self._stops.rest()
        return [self._trimmed(shown)]

    def _read(self, text: str) -> str:
        if self._markers is not None:
            text, marker = self._markers.feed(text)
            self._all.append(text)
            if marker is not None:
                self.how = "call"
                return self._trimmed(self._stopped(text))
        text = self._stopped(text)
        return self._trimmed(text) if self._calls else text

    def _stopped(self, text: str) -> str:
        if self._stops is None:
            return text
        text, self._sequence = self._stops.feed(text)
        if self._sequence is not None:
            self.how = "sequence"
        return text

    def _trimmed(self, text: str) -> str:
        """Keeps blanks at the end for later."""
        text = self._blanks + text
        shown = text.rstrip()
        self._blanks = text[len(shown) :]
        return shown


class DocumentReader(TextReader):
    """The whole answer under a grammar. Where no token is allowed any more, a library ends the turn or lets everything
    through: an end that is no JSON's is the engine's failure.

    Raises:
        EngineFailed: on `rest`, for such an end.
    """

    def __init__(self, stops: StopMatcher | None, *, by_token: bool) -> None:
        super().__init__(Answer(), stops, by_token=by_token)
        self._document: list[str] = []

    def feed_all(self, texts: list[str]) -> list[str]:
        self._document += texts
        return super().feed_all(texts)

    def feed(self, text: str, event: EngineEvent) -> list[str]:
        self._document.append(text)
        return super().feed(text, event)

    def rest(self, text: str) -> list[str]:
        if self.how == "end":
            try:
                msgspec.json.decode("".join(self._document) + text, type=msgspec.Raw)
            except msgspec.DecodeError:
                raise EngineFailed("the engine left the grammar of a document") from None
            except RecursionError:
                pass  # nested deeper than is looked at
        return super().rest(text)
