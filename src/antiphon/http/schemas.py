"""JSON Schemas of what goes over the wire, read off its types for the OpenAPI document.

What the types of a request leave to the parser is put right here: a tool's type decides how it is read, unknown fields
are let pass, and some fields may be absent. An answer's fields are always there, also those that have a default.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec

from antiphon.http import health
from antiphon.wire import errors, events, models, response
from antiphon.wire.tools import TOOL_TYPES, CustomTool

Json: TypeAlias = dict[str, Any]

_REF = "#/components/schemas/{name}"
#: Where msgspec finds two types of one name, it calls them by their modules.
_MODULE = re.compile(r"antiphon\.wire\.(\w)(\w*)\.(?=\w)")
#: References in docstrings, which nobody outside can follow.
_SOURCE = re.compile(r"\s*\(contract [^)]*\)")


def ref(name: str) -> Json:
    """A reference to a schema of the document."""
    return {"$ref": _REF.format(name=name)}


def schemas(asked: Sequence[type], given: Sequence[type]) -> Json:
    """Every type by its name: those of requests and of answers, and all that they hold."""
    forms = [CustomTool, *(known.form for known in TOOL_TYPES.values())]
    (event, *_), made = msgspec.json.schema_components([events.Event, *given, *asked, *forms], ref_template=_REF)
    answered = _answered()
    for name, schema in made.items():
        if (kind := answered.get(name)) is not None:
            schema["required"] = _always_sent(kind, schema)
        else:
            schema["additionalProperties"] = True
    _type_tools(made)
    del made["InputMessage"]["properties"]["content"]["default"]  # absent is not the same as empty
    presentable: Json = _presentable({**made, "StreamEvent": event})
    return presentable


def _answered() -> dict[str, type[msgspec.Struct]]:
    """The types of answers, by both names that msgspec may give them."""
    found: dict[str, type[msgspec.Struct]] = {}
    for module in (errors, events, response, models, health):
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__module__ == module.__name__:
                found |= {kind.__name__: kind, f"{kind.__module__}.{kind.__name__}": kind}
    return found


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


def _presentable(node: Any) -> Any:
    """The same without the names of our modules and the references of our docstrings."""
    if isinstance(node, dict):
        return {_MODULE.sub(_capital, name): _presentable(value) for name, value in node.items()}
    if isinstance(node, list):
        return [_presentable(value) for value in node]
    return " ".join(_SOURCE.sub("", _MODULE.sub(_capital, node)).split()) if isinstance(node, str) else node


def _capital(match: re.Match[str]) -> str:
    return match[1].upper() + match[2]
