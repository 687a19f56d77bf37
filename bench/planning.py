"""`make bench-planning`: that long prompts are planned in no time, and the largest bodies held up nobody.

- *A conversation*: 400 blocks of 32,000 tokens on the default model's vocabulary, through the planner, with four cache
  marks: rendered, encoded and hashed, the ends of the marked blocks found. First with nothing known of it, then with
  all but its last turn known. Wall time and processor time (of all threads), without reading the body.
- *Bodies of 20 MB*, one of each shape, through `antiphon serve --scripted` over HTTP: the time until each is answered,
  which is refused, or until its tokens are counted, and what others felt meanwhile (`bench.pulse`). A machine that does
  other things holds them up, too: what they feel while nothing is sent stands beside.

`--quick` does one round, and counts no tokens of large bodies. `--only conversation|bodies` does one part.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from rich.console import Console

from antiphon.core.clock import SystemClock
from antiphon.core.records import Scope
from antiphon.engine import weights
from antiphon.engine.tokenizer import Tokenizer
from antiphon.engine.vocabulary import Vocabulary, read_vocabulary
from antiphon.plan.caching.prefixes import Caching
from antiphon.plan.plan import Limits, Planner
from antiphon.plan.render import Renderer
from antiphon.plan.schema.cache import LoweredCache
from antiphon.routing import catalogue
from antiphon.wire.parse import parse_messages
from antiphon.wire.request import MessagesRequest
from bench import subject
from bench.load import Server, Unmeasurable, free_port, server
from bench.pulse import Pulse, pulse
from bench.report import Bar, Figure, conclude, figure, machine

_SCRIPT = Path(__file__).parent / "bombs.yaml"
_PLAN_BAR = Bar("at most", 50)
_LAG_BAR = Bar("at most", 100)
#: From the first byte sent to the whole answer: a refusal, and a count of tokens, of which 20 MB can have 15 million.
_ANSWER_BAR = Bar("at most", 5_000)
_COUNT_BAR = Bar("at most", 45_000)
_TOLD = Bar("at most", 0)

_BYTES = 20_000_000
_EXCHANGES = 58
_ROUNDS, _TURNS = 3, 15
_AFTER_S = 0.05
_MARK = {"cache_control": {"type": "ephemeral"}}
_CACHING = Caching(
    scope=Scope("org", "workspace"), secret=b"bench", model=subject.MODEL, served=subject.MODEL, minimum=1024
)
_SYLLABLES = ["ka", "lo", "mi", "ren", "tas", "du", "ver", "shi", "on", "pel", "gra", "to", "wen", "ba", "lir", "su"]

Body: TypeAlias = dict[str, Any]


def main() -> int:
    out = Console(highlight=False, stderr=True)
    parser = argparse.ArgumentParser(prog="bench.planning")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=("conversation", "bodies"))
    asked = parser.parse_args()
    began, where = time.monotonic(), machine()
    rounds = 1 if asked.quick else _ROUNDS
    figures: list[Figure] = []
    try:
        if asked.only != "bodies":
            figures += _Conversation(rounds).figures()
        if asked.only != "conversation":
            figures += _bodies(rounds, out, counts=not asked.quick)
    except Unmeasurable as error:
        out.print(f"[bold red]bench-planning:[/] {error}", soft_wrap=True)
        return 2
    return conclude(
        "planning-part" if asked.quick or asked.only else "planning",
        figures,
        where=where,
        setting={
            "conversation": f"the planner in this process; {_TURNS} turns, each the next one's beginning",
            "bodies": "the scripted engine, all cores; a probe each 5 ms and a stream of one token each 20 ms beside",
        },
        seconds=time.monotonic() - began,
    )


# A conversation


class _Conversation:
    """400 blocks; then one turn more at a time."""

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        chance = random.Random(6)
        self._prose = _Prose(chance)
        self._tools = [self._tool(number) for number in range(20)]
        self._tools[-1].update(_MARK)
        self._system: list[Body] = [{"type": "text", "text": self._prose(250)} for _ in range(4)]
        self._system[-1].update(_MARK)

    def figures(self) -> list[Figure]:
        vocabulary, dialect = _vocabulary()
        first: list[tuple[float, float]] = []
        later: list[tuple[float, float]] = []
        tokens = blocks = 0
        for _ in range(self._rounds):
            messages = [each for number in range(_EXCHANGES) for each in self._exchange(number)]
            planner = _planner(vocabulary, dialect)
            first.append(_timed(planner, self._request(messages))[0])
            for number in range(_TURNS):
                spent, tokens = _timed(planner, request := self._request(messages))
                later += [spent] if number else []
                blocks = 24 + sum(
                    1 if isinstance(each.content, str) else len(each.content) for each in request.messages
                )
                messages += [{"role": "user", "content": self._prose(20)}, {"role": "assistant", "content": "Yes."}]
            planner.close()
        name = f"{blocks} blocks, {tokens:,} tokens"
        return [
            figure(f"{name}: planned the first time", "ms", [wall for wall, _ in first]),
            figure(f"{name}: the same, processor time", "ms", [cpu for _, cpu in first]),
            figure(f"{name}: only the last turn is new", "ms", [wall for wall, _ in later], _PLAN_BAR),
            figure(f"{name}: the same, processor time", "ms", [cpu for _, cpu in later], _PLAN_BAR),
        ]

    def _tool(self, number: int) -> Body:
        properties = {f"p{each}": {"type": "string", "description": self._prose(8)} for each in range(4)}
        schema = {"type": "object", "properties": properties}
        return {"name": f"tool_{number}", "description": self._prose(40), "input_schema": schema}

    def _exchange(self, number: int) -> list[Body]:
        prose, name = self._prose, f"call_{number}"
        call = {"type": "tool_use", "id": name, "name": "tool_1", "input": {"p0": prose(12), "p1": prose(3)}}
        result = {"type": "tool_result", "tool_use_id": name, "content": [{"type": "text", "text": prose(70)}]}
        return [
            {"role": "user", "content": prose(30)},
            {"role": "assistant", "content": [{"type": "text", "text": prose(40)}, call]},
            {"role": "user", "content": [result, {"type": "text", "text": prose(12)}]},
            {"role": "assistant", "content": [{"type": "text", "text": prose(25)}]},
        ]

    def _request(self, messages: list[Body]) -> MessagesRequest:
        last = {"role": "user", "content": [{"type": "text", "text": self._prose(40), **_MARK}]}
        place = max(place for place, each in enumerate(messages) if not isinstance(each["content"], str))
        before = messages[place]
        marked = before | {"content": [*before["content"][:-1], before["content"][-1] | _MARK]}
        body = {
            "model": subject.MODEL,
            "max_tokens": 16,
            "tools": self._tools,
            "system": self._system,
            "messages": [*messages[:place], marked, *messages[place + 1 :], last],
        }
        return parse_messages(json.dumps(body).encode()).request


class _Prose:
    """Words of a made-up language, from seeded chance."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def __call__(self, words: int) -> str:
        chance = self._chance
        return " ".join(["".join(chance.choices(_SYLLABLES, k=chance.randint(1, 3))) for _ in range(words)]) + "."


def _vocabulary() -> tuple[Vocabulary, str]:
    entry = catalogue.load().get(subject.MODEL)
    file = asyncio.run(weights.pull(entry.weights, subject.installed() / "models"))
    return read_vocabulary(file), entry.dialect


def _planner(vocabulary: Vocabulary, dialect: str) -> Planner:
    clock = SystemClock()
    renderer = Renderer(vocabulary, Tokenizer(vocabulary), dialect, clock)
    return Planner(renderer, Limits(window=1 << 20, max_output=1024), LoweredCache(clock))


def _timed(planner: Planner, request: MessagesRequest) -> tuple[tuple[float, float], int]:
    """Wall and processor time in ms, and the prompt's tokens."""
    wall, cpu = time.perf_counter(), time.process_time()
    plan = planner.plan(request, caching=_CACHING)
    spent = ((time.perf_counter() - wall) * 1000, (time.process_time() - cpu) * 1000)
    if plan.cacheable is None or len(plan.cacheable.breakpoints) != 4:
        raise Unmeasurable("the conversation's marks were not planned")
    return spent, plan.tokens


# Bodies of 20 MB


def _shapes() -> dict[str, Callable[[], Body]]:
    page = _Prose(random.Random(1))(8_000)

    def cut(number: int, length: int) -> str:
        begin = number % (len(page) - length)
        return page[begin : begin + length]

    def text(number: int, length: int) -> Body:
        return {"type": "text", "text": f"{number} {cut(number, length)}."}

    def spoken(*messages: tuple[str, Any], **fields: Any) -> Body:
        return {"messages": [{"role": role, "content": content} for role, content in messages], **fields}

    def tool(number: int) -> Body:
        schema = {"type": "object", "properties": {"a": {"type": "string", "description": cut(number, 300)}}}
        return {"name": f"t{number}", "description": cut(number, 550), "input_schema": schema}

    def calls() -> Body:
        made = [
            {"type": "tool_use", "id": f"c{n}", "name": "t", "input": {"a": cut(n, 100)}} for n in range(_BYTES // 390)
        ]
        said = [
            {"type": "tool_result", "tool_use_id": each["id"], "content": cut(n, 150)} for n, each in enumerate(made)
        ]
        return spoken(("user", "Go."), ("assistant", made), ("user", said))

    roles = ("user", "assistant")
    return {
        "one text": lambda: spoken(("user", (page + "\n") * (_BYTES // len(page)))),
        "100,000 blocks": lambda: spoken(("user", [text(n, 160) for n in range(100_000)])),
        "100,000 messages": lambda: spoken(*((roles[n % 2], f"{n} {cut(n, 150)}.") for n in range(99_999))),
        "calls and results": calls,
        "many tools": lambda: spoken(("user", "Go."), tools=[tool(n) for n in range(_BYTES // 1_000)]),
        "signs alone": lambda: spoken(("user", '"\\' * (_BYTES // 4))),
        "blanks alone": lambda: spoken(("user", "a" + " " * _BYTES + "b")),
    }


def _bodies(rounds: int, out: Console, *, counts: bool) -> list[Figure]:
    with subject.home(out) as home:
        key = subject.command("keys", "create", "--quiet", "--home", str(home))
        port = free_port()
        arguments = ["antiphon", "serve", "--home", str(home), "--port", str(port), "--scripted", str(_SCRIPT)]
        with server(arguments, port, None, home / "serve.log") as antiphon:
            return _Bodies(antiphon, key, out).figures(rounds, counts=counts)


class _Bodies:
    def __init__(self, antiphon: Server, key: str, out: Console) -> None:
        self._antiphon, self._key, self._out = antiphon, key, out
        self._wrong = 0

    def figures(self, rounds: int, *, counts: bool) -> list[Figure]:
        asked = {"messages": [{"role": "user", "content": "Tell me a long story."}]}
        story = json.dumps(asked | {"model": subject.MODEL, "stream": True, "max_tokens": 8000}).encode()
        found: list[Figure] = []
        with pulse(self._antiphon.port, subject.raw_request(story, key=self._key)) as beside:
            quiet = [self._quiet(beside) for _ in range(rounds)]
            found.append(figure("lag while nothing is sent, the longest", "ms", quiet))
            for name, make in _shapes().items():
                made = make() | {"model": subject.MODEL}
                body = json.dumps(made | {"max_tokens": 16}, ensure_ascii=False).encode()
                runs = [self._send(beside, body, "/v1/messages", (400,)) for _ in range(rounds)]
                found += self._told(f"{name}, {len(body) / 1e6:.0f} MB", runs, _ANSWER_BAR)
                if counts:
                    body = json.dumps(made, ensure_ascii=False).encode()
                    counted = [self._send(beside, body, "/v1/messages/count_tokens", (200, 400))]
                    found += self._told(f"{name}: counted", counted, _COUNT_BAR)
            self._antiphon.check()
        return [*found, figure("bodies with another answer than is right", "", [float(self._wrong)], _TOLD)]

    def _told(self, name: str, runs: list[tuple[float, float]], bar: Bar) -> list[Figure]:
        self._out.print(f"{name}: " + "; ".join(f"{took:,.0f} ms, lag {lag:.0f}" for took, lag in runs))
        return [
            figure(f"{name}: answered", "ms", [took for took, _ in runs], bar),
            figure(f"{name}: lag", "ms", [lag for _, lag in runs], _LAG_BAR),
        ]

    def _send(self, beside: Pulse, body: bytes, path: str, right: tuple[int, ...]) -> tuple[float, float]:
        """How long it took, and the longest lag meanwhile, both in ms."""
        request = subject.raw_request(body, key=self._key, path=path, close=True)
        began = time.perf_counter()
        with socket.create_connection(("127.0.0.1", self._antiphon.port), 300) as connection:
            connection.sendall(request)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        took = time.perf_counter() - began
        self._wrong += int(answer.split(b" ", 2)[1]) not in right
        time.sleep(_AFTER_S)
        return took * 1000, self._felt(beside, began)

    def _quiet(self, beside: Pulse) -> float:
        began = time.perf_counter()
        time.sleep(1)
        return self._felt(beside, began)

    def _felt(self, beside: Pulse, began: float) -> float:
        return beside.probe.worst(began, time.perf_counter())


if __name__ == "__main__":
    sys.exit(main())
