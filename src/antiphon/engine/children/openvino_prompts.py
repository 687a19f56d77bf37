"""Phases in the library, and their prompts handed to it piece by piece.

The library computes a prompt in chunks, and takes a block for a whole one as soon as a chunk reaches into it: where a
request is cancelled then, the next one with that prompt reads whatever was in the block before, somebody else's tokens
perhaps. So it gets a prompt as a row of requests, each longer by whole blocks that it computes in one step. Only what
is cancelled inside such a step that took longer is in doubt, and that is never asked for again (`Salting.spoil`).
"""

from __future__ import annotations

import itertools
from collections import deque
from typing import Any

import numpy as np

from antiphon.engine.children.openvino_library import genai, openvino
from antiphon.engine.children.openvino_salt import BLOCK, Ids, Salting
from antiphon.engine.frames import Done, Failed, Generate, Progress, Report, Tokens

_FINISHED = (genai.GenerationStatus.FINISHED, genai.GenerationStatus.IGNORED, genai.GenerationStatus.CANCEL)


class Job:
    """One phase in the library.

    Attributes:
        whole: how many of its prompt's tokens the library has in blocks that are right for certain.
        last: its prompt is with the library to its end.
    """

    def __init__(self, command: Generate, ids: Ids, config: genai.GenerationConfig) -> None:
        self.request = command.request
        self.ids = ids
        self.config = config
        self.known = command.known
        self.whole = 0
        self.last = False
        self.handle: Any = None
        self._visible = command.max_tokens
        self._made = 0
        self._grammar = command.grammar is not None
        self._logprobs = command.logprobs

    @property
    def untried(self) -> bool:
        """Whether it has a grammar that no step has gone well with."""
        return self._grammar and self.last and not self._made

    @property
    def working(self) -> bool:
        """Whether what the library was given of it last is still to be computed."""
        return not self._made and self.handle.get_status() not in _FINISHED

    def reports(self) -> list[Report]:
        """What the last step made of it; `Done` or `Failed` comes last of all."""
        if not self.last:
            return []
        ids: list[int] = []
        logprobs: list[float] = []
        finish = genai.GenerationFinishReason.NONE
        while self.handle.can_read():
            for output in self.handle.read().values():
                ids += output.generated_ids
                logprobs += output.generated_log_probs if self._logprobs else []
                finish = output.finish_reason
        self._made += len(ids)
        out: list[Report] = []
        if ids:
            # A phase of no tokens makes one all the same: the library cannot do without.
            stopped = finish == genai.GenerationFinishReason.STOP
            made = Tokens(self.request, tuple(ids), stopped, tuple(logprobs))
            out.append(made if self._visible else Progress(self.request, None))
        if finish == genai.GenerationFinishReason.STOP:
            out.append(Done(self.request, "stop", None))
        elif finish == genai.GenerationFinishReason.LENGTH:
            out.append(Done(self.request, "length", None))
        elif self.handle.get_status() == genai.GenerationStatus.IGNORED:
            # No exception and no output: it did not fit. We never hand over what does not, so something is wrong.
            out.append(Failed(self.request, f"the library ignored the request after {self._made} tokens"))
        return out


class Prompts:
    """Hands prompts to the library, one piece in a step: in turns, so that a short one waits for no long one."""

    def __init__(self, pipeline: Any, salting: Salting, chunk: int) -> None:
        """`chunk`: tokens that a step may compute."""
        self._pipeline = pipeline
        self._salting = salting
        self._piece = max(BLOCK, chunk // BLOCK * BLOCK) if salting.bits else None
        self._numbers = itertools.count(1)
        self._waiting: deque[Job] = deque()
        self._now: Job | None = None
        self._end = 0

    def add(self, job: Job) -> None:
        self._waiting.append(job)

    def cancel(self, job: Job) -> None:
        """Take a phase back, wherever it is."""
        if job in self._waiting:
            self._waiting.remove(job)
            return
        job.handle.cancel()
        if job is self._now:
            self._now = None
            self._salting.spoil(job.ids, job.whole)

    def hand_over(self) -> list[Report]:
        """Before a step: the next piece, if none is under way."""
        while self._now is None and self._waiting:
            job = self._waiting.popleft()
            whole = len(job.ids)
            self._end = whole if self._piece is None else max(job.whole, job.known // BLOCK * BLOCK) + self._piece
            job.last = self._end >= whole
            config = job.config if job.last else _silent()
            try:
                job.handle = self._pipeline.add_request(
                    next(self._numbers), openvino.Tensor(np.ascontiguousarray(job.ids[None, : self._end])), config
                )
            except RuntimeError as error:
                return [Failed(job.request, f"the library refused the request: {error}"[:300])]
            if self._piece is not None:  # without, nothing is remembered that could be wrong
                self._now = job
        return []

    def stepped(self) -> list[Report]:
        """After a step, and after its tokens are read: see whether the piece is done."""
        job = self._now
        if job is None or job.working:
            return []
        self._now = None
        if job.last:
            return []
        if job.handle.get_status() == genai.GenerationStatus.IGNORED:
            return [Failed(job.request, "the library ignored a part of the prompt")]
        job.whole = self._end
        self._waiting.append(job)
        return []


def _silent() -> genai.GenerationConfig:
    """For a piece that is only to be computed: one token is the least there is."""
    config = genai.GenerationConfig()
    config.max_new_tokens = 1
    config.ignore_eos = True
    config.do_sample = False
    return config
