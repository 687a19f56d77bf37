"""Bytes to requests: the only place where JSON from a client is read.

Refusals carry a dotted path and the API's wording (contract `messages-and-inference.md` 2.2). Unknown fields are
tolerated, because clients run ahead of servers; they are named, so that the answer can say what had no effect.
"""

from __future__ import annotations

import re
from typing import Any, Generic, TypeVar, cast

import msgspec

from antiphon.core.errors import InvalidRequest
from antiphon.wire import portions
from antiphon.wire.request import Conversation, CountTokensRequest, MessagesRequest
from antiphon.wire.shape import Place, place_of
from antiphon.wire.tools import TOOL_TYPES, CustomTool, Tool, ToolHead
from antiphon.wire.unknown import shape, unknown_fields

R = TypeVar("R", bound=Conversation)


class Parsed(msgspec.Struct, Generic[R], frozen=True):
    """A request, the body it came in, and the paths of fields that nothing here knows."""

    request: R
    raw: bytes
    ignored: tuple[str, ...]


def parse_messages(body: bytes) -> Parsed[MessagesRequest]:
    """The body of `POST /v1/messages`.

    Raises:
        InvalidRequest: not JSON, or not a request of this shape.
    """
    return _parse(body, MessagesRequest)


def parse_count_tokens(body: bytes) -> Parsed[CountTokensRequest]:
    """The body of `POST /v1/messages/count_tokens`.

    Raises:
        InvalidRequest: not JSON, or not a request of this shape.
    """
    return _parse(body, CountTokensRequest)


def _parse(body: bytes, kind: type[R]) -> Parsed[R]:
    try:
        try:
            request = _read(body, kind)
        except msgspec.ValidationError as error:
            request = _reread(body, kind, str(error))
        return Parsed(request, body, unknown_fields(body, kind))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidRequest(_not_json(body, error)) from None


def _read(body: bytes, kind: type[R]) -> R:
    if portions.is_large(body) or _TOOLS in body:
        return _by_fields(body, kind)
    request: R = portions.read(body, kind)
    return _by_fields(body, kind) if request.tools else request


def _reread(body: bytes, kind: type[R], told: str) -> R:
    """Of a name that stands there twice the last one counts, also where the first is wrong: so what was refused is read
    once more without the first ones.

    Raises:
        InvalidRequest: it is wrong all the same; in the API's words.
        DecodeError: it is not JSON further on.
    """
    try:
        value = msgspec.json.decode(body)
    except msgspec.ValidationError:  # a number that nothing can hold
        raise _refusal(told, None, kind) from None
    if not isinstance(value, dict):
        raise InvalidRequest("The request body is not a JSON object")
    try:
        return _read(msgspec.json.encode(value), kind)
    except msgspec.ValidationError as error:
        raise _refusal(str(error), value, kind) from None


#: How nearly every client writes the name. Who escapes its letters is found out by the tools that were read.
_TOOLS = b'"tools"'


def _by_fields(body: bytes, kind: type[R]) -> R:
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    tools = fields.pop("tools", None)
    request: R = portions.made(fields, kind)
    return request if tools is None else msgspec.structs.replace(request, tools=_tools(tools))


def _tools(raw: msgspec.Raw) -> tuple[Tool, ...]:
    """Each definition by its own type: one without a type is the client's own.

    Raises:
        ValidationError: with the path from the top of the body, as if the whole had been decoded at once.
    """
    entries = _decoded(raw, list[msgspec.Raw] | None, "tools")
    return tuple(_tool(entry, f"tools[{index}]") for index, entry in enumerate(entries or ()))


def _tool(entry: msgspec.Raw, where: str) -> Tool:
    head = _decoded(entry, ToolHead, where)
    if head.type in (None, "custom"):
        return cast(Tool, _decoded(entry, CustomTool, where))
    known = TOOL_TYPES.get(head.type)
    if known is None:
        raise msgspec.ValidationError(f"Invalid value '{head.type}' - at `$.{where}.type`")
    tool = _decoded(entry, known.form, where)
    if known.name is not None and tool.name != known.name:
        raise InvalidRequest(f"Input should be '{known.name}'", path=f"{_dotted(where)}.{head.type}.name")
    return cast(Tool, tool)


def _decoded(raw: msgspec.Raw, kind: Any, where: str) -> Any:
    try:
        return portions.read(raw, kind)
    except msgspec.ValidationError as error:
        raise portions.located(error, f".{where}") from None


def _not_json(body: bytes, error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "The request body is nested too deeply"
    if not body:
        return "The request body is empty; a JSON object is expected"
    return "The request body is not valid JSON"


_AT = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<path>[^`]*)`)?$", re.DOTALL)
_STEPS = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_MISSING = re.compile(r"^Object missing required field `(?P<field>[^`]+)`$")
_INVALID = re.compile(r"^Invalid (?:enum )?value (?P<value>.+)$", re.DOTALL)
_KIND = re.compile(r"^Expected `(?P<kinds>[^`]+)`, got `[^`]+`$")
_KINDS = {
    "int": "Input should be a valid integer",
    "float": "Input should be a valid number",
    "str": "Input should be a valid string",
    "bool": "Input should be a valid boolean",
    "array": "Input should be a valid list",
    "object": "Input should be an object",
    "str | array": "Input should be a string or a list of blocks",
    "str | object": "Input should be a string or an object",
    "array | object": "Input should be a list or an object",
}
_WORDS = (
    (re.compile(r"^Expected `(?:int|float)[^`]*` >= (\S+?)(?:\.0)?$"), r"Input should be greater than or equal to \1"),
    (re.compile(r"^Expected `(?:int|float)[^`]*` <= (\S+?)(?:\.0)?$"), r"Input should be less than or equal to \1"),
    (re.compile(r"^Expected `str` of length >= 1$"), "String should have at least 1 character"),
    (re.compile(r"^Expected `str` of length <= (\d+)$"), r"String should have at most \1 characters"),
    (re.compile(r"^Number out of range$"), "Input should be a number that is not so large"),
)
#: A value is repeated in a refusal only so far: it may be a prompt.
_SHOWN = 60


def _refusal(text: str, value: Any, kind: type[Conversation]) -> InvalidRequest:
    """A decoder's refusal of a value in the API's words (contract messages-and-inference 2.2)."""
    match = _AT.match(text)
    what, where = (match["what"], match["path"] or "") if match else (text, "")
    steps: list[str | int] = [int(index) if index else name for name, index in _STEPS.findall(where)]
    missing = _MISSING.match(what)
    if missing:
        steps.append(missing["field"])
    place = place_of(shape(kind), value, steps)
    if missing:
        return InvalidRequest("Field required", path=f"{place.path}.type" if place.is_tag else place.path)
    return InvalidRequest(_words(what, place), path=place.path or None)


def _words(what: str, place: Place) -> str:
    if (invalid := _INVALID.match(what)) and place.is_tag:
        value = invalid["value"][:_SHOWN]
        expected = ", ".join(f"'{choice}'" for choice in place.choices)
        return f"Input tag {value} found using 'type' does not match any of the expected tags: {expected}"
    if invalid and place.choices:
        *others, last = [f"'{choice}'" for choice in place.choices]
        return f"Input should be {', '.join(others)} or {last}" if others else f"Input should be {last}"
    if found := _KIND.match(what):
        kinds = " | ".join(kind for kind in found["kinds"].split(" | ") if kind != "null")
        return _KINDS.get(kinds, f"Input should be {kinds}")
    for pattern, words in _WORDS:
        if pattern.match(what):
            return pattern.sub(words, what)
    return what.replace("`", "'")


def _dotted(where: str) -> str:
    return where.replace("[", ".").replace("]", "")
