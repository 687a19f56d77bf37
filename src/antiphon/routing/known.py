"""The Claude ids that clients know by name, and what each of them is written as (`claude.toml`)."""

from __future__ import annotations

import importlib.resources
import re
import tomllib
from collections.abc import Iterable
from datetime import date
from typing import Literal, TypeAlias

import msgspec

Line: TypeAlias = Literal["haiku", "sonnet", "opus", "fable", "mythos"]
Lifecycle: TypeAlias = Literal["active", "deprecated", "retired"]

#: How a coding client marks the long window in a model's name. It takes the mark off before it asks, but not on every
#: path, and has been seen to put it on twice; there is no model of such a name.
_LONG_WINDOW = re.compile(r"(?:\[1m\])+\Z", re.IGNORECASE)
#: As long as the `model` of a request may be.
_LONGEST_ID = 256


_CLAUDE = "claude-"
#: Where the line stands in an id: right after `claude-`, or, as in `claude-3-5-haiku-latest`, anywhere behind it.
_FIRST: tuple[Line, ...] = ("fable", "mythos")
_ANYWHERE: tuple[Line, ...] = ("opus", "sonnet", "haiku")


class ClaudeModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An id that clients know, as `claude.toml` has it."""

    id: str
    display_name: str
    line: Line
    created: date
    also: tuple[str, ...] = ()
    lifecycle: Lifecycle = "active"
    deprecated: date | None = None
    retires: date | None = None

    def __post_init__(self) -> None:
        if self.lifecycle == "active" and (self.deprecated or self.retires):
            raise ValueError(f"{self.id}: an active model has no dates of its end")


def claude_models() -> tuple[ClaudeModel, ...]:
    """The Claude ids this release knows by name."""
    text = importlib.resources.files(__package__).joinpath("claude.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(text)["models"], tuple[ClaudeModel, ...])


def line_of(model_id: str) -> Line | None:
    """The line that a Claude id belongs to, by pattern and not by list, so that an id which appears tomorrow has one
    too. None: it is no Claude id, or of no line."""
    if not model_id.startswith(_CLAUDE):
        return None
    for line in _FIRST:
        if model_id.startswith(f"{_CLAUDE}{line}-"):
            return line
    for line in _ANYWHERE:
        if line in model_id:
            return line
    return None


class Spelling:
    """The one id that each way of writing it means (contract messages-and-inference 14.2)."""

    def __init__(self, known: Iterable[ClaudeModel]) -> None:
        self._meant = {written: model.id for model in known for written in model.also}

    def of(self, requested_id: str) -> str:
        """The id that is meant: dated where there is a dated one, without the mark of the long window."""
        if not requested_id.startswith(_CLAUDE) or len(requested_id) > _LONGEST_ID:
            return requested_id
        plain = _LONG_WINDOW.sub("", requested_id) if requested_id.endswith("]") else requested_id
        return self._meant.get(plain, plain)
