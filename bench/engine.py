"""`make bench-engine`: what a model's library loses by being behind Antiphon, and how the two libraries compare.

Each model is run by each embedded library twice: through `antiphon serve` (a real key, the journal on the disk, streams
over HTTP), and alone, in a process of its own with the very settings that Antiphon gives it (`bench.library`). All four
are loaded at the same time and measured in turn, those not measured idle, so that whatever else the machine does meets
all of them. Ratios are taken within a round; what counts is their median.

Prompts reach both sides as the same tokens. What is to be cold is made of words drawn anew for each run. Answers go on
from numbers counted upwards, greedily, because nothing else can keep a model from ending its answer early through the
API; each answer's length is checked on both sides.

- *Decoding* is counted while all streams are being made: prompts, which were computed before, and stragglers are no
  part of it. What they cost is in `whole`, from the requests to the last token.
- *Prompts* are counted from the request to the first token. Those of 4,000 tokens are asked for as long as a budget
  lasts, which on a slow machine is once.
- *Memory* is the most that the process with the library in it has held; Antiphon's own is told beside it.

The bars of Antiphon against the library alone are asked everywhere. Those of OpenVINO against llama.cpp are for
processors with AMX, and only shown elsewhere. `python -m bench.engine --quick` measures two rounds; the name of a model
behind it measures that one alone.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from random import Random

import msgspec
from rich.console import Console

from antiphon.core import settings
from antiphon.core.clock import SystemClock
from antiphon.engine.embedded import EmbeddedEngine
from antiphon.engine.frames import Load
from antiphon.engine.residents import ResidentEngine
from antiphon.engine.slots import prompt_ids
from antiphon.observe import logs
from antiphon.plan.plan import Planner
from antiphon.serving import served_models
from antiphon.wire.parse import parse_messages
from bench import subject
from bench.engine_figures import ALONE, BEHIND, LIBRARIES, LONG, NEW_PART, SHORT, Model, Round, Seen, Told
from bench.library import alone
from bench.load import Bystanders, Processes, Unmeasurable, children_of
from bench.report import Bar, Figure, conclude, free_mb, machine, peak_mb
from bench.streams import Answer, Ask, Client, decode_rate, see_whole, whole_rate

_SEATS = 8
#: Set, because what Antiphon gives a model's cache otherwise goes by the memory that is free at the moment.
_MEMORY = 6_000_000_000
_NEEDED_MB = 12 * 1024
#: A round in which others took more cores than this does not count, unless no quieter ones are to be had.
_QUIET = 0.1


class _Extent(msgspec.Struct, frozen=True):
    """How much is measured: rounds that count, rounds at most; and once a library has spent so many seconds on prompts
    of 4,000 tokens, no further ones are begun for it."""

    rounds: int
    most: int
    long_seconds: float


_FULL = _Extent(rounds=5, most=6, long_seconds=30)
_SHORT = _Extent(rounds=2, most=2, long_seconds=1)

#: Plain words, most of them a token or two.
_WORDS = (
    "river stone mill door light paper window garden summer winter letter market train bridge island forest copper "
    "silver engine doctor farmer teacher singer kitchen table morning evening thunder shadow mirror candle basket "
    "feather ladder pepper button ribbon harbour valley meadow village castle tunnel station ticket pocket jacket "
    "purple yellow orange narrow gentle bitter sudden hollow frozen broken hidden golden simple honest clever quiet "
    "running falling singing building writing reading walking turning waiting burning growing hunting sailing "
    "seven eleven twenty forty ninety hundred thousand before behind beyond without around against between upon"
)

_MODELS = (
    Model("smollm2-135m-instruct", "SmolLM2", {1: 64, 4: 48, 8: 32}, Bar("at least", 5), {}, prepared=False),
    Model(
        "qwen2.5-coder-1.5b-instruct",
        "Qwen",
        {1: 32, 4: 24, 8: 16},
        Bar("at least", 4),
        {1: Bar("at least", 1.3), 8: Bar("at least", 3)},
        prepared=True,
    ),
)


def main() -> int:
    out = Console(highlight=False, stderr=True)
    began, where = time.monotonic(), machine()
    quick, names = "--quick" in sys.argv[1:], [each for each in sys.argv[1:] if not each.startswith("-")]
    extent = _SHORT if quick else _FULL
    logs.configure("error", "text")  # for what of Antiphon runs in this process
    figures: list[Figure] = []
    try:
        for model in _MODELS:
            if not names or model.name in names:
                with subject.home(out, model.name, prepared=model.prepared) as home:
                    figures += _Bench(model, home, extent, out).figures()
    except Unmeasurable as error:
        out.print(f"[bold red]bench-engine:[/] {error}", soft_wrap=True)
        return 2
    return conclude(
        "engine-quick" if quick or names else "engine",
        figures,
        where=where,
        setting={
            "sides": "antiphon serve, over HTTP, and the library alone with the same settings; all loaded, in turn",
            "rounds": f"the quietest {extent.rounds}; ratios are taken within a round, figures are medians",
            "seats": f"{_SEATS}, all cores",
            "answers": "; ".join(f"{m.short}: " + _told(m.tokens) for m in _MODELS),
            "prompts": f"about {SHORT:,} tokens; about {LONG:,} as long as {extent.long_seconds:.0f} s last",
            "models": "SmolLM2: 135M, Q4_1 as it is; Qwen: 2.5-Coder-1.5B, Q4_K_M, for OpenVINO prepared",
        },
        seconds=time.monotonic() - began,
    )


def _told(tokens: dict[int, int]) -> str:
    return ", ".join(f"{streams} × {count}" for streams, count in tokens.items())


class _Side(msgspec.Struct, frozen=True):
    """One of the four that are measured in turn: which library, behind what, and how it is asked."""

    library: str
    behind: str
    ask: Callable[[Sequence[bytes], int], list[Answer]]

    @property
    def key(self) -> str:
        return f"{self.library} {self.behind}"


class _Bench:
    """One model."""

    def __init__(self, model: Model, home: Path, extent: _Extent, out: Console) -> None:
        self._model = model
        self._home = home
        self._extent = extent
        self._out = out
        self._random = Random()  # seeded by the system: no run's prompts are those of another
        self._processes = Processes()
        self._seen = Seen(extent.rounds)
        self._spent: dict[str, float] = defaultdict(float)
        self._round: dict[str, float] = {}
        self._cpu: dict[str, float] = defaultdict(float)
        self._planner: Planner

    def figures(self) -> list[Figure]:
        if free_mb() < _NEEDED_MB:
            raise Unmeasurable(f"{_NEEDED_MB:,} MiB of free memory are needed: each library is loaded twice")
        with ExitStack() as stack:
            sides = [side for library in LIBRARIES for side in self._sides(library, stack)]
            self._out.print(f"{self._model.short}: all are loaded")
            for side in sides:  # brings the prompts into the caches, and what is slow only once
                side.ask([self._counting(series, 2) for series in range(max(self._model.tokens))], 2)
            self._seen.decoding = self._rounds("decoding", partial(self._decode, sides))
            self._seen.prompts = self._rounds("prompts", partial(self._compute_prompts, sides))
        return Told(self._model, self._seen).figures()

    def _sides(self, library: str, stack: ExitStack) -> Iterator[_Side]:
        home, once = self._home / library, self._seen.once
        load = self._settings(library, home)
        key = subject.command("keys", "create", "--quiet", "--home", str(home))
        began = time.monotonic()
        server = stack.enter_context(subject.served_as_set(home))
        once[f"start {library} {BEHIND}"] = time.monotonic() - began
        directly = stack.enter_context(alone(library, load, self._home / f"{library}-alone.log"))
        once[f"start {library} {ALONE}"] = directly.start_seconds
        children = children_of(server.pid)
        self._processes.add(server.pid, directly.pid, *children)
        client = Client(server.port, key)

        def note_memory() -> None:
            once[f"peak {library} {BEHIND}"] = sum(peak_mb(child) for child in children)
            once[f"peak {library} {ALONE}"] = peak_mb(directly.pid)
            once[f"own {library}"] = peak_mb(server.pid)

        def over_http(bodies: Sequence[bytes], _: int) -> list[Answer]:
            before = server.cpu_seconds()
            answers = client.ask(bodies)
            self._cpu[library] += server.cpu_seconds() - before
            return answers

        def on_its_own(bodies: Sequence[bytes], max_tokens: int) -> list[Answer]:
            prompts = [self._planner.plan(parse_messages(body).request).prompt for body in bodies]
            return directly.ask(Ask([prompt_ids(prompt) for prompt in prompts], max_tokens))

        stack.callback(note_memory)
        yield _Side(library, BEHIND, over_http)
        yield _Side(library, ALONE, on_its_own)

    def _settings(self, library: str, home: Path) -> Load:
        """A data folder whose settings have the library run the model, and what Antiphon tells its child then."""
        home.mkdir()
        (home / "models").symlink_to(self._home / "models")
        (home / "antiphon.toml").write_text(
            f'engine = "{library}"\nmodels = ["{self._model.name}"]\nseats = {_SEATS}\nmemory = {_MEMORY}\n', "utf-8"
        )
        ((_, served),) = served_models(settings.load({"home": str(home)}, environment={}), SystemClock())
        self._planner = served.planner
        return _load_of(served.engine)

    def _rounds(self, what: str, measure: Callable[[int], None]) -> list[Round]:
        """Rounds until enough of them had the machine to themselves; failing that, the quietest ones."""
        rounds: list[Round] = []
        extent = self._extent
        while len(rounds) < extent.most and sum(each["others"] <= _QUIET for each in rounds) < extent.rounds:
            self._round = {}
            with Bystanders(self._processes) as bystanders:
                measure(len(rounds))
            rounds.append(self._round | {"others": bystanders.cores})
            self._out.print(
                f"{self._model.short}, {what}, round {len(rounds)}: "
                f"others took {bystanders.cores:.2f} of the machine's cores"
            )
        return sorted(rounds, key=lambda each: each["others"])

    def _decode(self, sides: list[_Side], number: int) -> None:
        self._cpu.clear()
        for streams, tokens in self._model.tokens.items():
            bodies = [self._counting(series, tokens) for series in range(streams)]
            for side in _in_turn(sides, number):
                answers = side.ask(bodies, tokens)
                see_whole(answers, tokens)
                self._round[f"decode {streams} {side.key}"] = decode_rate(answers)
                self._round[f"whole {streams} {side.key}"] = whole_rate(answers)
        made = sum(streams * tokens for streams, tokens in self._model.tokens.items())
        for library, seconds in self._cpu.items():
            self._round[f"cpu {library}"] = seconds / made * 1000

    def _compute_prompts(self, sides: list[_Side], number: int) -> None:
        text, other, long = self._words(SHORT), self._words(SHORT), self._words(LONG)
        kept = int(len(text) * (1 - NEW_PART))
        for side in _in_turn(sides, number):
            self._first(SHORT, side, text)
            self._first("cached", side, text)
            self._first("mostly", side, text[:kept] + other[kept:])
        unspent = [side for side in sides if self._spent[side.library] < self._extent.long_seconds]
        for side in _in_turn(unspent, number):
            began = time.monotonic()
            self._first(LONG, side, long)
            self._spent[side.library] += time.monotonic() - began

    def _first(self, what: int | str, side: _Side, words: list[str]) -> None:
        """Ask for one token behind a prompt."""
        (answer,) = side.ask([self._body(1, " ".join(words))], 1)
        see_whole([answer], 1)
        self._round[f"first {what} {side.key}"] = answer.first * 1000
        self._round[f"prompt {what} {side.key}"] = answer.prompt / answer.first

    def _words(self, tokens: int) -> list[str]:
        """Words that never stood in this order, for a prompt of about so many tokens."""
        few = self._random.choices(_WORDS.split(), k=200)
        length = self._planner.count(parse_messages(self._body(1, " ".join(few))).request)
        frame = self._planner.count(parse_messages(self._body(1, "a")).request)
        return self._random.choices(_WORDS.split(), k=round(200 * (tokens - frame) / (length - frame)))

    def _counting(self, series: int, max_tokens: int) -> bytes:
        """An answer that has begun to count and goes on."""
        start = 100 * series + 1
        begun = ", ".join(str(start + each) for each in range(6)) + ","
        return self._body(max_tokens, f"Count from {start} to {start + 90}, with commas between.", begun)

    def _body(self, max_tokens: int, question: str, begun: str = "") -> bytes:
        messages = [{"role": "user", "content": question}]
        if begun:
            messages.append({"role": "assistant", "content": begun})
        body = {
            "model": self._model.name, "max_tokens": max_tokens, "stream": True, "temperature": 0, "messages": messages
        }  # fmt: skip
        return msgspec.json.encode(body)


def _in_turn(sides: list[_Side], number: int) -> list[_Side]:
    """A B C D, then D C B A: who comes first gains nothing by it over the rounds."""
    return sides if number % 2 == 0 else sides[::-1]


def _load_of(engine: object) -> Load:
    """What a served model's child is told first."""
    if isinstance(engine, ResidentEngine):
        engine = engine.engine
    if not isinstance(engine, EmbeddedEngine):
        raise Unmeasurable("the model is not an embedded one")
    return engine.load


if __name__ == "__main__":
    sys.exit(main())
