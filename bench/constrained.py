"""What a grammar costs an answer, for `bench.structured`: per token while it is written, and before its first token.

Both embedded engines, through `antiphon serve`, over HTTP, one after the other. What is compared stands in one round,
in turn, on the same server: whatever else the machine does meets both sides.

- *Decoding*: an object of many texts that must all be written, against an answer that goes on counting from its own
  beginning, because nothing else can keep a model from ending early. Both are greedy and cut at the same number of
  tokens, and their prompts are of one length: the free one has the schema in its system prompt, too. Per token is the
  time from the first piece of text to the last, by the tokens of the usage, of all streams the mean.
- *A new schema* has 200 properties, and differs from all before in one value at its very end, so that all of the prompt
  but a few tokens is in the cache. What it adds to the first token is told against a free request whose prompt has the
  same schema as mere text, new at the same place: checking, lowering, compiling and the first mask, and no prompt. *A
  schema seen before* has a new description there and nothing else, which changes the prompt and not the grammar.
- *Memory* is what the engine's process holds more after so many small schemas of which no two are the same.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any, TypeAlias

import msgspec
from rich.console import Console

from bench import subject
from bench.load import Bystanders, Processes, Unmeasurable, children_of
from bench.report import Bar, Figure, figure, peak_mb
from bench.streams import Answer, Client, see_whole

LIBRARIES = ("llama_cpp", "openvino")
_STREAMS = (1, 4)
_PROPERTIES = 200

#: Percent that a token takes longer under a grammar.
_COST_BAR = Bar("at most", 5)
_READY_BAR = Bar("at most", 200)
#: An engine may keep compiled grammars, but not all of them for ever.
_MEMORY_BAR = Bar("at most", 64)
#: Prompts that are to be of one length may differ by so much of it.
_ALIKE = 0.05
#: A round in which others took more cores than this does not count, unless no quieter ones are to be had.
_QUIET = 0.1

Round: TypeAlias = dict[str, float]


class Model(msgspec.Struct, frozen=True):
    """A model of the catalogue, and the tokens of each answer. `large`: the engines that are given the large schema,
    whose prompt takes llama.cpp minutes on the larger model; `distinct`: whether its engines' memory is looked at."""

    name: str
    short: str
    tokens: int
    prepared: bool
    large: tuple[str, ...]
    distinct: bool


MODELS = (
    Model("smollm2-135m-instruct", "SmolLM2", 150, prepared=False, large=LIBRARIES, distinct=True),
    Model("qwen2.5-coder-1.5b-instruct", "Qwen", 100, prepared=True, large=("openvino",), distinct=False),
)


class Extent(msgspec.Struct, frozen=True):
    """How much is measured: rounds that count, rounds at most, small schemas. `tokens`, where set, of each answer."""

    rounds: int
    most: int
    schemas: int
    tokens: int | None = None


def figures(model: Model, extent: Extent, out: Console) -> list[Figure]:
    """Of one model, on both engines."""
    found: list[Figure] = []
    with subject.home(out, model.name, prepared=model.prepared) as home:
        for library in LIBRARIES:
            found += _Bench(model, library, home / library, extent, out).figures()
    return found


class _Bench:
    """One model on one engine."""

    def __init__(self, model: Model, library: str, home: Path, extent: Extent, out: Console) -> None:
        self._model = model
        self._library = library
        self._home = home
        self._extent = extent
        self._out = out
        self._tokens = extent.tokens or model.tokens
        self._random = random.Random()  # seeded by the system: no run's schemas are those of another
        self._processes = Processes()
        self._client: Client

    def figures(self) -> list[Figure]:
        with self._served() as children:
            decoding = self._rounds("decoding", self._decode)
            found = [*self._told_decoding(decoding)]
            if self._large:
                found += self._told_first(self._rounds("new schemas", self._begin))
            if self._model.distinct:
                found += self._distinct(children)
        return found

    @contextmanager
    def _served(self) -> Iterator[list[int]]:
        self._home.mkdir()
        (self._home / "models").symlink_to(self._home.parent / "models")
        (self._home / "antiphon.toml").write_text(
            f'engine = "{self._library}"\nmodels = ["{self._model.name}"]\nseats = {max(_STREAMS)}\n', "utf-8"
        )
        key = subject.command("keys", "create", "--quiet", "--home", str(self._home))
        with subject.served_as_set(self._home) as server:
            children = children_of(server.pid)
            self._processes.add(server.pid, *children)
            self._client = Client(server.port, key)
            self._warm_up()
            yield children

    def _warm_up(self) -> None:
        """Bring all prompts into the cache, and see that those which are compared are alike."""
        streams = range(max(_STREAMS))
        pairs = [(self._bound(each, 2), self._free(each, 2)) for each in streams]
        if self._large:
            pairs += [(self._new(), self._pasted()), (self._seen(), self._pasted())]
        for bound, free in pairs:
            prompts = [self._client.ask([body])[0].prompt for body in (bound, free)]
            if abs(prompts[0] - prompts[1]) > _ALIKE * max(prompts):
                raise Unmeasurable(f"prompts of {prompts[0]} and {prompts[1]} tokens cannot be compared")
        for bodies in zip(*((self._bound(each, 2), self._free(each, 2)) for each in streams), strict=True):
            self._client.ask(bodies)
        self._out.print(f"{self._name}: warm")

    @property
    def _large(self) -> bool:
        return self._library in self._model.large

    @property
    def _name(self) -> str:
        return f"{self._model.short}, {self._library}"

    def _rounds(self, what: str, measure: Any) -> list[Round]:
        """Rounds until enough of them had the machine to themselves; failing that, the quietest ones."""
        rounds: list[Round] = []
        extent = self._extent
        while len(rounds) < extent.most and sum(each["others"] <= _QUIET for each in rounds) < extent.rounds:
            with Bystanders(self._processes) as bystanders:
                measured: Round = measure(len(rounds))
            rounds.append(measured | {"others": bystanders.cores})
            self._out.print(f"{self._name}, {what}, round {len(rounds)}: others took {bystanders.cores:.2f} cores")
        return sorted(rounds, key=lambda each: each["others"])[: extent.rounds]

    def _decode(self, number: int) -> Round:
        """Milliseconds of a token, bound and free, in turn."""
        found: Round = {}
        for streams in _STREAMS:
            sides = {
                "bound": [self._bound(each, self._tokens) for each in range(streams)],
                "free": [self._free(each, self._tokens) for each in range(streams)],
            }
            for side in sorted(sides, reverse=number % 2 == 1):
                answers = self._client.ask(sides[side])
                see_whole(answers, self._tokens)
                found[f"{side} {streams}"] = _token_ms(answers)
        return found

    def _begin(self, number: int) -> Round:
        """Milliseconds to the first token: a new schema, one seen before, and the same as mere text."""
        sides = {"new": self._new, "seen": self._seen, "free": self._pasted}
        return {
            side: self._client.ask([sides[side]()])[0].first * 1000 for side in sorted(sides, reverse=number % 2 == 1)
        }

    def _told_decoding(self, rounds: Sequence[Round]) -> Iterator[Figure]:
        for streams in _STREAMS:
            where = f"{self._name}, {'1 stream' if streams == 1 else f'{streams} streams'}"
            bound, free = ([each[f"{side} {streams}"] for each in rounds] for side in ("bound", "free"))
            cost = [(one / other - 1) * 100 for one, other in zip(bound, free, strict=True)]
            yield figure(f"{where}: a token under a grammar costs more", "%", cost, _COST_BAR)
            yield figure(f"{where}: a token under a grammar", "ms", bound)
            yield figure(f"{where}: a token without one", "ms", free)

    def _told_first(self, rounds: Sequence[Round]) -> Iterator[Figure]:
        name = f"{self._name}, {_PROPERTIES} properties"
        for side, bar in (("new", _READY_BAR), ("seen", None)):
            added = [each[side] - each["free"] for each in rounds]
            yield figure(f"{name}: added by a schema {side if side == 'new' else 'seen before'}", "ms", added, bar)
        yield figure(f"{name}: first token without one", "ms", [each["free"] for each in rounds])
        yield figure(f"{self._name}: CPU that others took meanwhile", "cores", [each["others"] for each in rounds])

    def _distinct(self, children: Sequence[int]) -> Iterator[Figure]:
        """Small schemas, each of them new to the engine; the first tenth warms up."""
        count, before = self._extent.schemas, 0.0
        for number in range(count):
            if number == count // 10:
                before = sum(map(peak_mb, children))
            stem = f"{number:05}"
            schema = _closed({f"field_{stem}_{each}": {"type": "string"} for each in range(8)})
            self._client.ask([self._body(1, "Go.", output_config=_format(schema))])
        grown = sum(map(peak_mb, children)) - before
        yield figure(f"{self._name}: memory grown over {count:,} distinct schemas", "MiB", [grown], _MEMORY_BAR)

    def _bound(self, series: int, tokens: int) -> bytes:
        return self._body(tokens, f"{_question(series)} {_begun(series)}", output_config=_format(_TEXTS))

    def _free(self, series: int, tokens: int) -> bytes:
        return self._body(tokens, _question(series), _begun(series), system=_as_text(_TEXTS))

    def _new(self) -> bytes:
        return self._body(1, "Go.", output_config=_format(_large(self._digits(), self._digits())))

    def _seen(self) -> bytes:
        return self._body(1, "Go.", output_config=_format(_large("00000000", self._digits())))

    def _pasted(self) -> bytes:
        return self._body(1, "Go.", system=_as_text(_large(self._digits(), self._digits())))

    def _digits(self) -> str:
        return f"{self._random.randrange(10**7, 10**8)}"

    def _body(self, tokens: int, question: str, begun: str = "", **more: Any) -> bytes:
        messages = [{"role": "user", "content": question}]
        if begun:
            messages.append({"role": "assistant", "content": begun})
        body = {
            "model": self._model.name, "max_tokens": tokens, "stream": True, "temperature": 0, "messages": messages,
        }  # fmt: skip
        return msgspec.json.encode(body | more)


def _token_ms(answers: Sequence[Answer]) -> float:
    """Of a token, between the first and the last text of an answer; of several answers, the mean."""
    return fmean((each.last - each.first) / (each.made - 1) * 1000 for each in answers)


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    """The properties come last, and the last of them ends the text but for three brackets."""
    return {"type": "object", "additionalProperties": False, "required": [*properties], "properties": properties}


#: More texts than there is room for: no answer can end before it is cut.
_TEXTS = _closed({f"part_{number}": {"type": "string"} for number in range(1, 61)})


def _large(value: str, description: str) -> dict[str, Any]:
    kinds: list[dict[str, Any]] = [
        {"type": "string"},
        {"type": "integer"},
        {"type": "boolean"},
        {"enum": ["red", "green", "blue"]},
        {"type": "array", "items": {"type": "string"}},
    ]
    kind = itertools.cycle(kinds)
    properties = {f"field_{number}": next(kind) for number in range(_PROPERTIES - 1)}
    return _closed({**properties, "last": {"enum": ["red", value], "description": description}})


def _format(schema: dict[str, Any]) -> dict[str, Any]:
    return {"format": {"type": "json_schema", "schema": schema}}


def _as_text(schema: dict[str, Any]) -> str:
    """What a format tells the model, about as long."""
    return (
        "# Answer format\n\nOther answers were one JSON value that fits this JSON Schema:\n"
        f"{json.dumps(schema)}\nThis one is not that JSON value: there is other text before it and no code around it."
    )


def _question(series: int) -> str:
    start = 100 * series + 1
    return f"Write a long sentence in each part. Count from {start} to {start + 90}, with commas between."


def _begun(series: int) -> str:
    start = 100 * series + 1
    return ", ".join(str(start + each) for each in range(6)) + ","
