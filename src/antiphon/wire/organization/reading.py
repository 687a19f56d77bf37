"""Bodies of `/v1/organizations` to values, and refusals in the API's words (contract `messages-and-inference.md` 2.2).

Unlike a message's body these may hold nothing that is not known: a misspelled limit that is let pass would look as if
it had been set.
"""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec
from msgspec import inspect

from antiphon.core.errors import InvalidRequest

T = TypeVar("T")

_AT = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<path>[^`]*)`)?$", re.DOTALL)
_STEPS = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_FIELD = re.compile(r"^Object (?P<fault>missing required|contains unknown) field `(?P<field>.*)`$", re.DOTALL)
_KIND = re.compile(r"^Expected `(?P<kinds>[^`]+)`, got `[^`]+`$")
_KINDS = {
    "int": "Input should be a valid integer",
    "str": "Input should be a valid string",
    "bool": "Input should be a valid boolean",
    "array": "Input should be a valid list",
    "object": "Input should be an object",
    "datetime": "Input should be a valid datetime",
}
_WORDS = (
    (re.compile(r"^Expected `str` of length >= 1$"), "String should have at least 1 character"),
    (re.compile(r"^Expected `str` of length <= (\d+)$"), r"String should have at most \1 characters"),
    (re.compile(r"^Expected `str` matching regex (.*)$", re.DOTALL), r"String should match pattern \1"),
    (re.compile(r"^Expected `int` >= (-?\d+)$"), r"Input should be greater than or equal to \1"),
    (re.compile(r"^Expected `int` <= (-?\d+)$"), r"Input should be less than or equal to \1"),
    (re.compile(r"^Invalid RFC3339 encoded datetime$"), "Input should be a valid datetime"),
    (re.compile(r"^Expected `datetime` with a timezone.*$"), "Input should have timezone info"),
)
#: A name is repeated in a refusal only so far.
_SHOWN = 60


def read(body: bytes, kind: type[T]) -> T:
    """A body as a value of this kind.

    Raises:
        InvalidRequest: it is not JSON, or not of this kind.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _refusal(str(error), kind) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = "is not valid JSON" if body else "is empty; a JSON object is expected"
        raise InvalidRequest(f"The request body {text}") from None


def _refusal(told: str, kind: type[object]) -> InvalidRequest:
    match = _AT.match(told)
    what, where = (match["what"], match["path"] or "") if match else (told, "")
    steps = ["*" if index == "..." else index or name for name, index in _STEPS.findall(where)]
    if field := _FIELD.match(what):
        path = ".".join([*steps, field["field"][:_SHOWN]])
        text = "Field required" if field["fault"] == "missing required" else "Extra inputs are not permitted"
        return InvalidRequest(text, path=path)
    if not steps:
        return InvalidRequest("The request body is not a JSON object")
    return InvalidRequest(_words(what, choices_at(kind, steps)), path=".".join(steps))


def _words(what: str, choices: tuple[str, ...]) -> str:
    if what.startswith("Invalid enum value") and choices:
        return one_of(choices)
    if found := _KIND.match(what):
        kinds = [kind for kind in found["kinds"].split(" | ") if kind != "null"]
        return _KINDS.get(" | ".join(kinds), f"Input should be {' or '.join(kinds)}")
    for pattern, words in _WORDS:
        if pattern.match(what):
            return pattern.sub(words, what)
    return what.replace("`", "'")


def one_of(choices: tuple[str, ...]) -> str:
    """What should have stood there."""
    *others, last = [f"'{choice}'" for choice in choices]
    return f"Input should be {', '.join(others)} or {last}" if others else f"Input should be {last}"


def choices_at(kind: type[object], steps: list[str]) -> tuple[str, ...]:
    """The strings that may stand at a place in values of this kind, where only some may."""
    found: list[inspect.Type] = [inspect.type_info(kind)]
    for step in steps:
        found = [inner for info in found for inner in _inside(info, step)]
    return tuple(str(value) for info in found for value in _literals(info))


def _inside(info: inspect.Type, step: str) -> list[inspect.Type]:
    match info:
        case inspect.Metadata():
            return _inside(info.type, step)
        case inspect.UnionType():
            return [inner for part in info.types for inner in _inside(part, step)]
        case inspect.StructType():
            return [field.type for field in info.fields if field.encode_name == step]
        case inspect.ListType() | inspect.VarTupleType():
            return [info.item_type]
        case inspect.DictType():
            return [info.value_type]
    return []


def _literals(info: inspect.Type) -> tuple[object, ...]:
    match info:
        case inspect.Metadata():
            return _literals(info.type)
        case inspect.UnionType():
            return tuple(value for part in info.types for value in _literals(part))
        case inspect.LiteralType():
            return tuple(info.values)
    return ()
