"""A real llama.cpp server, asked for its own tokenization: what ours is held against."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

_SERVE = """
import sys, time
import xllamacpp as x
p = x.CommonParams()
p.model.path = sys.argv[1]
p.n_ctx, p.n_parallel, p.api_keys, p.warmup = 512, 1, ["k"], False
p.cpuparams.n_threads = 1
server = x.Server(p)
print("ADDRESS", server.listening_address, flush=True)
sys.stdin.read()
"""


class Reference:
    """The server's `/tokenize`."""

    def __init__(self, address: str) -> None:
        self._address = address

    def ids(self, text: str, *, control: bool = True, special: bool = False) -> list[int]:
        """`control`: control tokens in the text are taken as such; `special`: BOS is added where the model
        wants it."""
        body = json.dumps({"content": text, "parse_special": control, "add_special": special}).encode()
        headers = {"Authorization": "Bearer k", "Content-Type": "application/json"}
        with urllib.request.urlopen(
            urllib.request.Request(f"{self._address}/tokenize", body, headers), timeout=30
        ) as answer:
            ids: list[int] = json.load(answer)["tokens"]
            return ids


@contextlib.contextmanager
def serving(model: Path) -> Iterator[Reference]:
    """Serve a model file until the block ends."""
    command = [sys.executable, "-c", _SERVE, str(model)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            if server.stdout is None:
                raise RuntimeError("no output to read the address from")
            line = next((line for line in server.stdout if line.startswith("ADDRESS")), "")
            yield Reference(line.split()[1])
        finally:
            server.kill()
