"""The cache's figures are those of the documented rule, to the token, whatever a client sends."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import msgspec
import pytest
from conversations import Writer
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from reference import Asked, Figures, ReferenceCache, RefusedByRule

from antiphon.core.clock import SystemClock
from antiphon.core.errors import InvalidRequest
from antiphon.core.records import Scope
from antiphon.engine.tokenizer import Tokenizer
from antiphon.engine.vocabulary import Vocabulary, builtin_vocabulary, read_vocabulary
from antiphon.plan.caching.index import CacheIndex, Found
from antiphon.plan.caching.prefixes import Caching
from antiphon.plan.plan import Limits, Planner
from antiphon.plan.render import Renderer
from antiphon.plan.schema.cache import LoweredCache
from antiphon.wire.parse import parse_messages
from antiphon.wire.request import MessagesRequest

MINIMUM = 40
WORKSPACES = ("one", "two")


class Model(NamedTuple):
    renderer: Renderer
    planner: Planner


def _model(vocabulary: Vocabulary) -> Model:
    clock = SystemClock()
    renderer = Renderer(vocabulary, Tokenizer(vocabulary), "hermes", clock)
    return Model(renderer, Planner(renderer, Limits(window=100_000, max_output=100), LoweredCache(clock)))


#: Its tokens are bytes: none reaches over the end of a block.
PLAIN = _model(builtin_vocabulary())


class StepClock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def now_ms(self) -> int:
        return int(self.seconds * 1000)

    def monotonic(self) -> float:
        return self.seconds


class Both:
    """The server's cache and the reference, asked the same."""

    def __init__(self, model: Model) -> None:
        self._planner = model.planner
        self.clock = StepClock()
        self.index = CacheIndex(self.clock)
        self.reference = ReferenceCache(model.renderer, MINIMUM)
        self.life = 0
        self.seen: Counter[str] = Counter()
        self._begun_later: list[tuple[Found, Asked, int]] = []

    def ask(self, body: dict[str, Any], workspace: str, *, at_once: bool) -> None:
        """One request; its answer begins at once, or with `begin`."""
        request = parse_messages(msgspec.json.encode(body)).request
        try:
            expected = self.reference.ask(body, workspace, self.clock.seconds, self.life)
        except RefusedByRule:
            self.seen["refused"] += 1
            with pytest.raises(InvalidRequest):
                self._planner.plan(request, caching=self._caching(workspace, request))
            with pytest.raises(InvalidRequest):
                self._planner.count(request)
            return
        plan = self._planner.plan(request, caching=self._caching(workspace, request))
        found = self.index.look_up(plan.tokens, plan.cacheable, self.life)
        self.index.read(found)
        usage = found.usage
        told = Figures(
            usage.input_tokens, usage.cache_write_5m_tokens, usage.cache_write_1h_tokens, usage.cache_read_tokens
        )
        assert told == expected.figures, body
        total = told.input + told.write_5m + told.write_1h + told.read
        assert total == plan.tokens == expected.tokens == self._planner.count(request)
        assert min(told.input, told.write_5m, told.write_1h, told.read) >= 0
        self._count(expected)
        self._begun_later.append((found, expected, self.life))
        if at_once:
            self.begin()

    def begin(self) -> None:
        """The answers of all that were asked begin, in that order."""
        for found, expected, life in self._begun_later:
            self.index.write(found, life)
            self.reference.begin(expected)
        self._begun_later.clear()

    def _caching(self, workspace: str, request: MessagesRequest) -> Caching:
        scope = Scope("org", workspace)
        return Caching(scope=scope, secret=self.index.secret, model=request.model, served="scripted", minimum=MINIMUM)

    def _count(self, asked: Asked) -> None:
        figures = asked.figures
        write = figures.write_5m + figures.write_1h
        self.seen["mixed ttl"] += bool(figures.write_5m and figures.write_1h)
        self.seen["too short"] += bool(asked.too_short)
        self.seen["whole hit"] += bool(figures.read and not write)
        self.seen["partial hit"] += bool(figures.read and write)
        self.seen["all three"] += bool(figures.read and figures.write_5m and figures.write_1h)
        self.seen["miss"] += bool(asked.marks and write and not figures.read)
        self.seen["unmarked"] += not asked.marks


def _play(chance: Random, steps: int, model: Model = PLAIN) -> Counter[str]:
    both = Both(model)
    writers = [Writer(chance) for _ in range(chance.choice((1, 1, 2)))]
    for _ in range(steps):
        both.clock.seconds += chance.choice((0, 0, 1, 1, 60, 150, 299, 300, 301, 1800, 3599, 3600))
        if chance.random() < 0.05:
            both.begin()
            both.life += 1
        workspace = chance.choices(WORKSPACES, (9, 1))[0]
        both.ask(chance.choice(writers).next(), workspace, at_once=chance.random() < 0.7)
    both.seen["cut otherwise"] += both.reference.cut_otherwise
    return both.seen


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.randoms(use_true_random=False), st.integers(2, 14))
def test_figures_are_those_of_the_documented_rule(chance: Random, steps: int) -> None:
    for name, times in _play(chance, steps).items():
        if times:
            event(name)


def test_what_is_compared_is_all_of_it() -> None:
    """The same from fixed seeds, which are many and long enough that everything happens often."""
    seen: Counter[str] = Counter()
    for seed in range(60):
        seen += _play(Random(seed), 14)
    names = ("refused", "mixed ttl", "too short", "whole hit", "partial hit", "all three", "miss", "unmarked")
    assert {name: seen[name] for name in names if seen[name] < 10} == {}


@pytest.mark.real
def test_with_tokens_that_reach_over_the_ends_of_blocks(qwen_file: Path) -> None:
    """Of the default model: a full stop and the blank line behind it are one token, so that a block ends earlier where
    another follows. What was written is read all the same, but for that token."""
    model = _model(read_vocabulary(qwen_file))
    seen: Counter[str] = Counter()
    for seed in range(60):
        seen += _play(Random(seed), 14, model)
    names = ("mixed ttl", "whole hit", "partial hit", "miss", "cut otherwise")
    assert {name: seen[name] for name in names if not seen[name]} == {}
