"""Bytes to requests: the only place where JSON from a client is read.

Refusals carry a dotted path and the API's wording (contract `messages-and-inference.md` 2.2). Unknown fields are
tolerated, because clients run ahead of servers; they are named, so that the answer can say what had no effect.
"""

from __future__ import annotations

import re
from typing import Any, Generic, NoReturn, TypeVar

import msgspec

from antiphon.core.errors import InvalidRequest
from antiphon.wire.request import Conversation, CountTokensRequest, MessagesRequest
from antiphon.wire.tools import CustomTool, Tool, ToolHead, TypedTool
from antiphon.wire.unknown import unknown_fields

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
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidRequest(_not_json(body, error)) from None
    tools = _tools(fields.pop("tools", None))
    try:
        request = msgspec.json.decode(body if tools is None else _without_tools(fields), type=kind)
    except msgspec.ValidationError as error:
        _refuse(str(error))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidRequest(_not_json(body, error)) from None
    if tools is not None:
        request = msgspec.structs.replace(request, tools=tools)
    return Parsed(request, body, unknown_fields(body))


def _without_tools(fields: dict[str, msgspec.Raw]) -> bytes:
    return msgspec.json.encode(fields)


def _tools(raw: msgspec.Raw | None) -> tuple[Tool, ...] | None:
    """Each definition by its own type: one without a type is the client's own."""
    if raw is None:
        return None
    entries = _decode(raw, list[msgspec.Raw] | None, "tools")
    tools: list[Tool] = []
    for index, entry in enumerate(entries or ()):
        head = _decode(entry, ToolHead, f"tools.{index}")
        custom = head.type in (None, "custom")
        kind: type[CustomTool] | type[TypedTool] = CustomTool if custom else TypedTool
        tools.append(_decode(entry, kind, f"tools.{index}.custom" if custom else f"tools.{index}"))
    return tuple(tools)


def _decode(raw: msgspec.Raw, kind: Any, where: str) -> Any:
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        _refuse(str(error), where)
    except RecursionError:
        raise InvalidRequest("JSON is nested too deeply", path=where) from None


def _not_json(body: bytes, error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "The request body is nested too deeply"
    if isinstance(error, msgspec.ValidationError):
        return "The request body is not a JSON object"
    if not body:
        return "The request body is empty; a JSON object is expected"
    return "The request body is not valid JSON"


_AT = re.compile(r"^(?P<what>.*?)(?: - at `(?P<path>[^`]*)`)?$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(?P<field>[^`]+)`$")
_STEP = re.compile(r"\[(\d+|\.\.\.)\]")
_WORDS = (
    (re.compile(r"^Expected `int`.*, got `[^`]+`$"), "Input should be a valid integer"),
    (re.compile(r"^Expected `float`.*, got `[^`]+`$"), "Input should be a valid number"),
    (re.compile(r"^Expected `str`, got `[^`]+`$"), "Input should be a valid string"),
    (re.compile(r"^Expected `bool`, got `[^`]+`$"), "Input should be a valid boolean"),
    (re.compile(r"^Expected `array`, got `[^`]+`$"), "Input should be a valid list"),
    (re.compile(r"^Expected `object`, got `[^`]+`$"), "Input should be an object"),
    (
        re.compile(r"^Expected `str \| array[^`]*`, got `[^`]+`$"),
        "Input should be a string or a list of blocks",
    ),
    (re.compile(r"^Expected `(?:int|float)` >= (\S+?)(?:\.0)?$"), r"Input should be greater than or equal to \1"),
    (re.compile(r"^Expected `(?:int|float)` <= (\S+?)(?:\.0)?$"), r"Input should be less than or equal to \1"),
    (re.compile(r"^Expected `str` of length >= 1$"), "String should have at least 1 character"),
    (re.compile(r"^Expected `str` of length <= (\d+)$"), r"String should have at most \1 characters"),
    (re.compile(r"^Invalid (?:enum )?value (.+)$"), r"Input \1 is not one of the documented values"),
)


def _refuse(text: str, where: str = "") -> NoReturn:
    """A decoder's refusal in the API's words."""
    match = _AT.match(text)
    what, path = (match["what"], match["path"] or "") if match else (text, "")
    dotted = _STEP.sub(r".\1", path.removeprefix("$")).replace("[...]", "").strip(".")
    steps = [step for step in (where, dotted) if step]
    missing = _MISSING.match(what)
    if missing:
        raise InvalidRequest("Field required", path=".".join([*steps, missing["field"]]))
    for pattern, words in _WORDS:
        if pattern.match(what):
            what = pattern.sub(words, what)
            break
    else:
        what = what.replace("`", "'")
    raise InvalidRequest(what, path=".".join(steps) or None)
