"""What llama.cpp's server is asked for a completion, and how its stream is read.

The embedded body's child and the body for a server elsewhere speak to the same library, the one over loopback.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from time import monotonic

import msgspec

from antiphon.core.errors import EngineFailed
from antiphon.engine.contract import EngineEvent, Finish, Sampling
from antiphon.engine.grammar import Grammar
from antiphon.engine.grammar_text import gbnf

#: One event without its end. The last one repeats the prompt as text, so it grows with the window.
_MOST_REST = 64 * 1024 * 1024
#: For what is computed and not answered.
GREEDY = Sampling(temperature=0.0)
#: New tokens of a prompt that are asked for at first. Divisible by every size in which the library computes.
_BLOCK = 128
#: A block that took less than this is followed by one of twice its size: asking for it costs some milliseconds.
_SHORT_SECONDS = 0.5


class _PromptProgress(msgspec.Struct):
    cache: int = 0
    processed: int = 0


class _Timings(msgspec.Struct):
    cache_n: int = 0


class _Likely(msgspec.Struct):
    logprob: float


class _Chunk(msgspec.Struct):
    """One event of the library's completion stream, as far as we read it."""

    content: str = ""
    tokens: list[int] = []
    stop: bool = False
    stop_type: str = ""
    tokens_predicted: int = 0
    completion_probabilities: list[_Likely] = []
    prompt_progress: _PromptProgress | None = None
    timings: _Timings | None = None
    error: msgspec.Raw | None = None


_chunks = msgspec.json.Decoder(_Chunk)


class Heard(msgspec.Struct):
    """What one read of the stream brought. `reused` is told while the prompt is computed: tokens that needed not be;
    `computed`: how far it has come, those included."""

    events: list[EngineEvent]
    reused: int | None = None
    finish: Finish | None = None
    computed: int = 0

    @property
    def empty(self) -> bool:
        """Nothing of it is progress: half an event, or a line that only keeps the connection open."""
        return not self.events and self.reused is None and self.finish is None


def completion(
    prompt: list[int],
    max_tokens: int,
    sampling: Sampling,
    *,
    slot: int,
    reuse: bool,
    grammar: Grammar | None = None,
    logprobs: bool = False,
    markup: tuple[int, ...] = (),
) -> dict[str, object]:
    """The body of `POST /completion`. Without `reuse` nothing that the slot computed before is used. `markup` are
    tokens that may not be made under a grammar, where the library would take them for their text."""
    rules: dict[str, object] = {}
    if grammar is not None:
        rules = {"grammar": gbnf(grammar), "logit_bias": [(token, False) for token in markup]}
    return rules | {
        "n_probs": int(logprobs),
        "prompt": prompt,
        "n_predict": max_tokens,
        "id_slot": slot,
        "cache_prompt": reuse,
        "stream": True,
        "return_tokens": True,
        "return_progress": True,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "seed": -1 if sampling.seed is None else sampling.seed,
    }


class CompletionReader:
    """Reads one stream. With `max_tokens` 0 nothing is visible: the library makes one token all the same. Under a
    grammar the end of the turn alone ends it."""

    def __init__(self, max_tokens: int, stop_tokens: tuple[int, ...], grammar: Grammar | None = None) -> None:
        self._visible = max_tokens > 0
        self._stops = frozenset(stop_tokens if grammar is None else ())
        self._rest = b""
        self._counted = 0
        self._reused = 0

    def feed(self, data: bytes) -> Heard:
        """Everything that is whole by now; after a `finish` nothing more is to be fed.

        Raises:
            EngineFailed: the library reports an error. Its words are for the log.
            msgspec.MsgspecError: what came is no such stream.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _MOST_REST:
            raise EngineFailed("an event of the library's stream is over the bound")
        heard = Heard([])
        for line in lines:
            if line.startswith(b"error:"):
                raise EngineFailed(line[:300].decode(errors="replace"))
            if line.startswith(b"data:"):
                self._read(_chunks.decode(line[5:]), heard)
                if heard.finish is not None:
                    break
        return heard

    def _read(self, chunk: _Chunk, heard: Heard) -> None:
        if chunk.error is not None:
            raise EngineFailed("error: " + bytes(chunk.error)[:300].decode(errors="replace"))
        if chunk.prompt_progress is not None:
            heard.reused = self._reused = chunk.prompt_progress.cache
            heard.computed = chunk.prompt_progress.processed
            return
        # A character that spans tokens comes whole with its last token, and only that one's id is told.
        tokens = chunk.tokens_predicted - self._counted
        self._counted = chunk.tokens_predicted
        stopped = any(token in self._stops for token in chunk.tokens)
        if self._visible and tokens > 0:
            ids = tuple(chunk.tokens) if len(chunk.tokens) == tokens else None
            likely = chunk.completion_probabilities
            logprobs = tuple([each.logprob for each in likely]) if len(likely) == tokens else None
            heard.events.append(EngineEvent(b"" if stopped else chunk.content.encode(), tokens, ids, logprobs))
        if chunk.stop:
            reused = chunk.timings.cache_n if chunk.timings else self._reused
            heard.finish = Finish("length" if chunk.stop_type == "limit" else "stop", reused)
        elif stopped:
            heard.finish = Finish("stop", self._reused)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """One answer, as `completion` and `CompletionReader` have it."""

    prompt: list[int]
    max_tokens: int
    sampling: Sampling
    stop_tokens: tuple[int, ...]
    slot: int
    reuse: bool
    grammar: Grammar | None
    logprobs: bool
    markup: tuple[int, ...]

    def block(self, end: int, goes_on: bool) -> tuple[dict[str, object], CompletionReader]:
        """What to send for `in_blocks`, and who reads what comes: of a block before the last, nothing but progress."""
        reuse = self.reuse or goes_on
        if end < len(self.prompt):
            return completion(self.prompt[:end], 0, GREEDY, slot=self.slot, reuse=reuse), CompletionReader(0, ())
        request = completion(
            self.prompt, self.max_tokens, self.sampling, slot=self.slot, reuse=reuse,
            grammar=self.grammar, logprobs=self.logprobs, markup=self.markup,
        )  # fmt: skip
        return request, CompletionReader(self.max_tokens, self.stop_tokens, self.grammar)


async def in_blocks(
    tokens: int, known: int, ask: Callable[[int, bool], AsyncGenerator[Heard, None]]
) -> AsyncGenerator[Heard, None]:
    """What is heard of a prompt that is asked for in `blocks`, as if it had been asked for in one go.

    Args:
        ask: has the prompt's first so many tokens computed; the second argument tells whether the slot holds the block
            before, which is then to be used. All of them are asked for last, and only then for an answer.
    """
    reused: int | None = None
    for end in blocks(tokens, known, monotonic):
        async with aclosing(ask(end, reused is not None)) as stream:
            async for heard in stream:
                if reused is None:
                    reused = heard.reused if heard.finish is None else heard.finish.reused_tokens
                if heard.reused is not None:
                    heard.reused = reused
                over = heard.finish is not None
                if heard.finish is not None:
                    heard.finish = None if end < tokens else Finish(heard.finish.reason, reused)
                if not heard.empty:
                    yield heard
                if over:
                    break


def blocks(tokens: int, known: int, now: Callable[[], float]) -> Iterator[int]:
    """Where to cut a prompt, its end included. `known` of its tokens need not be computed.

    The library fills each step with prompts in the order of its slots: one that is asked for in one go holds up every
    prompt in the slots behind its own, to its end, also those of a few tokens. Between two blocks they get their turn.
    """
    size, end = _BLOCK, known + _BLOCK
    while end < tokens:
        began = now()
        yield end
        if now() - began < _SHORT_SECONDS:
            size *= 2
        end += size
    yield tokens
