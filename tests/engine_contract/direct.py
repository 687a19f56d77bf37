"""A library without Antiphon: the reference that a body's tokens are held against. Run as a program of its own, because
a library's threads and words do not belong into the process of the tests.

    python direct.py llama_cpp < request.json
    python direct.py openvino < request.json
    python direct.py serve < served.json    # a llama.cpp server, until its standard input ends
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import msgspec

_MARK = "ANSWERS "
_SECONDS = 300
#: One, here and in the bodies: on a busy machine two that wait for each other are slower.
THREADS = 1
#: How many tokens of prompts are computed in one go. It changes the last digits, and so is the same here and in the bodies.
BATCH_TOKENS = 64


class Answer(msgspec.Struct, frozen=True):
    """What the library made: all ids, an end token included where it tells it, and the text it shows."""

    ids: list[int]
    text: str


class Request(msgspec.Struct, frozen=True):
    """`prompts` are asked one after the other, each from a fresh cache and greedily."""

    model: str
    prompts: list[list[int]]
    max_tokens: int
    end_tokens: list[int]


class Served(msgspec.Struct, frozen=True):
    """A llama.cpp server. `pool_tokens` is shared by all slots."""

    model: str
    port: int
    pool_tokens: int
    slots: int


def answers(
    library: str, model: Path, prompts: list[list[int]], max_tokens: int, end_tokens: list[int]
) -> list[Answer]:
    """Ask a library directly."""
    request = msgspec.json.encode(Request(str(model), prompts, max_tokens, end_tokens))
    done = subprocess.run(
        [sys.executable, __file__, library], input=request, capture_output=True, timeout=_SECONDS, check=False
    )
    for line in done.stdout.decode(errors="replace").splitlines():
        if line.startswith(_MARK):
            return msgspec.json.decode(line.removeprefix(_MARK), type=list[Answer])
    raise RuntimeError(f"{library} gave no answers: {done.stderr.decode(errors='replace')[-2000:]}")


def serve(served: Served) -> subprocess.Popen[bytes]:
    """Start a server; it need not listen yet. Kill it in the end."""
    process = subprocess.Popen(
        [sys.executable, __file__, "serve"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    if process.stdin is None:
        raise RuntimeError("no input to say the settings in")
    process.stdin.write(msgspec.json.encode(served) + b"\n")
    process.stdin.flush()
    return process


def _library(model: str, context: int, slots: int, port: int = 0) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_ctx, params.n_parallel, params.kv_unified = context, slots, True
    params.n_batch = params.n_ubatch = BATCH_TOKENS
    params.cache_ram_mib = 0
    params.fit_params, params.warmup = False, False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = THREADS
    if port:
        params.port = port
    return xllamacpp.Server(params)


def _serve() -> None:
    served = msgspec.json.decode(sys.stdin.buffer.readline(), type=Served)
    server = _library(served.model, served.pool_tokens, served.slots, served.port)
    sys.stdin.buffer.read()
    del server


def _llama_cpp(request: Request) -> list[Answer]:
    server = _library(request.model, 512, 1)

    def ask(prompt: list[int]) -> Answer:
        body = {
            "prompt": prompt, "n_predict": request.max_tokens, "temperature": 0.0, "cache_prompt": False,
            "return_tokens": True, "stream": False,
        }  # fmt: skip
        asked = urllib.request.Request(
            f"{server.listening_address}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(asked, timeout=_SECONDS) as answer:
            reply: Any = json.load(answer)
        return Answer(reply["tokens"], reply["content"])

    return [ask(prompt) for prompt in request.prompts]


def _openvino(request: Request) -> list[Answer]:
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import numpy as np
    import openvino
    import openvino_genai as genai

    scheduler = genai.SchedulerConfig()
    scheduler.num_kv_blocks = 128
    scheduler.max_num_batched_tokens = BATCH_TOKENS
    scheduler.enable_prefix_caching = False
    tokenizer = genai.Tokenizer(request.model)
    pipeline = genai.ContinuousBatchingPipeline(
        request.model, tokenizer, scheduler, "CPU", INFERENCE_NUM_THREADS=THREADS
    )
    made = []
    for number, prompt in enumerate(request.prompts):
        config = genai.GenerationConfig()
        config.max_new_tokens, config.do_sample = request.max_tokens, False
        config.stop_token_ids = {*request.end_tokens}
        handle = pipeline.add_request(number, openvino.Tensor(np.array([prompt], dtype=np.int64)), config)
        while pipeline.has_non_finished_requests():
            pipeline.step()
        (output,) = handle.read_all()
        ids = [int(token) for token in output.generated_ids]
        shown = ids[:-1] if ids[-1] in request.end_tokens else ids
        made.append(Answer(ids, tokenizer.decode(shown, skip_special_tokens=False)))
    return made


_LIBRARIES = {"llama_cpp": _llama_cpp, "openvino": _openvino}

if __name__ == "__main__":
    if sys.argv[1] == "serve":
        _serve()
    else:
        made = _LIBRARIES[sys.argv[1]](msgspec.json.decode(sys.stdin.buffer.read(), type=Request))
        sys.stdout.write(_MARK + msgspec.json.encode(made).decode() + "\n")
        sys.stdout.flush()
    # The libraries' threads do not end with the interpreter.
    os._exit(0)
