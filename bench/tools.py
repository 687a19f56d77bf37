"""`make bench-tools`: how often the default model calls the right functions, through Antiphon and through llama.cpp's
own tool calling.

The questions are the first 50 of each of four categories of the Berkeley function calling leaderboard: one function
that fits (simple), one of several (multiple), several calls of one (parallel), none that fits (irrelevance). Both sides
get the same questions, the same tools and the same limits, greedily, so many at a time; right is what the leaderboard's
rule takes (`bench.ast_check`).

- Antiphon is asked by the official SDK, in streams; inputs are read from the very pieces that a client gets.
- llama.cpp's server, from the same library that is Antiphon's engine, is asked by chat completions of OpenAI's kind,
  with the same weights (Antiphon has what it made of them for OpenVINO, where that is what it chooses).

A failed request is a wrong answer. What comes as an input and is not JSON, or not of its tool's schema, is counted.

A quick look at a part, which neither judges nor writes results: `python -m bench.tools --cases 10 --only antiphon
--category simple --show`; `--show` prints each wrong answer.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from antiphon.core import settings
from antiphon.engine import weights
from antiphon.routing import catalogue
from antiphon.serving import engine_of, models_folder
from bench import bfcl, subject
from bench.ast_check import faults, wrong
from bench.bfcl import Call, Case, Heard
from bench.bfcl_bare import bare
from bench.load import Unmeasurable
from bench.report import Bar, Figure, conclude, figure, machine

_CASES = 50
_AT_ONCE = 4
_MAX_TOKENS = 512
#: A request that takes longer has failed.
_SECONDS = 600.0
_ANTIPHON, _BARE = "antiphon", "bare"
_NAMES = {_ANTIPHON: "Antiphon", _BARE: "llama.cpp alone"}
_IRRELEVANCE_BAR = Bar("at least", 45)
_NEVER = Bar("at most", 0)


class Judged(msgspec.Struct, frozen=True):
    """A case and what came of it. `wrong`: why it is not right, empty where it is."""

    case: Case
    heard: Heard
    wrong: str
    faults: list[str]


class Ran(msgspec.Struct, frozen=True):
    """One side's cases by category, and how long each category took, in seconds."""

    judged: dict[str, list[Judged]]
    seconds: dict[str, float]

    def right(self, category: str) -> int:
        return sum(not each.wrong for each in self.judged[category])

    def all(self) -> list[Judged]:
        return [each for judged in self.judged.values() for each in judged]


class Antiphon:
    """Antiphon, asked through the official SDK."""

    def __init__(self, client: anthropic.Anthropic, model: str, *, max_tokens: int) -> None:
        self._client = client
        self._model = model
        self._max_tokens = max_tokens

    def ask(self, case: Case) -> Heard:
        """Ask it, and hear the whole answer."""
        tools: list[Any] = [
            {"name": each.name, "description": each.description, "input_schema": each.schema} for each in case.tools()
        ]
        try:
            stream = self._client.messages.create(
                model=self._model,
                max_tokens=self._max_tokens,
                messages=[{"role": "user", "content": case.question}],
                tools=tools,
                stream=True,
                extra_body={"temperature": 0},
                extra_headers={"anthropic-version": "2023-06-01"},
            )
            return heard(stream)
        except (anthropic.AnthropicError, httpx2.HTTPError) as error:  # the SDK hands on what breaks a stream
            return Heard(failed=f"{type(error).__name__}: {error}"[:500])


def heard(events: Iterator[Any] | anthropic.Stream[Any]) -> Heard:
    """What a stream of events says: inputs as the pieces that came, put together."""
    names: dict[int, str] = {}
    pieces: dict[int, list[str]] = {}
    text, ended = "", ""
    for event in events:
        match event.type:
            case "content_block_start" if event.content_block.type == "tool_use":
                names[event.index], pieces[event.index] = event.content_block.name, []
            case "content_block_delta" if event.delta.type == "input_json_delta":
                pieces[event.index].append(event.delta.partial_json)
            case "content_block_delta" if event.delta.type == "text_delta":
                text += event.delta.text
            case "message_delta":
                ended = event.delta.stop_reason or ""
    if not ended:
        return Heard(failed="the stream ended without a reason")
    # No piece at all is how the API streams an input without arguments.
    calls = tuple(Call(name, "".join(pieces[index]) or "{}") for index, name in names.items())
    return Heard(calls=calls, text=text, cut=ended == "max_tokens")


def main(arguments: Sequence[str]) -> int:
    out = Console(highlight=False, stderr=True)
    began, where, asked = time.monotonic(), machine(), _arguments(arguments)
    sides: list[str] = [asked.only] if asked.only else [_ANTIPHON, _BARE]
    categories: list[str] = asked.category or list(bfcl.CATEGORIES)
    whole = len(sides) == 2 and categories == list(bfcl.CATEGORIES) and asked.cases == _CASES
    try:
        wheel = bfcl.wheel(subject.installed() / "bench")
        cases = {category: bfcl.cases(wheel, category, asked.cases) for category in categories}
        with subject.home(out, prepared=True) as home:
            engine = _configure(home)
            ran = {side: _run(side, home, cases, out, show=asked.show) for side in sides}
    except Unmeasurable as error:
        out.print(f"[bold red]bench-tools:[/] {escape(str(error))}", soft_wrap=True)
        return 2
    _tell(ran, asked.cases)
    if not whole:
        return 0
    return conclude(
        "tools",
        figures(ran[_ANTIPHON], ran[_BARE]),
        where=where,
        setting={
            "cases": f"BFCL {bfcl.version()}: the first {_CASES} of each category, by the leaderboard's rule",
            "model": f"{subject.MODEL}, the same file; Antiphon's defaults, which chose {engine}",
            "sides": "Antiphon by the official SDK, in streams; llama.cpp's server alone by chat completions",
            "limits": f"{_MAX_TOKENS} tokens an answer, temperature 0, {_AT_ONCE} at a time, both sides",
        },
        seconds=time.monotonic() - began,
    )


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.tools")
    parser.add_argument("--cases", type=int, default=_CASES, help="how many of each category")
    parser.add_argument("--only", choices=(_ANTIPHON, _BARE), help="one side alone")
    parser.add_argument("--category", choices=list(bfcl.CATEGORIES), action="append", help="may be given repeatedly")
    parser.add_argument("--show", action="store_true", help="print each wrong answer")
    return parser.parse_args(arguments)


def _configure(home: Path) -> str:
    """Have the data folder serve the model; which engine Antiphon chooses for it."""
    (home / "antiphon.toml").write_text(f'models = ["{subject.MODEL}"]\n', "utf-8")
    return engine_of(_settings(home), catalogue.load().get(subject.MODEL), _model(home)).engine


def _settings(home: Path) -> settings.Settings:
    return settings.load({"home": str(home)}, environment={})


def _model(home: Path) -> Path:
    """The file of the weights."""
    file = weights.installed(catalogue.load().get(subject.MODEL).weights, models_folder(_settings(home)))
    if file is None:
        raise Unmeasurable(f"the weights of {subject.MODEL} are not on this machine")
    return file


@contextmanager
def _started(side: str, home: Path) -> Iterator[Callable[[Case], Heard]]:
    if side == _ANTIPHON:
        key = subject.command("keys", "create", "--quiet", "--home", str(home))
        with subject.served_as_set(home) as server:
            url = f"http://127.0.0.1:{server.port}"
            with anthropic.Anthropic(api_key=key, base_url=url, max_retries=0, timeout=_SECONDS) as client:
                yield Antiphon(client, subject.MODEL, max_tokens=_MAX_TOKENS).ask
    else:
        cores, log = os.cpu_count() or 1, home / "bare.log"
        with bare(
            _model(home), log, seats=_AT_ONCE, threads=cores, max_tokens=_MAX_TOKENS, seconds=_SECONDS
        ) as started:
            yield started.ask


def _run(side: str, home: Path, cases: dict[str, list[Case]], out: Console, *, show: bool) -> Ran:
    """Ask one side all of the cases, so many at a time."""
    ran = Ran({}, {})
    with _started(side, home) as ask, ThreadPoolExecutor(_AT_ONCE) as pool:
        for category, asked in cases.items():
            began = time.monotonic()
            ran.judged[category] = [_judged(*each) for each in zip(asked, pool.map(ask, asked), strict=True)]
            ran.seconds[category] = time.monotonic() - began
            out.print(
                f"{_NAMES[side]}, {category}: {ran.right(category)} of {len(asked)}, {ran.seconds[category]:.0f} s"
            )
            for each in ran.judged[category]:
                _warn(each, out, show=show)
    return ran


def _judged(case: Case, answer: Heard) -> Judged:
    return Judged(case, answer, wrong(case, answer), faults(case, answer))


def _warn(judged: Judged, out: Console, *, show: bool) -> None:
    """Failed requests and faulty inputs are always told; wrong answers where that was asked for."""

    def say(text: str, style: str = "") -> None:
        out.print(text, style=style, markup=False, soft_wrap=True)

    case, heard = judged.case, judged.heard
    for fault in judged.faults:
        say(f"{case.name}: a faulty input: {fault}", "bold red")
    if heard.failed and not show:
        say(f"{case.name}: the request failed: {heard.failed}", "bold red")
    if not judged.wrong or not show:
        return
    say(f"{case.name}: {judged.wrong}", "yellow")
    say(f"  asked    {case.question}")
    for tool in case.tools():
        say(f"  tool     {tool.name}: {tool.description} {_json(tool.schema['properties'])}")
    for answer in case.answers:
        say(f"  expected {_json(answer)}")
    for call in heard.calls:
        say(f"  called   {call.name} {call.input}")
    if heard.text:
        say(f"  said     {heard.text!r}")
    if heard.cut:
        say(f"  and was cut off at {_MAX_TOKENS} tokens")


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _tell(ran: dict[str, Ran], count: int) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("right answers")
    for side in ran:
        table.add_column(_NAMES[side], justify="right")
    for category in next(iter(ran.values())).judged:
        table.add_row(category, *(f"{each.right(category)} of {count}" for each in ran.values()))
    table.add_row("all", *(f"{_right(each)} of {len(each.all())}" for each in ran.values()))
    table.add_row("faulty inputs", *(str(_faulty(each)) for each in ran.values()))
    table.add_row("cut off", *(str(_cut(each)) for each in ran.values()))
    table.add_row("failed requests", *(str(_failed(each)) for each in ran.values()))
    table.add_row("seconds", *(f"{sum(each.seconds.values()):.0f}" for each in ran.values()))
    Console(highlight=False).print(table)


def figures(ours: Ran, theirs: Ran) -> list[Figure]:
    """All figures of a whole run. "Higher" is at least one right answer more than the other side has."""

    def bar(category: str) -> Bar:
        return _IRRELEVANCE_BAR if category == bfcl.IRRELEVANCE else _more_than(theirs.right(category))

    def count(name: str, value: int, bar: Bar | None = None) -> Figure:
        return figure(name, "", [float(value)], bar)

    told = [count(f"Antiphon: {category}", ours.right(category), bar(category)) for category in ours.judged]
    told += [count("Antiphon: all", _right(ours), _more_than(_right(theirs)))]
    told += [count(f"{_NAMES[_BARE]}: {category}", theirs.right(category)) for category in theirs.judged]
    told += [count(f"{_NAMES[_BARE]}: all", _right(theirs))]
    for name, ran, never in ((_NAMES[_ANTIPHON], ours, _NEVER), (_NAMES[_BARE], theirs, None)):
        told += [
            count(f"{name}: faulty inputs", _faulty(ran), never),
            count(f"{name}: answers cut off", _cut(ran)),
            count(f"{name}: failed requests", _failed(ran)),
            figure(f"{name}: time", "s", [sum(ran.seconds.values())]),
        ]
    return told


def _more_than(other: int) -> Bar:
    return Bar("at least", other + 1)


def _right(ran: Ran) -> int:
    return sum(not each.wrong for each in ran.all())


def _faulty(ran: Ran) -> int:
    return sum(len(each.faults) for each in ran.all())


def _cut(ran: Ran) -> int:
    return sum(each.heard.cut for each in ran.all())


def _failed(ran: Ran) -> int:
    return sum(bool(each.heard.failed) for each in ran.all())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
