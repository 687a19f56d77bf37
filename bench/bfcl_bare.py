"""llama.cpp's server without Antiphon, as `bench.tools` asks it for tool calls: with its own templates, grammars and
parser of calls, from the same library that is Antiphon's engine.

`python -m bench.bfcl_bare MODEL PORT SEATS THREADS` is the server, on the loopback.
"""

from __future__ import annotations

import http.client
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from bench.bfcl import Call, Case, Heard
from bench.load import free_port, server

#: Tokens that all requests together may hold; the longest of the cases takes some 3,000.
_POOL_TOKENS = 16_384


class Bare:
    """The server that answers, as a side of the bench."""

    def __init__(self, port: int, *, max_tokens: int, seconds: float) -> None:
        self._port = port
        self._max_tokens = max_tokens
        self._seconds = seconds

    def ask(self, case: Case) -> Heard:
        """Ask it, and hear the whole answer."""
        functions = [
            {"name": tool.name, "description": tool.description, "parameters": tool.schema} for tool in case.tools()
        ]
        body = {
            "messages": [{"role": "user", "content": case.question}],
            "tools": [{"type": "function", "function": each} for each in functions],
            "tool_choice": "auto",
            "parallel_tool_calls": True,  # OpenAI's default, but not this server's
            "max_tokens": self._max_tokens,
            "temperature": 0,
        }
        try:
            status, answer = self._post(msgspec.json.encode(body))
            return heard(answer) if status == 200 else Heard(failed=f"{status} {answer.decode(errors='replace')[:500]}")
        except (OSError, http.client.HTTPException, msgspec.DecodeError, LookupError) as error:
            return Heard(failed=f"{type(error).__name__}: {error}")

    def _post(self, body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=self._seconds)
        try:
            connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()


def heard(answer: bytes) -> Heard:
    """What a chat completion says."""
    (choice,) = msgspec.json.decode(answer)["choices"]
    message: dict[str, Any] = choice["message"]
    functions = [each["function"] for each in message.get("tool_calls") or ()]
    return Heard(
        calls=tuple(Call(each["name"], each["arguments"]) for each in functions),
        text=message.get("content") or "",
        cut=choice["finish_reason"] == "length",
    )


@contextmanager
def bare(model: Path, log: Path, *, seats: int, threads: int, max_tokens: int, seconds: float) -> Iterator[Bare]:
    """The server with this model, ready."""
    port = free_port()
    arguments = ["bench.bfcl_bare", str(model), str(port), str(seats), str(threads)]
    with server(arguments, port, None, log) as started:
        while not _ready(port):
            started.check()
            time.sleep(0.1)
        yield Bare(port, max_tokens=max_tokens, seconds=seconds)


def _ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    return False


def _serve(model: str, port: str, seats: str, threads: str) -> None:
    import xllamacpp  # noqa: PLC0415 - only this process is to hold the library

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.port = int(port)
    params.use_jinja = True
    params.n_parallel, params.n_ctx, params.kv_unified = int(seats), _POOL_TOKENS, True
    # As Antiphon has them: weights that stay in memory, no layout of the library's own choosing, no second cache.
    params.load_mode = xllamacpp.llama_load_mode.LLAMA_LOAD_MODE_NONE
    params.fit_params = params.ctx_shift = False
    params.cache_ram_mib = 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(threads)
    _kept = xllamacpp.Server(params)
    threading.Event().wait()


if __name__ == "__main__":
    _serve(*sys.argv[1:])
