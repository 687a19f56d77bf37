"""The stretches of an answer: what the plan has a model write next, and how the reply is to read it.

An answer is generated in phases (architecture, section 2). Each is one stretch; how it ended decides what follows. The
plan makes stretches and the reply reads them; neither knows the other.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Free text.

    `opener` is the id of the control token that begins a call, and `marker` the text that does, in families without
    one. `names` are the tools whose call may stand in another form at the very start, `bare` those of them that take no
    input. A `hidden` answer is not shown:
    it is only to be seen whether it is a call.
    """

    opener: int | None = None
    marker: str = ""
    names: frozenset[str] = frozenset()
    bare: frozenset[str] = frozenset()
    hidden: bool = False


class Name(msgspec.Struct, frozen=True):
    """The name of the tool that is called, and `closing` behind it."""

    closing: str


class Input(msgspec.Struct, frozen=True, kw_only=True):
    """A call's input, a JSON object, between `leading` and `closing`. `eager` shows it as it comes; else one member is
    shown at a time, and `whole` shows it in one piece."""

    name: str
    toolset: str | None = None
    eager: bool = False
    whole: bool = False
    leading: str = ""
    closing: str = ""


class Between(msgspec.Struct, frozen=True):
    """Whether one more call follows: `opener`, `marker` or a bare object says so; anything else ends the answer
    unseen."""

    opener: int | None = None
    marker: str = ""


class Document(msgspec.Struct, frozen=True):
    """The whole answer as JSON that fits a schema, shown as text."""


Stretch: TypeAlias = Answer | Name | Input | Between | Document

How: TypeAlias = Literal["end", "length", "sequence", "call", "spotted", "no_call"]


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How a stretch ended.

    `end`: the model ended its turn, or the grammar was complete; `length`: its tokens were used up; `sequence`: a stop
    sequence of the client's; `call`: a call begins; `spotted`: the whole of it was the beginning of a call in another
    form, and is not part of the answer; `no_call`: what was hidden is none. `name` is of a call; `kept` the text that
    stays in front of a call whose marker is text; `used` the output tokens of the answer so far, of which this stretch
    `made` so many.
    """

    how: How
    used: int
    made: int = 0
    sequence: str | None = None
    name: str = ""
    kept: str = ""
