"""What a model's file is, and where it can be had: the catalogue's words, read and checked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, TypeAlias

import msgspec

from antiphon.net import wheels

_MOST_PARTS = 1000
_RANGE = re.compile(r"\{(\d{1,4})\.\.(\d{1,4})\}")


class WheelPart(msgspec.Struct, frozen=True):
    """A stretch of the file: one member of one published wheel."""

    requirement: str
    member: str


class WheelSource(msgspec.Struct, frozen=True):
    """The file lies in published wheels, in one or several parts."""

    parts: tuple[WheelPart, ...]


class FileSource(msgspec.Struct, frozen=True):
    """The file lies on this machine, and is copied."""

    path: Path


class LaterSource(msgspec.Struct, frozen=True):
    """A source that is understood and cannot be fetched from yet."""

    kind: str


Source: TypeAlias = WheelSource | FileSource | LaterSource


class Weights(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model's file is. `size` is in bytes."""

    file: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,150}\Z")]
    size: Annotated[int, msgspec.Meta(ge=1)]
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    sources: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]

    def __post_init__(self) -> None:
        for text in self.sources:
            parse_source(text)


def parse_source(text: str) -> Source:
    """Read a source as the catalogue writes it (its form is told at the top of `routing/models.toml`).

    Raises:
        ValueError: it has no known form, or names what no source may name.
    """
    kind, _, rest = text.partition(":")
    if kind == "pypi":
        return WheelSource(tuple(_wheel_part(text, part) for part in _counted(rest)))
    if kind == "file":
        path = Path(rest).expanduser()
        if not path.is_absolute():
            raise ValueError(f"`{text}`: the path must be absolute")
        return FileSource(path)
    if kind == "hf" and re.fullmatch(r"[\w.-]+/[\w.-]+/[\w./-]+", rest, re.ASCII):
        return LaterSource(kind)
    if kind == "url" and re.fullmatch(r"https://[^\s/@]+/\S+", rest):
        return LaterSource(kind)
    raise ValueError(f"`{text}` is not a source; known are pypi:, file:, hf: and url:")


def _counted(text: str) -> Iterator[str]:
    """Write out `{1..22}` and `{01..22}`, all ranges of a text in step."""
    counts = {int(last) - int(first) + 1 for first, last in _RANGE.findall(text)} or {1}
    if len(counts) > 1 or not 1 <= min(counts) <= _MOST_PARTS:
        raise ValueError(f"`{text}`: the ranges must be of one length, from 1 to {_MOST_PARTS}")
    return (_counted_once(text, step) for step in range(min(counts)))


def _counted_once(text: str, step: int) -> str:
    return _RANGE.sub(lambda found: f"{int(found[1]) + step:0{len(found[1])}}", text)


def _wheel_part(source: str, text: str) -> WheelPart:
    requirement, _, member = text.partition("#")
    if not wheels.REQUIREMENT.fullmatch(requirement):
        raise ValueError(f"`{source}`: `{requirement}` is not of the form name==version")
    plain = re.fullmatch(r"[\w.+-]+(/[\w.+-]+)*", member, re.ASCII)
    if not plain or {".", ".."} & set(member.split("/")):
        raise ValueError(f"`{source}`: `{member}` is not the plain path of a wheel's member")
    return WheelPart(requirement, member)
