"""Answers of a real model in random schemas, for `bench.structured`: each must end, and each must be valid.

The schemas are those of the tests' strategies, inside the documented subset, the same ones in each run. A validator
that is not ours (`jsonschema-rs`) has the last word, formats included. No answer is asked for twice.

A grammar leaves the length of texts and lists to the model, as the schema does, and the smallest model ends few of them
by itself: asked with the schema alone, it went on past 300 tokens in 18 of 52. So it is shown a short value with one
item in each list, twice, and asked for another.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import anthropic
import jsonschema_rs
import msgspec
from hypothesis import HealthCheck, Phase, given, seed, settings
from rich.console import Console

from bench import subject
from bench.load import Unmeasurable
from bench.report import Bar, Figure, figure

_TESTS = Path(__file__).parent.parent / "tests"
_MODEL = "smollm2-135m-instruct"
_SEED = 5
_STREAMS = 4
#: Far more than an answer needs whose texts are short: what reaches it went on and on.
_MAX_TOKENS = 600
_QUESTIONS = ("Make an example. Each text is short, each list has one item.", "Make another.", "Make another.")


class Answered(msgspec.Struct, frozen=True):
    """One answer. `fault` is what a validator or the server said of it, empty where it is good."""

    number: int
    schema: dict[str, Any]
    text: str
    ended: str
    tokens: int
    seconds: float
    fault: str


def random_schemas(count: int) -> list[dict[str, Any]]:
    """So many different ones, the same in each run."""
    strategies = _strategies()
    found: dict[str, dict[str, Any]] = {}

    @seed(_SEED)
    @settings(
        max_examples=2 * count + 50, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(strategies.objects(strategies.schemas(2)) | strategies.rooted(2))
    def collect(schema: dict[str, Any]) -> None:
        found.setdefault(json.dumps(schema), schema)

    collect()
    if len(found) < count:
        raise Unmeasurable(f"only {len(found)} different schemas came of {count}")
    # Spread over all that came: the first ones of a run are the simplest.
    step = len(found) / count
    return [list(found.values())[int(each * step)] for each in range(count)]


def _strategies() -> Any:
    """The tests' module of random schemas."""
    if str(_TESTS) not in sys.path:
        sys.path.append(str(_TESTS))
    return import_module("random_schemas")


def example(schema: dict[str, Any], root: dict[str, Any] | None = None) -> Any:
    """A short value of a schema made there: all properties, one item in each list."""
    root = schema if root is None else root
    if "$ref" in schema:
        target: Any = root
        for step in schema["$ref"].split("/")[1:]:
            target = target[step.replace("~1", "/").replace("~0", "~")]
        return example(target, root)
    for keyword, pick in _PICKS.items():
        if keyword in schema:
            return pick(schema[keyword], root)
    kind = schema["type"] if isinstance(schema["type"], str) else schema["type"][0]
    return {"string": "x", "integer": 7, "number": 7, "boolean": True, "null": None}[kind]


_PICKS: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "const": lambda value, _: value,
    "enum": lambda values, _: values[0],
    "anyOf": lambda options, root: example(options[0], root),
    "pattern": lambda text, _: _strategies().PATTERNS[text][0],
    "format": lambda name, _: _strategies().FITTING[name],
    "items": lambda item, root: [example(item, root)],
    "properties": lambda properties, root: {name: example(each, root) for name, each in properties.items()},
}


def figures(count: int, out: Console) -> list[Figure]:
    """Have the smallest model answer in so many schemas; what came of it."""
    with subject.home(out, _MODEL) as home, _client(home) as client:
        answers = list(_answers(client, random_schemas(count), out))
    return told(answers)


def told(answers: list[Answered]) -> list[Figure]:
    count = float(len(answers))
    ends = Counter(each.ended for each in answers)
    wandering = sum(_wanders(each.text) for each in answers)
    return [
        figure(f"random schemas, valid answers of {count:.0f}", "", [_good(answers)], Bar("at least", count)),
        figure("random schemas, answers cut at max_tokens", "", [float(ends["max_tokens"])], Bar("at most", 0)),
        figure("random schemas, answers with white space that nobody needs", "", [float(wandering)], Bar("at most", 0)),
        figure("random schemas, tokens of an answer", "", [float(each.tokens) for each in answers]),
        figure("random schemas, seconds of an answer", "s", [each.seconds for each in answers]),
    ]


def _good(answers: list[Answered]) -> float:
    return float(sum(not each.fault and each.ended == "end_turn" for each in answers))


@contextmanager
def _client(home: Path) -> Iterator[anthropic.Anthropic]:
    (home / "antiphon.toml").write_text(f'models = ["{_MODEL}"]\nseats = {_STREAMS}\n', "utf-8")
    key = subject.command("keys", "create", "--quiet", "--home", str(home))
    with subject.served_as_set(home) as server:
        yield anthropic.Anthropic(api_key=key, base_url=f"http://127.0.0.1:{server.port}", max_retries=0, timeout=600.0)


def _answers(client: anthropic.Anthropic, schemas: list[dict[str, Any]], out: Console) -> Iterator[Answered]:
    def answer(numbered: tuple[int, dict[str, Any]]) -> Answered:
        return _answer(client, *numbered)

    with ThreadPoolExecutor(_STREAMS) as pool:
        for each in pool.map(answer, enumerate(schemas)):
            if each.fault or each.ended != "end_turn":
                out.print(f"schema {each.number}: {each.ended} {each.fault}", soft_wrap=True, markup=False)
                out.print(f"  {json.dumps(each.schema)}", soft_wrap=True, markup=False)
                out.print(f"  {each.text!r}"[:2_000], soft_wrap=True, markup=False)
            yield each


def _answer(client: anthropic.Anthropic, number: int, schema: dict[str, Any]) -> Answered:
    began = time.monotonic()
    try:
        message: Any = client.messages.create(
            model=_MODEL,
            max_tokens=_MAX_TOKENS,
            messages=_messages(schema),
            output_config={"format": {"type": "json_schema", "schema": schema}},
        )
    except anthropic.APIError as error:
        return Answered(number, schema, "", "refused", 0, time.monotonic() - began, str(error)[:500])
    text = "".join(block.text for block in message.content)
    return Answered(
        number=number,
        schema=schema,
        text=text,
        ended=message.stop_reason,
        tokens=message.usage.output_tokens,
        seconds=time.monotonic() - began,
        fault=_fault(schema, text) if message.stop_reason == "end_turn" else "",
    )


def _messages(schema: dict[str, Any]) -> Any:
    shown = {"role": "assistant", "content": json.dumps(example(schema), ensure_ascii=False, separators=(",", ":"))}
    first, *others = ({"role": "user", "content": question} for question in _QUESTIONS)
    return [first, *(each for question in others for each in (shown, question))]


def _fault(schema: dict[str, Any], text: str) -> str:
    """What is wrong with a whole answer."""
    try:
        value = json.loads(text)
    except ValueError as error:
        return f"no JSON: {error}"
    try:
        jsonschema_rs.validator_for(schema, validate_formats=True).validate(value)
    except jsonschema_rs.ValidationError as error:
        return f"not valid: {error.message[:300]}"
    return ""


def _wanders(text: str) -> bool:
    """Whether white space stands between the parts of a JSON text, where ours has none."""
    inside = escaped = False
    for letter in text:
        if escaped:
            escaped = False
        elif inside and letter == "\\":
            escaped = True
        elif letter == '"':
            inside = not inside
        elif not inside and letter.isspace():
            return True
    return False
