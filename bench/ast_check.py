"""Whether what a model called is what was asked for: the rule of the Berkeley function calling leaderboard (its "AST"
check, for Python), written anew.

A case is right when there are as many calls as answers and each answer has a call of its own, in whatever order. A call
fits an answer when it has its name, all required arguments and no unknown ones, and each argument's value is one of
those that the answer takes. Texts are compared without case, blanks and some punctuation, also within lists and
objects; a whole number may stand for a float, not the other way round. Where nothing is relevant, any call is wrong.

Beside that, `faults` says what no call may be, right or wrong: not JSON, or not of the schema that was sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jsonschema_rs
import msgspec

from bench.bfcl import IRRELEVANCE, Call, Case, Heard, sent_name, tool_of

#: What a value is to be, by the type that BFCL gives the argument.
_KINDS: dict[str, type] = {
    "string": str, "any": str, "integer": int, "float": float, "boolean": bool, "array": list, "tuple": list,
    "dict": dict,
}  # fmt: skip
_SKIPPED = str.maketrans(dict.fromkeys(" ,./-_*^") | {"'": '"'})
#: In an answer's values: the argument may be left out.
_OMITTED = ""


def wrong(case: Case, heard: Heard) -> str:
    """Why it is not right; empty where it is."""
    if heard.failed:
        return heard.failed
    if case.category == IRRELEVANCE:
        return "a call although no function fits" if heard.calls else ""
    if len(heard.calls) != len(case.answers):
        return f"{len(heard.calls)} calls, not {len(case.answers)}"
    left = list(heard.calls)
    for answer in case.answers:
        reasons = [_call_wrong(case, call, answer) for call in left]
        if "" not in reasons:
            return reasons[0] if len(reasons) == 1 else f"no call fits {msgspec.json.encode(answer).decode()}"
        del left[reasons.index("")]
    return ""


def faults(case: Case, heard: Heard) -> list[str]:
    """What is wrong with inputs whatever was asked. A last call that the limit of tokens cut off is none: the API lets
    that be half a call."""
    whole = heard.calls[:-1] if heard.cut else heard.calls
    return [fault for call in whole if (fault := _fault(case, call))]


def _fault(case: Case, call: Call) -> str:
    function = case.function_named(call.name)
    if function is None:
        return f"{call.name}: no such tool"
    try:
        value = msgspec.json.decode(call.input)
    except msgspec.DecodeError as error:
        return f"{call.name}: not JSON: {error}"
    validator = jsonschema_rs.validator_for(tool_of(function).schema, validate_formats=True)
    return next((f"{call.name}: {error.message}" for error in validator.iter_errors(value)), "")


def _call_wrong(case: Case, call: Call, answer: dict[str, dict[str, list[Any]]]) -> str:
    ((name, accepted),) = answer.items()
    if call.name != sent_name(name):
        return f"{call.name} is called, not {sent_name(name)}"
    function = case.function_named(call.name)
    if function is None:
        return f"{call.name} is not among the functions"
    try:
        arguments = msgspec.json.decode(call.input, type=dict[str, Any])
    except msgspec.DecodeError as error:
        return f"the input is not a JSON object: {error}"
    parameters = function["parameters"]
    for required in parameters["required"]:
        if required not in arguments:
            return f"{required} is missing"
    for argument, value in arguments.items():
        if argument not in parameters["properties"] or argument not in accepted:
            return f"{argument} is unexpected"
        if not _fits(parameters["properties"][argument], value, accepted[argument]):
            return f"{argument} is {_shown(value)}, not one of {_shown(accepted[argument])}"
    absent = [each for each, values in accepted.items() if each not in arguments and _OMITTED not in values]
    return f"{absent[0]} is missing" if absent else ""


def _fits(parameter: dict[str, Any], value: Any, accepted: Sequence[Any]) -> bool:
    """Whether a value is one of those accepted, and of the parameter's kind or else of theirs."""
    kind = _KINDS[parameter["type"]]
    inner = _KINDS[parameter["items"]["type"]] if kind is list else None
    if parameter["type"] == "float" and type(value) is int:
        value = float(value)
    theirs = _kind_of(accepted)
    if type(value) is not kind:
        return type(value) is theirs and value in accepted
    if inner is not None and not any(_items_of_kind(value, inner, each) for each in accepted):
        return False
    if theirs not in (None, kind):  # a name of a variable, say, where a number is to be
        return value in accepted
    return _one_of(value, inner, accepted)


def _one_of(value: Any, inner: type | None, accepted: Sequence[Any]) -> bool:
    match value:
        case dict():
            return any(_object_fits(value, each) for each in accepted)
        case list() if inner is dict:
            return any(_objects_fit(value, each) for each in accepted)
        case list():
            plain = [_plain(each) for each in value]
            return any([_plain(each) for each in items] == plain for items in accepted)
        case str():
            return _plain(value) in [_plain(each) for each in accepted if isinstance(each, str)]
    return value in accepted


def _items_of_kind(value: Any, inner: type, accepted: Any) -> bool:
    """Whether a list's items are of the kind that they are to be, or of the kind that this accepted list's are."""
    if not isinstance(accepted, list):
        return True
    theirs = _kind_of(accepted)
    return all(type(item) is inner or type(item) is theirs for item in value)


def _object_fits(value: Any, accepted: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(accepted, dict):
        return False
    for key, item in value.items():
        if key not in accepted or _plain(item) not in [_plain(each) for each in accepted[key]]:
            return False
    return all(key in value or _OMITTED in values for key, values in accepted.items())


def _objects_fit(value: list[Any], accepted: Sequence[Any]) -> bool:
    return len(value) == len(accepted) and all(map(_object_fits, value, accepted))


def _kind_of(accepted: Sequence[Any]) -> type | None:
    return next((type(each) for each in accepted if each != _OMITTED), None)


def _plain(value: Any) -> Any:
    """What of a text counts; any other value as it is."""
    return value.translate(_SKIPPED).lower() if isinstance(value, str) else value


def _shown(value: Any) -> str:
    return msgspec.json.encode(value).decode()
