"""OpenVINO's library with a salt: the same answers, and nothing that one workspace computed is another's.

How much of a prompt was computed is counted in steps: the child says after each how far the prompt has come.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from antiphon.core.clock import SystemClock
from antiphon.core.records import Scope
from antiphon.engine.contract import EngineEvent, Phase, Prompt, Sampling, TokenSpan
from antiphon.engine.embedded import EmbeddedEngine, EmbeddedSettings
from antiphon.engine.frames import Progress, Report
from antiphon.engine.grammar import Choice, Grammar, Text
from antiphon.engine.tokenizer import Tokenizer
from antiphon.engine.vocabulary import Vocabulary, load_vocabulary
from engine_contract.bodies import ONE, OTHER, PARIS, PARIS_ANSWER, salted_folder

pytestmark = [pytest.mark.real, pytest.mark.anyio]

CHUNK = 64
GREEDY = Sampling(temperature=0)
#: What the cache of one token takes in the tests' pools is nothing to this machine.
POOL = 8192


@pytest.fixture(autouse=True)
def library() -> None:
    pytest.importorskip("openvino_genai", reason="the extra `openvino` is not installed")


class Asked(EmbeddedEngine):
    """The engine, with an ear on what its child says."""

    def __init__(self, settings: EmbeddedSettings, vocabulary: Vocabulary) -> None:
        self.tokenizer = Tokenizer(vocabulary)
        super().__init__(settings, self.tokenizer.encode, SystemClock(), self.tokenizer.made_bytes)
        self.steps = 0

    def reported(self, report: Report) -> None:
        self.steps += isinstance(report, Progress)
        super().reported(report)

    async def ask(
        self, scope: Scope, prompt: list[int], phase: Phase, begun: Callable[[], object] | None = None
    ) -> tuple[list[EngineEvent], int | None]:
        """What was made, and how much of the prompt the engine says it did not compute."""
        events: list[EngineEvent] = []
        reused = None
        async with self.seat(scope, Prompt((TokenSpan(prompt),)), phase.max_tokens) as seat:
            if begun is not None:
                begun()
            async for step in seat.generate(phase):
                events += step.events
                if step.finish is not None:
                    reused = step.finish.reused_tokens
        return events, reused

    async def steps_of(self, scope: Scope, prompt: list[int]) -> int:
        """How many steps a prompt takes before its first token, asked alone."""
        before = self.steps
        await self.ask(scope, prompt, Phase(max_tokens=1, sampling=GREEDY))
        return self.steps - before

    def story(self, mark: str, tokens: int) -> list[int]:
        return self.tokenizer.encode(f"{mark}. " + "The quick brown fox jumps over the lazy dog. " * tokens)[:tokens]


@asynccontextmanager
async def running(file: Path, **settings: Any) -> AsyncIterator[Asked]:
    vocabulary = load_vocabulary(file, file.with_suffix(".vocabulary"))
    made: dict[str, Any] = {
        "module": "antiphon.engine.children.openvino", "engine": "openvino", "model": "smollm2",
        "model_path": str(file), "window": POOL, "pool_tokens": POOL, "seats": 2, "threads": 1, "cold_prompts": 2,
        "queue": 20, "queue_seconds": 120.0, "stall_seconds": 60.0, "start_seconds": 120.0,
        "end_tokens": vocabulary.end_tokens, "chunk_tokens": CHUNK,
    }  # fmt: skip
    engine = Asked(EmbeddedSettings(**(made | settings)), vocabulary)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


@pytest.fixture(scope="module")
async def engine(smol_file: Path) -> AsyncIterator[Asked]:
    async with running(smol_file, prepared_path=await salted_folder(smol_file)) as asked:
        yield asked


async def test_a_prompt_is_computed_once_in_each_workspace_and_on_every_seat(engine: Asked) -> None:
    prompt = engine.story("once", 10 * CHUNK + 5)
    assert await engine.steps_of(ONE, prompt) == 10
    assert await engine.steps_of(ONE, prompt) == 0
    assert await engine.steps_of(OTHER, prompt) == 10  # as if nobody had asked
    assert await engine.steps_of(OTHER, prompt) == 0
    # On the other seat, while one is taken; and only what is new of a longer one.
    taken = asyncio.Event()
    phase = Phase(max_tokens=200, sampling=GREEDY)
    beside = asyncio.create_task(engine.ask(OTHER, engine.story("beside", 8), phase, taken.set))
    await taken.wait()
    _, reused = await engine.ask(ONE, [*prompt, *engine.story("more", 40)], Phase(max_tokens=1, sampling=GREEDY))
    assert reused == 10 * CHUNK
    await beside


async def test_the_engine_tells_what_it_reckons_and_that_it_reckons(engine: Asked) -> None:
    prompt = engine.story("told", 3 * CHUNK + 1)
    assert engine.describe().reuse_estimated and engine.describe().reports_reuse
    told = [(await engine.ask(scope, prompt, Phase(max_tokens=1)))[1] for scope in (ONE, ONE, OTHER)]
    assert told == [0, 3 * CHUNK, 0]


async def test_answers_chances_and_grammars_are_those_without_a_salt(smol_file: Path, engine: Asked) -> None:
    """The other engine has the model as the library reads it, and no salt: it may remember nothing then. Its steps
    are other ones, so that its last digits are, and it is not asked what is left to chance."""
    grammar = Grammar({"root": Choice((Text("It is blue."), Text("It is red."), Text("Nobody knows.")))}, "root")
    phases = [
        Phase(max_tokens=24, sampling=GREEDY, logprobs=True),
        Phase(max_tokens=24, sampling=Sampling(temperature=0.8, top_k=20, seed=7), logprobs=True),
        Phase(max_tokens=24, sampling=GREEDY, grammar=grammar),
    ]
    prompts = [
        engine.tokenizer.encode_with_control(PARIS), engine.story("a long one", 5 * CHUNK), [1], engine.story("short", 3)
    ]  # fmt: skip
    with capture_logs() as logs:
        async with running(smol_file) as plain:
            assert any(line["event"] == "engine.forgetful" for line in logs)
            for prompt in prompts:
                for phase in phases:
                    # Two workspaces that have asked nothing: two salts, and all is computed under both.
                    scopes = [Scope("org", f"{name} {len(prompt)} {phases.index(phase)}") for name in ("a", "b")]
                    (salted, _), (other, _) = [await engine.ask(scope, prompt, phase) for scope in scopes]
                    assert salted == other
                    if phase.sampling == GREEDY:
                        bare, _ = await plain.ask(ONE, prompt, phase)
                        assert [event.ids for event in salted] == [event.ids for event in bare]
                        for event, alike in zip(salted, bare, strict=True):
                            assert (event.logprobs or ()) == pytest.approx(alike.logprobs or (), abs=0.1)
            # No two workspaces share there, as nobody shares with himself.
            long = plain.story("unsalted", 10 * CHUNK)
            steps = [await plain.steps_of(scope, long) for scope in (ONE, ONE, OTHER)]
            assert len(set(steps)) == 1 and steps[0] > 5
            assert (await plain.ask(ONE, long, Phase(max_tokens=1)))[1] == 0
    assert b"".join(event.data for event in (await engine.ask(ONE, prompts[0], phases[0]))[0]).startswith(PARIS_ANSWER)


async def test_who_asks_the_same_meanwhile_waits_and_computes_nothing(engine: Asked) -> None:
    prompt = engine.story("twice at once", 12 * CHUNK + 7)
    before = engine.steps
    phase = Phase(max_tokens=1, sampling=GREEDY)
    answers = await asyncio.gather(*(engine.ask(ONE, prompt, phase) for _ in range(2)))
    assert [reused for _, reused in answers] == [0, 12 * CHUNK]
    assert engine.steps - before <= 13


@pytest.mark.parametrize("steps", [1, 3])
async def test_a_prompt_that_is_cancelled_is_kept_as_far_as_it_came_and_is_right(engine: Asked, steps: int) -> None:
    """Its blocks are whole: the library would take one that is not for a whole one, with whatever was in it."""
    prompt = [*engine.story(f"cancelled {steps}", 8 * CHUNK), *engine.tokenizer.encode_with_control(PARIS)]
    phase = Phase(max_tokens=20, sampling=GREEDY)
    true, _ = await engine.ask(OTHER, prompt, phase)
    # Somebody else makes tokens in the same steps, so that a prompt does not get all of one.
    beside = asyncio.create_task(engine.ask(OTHER, engine.story("beside", 8), Phase(max_tokens=60, sampling=GREEDY)))
    before = engine.steps
    asked = asyncio.create_task(engine.ask(ONE, prompt, phase))
    while engine.steps < before + steps:
        await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    await beside
    again, reused = await engine.ask(ONE, prompt, phase)
    assert [event.ids for event in again] == [event.ids for event in true]
    assert reused is not None and reused < 8 * CHUNK


async def test_conversations_that_take_turns_stay_warm_while_the_pool_holds_them(smol_file: Path) -> None:
    folder = await salted_folder(smol_file)
    phase = Phase(max_tokens=4, sampling=GREEDY)
    async with running(smol_file, prepared_path=folder, pool_tokens=6 * 448, window=2048) as engine:
        texts = [(Scope("org", f"talks {n % 3}"), engine.story(f"talk {n}", 5 * CHUNK + 1 + n)) for n in range(6)]
        for turn in range(3):
            for number, (scope, text) in enumerate(texts):
                before = engine.steps
                made, _ = await engine.ask(scope, text, phase)
                assert engine.steps - before == (0 if turn else 5), (turn, number)
                said = [token for event in made for token in event.ids or ()]
                texts[number] = (scope, [*text, *said, *engine.story(f"turn {turn}", 12)])
    # A pool that does not hold them computes them again: the count above is no accident.
    async with running(smol_file, prepared_path=folder, pool_tokens=3 * 384, window=1024) as engine:
        small = [engine.story(f"talk {n}", 5 * CHUNK + 1) for n in range(6)]
        assert [await engine.steps_of(ONE, text) for text in small * 2] == [5] * 12
