"""The shape of a request, read off its types: which names are known where, and what a refused value was meant to be.

The types in `request`, `blocks` and `tools` are the only list of what is known. A shape serves two purposes that the
decoder does not: it names the fields that nothing knows, and it writes a refusal the way the API does, with the block's
type as a step of the path (`messages.0.content.1.image.source.base64.media_type`) and the values that would do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec import inspect

from antiphon.core.errors import InvalidRequest
from antiphon.wire import portions
from antiphon.wire.request import ECHOED, Conversation
from antiphon.wire.tools import TOOL_TYPES, CustomTool


class Fields(msgspec.Struct, frozen=True):
    """An object whose names are known; `also` are names that are let pass and carried nowhere."""

    fields: Mapping[str, Shape | None]
    also: frozenset[str]
    names: frozenset[str]
    nested: Mapping[str, Shape]
    """The fields that have fields of their own."""

    @classmethod
    def of(cls, fields: Mapping[str, Shape | None], also: frozenset[str] = frozenset()) -> Fields:
        nested = {name: shape for name, shape in fields.items() if shape is not None and not isinstance(shape, Choice)}
        return cls(fields, also, also.union(fields), nested)

    def knows(self, value: Any) -> bool:
        """Whether every field of a decoded value is known, all the way down."""
        if value.__class__ is not dict:
            return True
        if not self.names.issuperset(value):
            return False
        nested = self.nested
        for name, inner in value.items():
            if inner.__class__ in _NESTED and name in nested and not nested[name].knows(inner):
                return False
        return True


class Tagged(msgspec.Struct, frozen=True):
    """An object whose `type` says which fields it has. Without one it is of the type `default`, where there is one."""

    tags: Mapping[str, Fields]
    default: str | None = None

    def chosen(self, value: Mapping[str, Any]) -> Fields | None:
        return self.tags.get(value.get("type") or self.default or "")

    def lacks_type(self, value: Mapping[str, Any]) -> bool:
        """Whether it says nothing of what it is, and must. The decoder minds only where several types could stand."""
        return self.default is None and "type" not in value

    def knows(self, value: Any) -> bool:
        if value.__class__ is not dict:
            return True
        fields = self.chosen(value)
        return fields.knows(value) if fields is not None else not self.lacks_type(value)


class Items(msgspec.Struct, frozen=True):
    """A list; what is not a list in its place (a string) has no fields."""

    item: Shape

    def knows(self, value: Any) -> bool:
        if value.__class__ is list:
            knows = self.item.knows
            for inner in value:
                if not knows(inner):
                    return False
        return True


class Choice(msgspec.Struct, frozen=True):
    """One of these strings."""

    values: tuple[str, ...]

    def knows(self, value: Any) -> bool:
        return True


class Either(msgspec.Struct, frozen=True):
    """A list, an object or one of some strings."""

    items: Items | None
    other: Fields | Tagged | None
    choices: tuple[str, ...]

    def knows(self, value: Any) -> bool:
        part = self.items if value.__class__ is list else self.other
        return part is None or part.knows(value)


_NESTED = (dict, list)
Shape: TypeAlias = Fields | Tagged | Items | Choice | Either


def shape_of(kind: type[Conversation]) -> Fields:
    """The shape of a request of this kind."""
    whole = _shape(inspect.type_info(kind))
    if not isinstance(whole, Fields):
        raise TypeError(f"{kind} is not an object")
    messages = whole.fields["messages"]
    if not isinstance(messages, Items) or not isinstance(messages.item, Fields):
        raise TypeError("messages are not a list of objects")
    message = Fields.of(messages.item.fields, ECHOED)
    return Fields.of({**whole.fields, "messages": Items(message), "tools": Items(_tool_shape())})


def _tool_shape() -> Tagged:
    forms = {"custom": CustomTool, **{name: kind.form for name, kind in TOOL_TYPES.items()}}
    tags: dict[str, Fields] = {}
    for name, form in forms.items():
        shape = _shape(inspect.type_info(form))
        if isinstance(shape, Fields):
            tags[name] = shape
    return Tagged(tags, default="custom")


def _shape(info: inspect.Type) -> Shape | None:
    """None: anything may stand there, or a plain value."""
    match info:
        case inspect.StructType():
            return _object(info)
        case inspect.VarTupleType() | inspect.ListType():
            item = _shape(info.item_type)
            return Items(item) if item is not None else None
        case inspect.UnionType():
            return _union(info)
        case inspect.LiteralType():
            return Choice(tuple(str(value) for value in info.values))
        case inspect.Metadata():
            return _shape(info.type)
    return None


def _object(info: inspect.StructType) -> Fields | Tagged:
    known = {field.encode_name: _shape(field.type) for field in info.fields}
    if info.tag is None:
        return Fields.of(known)
    return Tagged({str(info.tag): Fields.of(known, frozenset({"type"}))})


def _union(info: inspect.UnionType) -> Shape | None:
    parts = [part for part in map(_shape, info.types) if part is not None]
    tags: dict[str, Fields] = {}
    for part in parts:
        if isinstance(part, Tagged):
            tags |= part.tags
    items = next((part for part in parts if isinstance(part, Items)), None)
    other = Tagged(tags) if tags else next((part for part in parts if isinstance(part, Fields)), None)
    choices = next((part.values for part in parts if isinstance(part, Choice)), ())
    alone: list[Shape] = [part for part in (items, other) if part is not None]
    if len(alone) == 1 and not choices:
        return alone[0]
    return Either(items, other, choices) if alone else Choice(choices) if choices else None


def unknown(shape: Shape | None, value: Any, path: str = "") -> Iterator[str]:
    """Dotted paths of the fields of a value that its shape does not know, in the value's own order. The value is
    decoded, or JSON that is read here, in portions where it is large.

    Raises:
        InvalidRequest: an object does not say of what type it is.
    """
    if isinstance(value, msgspec.Raw):
        if not portions.is_large(value):
            value = msgspec.json.decode(value)
            if shape is None or shape.knows(value):
                return
        else:
            value = portions.opened(value)
            if isinstance(value, dict) and "type" in value:
                value["type"] = portions.text(value["type"])
    if isinstance(value, dict):
        tagged = shape.other if isinstance(shape, Either) else shape
        if isinstance(tagged, Tagged) and tagged.lacks_type(value):
            raise InvalidRequest("Field required", path=f"{path}.type")
        fields = _fields(shape, value)
        if fields is None:
            return
        for name, inner in value.items():
            where = f"{path}.{name}" if path else name
            if name not in fields.names:
                yield where
            elif name in fields.nested:
                yield from unknown(fields.nested[name], inner, where)
    elif isinstance(value, list):
        items = shape.items if isinstance(shape, Either) else shape
        if isinstance(items, Items):
            for position, inner in enumerate(value):
                yield from unknown(items.item, inner, f"{path}.{position}")


def _fields(shape: Shape | None, value: Mapping[str, Any]) -> Fields | None:
    if isinstance(shape, Either):
        shape = shape.other
    return shape.chosen(value) if isinstance(shape, Tagged) else shape if isinstance(shape, Fields) else None


class Place(msgspec.Struct, frozen=True):
    """Where a refused value stands in the API's words, and what it may be."""

    path: str
    choices: tuple[str, ...]
    """The values that would do; empty where they are not a short list."""
    is_tag: bool
    """Whether it is the `type` that decides how the object around it is read."""


def place_of(shape: Shape | None, value: Any, steps: Sequence[str | int]) -> Place:
    """Follow the steps to a value in a decoded body; types that say how an object is read become steps themselves."""
    path: list[str] = []
    choices: tuple[str, ...] = ()
    for number, step in enumerate(steps):
        if isinstance(step, int):
            items = shape.items if isinstance(shape, Either) else shape
            shape = items.item if isinstance(items, Items) else None
        else:
            tagged = shape.other if isinstance(shape, Either) else shape
            if isinstance(tagged, Tagged) and step == "type" and number == len(steps) - 1:
                return Place(".".join(path), tuple(tagged.tags), is_tag=True)
            if isinstance(tagged, Tagged) and isinstance(value, dict):
                path.append(str(value.get("type") or tagged.default))
            fields = _fields(shape, value) if isinstance(value, dict) else None
            shape = fields.fields.get(step) if fields is not None else None
        path.append(str(step))
        value = _step(value, step)
    if isinstance(shape, Choice):
        choices = shape.values
    elif isinstance(shape, Either):
        choices = shape.choices
    return Place(".".join(path), choices, is_tag=False)


def _step(value: Any, step: str | int) -> Any:
    try:
        return value[step]
    except (KeyError, IndexError, TypeError):
        return None
