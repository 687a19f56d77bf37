"""A library without Antiphon, in a process of its own: what `bench.engine` holds Antiphon against.

    python -m bench.library llama_cpp|openvino

The first line of the standard input is the very `Load` that Antiphon gives its engine's child; each further one is an
`Ask`, answered by a line. The library talks on its outputs, so that ours is another descriptor.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import msgspec

from antiphon.core.clock import SystemClock
from antiphon.core.records import Scope
from antiphon.engine.frames import Load
from antiphon.engine.slots import SlotCaches
from bench.load import Unmeasurable
from bench.streams import Answer, Ask

_ROOT = Path(__file__).parent.parent
_READY = b"ready"
#: As Antiphon's children have them (`engine/children/`).
_BATCH = 128
_BLOCK = 32


class Alone:
    """The bench's end of such a process."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log
        self.start_seconds = 0.0

    def ask(self, ask: Ask) -> list[Answer]:
        """Ask it. Raises Unmeasurable where it ended."""
        self.say(msgspec.json.encode(ask))
        return msgspec.json.decode(self.hear(), type=list[Answer])

    def say(self, line: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + b"\n")
        self._process.stdin.flush()

    def hear(self) -> bytes:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Unmeasurable(f"the library alone ended:\n{self._log.read_text('utf-8', 'replace')[-2000:]}")
        return line.strip()

    @property
    def pid(self) -> int:
        return self._process.pid


@contextmanager
def alone(engine: str, load: Load, log: Path) -> Iterator[Alone]:
    """A library that has loaded its model, and is ended with the block."""
    began = time.monotonic()
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.library", engine],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=sink, cwd=_ROOT,
        )  # fmt: skip
    try:
        library = Alone(process, log)
        library.say(msgspec.json.encode(load))
        if library.hear() != _READY:
            raise Unmeasurable(f"{engine} alone does not start")
        library.start_seconds = time.monotonic() - began
        yield library
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


class _Library(Protocol):
    def answer(self, ask: Ask) -> list[Answer]: ...


class _LlamaCpp:
    """Driven over its own listener, which is the only one of its interfaces that streams. Prompts go to its slots by
    Antiphon's rule, because what lies in the others has a part in how fast a slot is."""

    def __init__(self, load: Load) -> None:
        import xllamacpp  # noqa: PLC0415 - only one of the two libraries is to be in the process

        params = xllamacpp.CommonParams()
        params.model.path = load.model_path
        params.n_ctx, params.n_parallel, params.kv_unified = load.pool_tokens, load.seats, True
        params.n_batch = params.n_ubatch = load.chunk_tokens or _BATCH
        params.load_mode = xllamacpp.llama_load_mode.LLAMA_LOAD_MODE_NONE
        params.fit_params = params.ctx_shift = params.endpoint_slots = params.endpoint_props = False
        params.cache_ram_mib = 0
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = load.threads
        self._server = xllamacpp.Server(params)
        self._caches = SlotCaches(load.seats, SystemClock())
        self._seats = range(load.seats)

    def answer(self, ask: Ask) -> list[Answer]:
        return asyncio.run(self._answer(ask))

    async def _answer(self, ask: Ask) -> list[Answer]:
        scope = Scope("bench", "bench")
        free = list(self._seats)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=0)) as http:
            began = time.perf_counter()
            streams = []
            for prompt in ask.prompts:
                slot = self._caches.seating(scope, prompt, 0).best(free)
                free.remove(slot)
                self._caches.place(slot, scope, prompt, 0.0)
                streams.append(self._stream(http, slot, prompt, ask.max_tokens, began))
            return await asyncio.gather(*streams)

    async def _stream(
        self, http: aiohttp.ClientSession, slot: int, prompt: list[int], max_tokens: int, began: float
    ) -> Answer:
        length = len(prompt)
        body = {
            "prompt": prompt, "n_predict": max_tokens, "id_slot": slot, "cache_prompt": True, "stream": True,
            "return_tokens": True, "temperature": 0.0,
        }  # fmt: skip
        answer = Answer(length, [], 0)
        rest = b""
        data = msgspec.json.encode(body)
        async with http.post(f"{self._server.listening_address}/completion", data=data) as reply:
            async for part in reply.content.iter_any():
                now = time.perf_counter() - began
                *lines, rest = (rest + part).split(b"\n")
                for line in lines:
                    if not line.startswith(b"data:"):
                        continue
                    chunk: dict[str, Any] = msgspec.json.decode(line[5:])
                    if tokens := chunk["tokens_predicted"] - answer.made:
                        prompt += chunk["tokens"]  # the account of what the slot holds
                        answer.heard.append((now, float(tokens)))
                        answer.made += tokens
        return answer


class _OpenVino:
    """Its pipeline, and the plainest loop of steps around it."""

    def __init__(self, load: Load) -> None:
        from antiphon.engine.children.openvino_library import genai  # noqa: PLC0415 - as above

        self._genai = genai
        self._ends = set(load.end_tokens)
        self._number = 0
        scheduler = genai.SchedulerConfig()
        scheduler.num_kv_blocks = -(-load.pool_tokens // _BLOCK) + 2 * load.seats
        scheduler.max_num_batched_tokens = max(load.chunk_tokens, load.seats)
        scheduler.max_num_seqs = load.seats
        scheduler.dynamic_split_fuse = scheduler.enable_prefix_caching = True
        self._pipeline = genai.ContinuousBatchingPipeline(
            load.prepared_path or load.model_path,
            genai.Tokenizer(load.model_path),
            scheduler,
            "CPU",
            **{"INFERENCE_NUM_THREADS": load.threads, **load.properties},
        )
        self.answer(Ask([[0] * load.chunk_tokens], 2))  # kernels are compiled by the first steps

    def answer(self, ask: Ask) -> list[Answer]:
        import numpy as np  # noqa: PLC0415 - as above

        from antiphon.engine.children.openvino_library import openvino  # noqa: PLC0415 - as above

        began = time.perf_counter()
        handles = []
        for prompt in ask.prompts:
            self._number += 1
            config = self._genai.GenerationConfig()
            config.max_new_tokens, config.do_sample = ask.max_tokens, False
            config.stop_token_ids = self._ends
            tensor = openvino.Tensor(np.array([prompt], dtype=np.int64))
            handles.append(self._pipeline.add_request(self._number, tensor, config))
        answers = [Answer(len(prompt), [], 0) for prompt in ask.prompts]
        while self._pipeline.has_non_finished_requests():
            self._pipeline.step()
            now = time.perf_counter() - began
            for handle, answer in zip(handles, answers, strict=True):
                while handle.can_read():
                    for output in handle.read().values():
                        answer.heard.append((now, float(len(output.generated_ids))))
                        answer.made += len(output.generated_ids)
        return answers


def _main(arguments: Sequence[str]) -> None:
    ours = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    load = msgspec.json.decode(sys.stdin.buffer.readline(), type=Load)
    library: _Library = _LlamaCpp(load) if arguments[0] == "llama_cpp" else _OpenVino(load)
    ours.write(_READY + b"\n")
    ours.flush()
    for line in sys.stdin.buffer:
        ours.write(msgspec.json.encode(library.answer(msgspec.json.decode(line, type=Ask))) + b"\n")
        ours.flush()


if __name__ == "__main__":
    _main(sys.argv[1:])
    os._exit(0)  # the libraries' threads do not end with the interpreter
