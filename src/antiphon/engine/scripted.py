"""The scripted engine: deterministic answers for tests, benches and clients' CI. No model, no chance, no clock but
delays.

A YAML file holds rules, tried in order:

    model: qwen2.5-coder-1.5b-instruct   # whose tokenizer and template count the prompt; default: a built-in one
    seats: 16
    rules:
      - match: "weather in (Paris|Rome)" # searched in the prompt's text; a rule without it always matches
        text: "It is sunny."             # played word by word; or `tokens: ["It ", "is"]`, played as given
        calls: [{name: f, input: {a: 1}}] # of tools, behind the text, in the form of the model's family
        delay_ms: 20                     # before each token
        times: 1                         # how often the rule may be used; default: always
        fault: {kind: hang, after: 2}    # stop | hang | crash, after so many tokens

Without a rule the answer is numbered words, `max_tokens` of them. Under a grammar a rule's answer is played where the
grammar allows it (its JSON may have other blanks and another order of properties), and else the shortest text that it
does allow: so a call of a tool that is not offered, or with an input that does not fit it, becomes another one. A token
is whatever one entry holds; the end of an answer counts as one more, as it does in a real model.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from antiphon.core.clock import Clock
from antiphon.core.errors import EngineFailed, SettingsError
from antiphon.core.records import Scope
from antiphon.engine.contract import (
    Description,
    EngineEvent,
    Finish,
    Health,
    Phase,
    Priority,
    Prompt,
    Step,
    TokenSpan,
)
from antiphon.engine.performance import Performance, Score, cut_words
from antiphon.engine.seats import Lease, SeatQueue

#: Tokens that leave in one step at full speed, as from an engine whose steps are short.
_STEP_TOKENS = 16

#: The end of an answer, which counts as a token.
_END = EngineEvent(b"", 1)

Count = Annotated[int, msgspec.Meta(ge=0)]


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What goes wrong, and after how many tokens of the answer, over all its phases.

    `stop`: the engine gives up on this answer. `hang`: it goes silent until the watchdog acts. `crash`: everything it
    was answering is lost and it is down for `down_ms`.
    """

    kind: Literal["stop", "hang", "crash"]
    after: Count = 0
    down_ms: Count = 0


class ScriptedCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A call of a tool."""

    name: str
    input: dict[str, Any] = {}


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One answer and when it is given."""

    match: str | None = None
    text: str | None = None
    tokens: tuple[str, ...] | None = None
    calls: tuple[ScriptedCall, ...] = ()
    delay_ms: Count = 0
    times: Count | None = None
    fault: Fault | None = None


WriteCalls: TypeAlias = Callable[[str, Sequence[ScriptedCall]], str]
"""From a text and the calls behind it to what a model of some family writes for them."""


class Words(msgspec.Struct, frozen=True):
    """The language of the model that is played: `decode` gives the text that rules are matched against, `read` the same
    with control tokens as they are written."""

    decode: Callable[[Sequence[int]], str]
    read: Callable[[Sequence[int]], str]
    write_calls: WriteCalls = lambda text, _: text


class Part(msgspec.Struct, frozen=True):
    """A rule and what it plays, made ready; None stands for numbered words, as many as are asked for."""

    rule: Rule
    score: Score | None


_WITHOUT_RULE = Part(Rule(), None)


class Script(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A file of rules."""

    model: str | None = None
    seats: Annotated[int, msgspec.Meta(ge=1)] | None = None
    rules: tuple[Rule, ...] = ()


def read_script(path: Path) -> Script:
    """Read a script.

    Raises:
        SettingsError: it cannot be read, or is not a script; says where.
    """
    try:
        script = msgspec.yaml.decode(path.read_bytes() or b"{}", type=Script)
    except OSError as error:
        raise SettingsError(f"The script {path} cannot be read: {error.strerror}") from None
    except msgspec.MsgspecError as error:
        raise SettingsError(f"The script {path} is malformed: {error}") from None
    for index, rule in enumerate(script.rules):
        try:
            re.compile(rule.match or "")
        except re.error as error:
            raise SettingsError(f"rules[{index}].match in {path} is no regular expression: {error}") from None
        if rule.tokens is not None and (rule.text is not None or rule.calls):
            raise SettingsError(f"rules[{index}] in {path} has `tokens` and also `text` or `calls`")
    return script


class ScriptedEngine:
    """Plays a script. Implements `contract.Engine`.

    Args:
        words: what ids say, and how calls are written.
        stall_seconds: how long a hang lasts before the watchdog ends it.
    """

    def __init__(
        self,
        script: Script,
        *,
        words: Words,
        window: int,
        seats: int,
        queue: int,
        queue_seconds: float,
        stall_seconds: float,
        clock: Clock,
    ) -> None:
        self._decode = words.decode
        self.read = words.read
        self._window = window
        self._seat_count = seats
        self._stall_seconds = stall_seconds
        self._used = [0] * len(script.rules)
        self._parts = [Part(rule, _score(rule, words.write_calls)) for rule in script.rules]
        self._seats = SeatQueue(
            seats=seats,
            cold_prompts=seats,
            pool_tokens=None,
            bound=queue,
            wait_seconds=queue_seconds,
            clock=clock,
        )
        self._playing: set[asyncio.Event] = set()
        self._down = False
        self._restarts = 0
        self._revival: asyncio.TimerHandle | None = None

    def describe(self) -> Description:
        return Description(
            engine="scripted", model="scripted", window=self._window, seats=self._seat_count,
            reports_reuse=False, reports_ids=False, grammar=True, logprobs=True,
        )  # fmt: skip

    def epoch(self, scope: Scope) -> int:
        """See `contract.Engine.epoch`."""
        return self._restarts

    def health(self) -> Health:
        return Health(
            ready=not self._down,
            reason="crashed by script" if self._down else "",
            seats_taken=self._seats.taken,
            waiting=self._seats.waiting,
            restarts=self._restarts,
        )

    async def start(self) -> None:
        """Nothing to load."""

    async def stop(self) -> None:
        if self._revival is not None:
            self._revival.cancel()

    @asynccontextmanager
    async def seat(
        self, scope: Scope, prompt: Prompt, max_tokens: int, priority: Priority = "interactive"
    ) -> AsyncIterator[ScriptedSeat]:
        """See `contract.Engine.seat`."""
        async with self._seats.lease(scope, prompt.tokens + max_tokens, priority=priority) as lease:
            yield ScriptedSeat(self, lease, prompt)

    def choose(self, prompt: Prompt) -> Part:
        """The part of the first rule that matches and is not used up; numbered words where none does."""
        text: str | None = None
        for index, part in enumerate(self._parts):
            rule = part.rule
            if rule.times is not None and self._used[index] >= rule.times:
                continue
            if rule.match is not None:
                if text is None:
                    text = self._decode([i for s in prompt.segments if isinstance(s, TokenSpan) for i in s.ids])
                if re.search(rule.match, text) is None:
                    continue
            self._used[index] += 1
            return part
        return _WITHOUT_RULE

    async def play(
        self, rule: Rule, performance: Performance, phase: Phase, lease: Lease
    ) -> AsyncGenerator[Step, None]:
        """One phase of an answer."""
        performance.pass_over(self.read(phase.appended), instead=phase.instead)
        stopped = False
        if phase.grammar is not None:
            written = performance.under(phase.grammar)
        else:
            written, stopped = performance.free({self.read((i,)): i for i in phase.stop_tokens}, phase.max_tokens)
        if phase.logprobs:
            written = tuple([_certain(event) for event in written])
        before_fault = phase.max_tokens if rule.fault is None else rule.fault.after - performance.played
        shown = written[: min(before_fault, phase.max_tokens)]
        performance.played += len(shown)
        stride = 1 if rule.delay_ms else _STEP_TOKENS
        crashed = asyncio.Event()
        self._playing.add(crashed)
        try:
            for start in range(0, len(shown), stride):
                if rule.delay_ms:
                    await asyncio.sleep(rule.delay_ms / 1000)
                lease.warm()
                yield Step(shown[start : start + stride])
                # Lets others run, as a real engine's step does.
                await asyncio.sleep(0)
                if crashed.is_set():
                    raise EngineFailed("crashed by script")
            if rule.fault is not None and performance.played == rule.fault.after:
                await self._fail(rule.fault)
            lease.warm()
            if stopped and len(shown) == len(written):
                yield Step((), Finish("stop"))
                return
            end = _certain(_END) if phase.logprobs else _END
            yield Step((), Finish("length")) if len(written) >= phase.max_tokens else Step((end,), Finish("stop"))
        finally:
            self._playing.discard(crashed)

    async def _fail(self, fault: Fault) -> None:
        if fault.kind == "hang":
            await asyncio.sleep(self._stall_seconds)
            raise EngineFailed("hung by script")
        if fault.kind == "crash":
            self._crash(fault.down_ms / 1000)
        raise EngineFailed(f"{fault.kind} by script")

    def _crash(self, seconds: float) -> None:
        for other in self._playing:
            other.set()
        self._down = True
        self._seats.close()
        self._revival = asyncio.get_running_loop().call_later(seconds, self._revive)

    def _revive(self) -> None:
        self._down = False
        self._restarts += 1
        self._seats.open()


class ScriptedSeat:
    """Implements `contract.Seat`. The rule is chosen once; further phases go on in what it plays."""

    def __init__(self, engine: ScriptedEngine, lease: Lease, prompt: Prompt) -> None:
        self._engine = engine
        self._lease = lease
        part = engine.choose(prompt)
        self._rule, self._performance = part.rule, Performance(part.score)

    def generate(self, phase: Phase) -> AsyncGenerator[Step, None]:
        """See `contract.Seat.generate`."""
        return self._engine.play(self._rule, self._performance, phase, self._lease)


def _score(rule: Rule, write_calls: WriteCalls) -> Score | None:
    if rule.text is not None or rule.calls:
        return Score(cut_words(write_calls(rule.text or "", rule.calls) if rule.calls else rule.text or ""))
    return None if rule.tokens is None else Score(rule.tokens)


def _certain(event: EngineEvent) -> EngineEvent:
    """A script leaves nothing to chance: the logarithm of 1."""
    return msgspec.structs.replace(event, logprobs=(0.0,))
