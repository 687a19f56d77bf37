"""Where blocks end in a prompt: asked one by one, all at once, and found by reading the prompt token by token."""

from __future__ import annotations

import json
import random
from itertools import accumulate
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import corpus
from antiphon.core.clock import SystemClock
from antiphon.core.errors import InvariantBroken, PromptTooLong
from antiphon.dialect.base import ATTRIBUTION_PREFIX, block_paths
from antiphon.engine.contract import TokenSpan
from antiphon.engine.tokenizer import Tokenizer
from antiphon.engine.vocabulary import Vocabulary, builtin_vocabulary, read_vocabulary
from antiphon.plan.render import Rendered, Renderer
from antiphon.wire.parse import parse_messages
from antiphon.wire.request import Conversation

_TEXTS = [text for text in corpus.mixed(300) if text.strip()]


class Model:
    """A model's renderer, and the bytes that each of its tokens is written with."""

    def __init__(self, vocabulary: Vocabulary, dialect: str = "hermes") -> None:
        self.control = vocabulary.control
        self.tokenizer = Tokenizer(vocabulary)
        self.renderer = Renderer(vocabulary, self.tokenizer, dialect, SystemClock())
        self.after_call = "\n</tool_call>" if dialect == "hermes" else ""
        self.after_result = "\n</tool_response>" if dialect == "hermes" else ""
        self.after_tool = '", "parameters": {"type": "object"}}' + ("}" if dialect == "hermes" else "")

    def written(self, rendered: Rendered) -> list[bytes]:
        (span,) = rendered.prompt.segments
        assert isinstance(span, TokenSpan)
        control, tokenizer = self.control, self.tokenizer
        return [control[i].encode() if i in control else tokenizer.token_bytes(i) for i in span.ids]


@pytest.fixture(scope="module")
def qwen(qwen_file: Any) -> Model:
    return Model(read_vocabulary(qwen_file))


@pytest.fixture(scope="module")
def smol(smol_file: Any) -> Model:
    return Model(read_vocabulary(smol_file), "plain")


@pytest.fixture(scope="module", params=["smol", "qwen"])
def real(request: pytest.FixtureRequest) -> Model:
    made: Model = request.getfixturevalue(request.param)
    return made


class Story:
    """A random conversation, and how what is written of each block ends: nothing for those that the model is not
    shown."""

    def __init__(self, made: Model, chance: random.Random) -> None:
        self._made, self._chance = made, chance
        self._marks = 0
        self.endings: dict[str, str] = {}
        self._tools = [self._tool(number) for number in range(chance.randrange(4))]
        blocks = chance.random() < 0.8
        system: Any = [self._system(n) for n in range(chance.randrange(4))] if blocks else self._said("system.0")
        self._messages: list[Any] = []
        for _ in range(chance.randint(1, 4)):
            self._exchange()
        body = {"model": "m", "max_tokens": 1, "tools": self._tools, "system": system, "messages": self._messages}
        self.asked = parse_messages(json.dumps(body).encode()).request

    def _mark(self) -> str:
        self._marks += 1
        self.last = f"#{self._marks}:{self._chance.randrange(10**9)}#"
        return self.last

    def _said(self, path: str) -> str:
        text = self._chance.choice(_TEXTS).strip() + self._mark()
        self.endings[path] = self.last
        return text

    def _tool(self, number: int) -> dict[str, Any]:
        path, definition = f"tools.{number}", {"name": f"t{number}", "input_schema": {"type": "object"}}
        told = definition | {"description": "Does it. " + self._mark()}
        if self._chance.random() < 0.3:
            self.endings[path] = ""
            return told | {"defer_loading": True}
        self.endings[path] = self.last + self._made.after_tool
        return told

    def _system(self, number: int) -> dict[str, Any]:
        path = f"system.{number}"
        if number == 0 and self._chance.random() < 0.5:
            self.endings[path] = ""
            return {"type": "text", "text": ATTRIBUTION_PREFIX + " a=b"}
        return {"type": "text", "text": self._said(path)}

    def _exchange(self) -> None:
        place = len(self._messages)
        if self._chance.random() < 0.5:
            self._add("user", self._said(f"messages.{place}.content.0"))
        else:
            path = f"messages.{place}.content"
            self._add("user", [{"type": "text", "text": self._said(f"{path}.{n}")} for n in range(3)])
        place, path = place + 1, f"messages.{place + 1}.content"
        blocks: list[Any] = []
        while not blocks or self._chance.random() < 0.6:
            kind, where = self._chance.choice(("text", "text", "thinking", "redacted")), f"{path}.{len(blocks)}"
            if kind == "text":
                blocks.append({"type": "text", "text": self._said(where)})
            else:
                self.endings[where] = ""
                thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
                blocks.append(thought if kind == "thinking" else {"type": "redacted_thinking", "data": "ZGF0YQ=="})
        calls = self._chance.randrange(3)
        for number in range(calls):
            call = {"type": "tool_use", "id": f"{place}_{number}", "name": "t", "input": {"a": self._mark()}}
            self.endings[f"{path}.{len(blocks)}"] = self.last + '"}}' + self._made.after_call
            blocks.append(call)
        self._add("assistant", blocks)
        if calls:
            path = f"messages.{place + 1}.content"
            results = []
            for number in range(calls):
                told = self._said(f"{path}.{number}")
                self.endings[f"{path}.{number}"] = self.last + self._made.after_result
                results.append({"type": "tool_result", "tool_use_id": f"{place}_{number}", "content": told})
            self._add("user", results)

    def _add(self, role: str, content: Any) -> None:
        self._messages.append({"role": role, "content": content})

    def ends(self, rendered: Rendered) -> dict[str, int]:
        """The slow way: where the written prompt has each ending, and how many whole tokens there are up to it."""
        written = self._made.written(rendered)
        whole, reached = b"".join(written), list(accumulate(map(len, written)))
        ends: dict[str, int] = {}
        last = 0
        for path in self._order():
            ending = self.endings[path].encode()
            if ending:
                assert whole.count(ending) == 1
                border = whole.index(ending) + len(ending)
                last = sum(1 for each in reached if each <= border)
            ends[path] = last
        return ends

    def _order(self) -> list[str]:
        levels = {"tools": 0, "system": 1, "messages": 2}
        steps = {path: path.split(".") for path in self.endings}
        return sorted(
            self.endings,
            key=lambda path: (levels[steps[path][0]], [int(step) for step in steps[path] if step.isdigit()]),
        )


def _check(made: Model, seed: int) -> None:
    story = Story(made, random.Random(seed))
    rendered = made.renderer.render(story.asked)
    slow = story.ends(rendered)
    assert {block.path: block.end for block in rendered.blocks} == slow
    assert [block.path for block in rendered.blocks] == list(slow) == list(block_paths(story.asked))
    anew = made.renderer.render(story.asked)
    order = list(slow)
    random.Random(seed).shuffle(order)
    assert {path: anew.end_of(path) for path in order} == slow
    assert made.renderer.count(story.asked) == rendered.tokens


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_ends_are_those_of_reading_token_by_token(seed: int) -> None:
    _check(_BYTES, seed)
    _check(_UNWRITABLE, seed)


@pytest.mark.real
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_ends_of_real_vocabularies_are_those_of_reading_token_by_token(real: Model, seed: int) -> None:
    _check(real, seed)


def _without(*gone: str) -> Vocabulary:
    """The built-in vocabulary, unable to write these letters."""
    plain = builtin_vocabulary()
    tokens = [f"<unused{index}>" if token in gone else token for index, token in enumerate(plain.tokens)]
    return msgspec.structs.replace(plain, tokens=tuple(tokens))


_BYTES = Model(builtin_vocabulary())
_UNWRITABLE = Model(_without("q", "z", "Ð"))


def _asked(*messages: Any, **fields: Any) -> Conversation:
    body = {"model": "m", "max_tokens": 1, "messages": messages, **fields}
    return parse_messages(json.dumps(body).encode()).request


def test_bytes_that_no_token_is_are_no_part_of_the_prompt() -> None:
    rendered = _UNWRITABLE.renderer.render(
        _asked({"role": "user", "content": [{"type": "text", "text": text} for text in ("aqb", "z", "Жc", "d")]})
    )
    plain = _BYTES.renderer.render(
        _asked({"role": "user", "content": [{"type": "text", "text": text} for text in ("ab", "", "\x16c", "d")]})
    )
    assert _UNWRITABLE.tokenizer.missing_bytes == {ord("q"), ord("z"), 0xD0}
    paths = [f"messages.0.content.{place}" for place in (0, 2, 3)]
    ends, expected = [rendered.end_of(path) for path in paths], [plain.end_of(path) for path in paths]
    assert ends[0] == expected[0] and ends[1] - ends[0] == expected[1] - expected[0] + 2  # the gap of the "z"
    assert ends[2] - ends[1] == expected[2] - expected[1]


def test_a_block_that_is_not_shown_ends_where_the_one_before_it_does() -> None:
    hidden = {"name": "h", "input_schema": {"type": "object"}, "defer_loading": True}
    shown = {"name": "s", "input_schema": {"type": "object"}}
    rendered = _BYTES.renderer.render(
        _asked(
            {"role": "user", "content": "a"},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "text", "text": "b"},
                    {"type": "redacted_thinking", "data": "ZGF0YQ=="},
                ],
            },
            {"role": "user", "content": "c"},
            tools=[hidden, shown, hidden | {"name": "i"}],
            system=[{"type": "text", "text": f"{ATTRIBUTION_PREFIX} x"}, {"type": "text", "text": "s"}],
        )
    )
    ends = {block.path: block.end for block in rendered.blocks}
    assert ends["tools.0"] == 0 < ends["tools.1"] == ends["tools.2"] == ends["system.0"] < ends["system.1"]
    assert ends["messages.0.content.0"] == ends["messages.1.content.0"] < ends["messages.1.content.1"]
    assert ends["messages.1.content.1"] == ends["messages.1.content.2"] < ends["messages.2.content.0"]


def test_a_block_that_is_not_there_has_no_end() -> None:
    rendered = _BYTES.renderer.render(_asked({"role": "user", "content": "a"}))
    assert "messages.0.content.0" in rendered.layout and "messages.0.content.1" not in rendered.layout
    with pytest.raises(InvariantBroken, match=r"no block of the path 'messages\.0\.content\.1'"):
        rendered.end_of("messages.0.content.1")


def test_an_end_is_told_without_encoding_anything_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered = _BYTES.renderer.render(
        _asked({"role": "user", "content": [{"type": "text", "text": text} for text in ("für", "dich")]})
    )
    for name in ("encode_batch", "encode_shared", "encode_with_offsets"):
        monkeypatch.setattr(Tokenizer, name, None)
    assert rendered.end_of("messages.0.content.0") < rendered.end_of("messages.0.content.1") < rendered.tokens


def test_a_prompt_that_is_a_little_too_long_is_refused_with_its_length() -> None:
    asked = _asked({"role": "user", "content": "abc"})
    tokens = _BYTES.renderer.render(asked).tokens
    assert _BYTES.renderer.render(asked, tokens).tokens == tokens
    with pytest.raises(PromptTooLong, match=f"prompt is too long: {tokens} tokens > {tokens - 1} maximum"):
        _BYTES.renderer.render(asked, tokens - 1)
