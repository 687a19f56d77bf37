"""Reads large JSON in portions, so that nothing else in the process waits for it.

A decoder's call keeps the interpreter for as long as it takes, a tenth of a second and more for the largest bodies,
also on a thread of its own; meanwhile every stream stands still. A large value is therefore opened one level at a time,
and what is in it is read by calls that are short each. What comes out, and what is refused in which words, is what one
call would give; only which of several faults is told may differ.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from functools import cache, cached_property
from typing import Any, Final, TypeAlias

import msgspec

#: Read by one call up to here, which takes some milliseconds at most, whatever is in it.
PORTION_BYTES: Final = 256 * 1024
#: Levels that are opened; what is deeper is read by one call. Each costs a look at all that is in it. A request's own
#: nesting, down to the text of a document in a tool's result, is not deeper.
_LEVELS: Final = 10

Opened: TypeAlias = dict[str, msgspec.Raw] | list[msgspec.Raw]
Json: TypeAlias = bytes | msgspec.Raw

_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENTRIES: Final = msgspec.json.Decoder(list[msgspec.Raw])


def is_large(raw: Json) -> bool:
    """Whether one call would take long."""
    return memoryview(raw).nbytes > PORTION_BYTES


def opened(raw: Json) -> Opened | None:
    """One level of a value; None for what is neither an object nor a list.

    Raises:
        DecodeError: it is not JSON.
    """
    first = bytes(memoryview(raw)[:64]).lstrip()[:1]
    return _FIELDS.decode(raw) if first == b"{" else _ENTRIES.decode(raw) if first == b"[" else None


def read(raw: Json, kind: Any) -> Any:
    """What `msgspec.json.decode(raw, type=kind)` gives.

    Raises:
        ValidationError: it is not of this kind; with the path from here.
        DecodeError: it is not JSON.
    """
    return _form(kind).read(raw, _LEVELS)


def made(fields: Mapping[str, msgspec.Raw], kind: type[msgspec.Struct]) -> Any:
    """The struct that an object of these fields is read as.

    Raises:
        ValidationError: as `read`.
        DecodeError: as `read`.
    """
    return _struct(kind).make(fields, _LEVELS)


class _Form:
    """How a value of some kind is read when it is large. What has no place in it is read by one call."""

    def __init__(self, kind: Any) -> None:
        self._decoder = msgspec.json.Decoder(kind)
        self._item: Any = None
        self._tuple = False
        self._value: Any = None
        self._structs: list[_Struct] = []
        for part in _alternatives(kind):
            origin, arguments = typing.get_origin(part), typing.get_args(part)
            if part is Any:
                self._item = self._value = Any
            elif origin is tuple and arguments[1:] == (...,):
                self._item, self._tuple = arguments[0], True
            elif origin is dict and arguments[0] is str:
                self._value = arguments[1]
            elif isinstance(part, type) and issubclass(part, msgspec.Struct):
                self._structs.append(_struct(part))

    def read(self, raw: Json, levels: int) -> Any:
        if not is_large(raw) or levels == 0:
            return self._decoder.decode(raw)
        inside = opened(raw)
        if isinstance(inside, list) and self._item is not None:
            return self._list(inside, levels - 1)
        if isinstance(inside, dict) and self._value is not None:
            return {name: _within(value, _form(self._value), levels - 1, "[...]") for name, value in inside.items()}
        if isinstance(inside, dict) and (struct := self._chosen(inside)) is not None:
            return struct.make(inside, levels - 1)
        return self._decoder.decode(raw)

    def _list(self, inside: list[msgspec.Raw], levels: int) -> Any:
        values: list[Any] = []
        read, add = _form(self._item).read, values.append
        try:
            for entry in inside:
                add(read(entry, levels))
        except msgspec.ValidationError as error:
            raise located(error, f"[{len(values)}]") from None
        return tuple(values) if self._tuple else values

    def _chosen(self, inside: Mapping[str, msgspec.Raw]) -> _Struct | None:
        """None where an object would be refused, in words that are the decoder's."""
        for struct in self._structs:
            if struct.tag is None or text(inside.get(struct.tag_field)) == struct.tag:
                return struct
        return None


class _Struct:
    """A struct's fields, by the names they have in JSON."""

    def __init__(self, kind: type[msgspec.Struct]) -> None:
        self._kind = kind
        self.tag = kind.__struct_config__.tag
        self.tag_field = kind.__struct_config__.tag_field or ""
        self._fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}

    @cached_property
    def _forms(self) -> dict[str, _Form]:
        return {name: _form(field.type) for name, field in self._fields.items()}

    def make(self, inside: Mapping[str, msgspec.Raw], levels: int) -> Any:
        values: dict[str, Any] = {}
        for name, value in inside.items():
            if (field := self._fields.get(name)) is not None:
                values[field.name] = _within(value, self._forms[name], levels, f".{name}")
        for name, field in self._fields.items():
            if field.required and field.name not in values:
                raise msgspec.ValidationError(f"Object missing required field `{name}`")
        return self._kind(**values)


def _within(raw: msgspec.Raw, form: _Form, levels: int, step: str) -> Any:
    try:
        return form.read(raw, levels)
    except msgspec.ValidationError as error:
        raise located(error, step) from None


def located(error: msgspec.ValidationError, step: str) -> msgspec.ValidationError:
    """A refusal of a part as one of the whole; `step` leads to the part, like `.name` or `[0]`."""
    what, _, rest = str(error).partition(" - at `$")
    return msgspec.ValidationError(f"{what} - at `${step}{rest.rstrip('`')}`")


def text(raw: msgspec.Raw | None) -> str | None:
    """A short string; None for anything else."""
    value = None if raw is None or is_large(raw) else msgspec.json.decode(raw)
    return value if isinstance(value, str) else None


def _alternatives(kind: Any) -> list[Any]:
    if typing.get_origin(kind) is typing.Annotated:
        return _alternatives(typing.get_args(kind)[0])
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return [part for each in typing.get_args(kind) for part in _alternatives(each)]
    return [kind]


@cache
def _form(kind: Any) -> _Form:
    return _Form(kind)


@cache
def _struct(kind: type[msgspec.Struct]) -> _Struct:
    return _Struct(kind)
