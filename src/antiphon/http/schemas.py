"""JSON Schemas of what goes over the wire, read off its types for the OpenAPI document.

What the types of a request leave to the parser is put right here: a tool's type decides how it is read, unknown fields
are let pass, and some fields may be absent. An answer's fields are always there, also those that have a default.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, get_args, get_origin

import msgspec

from antiphon.http import health
from antiphon.wire import compliance, errors, events, models, response
from antiphon.wire.organization import api_keys, limits, page, people, reports, workspaces
from antiphon.wire.tools import TOOL_TYPES, CustomTool

Json: TypeAlias = dict[str, Any]

#: Where the types of answers stand. What of them is asked for may hold nothing that is not known, and tells that.
_ANSWERING = (
    *(errors, events, response, models, health, compliance),
    *(api_keys, limits, page, people, reports, workspaces),
)
_REF = "#/components/schemas/{name}"
#: Where msgspec finds two types of one name, it calls them by their modules.
_MODULE = re.compile(r"antiphon\.wire\.(?:\w+\.)*(\w)(\w*)\.(?=\w)")
#: A type made of another, as msgspec calls it: `Page_User_`.
_MADE_OF = re.compile(r"(?:[a-z_.]+\.)?([A-Z]\w*?)_(.+)_")
#: References in docstrings, which nobody outside can follow.
_SOURCE = re.compile(r"\s*\(contract [^)]*\)")


def ref(name: str) -> Json:
    """A reference to a schema of the document."""
    return {"$ref": _REF.format(name=name)}


def name_of(kind: Any) -> str:
    """What the document calls a payload's type: a `Page[User]` is a `UserPage`."""
    own: str = (get_origin(kind) or kind).__name__
    return "".join(map(name_of, get_args(kind))) + own


def schemas(asked: Sequence[Any], given: Sequence[Any]) -> Json:
    """Every type by its name: those of requests and of answers, and all that they hold."""
    forms = [CustomTool, *(known.form for known in TOOL_TYPES.values())]
    (event, *_), made = msgspec.json.schema_components([events.Event, *given, *asked, *forms], ref_template=_REF)
    answered = _answered()
    for name, schema in made.items():
        made_of = _MADE_OF.fullmatch(name)
        if (kind := answered.get(made_of[1] if made_of else name)) is not None:
            schema["required"] = _always_sent(kind, schema)
        else:
            schema.setdefault("additionalProperties", True)
    _type_tools(made)
    del made["InputMessage"]["properties"]["content"]["default"]  # absent is not the same as empty
    named = {name: new for name in made if (new := _short(name)) != name}
    for name, new in named.items():
        made[name]["title"] = new
    presentable: Json = _presentable({**made, "StreamEvent": event}, named)
    return presentable


def _short(name: str) -> str:
    """A type's name without the names of our modules, but where these tell two types apart."""
    made_of = _MADE_OF.fullmatch(name)
    if made_of is None:
        return _MODULE.sub(_capital, name)
    inner = made_of[2]
    return _short(inner if _MADE_OF.fullmatch(inner) else inner.rpartition(".")[2]) + made_of[1]


def _answered() -> dict[str, type[msgspec.Struct]]:
    """The types of answers, by both names that msgspec may give them."""
    found: dict[str, type[msgspec.Struct]] = {}
    for module in _ANSWERING:
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__module__ == module.__name__:
                found |= {kind.__name__: kind, f"{kind.__module__}.{kind.__name__}": kind}
    return {name: kind for name, kind in found.items() if not kind.__struct_config__.forbid_unknown_fields}


def _always_sent(kind: type[msgspec.Struct], schema: Json) -> list[str]:
    """What an answer holds in every case: a default is written out, unless its type says otherwise."""
    config = kind.__struct_config__
    left_out = {
        field.encode_name
        for field in msgspec.structs.fields(kind)
        if field.default is msgspec.UNSET or (config.omit_defaults and not field.required)
    }
    return [name for name in schema["properties"] if name not in left_out]


def _type_tools(schemas: Json) -> None:
    """Put a schema for each type of tool in the place of the forms that serve several."""
    tools = [ref("CustomTool")]
    for kind, known in TOOL_TYPES.items():
        form = schemas[known.form.__name__]
        fixed: Json = {"type": {"const": kind}} | ({"name": {"const": known.name}} if known.name else {})
        schemas[kind] = {**form, "title": kind, "properties": form["properties"] | fixed}
        tools.append(ref(kind))
    for name in {"Tool", *(known.form.__name__ for known in TOOL_TYPES.values())}:
        del schemas[name]
    schemas["AnyTool"] = {"description": "Without a `type`, it is the client's own tool.", "anyOf": tools}
    listed = {"type": "array", "items": ref("AnyTool")}
    for name in ("MessagesRequest", "CountTokensRequest"):
        schemas[name]["properties"]["tools"] = {"anyOf": [listed, {"type": "null"}], "default": None}


def _presentable(node: Any, named: Mapping[str, str]) -> Any:
    """The same with the new names of types, and without the names of our modules and the references of docstrings."""
    if isinstance(node, dict):
        return {named.get(name, name): _presentable(value, named) for name, value in node.items()}
    if isinstance(node, list):
        return [_presentable(value, named) for value in node]
    if not isinstance(node, str):
        return node
    at, _, name = node.rpartition("/")
    if name in named:
        return f"{at}/{named[name]}"
    return node if "\\" in node else " ".join(_SOURCE.sub("", _MODULE.sub(_capital, node)).split())


def _capital(match: re.Match[str]) -> str:
    return match[1].upper() + match[2]
