"""`make bench-claude-code`: how long the real Claude Code waits for the first token of an answer.

Claude Code, as the tests install it, in a home of its own and with no way to any other server, asks one short question
of `antiphon serve` with the default model, and three more in the same session. The first one's prompt (some 12,500
tokens: instructions and tools) is cold, those of the others are in the cache but for their ends. What it asks beside
(titles and the like) is told apart by its size and counted.

Times are those of the server's own usage records: from a request that was read to the first token of its answer,
waiting and planning included.

The engine is OpenVINO with prepared weights. `python -m bench.claude_code --both` has llama.cpp answer too, which takes
many minutes. The bars are asked where the processor has AMX.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from antiphon.core import settings
from antiphon.core.records import DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE, Scope, UsageRecord
from antiphon.store import usage
from antiphon.store.database import open_database
from bench import subject
from bench.load import Unmeasurable
from bench.report import Bar, Figure, conclude, figure, machine, processor_has

_CLIENTS = Path(__file__).parent.parent / "tests" / "clients"
_QUESTIONS = (
    "What is the capital of France? Answer with one word.",
    "And of Italy? Answer with one word.",
    "And of Spain? Answer with one word.",
    "And of Portugal? Answer with one word.",
)
#: A turn that takes longer is given up. llama.cpp takes minutes for the first one.
_TURN_SECONDS = 1_800
_COLD_BAR, _WARM_BAR = Bar("at most", 90), Bar("at most", 2)
_WITHOUT_AMX = "not asked on this processor"


class _Session(msgspec.Struct, frozen=True):
    """One session's usage records by turn, and how long Claude Code ran for each turn, in seconds."""

    turns: list[list[UsageRecord]]
    seconds: list[float]


def main() -> int:
    out = Console(highlight=False, stderr=True)
    began, where, both = time.monotonic(), machine(), "--both" in sys.argv[1:]
    figures: list[Figure] = []
    try:
        program = _program()
        for engine in ("openvino", *(["llama_cpp"] if both else [])):
            with subject.home(out, subject.MODEL, prepared=engine == "openvino") as home:
                figures += _figures(engine, _session(engine, program, home, out))
    except Unmeasurable as error:
        out.print(f"[bold red]bench-claude-code:[/] {error}", soft_wrap=True)
        return 2
    return conclude(
        "claude_code",
        figures,
        where=where,
        setting={
            "client": f"Claude Code {_version(program)}, --print, an API key, telemetry off",
            "model": f"{subject.MODEL}, for OpenVINO with prepared weights; Antiphon's defaults otherwise",
            "session": f"one, of {len(_QUESTIONS)} turns; the first is cold",
            "times": "of the server's usage records: from the request that was read to its answer's first token",
        },
        seconds=time.monotonic() - began,
    )


def _program() -> Path:
    """Claude Code, installed once."""
    sys.path.insert(0, str(_CLIENTS))
    installs, claudecode = import_module("installs"), import_module("claudecode")
    try:
        program: Path = claudecode.installed()
    except (installs.InstallFailed, pytest.skip.Exception) as error:
        raise Unmeasurable(f"Claude Code cannot be installed: {error}") from None
    return program


def _version(program: Path) -> str:
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout.split()
    return told[0] if told else "of unknown version"


def _session(engine: str, program: Path, home: Path, out: Console) -> _Session:
    (home / "antiphon.toml").write_text(f'engine = "{engine}"\nmodels = ["{subject.MODEL}"]\n', "utf-8")
    key = subject.command("keys", "create", "--quiet", "--home", str(home))
    ends, seconds = [time.time()], []
    with subject.served_as_set(home) as server:
        # A stream that only pings for minutes is not to be given up and asked for again.
        claude = import_module("claudecode").ClaudeCode(
            program,
            home / "claude",
            f"http://127.0.0.1:{server.port}",
            ANTHROPIC_API_KEY=key,
            API_TIMEOUT_MS=str(_TURN_SECONDS * 1000),
        )
        session = ""
        for question in _QUESTIONS:
            began = time.monotonic()
            session = _turn(claude, question, *(["--resume", session] if session else []))
            seconds.append(time.monotonic() - began)
            ends.append(time.time())
            out.print(f"{engine}: {question} ({seconds[-1]:.1f} s)", markup=False)
    records = asyncio.run(_records(home))
    turns = [[record for record in records if start <= record.created_ms / 1000 < end] for start, end in pairwise(ends)]
    return _Session(turns, seconds)


def _turn(claude: Any, question: str, *options: str) -> str:
    """Ask once; the session's id."""
    command = [claude._program, "-p", "--output-format", "json", *options, question]
    try:
        done = subprocess.run(
            command,
            cwd=claude.project,
            env=claude._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TURN_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unmeasurable(f"Claude Code had no answer after {_TURN_SECONDS} s") from None
    try:
        told: dict[str, Any] = msgspec.json.decode(done.stdout)
    except msgspec.DecodeError:
        raise Unmeasurable(f"Claude Code failed: {done.stderr.decode(errors='replace')[-1000:]}") from None
    if told["is_error"]:
        raise Unmeasurable(f"Claude Code's turn failed: {told.get('result')}")
    return str(told["session_id"])


async def _records(home: Path) -> list[UsageRecord]:
    """All usage records, oldest first; the server has stopped, so all are posted."""
    database = open_database(settings.load({"home": str(home)}, environment={}).database_url)
    try:
        async with database.reading() as connection:
            found = await usage.latest(Scope(DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE), connection, 1_000)
    finally:
        await database.close()
    return sorted(found, key=lambda record: record.created_ms)


def _figures(engine: str, session: _Session) -> list[Figure]:
    excused = "" if processor_has("amx_tile") else _WITHOUT_AMX
    largest = max((_prompt(record) for turn in session.turns for record in turn), default=0)
    mains = [
        [record for record in turn if _prompt(record) > largest / 2 and record.attempts[0].first_token_us]
        for turn in session.turns
    ]
    if not all(mains):
        raise Unmeasurable(f"{engine}: a turn's request is not among the server's records")
    first, *later = [turn[0] for turn in mains]
    beside = sum(len(turn) for turn in session.turns) - len(session.turns)

    def of(name: str, unit: str, runs: list[float], bar: Bar | None = None) -> Figure:
        return figure(f"{engine}: {name}", unit, runs, bar, excused if bar else "")

    return [
        of("first token, cold", "s", [_first_token(first)], _COLD_BAR),
        of("first token, warm", "s", [_first_token(record) for record in later], _WARM_BAR),
        of("prompt, cold", "tokens", [float(_prompt(first))]),
        of("prompt, warm", "tokens", [float(_prompt(record)) for record in later]),
        of("prompt, warm: billed as a cache read", "tokens", [float(_read(record)) for record in later]),
        of("prompt speed, cold", "tok/s", [_prompt(first) / _first_token(first)]),
        of("answers", "tokens", [float(record.usage.output_tokens) for record in (first, *later)]),
        of("Claude Code's whole run, cold", "s", session.seconds[:1]),
        of("Claude Code's whole run, warm", "s", session.seconds[1:]),
        of("further requests of the session", "", [float(beside)]),
    ]


def _prompt(record: UsageRecord) -> int:
    """Tokens of the whole prompt, however they were billed."""
    return record.usage.input_tokens + _read(record) + _written(record)


def _read(record: UsageRecord) -> int:
    return record.usage.cache_read_tokens


def _written(record: UsageRecord) -> int:
    return record.usage.cache_write_5m_tokens + record.usage.cache_write_1h_tokens


def _first_token(record: UsageRecord) -> float:
    """Seconds from the request to its answer's first token."""
    attempt = record.attempts[0]
    return (attempt.queue_us + (attempt.first_token_us or 0)) / 1e6


if __name__ == "__main__":
    sys.exit(main())
