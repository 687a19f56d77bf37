"""Calls that a model writes in another form than its family's marker.

Small models often write a call as bare JSON, in a fence, or after a marker spelled out as ordinary text. That is a call
only where it is the first thing of the answer and names a declared tool, and only once nothing else can be meant: JSON
that merely has a member `name` is an answer. The text is read character by character, so that how it is cut does not
matter, and the first character that fits no form decides, so that prose is never held back.
"""

from __future__ import annotations

from collections.abc import Collection, Generator
from typing import Final, TypeAlias

import msgspec

#: What is longer without being certain is no call.
MOST_TOKENS: Final = 64

_OPENING_KEYS = ("name", "tool", "tool_name", "function", "type")
_KINDS = ("function", "function_call", "tool_call", "tool_use")
_IDS = ("id", "call_id")
_INPUTS = ("arguments", "parameters", "input", "args")
#: A schema's first words. An object of these under `parameters` defines a tool and calls none.
_SCHEMA_WORDS = ("$schema", "properties", "type")
_FENCES = ("", "json", "tool_call", "xml")
_MARKERS = ("<tool_call>", "<tools>", "<function_call>", "Tool call:")


class Undecided(msgspec.Struct, frozen=True):
    """It may become a call: hold the text back."""


class NoCall(msgspec.Struct, frozen=True):
    """It is an answer, to its end."""


class Spotted(msgspec.Struct, frozen=True):
    """It is a call of this tool; the text so far stands for no more than that."""

    name: str


Verdict: TypeAlias = Undecided | NoCall | Spotted
_Step: TypeAlias = Generator[None, str, None]
_Reading: TypeAlias = Generator[None, str, str]


class CallSpotter:
    """Watches one answer from its start.

    `names` are the tools that can be called; `bare` those of them that need no input, which `{"name": "X"}` alone
    calls.
    """

    def __init__(self, names: Collection[str], bare: Collection[str] = ()) -> None:
        self._verdict: Verdict = Undecided() if names else NoCall()
        self._tokens = 0
        self._form = _Form(tuple(names), frozenset(bare))
        self._reading = self._form.read()
        next(self._reading)

    def feed(self, text: str, tokens: int) -> Verdict:
        """Read on. `tokens` is how many tokens this text is, at most; 64 in all are held back.

        What was decided stays decided.
        """
        if not isinstance(self._verdict, Undecided):
            return self._verdict
        try:
            for character in text:
                self._reading.send(character)
        except StopIteration as done:
            self._verdict = Spotted(done.value)
        except _OtherForm:
            self._verdict = NoCall()
        self._tokens += tokens
        if isinstance(self._verdict, Undecided) and self._tokens >= MOST_TOKENS:
            self._verdict = NoCall()
        return self._verdict


class _OtherForm(Exception):
    """A character that no form of a call has there. Stays within this module."""


class _Form:
    """The forms of a call, as a parser that is given its characters one by one.

    `self._at` is the character to be looked at; each part reads past what it takes, and past the blanks behind.
    """

    def __init__(self, names: tuple[str, ...], bare: frozenset[str]) -> None:
        self._names = names
        self._bare = bare
        self._at = ""

    def read(self) -> _Reading:
        """The name of the tool that is called, as soon as that is certain."""
        self._at = yield
        yield from self._blanks()
        for _ in range(3):
            if self._at == "`":
                yield from self._fence()
            elif self._at in ("<", "T"):
                yield from self._one_of(_MARKERS)
                yield from self._blanks()
        if self._at == "[":
            yield from self._mark("[")
        return (yield from self._call())

    def _call(self) -> _Reading:
        yield from self._mark("{")
        key = yield from self._key(_OPENING_KEYS)
        if key == "type":
            yield from self._text(_KINDS)
            yield from self._mark(",")
            key = yield from self._key(("name", "function", *_IDS))
            if key in _IDS:
                yield from self._any_text()
                yield from self._mark(",")
                key = yield from self._key(("name", "function"))
        if key == "function" and self._at == "{":
            yield from self._mark("{")
            yield from self._key(("name",))
        name = yield from self._text(self._names)
        if self._at == "}" and name in self._bare:
            return name
        yield from self._mark(",")
        yield from self._input()
        return name

    def _input(self) -> _Step:
        """Read until it is certain that the input of a call begins."""
        key = yield from self._key(_INPUTS)
        if key == "arguments" and self._at == '"':
            yield from self._mark('"')  # an object written as a text, as some APIs have it
        if self._at != "{":
            raise _OtherForm
        if key != "parameters":
            return
        yield from self._mark("{")
        if self._at != '"':
            return
        word = yield from self._any_text()
        if word not in _SCHEMA_WORDS:
            return
        yield from self._mark(":")
        if word != "type" or (self._at == '"' and (yield from self._any_text()) == "object"):
            raise _OtherForm

    def _fence(self) -> _Step:
        for _ in range(3):
            if self._at != "`":
                raise _OtherForm
            self._at = yield
        language = ""
        while not self._at.isspace() and self._at not in "{[<":
            language += self._at.lower()
            if not any(known.startswith(language) for known in _FENCES):
                raise _OtherForm
            self._at = yield
        if language not in _FENCES:
            raise _OtherForm
        yield from self._blanks()

    def _key(self, known: Collection[str]) -> _Reading:
        key = yield from self._text(known)
        yield from self._mark(":")
        return key

    def _text(self, known: Collection[str]) -> _Reading:
        """A JSON text that is one of these; none of them has anything to escape."""
        if self._at != '"':
            raise _OtherForm
        self._at = yield
        text = yield from self._one_of([f'{each}"' for each in known])
        yield from self._blanks()
        return text[:-1]

    def _any_text(self) -> _Reading:
        if self._at != '"':
            raise _OtherForm
        read: list[str] = []
        self._at = yield
        while self._at != '"':
            if self._at == "\\":
                raise _OtherForm
            read.append(self._at)
            self._at = yield
        yield from self._mark('"')
        return "".join(read)

    def _one_of(self, known: Collection[str]) -> _Reading:
        """One of these, none of which is the beginning of another."""
        place, left = 0, known
        while True:
            left = [each for each in left if each[place] == self._at]
            if not left:
                raise _OtherForm
            place += 1
            self._at = yield
            if len(left[0]) == place:
                return left[0]

    def _mark(self, mark: str) -> _Step:
        if self._at != mark:
            raise _OtherForm
        self._at = yield
        yield from self._blanks()

    def _blanks(self) -> _Step:
        while self._at.isspace():
            self._at = yield
