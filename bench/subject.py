"""Antiphon as benches start it: a data folder for the run, its commands, and the raw requests that `wrk` sends."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from antiphon.core import settings
from bench.load import Server, Unmeasurable, exchange, free_port, server

#: Its template and tokenizer are what a scripted engine counts and renders with.
MODEL = "qwen2.5-coder-1.5b-instruct"

_READY = b"GET /health/ready HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n"


def installed() -> Path:
    """The installation's own data folder."""
    folder = settings.load({}).home_path.resolve()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


@contextmanager
def home(out: Console, model: str = MODEL, *, prepared: bool = False) -> Iterator[Path]:
    """A data folder for this run, on the same disk as the installation's own, with its weights. `prepared`: the model's
    are there for OpenVINO, too, which takes minutes the first time."""
    out.print(f"The model, or its template and tokenizer, is {model}.")
    for step in ("pull", *(["prepare"] if prepared else [])):
        done = subprocess.run(
            [sys.executable, "-m", "antiphon", "models", step, model, "--home", str(installed())],
            stdout=sys.stderr,
            check=False,
        )
        if done.returncode:
            raise Unmeasurable(f"{model} cannot be had here: `antiphon models {step}` failed")
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=installed()))
    try:
        (folder / "models").symlink_to(installed() / "models")
        yield folder
    finally:
        shutil.rmtree(folder)


def command(*arguments: str) -> str:
    """Run a command of the command line; what it prints."""
    done = subprocess.run([sys.executable, "-m", "antiphon", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unmeasurable(f"antiphon {arguments[0]} failed: {done.stderr.strip()}")
    return done.stdout.strip()


@contextmanager
def served(folder: Path, script: Path, core: int) -> Iterator[Server]:
    """Antiphon with its defaults, playing the script."""
    port = free_port()
    arguments = ["antiphon", "serve", "--home", str(folder), "--port", str(port), "--scripted", str(script)]
    with server(arguments, port, core, folder / "serve.log") as started:
        yield started


@contextmanager
def served_as_set(folder: Path) -> Iterator[Server]:
    """Antiphon as the settings file of its data folder has it, on all cores; its models answer."""
    port = free_port()
    arguments = ["antiphon", "serve", "--home", str(folder), "--port", str(port)]
    with server(arguments, port, None, folder / "serve.log") as started:
        while exchange(port, _READY)[0] != 200:
            started.check()
            time.sleep(0.05)
        yield started


def journalled(antiphon: Server) -> int:
    """How many usage records it has put on the disk since it started."""
    _, metrics = exchange(antiphon.port, b"GET /metrics HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")
    written = re.search(rb"^antiphon_journal_appended(?:_total)? (\S+)$", metrics, re.MULTILINE)
    if written is None:
        raise Unmeasurable("the metrics do not tell what was written to the journal")
    return int(float(written[1]))


def raw_request(body: bytes, *, key: str | None, path: str = "/v1/messages", close: bool = False) -> bytes:
    """The bytes of a request. `key` None sends none."""
    headers = {
        "host": "127.0.0.1",
        "user-agent": "bench",
        "accept": "application/json",
        "anthropic-version": "2023-06-01",
        "content-type": "application/json",
        "content-length": str(len(body)),
    }
    if key is not None:
        headers["x-api-key"] = key
    if close:
        headers["connection"] = "close"
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
