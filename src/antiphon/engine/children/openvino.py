"""The OpenVINO child: `python -m antiphon.engine.children.openvino SOCKET`.

One thread and one loop: read commands, step, send what the step made. There is no event loop in it, because `step()`
holds the GIL and cannot be interrupted: the tokens of a step (`Load.chunk_tokens`) are the bound on how long a command
waits. Facts and traps: `docs/design/0006-openvino.md`.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from antiphon.core.errors import EngineFailed
from antiphon.engine.children.openvino_grammars import KeptGrammars
from antiphon.engine.children.openvino_library import genai, openvino
from antiphon.engine.children.openvino_prompts import Job, Prompts
from antiphon.engine.children.openvino_salt import BLOCK, Salting, bits_of
from antiphon.engine.contract import Sampling
from antiphon.engine.frames import (
    MAX_FRAME,
    Cancel,
    Command,
    Done,
    Failed,
    Generate,
    Load,
    Loaded,
    Ping,
    Pong,
    Progress,
    Renewed,
    Report,
    Tokenize,
    Tokenized,
    decode_command,
    pack,
)
from antiphon.engine.grammar_text import ebnf

#: After so many prompts that were cut short inside a block the library is made anew: each takes memory for good.
_MOST_SPOILED = 100_000
_MOST_MIN_P = 0.9999  # it refuses 1, which means the same
_PARENT_SECONDS = 1.0
_LENGTH = struct.Struct(">I")


class Wire:
    """Frames over a socket, read without waiting while there is work."""

    def __init__(self, connection: socket.socket, parent: int) -> None:
        self._connection = connection
        self._parent = parent
        self._rest = bytearray()

    def commands(self, *, wait: bool) -> Iterator[Command]:
        """All commands that are here; with `wait`, at least one.

        Raises:
            ConnectionError: the server is gone.
        """
        yield from self._whole()
        while True:
            readable, _, _ = select.select([self._connection], [], [], _PARENT_SECONDS if wait else 0)
            if not readable:
                if os.getppid() != self._parent:
                    raise ConnectionError
                if wait:
                    continue
                return
            data = self._connection.recv(2**20)
            if not data:
                raise ConnectionError
            self._rest += data
            for command in self._whole():
                wait = False
                yield command

    def send(self, reports: list[Report]) -> None:
        """One write for all that a step made."""
        if reports:
            self._connection.sendall(b"".join([pack(report) for report in reports]))

    def _whole(self) -> Iterator[Command]:
        while len(self._rest) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._rest)
            if length > MAX_FRAME:
                raise ConnectionError
            end = _LENGTH.size + length
            if len(self._rest) < end:
                return
            body = bytes(self._rest[_LENGTH.size : end])
            del self._rest[:end]
            yield decode_command(body)


class Body:
    """The library, loaded, and what it works on."""

    def __init__(self, load: Load) -> None:
        self._load = load
        #: Whether the library remembers prompts: only where a salt can keep those of workspaces apart.
        self.salted_bits = bits_of(Path(load.prepared_path) / "openvino_model.xml") if load.prepared_path else 0
        self._jobs: dict[int, Job] = {}
        self._waiting: dict[int, Generate] = {}
        self._renewing: Iterator[bool] | None = None
        self._pipeline: Any = None
        self._tokenizer: Any = None
        for _ in self._build():
            pass

    def _build(self) -> Iterator[bool]:
        """Make the library, in stages of seconds each. What there was of it before goes first."""
        load = self._load
        self._pipeline = self._tokenizer = None
        self._tokenizer = _tokenizer(load)
        yield True
        scheduler = genai.SchedulerConfig()
        # One block more for each seat: a sequence's last block is seldom full.
        scheduler.num_kv_blocks = -(-load.pool_tokens // BLOCK) + 2 * load.seats
        # A piece of a prompt is to fit a step whole, beside those who make a token each.
        scheduler.max_num_batched_tokens = load.chunk_tokens + load.seats
        scheduler.max_num_seqs = load.seats
        scheduler.dynamic_split_fuse = True
        scheduler.enable_prefix_caching = self.salted_bits > 0
        properties = {"INFERENCE_NUM_THREADS": load.threads, **load.properties}
        self._pipeline = genai.ContinuousBatchingPipeline(
            load.prepared_path or load.model_path, self._tokenizer, scheduler, "CPU", **properties
        )
        yield True
        self._warm_up(load.chunk_tokens)
        self._salting = Salting(self.salted_bits)
        self._prompts = Prompts(self._pipeline, self._salting, load.chunk_tokens)
        self._kept = KeptGrammars()

    def _warm_up(self, tokens: int) -> None:
        """Answer once before anybody is told that it can be done: the first steps compile kernels, and the first
        grammar reads the whole vocabulary, for seconds."""
        prompt = openvino.Tensor(np.zeros((1, max(1, tokens)), dtype=np.int64))
        config = _config(Sampling(temperature=0), 2, set())
        config.structured_output_config = genai.StructuredOutputConfig(grammar='root ::= "a"')
        handle = self._pipeline.add_request(0, prompt, config)
        while self._pipeline.has_non_finished_requests():
            self._pipeline.step()
        if not handle.can_read():
            raise RuntimeError("the model makes no tokens")

    @property
    def busy(self) -> bool:
        return self._renewing is not None or bool(self._waiting) or self._in_flight

    @property
    def _in_flight(self) -> bool:
        return bool(self._jobs) or self._pipeline.has_non_finished_requests()

    @property
    def _full(self) -> bool:
        return self._kept.full or self._salting.count >= _MOST_SPOILED

    def do(self, command: Command) -> list[Report]:
        """Carry a command out; what there is to say at once."""
        match command:
            case Generate():
                if self._renewing is None and not self._waiting and not (self._in_flight and self._full):
                    return self._generate(command)
                self._waiting[command.request] = command
            case Cancel(request):
                self._waiting.pop(request, None)
                job = self._jobs.pop(request, None)
                if job is not None:
                    self._prompts.cancel(job)
            case Tokenize(request, text):
                ids = self._tokenizer.encode(text, add_special_tokens=False).input_ids.data
                return [Tokenized(request, [int(token) for token in ids[0]])]
            case Ping(request):
                return [Pong(request)]
        return []

    def step(self) -> list[Report]:
        """One step of the library, or of making it anew; what it made."""
        if self._renewing is None and self._waiting and not self._in_flight:
            self._renewing = self._build()  # nothing to step: the last in flight was cancelled
        if self._renewing is not None:
            return self._renew(self._renewing)
        out = self._prompts.hand_over()
        try:
            if self._pipeline.has_non_finished_requests():
                self._pipeline.step()
        except RuntimeError as error:
            raise EngineFailed(f"a step failed: {error}"[:300]) from None
        made = {job.request: job.reports() for job in self._jobs.values()}
        out += self._prompts.stepped()
        for job in self._jobs.values():
            # Those who wait for their prompt's turn are told as well: they are not hanging.
            out += made[job.request] or [Progress(job.request, None, job.whole)]
        for report in out:
            if isinstance(report, Done | Failed):
                self._jobs.pop(report.request, None)
        if not self._in_flight and self._full:
            self._renewing = self._build()
        return out

    def _renew(self, stages: Iterator[bool]) -> list[Report]:
        """The library forgets no grammar, so it is made anew when it holds too many. It has nothing to do then, and
        those who came meanwhile are let in at the end, in their order."""
        grammars = self._kept.count
        try:
            if next(stages, False):
                return [Progress(request, None) for request in self._waiting]
        except RuntimeError as error:
            raise EngineFailed(f"making the library anew failed: {error}"[:300]) from None
        self._renewing = None
        waiting, self._waiting = self._waiting, {}
        out: list[Report] = [Renewed(grammars)]
        for command in waiting.values():
            out += self._generate(command)
        return out

    def suspects(self) -> list[Report]:
        """After a step has failed: those whose grammar it may have been, as the library refuses one in the step that
        is to use it, and in every one after. Their clients should not ask again; all others may."""
        reason = "a step failed, perhaps for the grammar of this request"
        return [Failed(job.request, reason, True) for job in self._jobs.values() if job.untried]

    def _generate(self, command: Generate) -> list[Report]:
        # Under a grammar the library takes stop tokens for ends of the turn: for what may come after all else.
        stops = {*(command.stop_tokens if command.grammar is None else ()), *self._load.end_tokens}
        try:
            config = _config(command.sampling, max(1, command.max_tokens), stops)
            config.logprobs = int(command.logprobs)
            if command.grammar is not None:
                text = ebnf(command.grammar)
                self._kept.add(text)
                config.structured_output_config = genai.StructuredOutputConfig(grammar=text)
        except RuntimeError as error:
            return [Failed(command.request, f"the library refused the request: {error}"[:300])]
        job = Job(command, self._salting.numbers(command.prompt, command.salt), config)
        self._jobs[command.request] = job
        self._prompts.add(job)
        return []


def _tokenizer(load: Load) -> genai.Tokenizer:
    """As it was kept with the prepared model, in a tenth of a second; from the GGUF file it takes 2 to 8."""
    if load.prepared_path and (Path(load.prepared_path) / "openvino_tokenizer.xml").exists():
        with contextlib.suppress(RuntimeError):  # saved by another version of the library
            return genai.Tokenizer(load.prepared_path)
    return genai.Tokenizer(load.model_path)


def _config(sampling: Sampling, max_tokens: int, stops: set[int]) -> genai.GenerationConfig:
    config = genai.GenerationConfig()
    config.max_new_tokens = max_tokens
    config.stop_token_ids = stops
    config.do_sample = sampling.temperature > 0
    if config.do_sample:
        config.temperature = sampling.temperature
        config.top_p = sampling.top_p
        config.min_p = min(sampling.min_p, _MOST_MIN_P)
        if sampling.top_k > 0:
            config.top_k = sampling.top_k
        config.rng_seed = sampling.seed if sampling.seed is not None else _fresh_seed()
    return config


def _fresh_seed() -> int:
    """Each answer its own; the library would give all of them the same."""
    return int.from_bytes(os.urandom(4), "big") >> 1


def serve(connection: socket.socket, parent: int) -> None:
    """Serve one server until it is gone."""
    wire = Wire(connection, parent)
    load = next(wire.commands(wait=True))
    if not isinstance(load, Load):
        return
    try:
        body = Body(load)
    except (RuntimeError, OSError) as error:
        wire.send([Failed(0, f"loading failed: {error}"[:300])])
        return
    wire.send([Loaded(remembers=body.salted_bits > 0)])
    while True:
        said: list[Report] = []
        for command in wire.commands(wait=not body.busy):
            said += body.do(command)
        try:
            said += body.step() if body.busy else []
        except EngineFailed:
            wire.send([*said, *body.suspects()])
            raise
        wire.send(said)


def main(path: str) -> None:
    """Listen on the socket for the one connection there is, the supervisor's."""
    parent = os.getppid()
    os.umask(0o077)  # the socket is ours alone
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1)
    connection, _ = listener.accept()
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    if struct.unpack("3i", credentials)[1] == os.getuid():
        serve(connection, parent)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except (ConnectionError, EngineFailed):
        pass
    finally:
        # The library's threads do not end with the interpreter, and there is nothing left to save.
        os._exit(0)
