"""The scripted engine: deterministic answers for tests, benches and clients' CI. No model, no chance, no clock but
delays.

A YAML file holds rules, tried in order:

    model: qwen2.5-coder-1.5b-instruct   # whose tokenizer and template count the prompt; default: a built-in one
    seats: 16
    rules:
      - match: "weather in (Paris|Rome)" # searched in the prompt's text; a rule without it always matches
        text: "It is sunny."             # played word by word; or `tokens: ["It ", "is"]`, played as given
        delay_ms: 20                     # before each token
        times: 1                         # how often the rule may be used; default: always
        fault: {kind: hang, after: 2}    # stop | hang | crash, after so many tokens

Without a rule the answer is numbered words, `max_tokens` of them. A token is whatever one entry holds; the end of an
answer counts as one more, as it does in a real model.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Literal

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
    Prompt,
    Step,
    TokenSpan,
)
from antiphon.engine.seats import Lease, SeatQueue

_WORD = re.compile(r"\s*\S+\s*$|\s*\S+")
#: Tokens that leave in one step at full speed, as from an engine whose steps are short.
_STEP_TOKENS = 16

#: The end of an answer, which counts as a token.
_END = EngineEvent(b"", 1)

Count = Annotated[int, msgspec.Meta(ge=0)]


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What goes wrong, and after how many tokens.

    `stop`: the engine gives up on this answer. `hang`: it goes silent until the watchdog acts. `crash`: everything it
    was answering is lost and it is down for `down_ms`.
    """

    kind: Literal["stop", "hang", "crash"]
    after: Count = 0
    down_ms: Count = 0


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One answer and when it is given."""

    match: str | None = None
    text: str | None = None
    tokens: tuple[str, ...] | None = None
    delay_ms: Count = 0
    times: Count | None = None
    fault: Fault | None = None


class Part(msgspec.Struct, frozen=True):
    """A rule and what it plays, made ready; None stands for numbered words, as many as are asked for."""

    rule: Rule
    events: tuple[EngineEvent, ...] | None


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
        if rule.text is not None and rule.tokens is not None:
            raise SettingsError(f"rules[{index}] in {path} has both `text` and `tokens`")
    return script


class ScriptedEngine:
    """Plays a script. Implements `contract.Engine`.

    Args:
        decode: from the prompt's ids to the text that rules are matched against.
        stall_seconds: how long a hang lasts before the watchdog ends it.
    """

    def __init__(
        self,
        script: Script,
        *,
        decode: Callable[[Sequence[int]], str],
        window: int,
        seats: int,
        queue: int,
        queue_seconds: float,
        stall_seconds: float,
        clock: Clock,
    ) -> None:
        self._decode = decode
        self._window = window
        self._seat_count = seats
        self._stall_seconds = stall_seconds
        self._used = [0] * len(script.rules)
        self._parts = [Part(rule, _events(rule)) for rule in script.rules]
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
            reports_reuse=False, reports_ids=False,
        )  # fmt: skip

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
    async def seat(self, scope: Scope, prompt: Prompt, max_tokens: int) -> AsyncIterator[ScriptedSeat]:
        """See `contract.Engine.seat`."""
        async with self._seats.lease(prompt.tokens + max_tokens) as lease:
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

    async def play(self, part: Part, phase: Phase, lease: Lease) -> AsyncGenerator[Step, None]:
        """One phase of an answer."""
        rule, written = part.rule, _numbered(phase.max_tokens) if part.events is None else part.events
        shown = written[: phase.max_tokens if rule.fault is None else min(rule.fault.after, phase.max_tokens)]
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
            if rule.fault is not None and len(shown) == rule.fault.after:
                await self._fail(rule.fault)
            lease.warm()
            yield Step((), Finish("length")) if len(written) >= phase.max_tokens else Step((_END,), Finish("stop"))
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
    """Implements `contract.Seat`. The rule is chosen once; a further phase gets none."""

    def __init__(self, engine: ScriptedEngine, lease: Lease, prompt: Prompt) -> None:
        self._engine = engine
        self._lease = lease
        self._part = engine.choose(prompt)

    def generate(self, phase: Phase) -> AsyncGenerator[Step, None]:
        """See `contract.Seat.generate`."""
        return self._engine.play(self._part, phase, self._lease)


def _events(rule: Rule) -> tuple[EngineEvent, ...] | None:
    tokens: Sequence[str] | None = rule.tokens
    if rule.text is not None:
        tokens = _WORD.findall(rule.text) or ([rule.text] if rule.text else [])
    return None if tokens is None else tuple(EngineEvent(token.encode(), 1) for token in tokens)


def _numbered(count: int) -> tuple[EngineEvent, ...]:
    return tuple([EngineEvent(b" %d" % number if number > 1 else b"1", 1) for number in range(1, count + 1)])
