"""`antiphon demo`: the main job on real input, from nothing: weights, a server, an answer through the official SDK."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import inspect
import shlex
import shutil
import signal
import socket
import sys
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from antiphon.cli.keys import opened
from antiphon.cli.models import pull, wanted_converter
from antiphon.cli.options import ERROR_PREFIX, ConfigOption, HomeOption, console, errors_told, settings_from
from antiphon.core.clock import SystemClock
from antiphon.core.errors import EngineFailed, SettingsError
from antiphon.core.ids import Ids
from antiphon.core.money import DOLLARS, decimal
from antiphon.core.records import DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE, Scope
from antiphon.core.settings import Settings
from antiphon.engine import weights
from antiphon.gate.keys import NewKey, create_key
from antiphon.routing import catalogue
from antiphon.serving import models_folder
from antiphon.store import keys, usage

if TYPE_CHECKING:
    import anthropic

_SYSTEM = "You are a concise programming tutor. Answer with one short function, then one sentence about it."
_QUESTION = "Write a Python function that tells whether a word is a palindrome."
_MODEL = "claude-sonnet-5-5"
_MAX_TOKENS = 80
#: What is sent twice, to show the prompt cache: a module of Python's own, a little longer than a prefix must be.
_SOURCE_CHARACTERS = 5_500
_ABOUT_SOURCE = ("Which function adds an item to a heap?", "Which function removes the smallest item?")
_ABOUT_TOKENS = 24
#: How often, and how far apart, the ledger is looked at for the answer's record.
_LOOKS, _LOOK_SECONDS = 30, 0.1
_READY_SECONDS = 180
#: What a server gets for its end before it is killed.
_END_SECONDS = 10


def demo(
    question: Annotated[str, typer.Argument(help="What to ask.")] = _QUESTION,
    home: HomeOption = None,
    config: ConfigOption = None,
) -> None:
    """Fetch the default model, start a server, stream one answer, ask twice about a long text, say how to go on."""
    out = console()
    with errors_told():
        settings = settings_from(home, config)
        _have_weights(settings, out)
        try:
            asyncio.run(_show(settings, config, question, out))
        except asyncio.CancelledError:
            raise SystemExit(128 + signal.SIGTERM) from None
    _how_to_go_on(settings, config, out)


async def _show(settings: Settings, config: Path | None, question: str, out: Console) -> None:
    """Ended by a signal, it takes its server with it and revokes its key, as at any other end."""
    task = asyncio.ensure_future(_played(settings, config, question, out))
    # Not an exception out of a handler: one that strikes while something is being cleared away is lost.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: task.cancelling() or task.cancel())
    await task


async def _played(settings: Settings, config: Path | None, question: str, out: Console) -> None:
    key = await _make_key(settings)
    try:
        async with _server(settings, config, out) as base_url:
            await _ask(settings, base_url, key.key, question, out)
    finally:
        await _revoke(settings, key)


def _have_weights(settings: Settings, out: Console) -> None:
    if settings.scripted:
        return
    for entry in catalogue.from_settings(settings).served(settings.models):
        path = weights.installed(entry.weights, models_folder(settings))
        if path is None:
            out.print(f"Fetching {entry.display_name} ({entry.weights.size / 1e6:,.0f} MB), once.", markup=False)
        elif wanted_converter(settings, entry, path) is None:
            continue
        pull(entry, settings, out)


async def _make_key(settings: Settings) -> NewKey:
    clock = SystemClock()
    async with opened(settings) as database:
        scope = Scope(DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE)
        return await create_key(scope, database, Ids(clock), clock, name="demo")


async def _revoke(settings: Settings, key: NewKey) -> None:
    async with opened(settings) as database, database.transaction() as connection:
        await keys.set_status(key.record.scope, connection, key.record.id, "archived")


@asynccontextmanager
async def _server(settings: Settings, config: Path | None, out: Console) -> AsyncIterator[str]:
    """A real server in a process of its own, as `antiphon serve` starts it, ended with the block."""
    port = _free_port(settings.port)
    log = settings.home_path / "demo.log"
    command = [sys.executable, "-m", "antiphon", "serve", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--home", str(settings.home_path), *(["--config", str(config)] if config else [])]
    with log.open("wb") as sink:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=sink, stderr=sink
        )
    try:
        with out.status("Starting the server"):
            seconds = await _wait_ready(process, f"http://127.0.0.1:{port}", log)
        out.print(f"The server was ready after {seconds:.1f} s (its log: {log}).", soft_wrap=True, markup=False)
        yield f"http://127.0.0.1:{port}"
    finally:
        for end in (process.terminate, process.kill):
            with contextlib.suppress(ProcessLookupError, TimeoutError):
                end()
                await asyncio.wait_for(process.wait(), _END_SECONDS)


async def _wait_ready(process: asyncio.subprocess.Process, base_url: str, log: Path) -> float:
    clock = SystemClock()
    began = clock.monotonic()
    while clock.monotonic() - began < _READY_SECONDS:
        if process.returncode is not None:
            raise EngineFailed(f"The server ended at its start. {_last_word(log)}")
        if await asyncio.to_thread(_is_ready, base_url):
            return clock.monotonic() - began
        await asyncio.sleep(0.05)
    raise EngineFailed(f"The server was not ready after {_READY_SECONDS} s; its log is {log}")


def _is_ready(base_url: str) -> bool:
    # Past any proxy of the environment: the server is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{base_url}/health/ready", timeout=2) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def _last_word(log: Path) -> str:
    """Why a server did not start, in its own words if it had any."""
    lines = log.read_text("utf-8", "replace").splitlines()
    said = [line.removeprefix(ERROR_PREFIX) for line in lines if line.startswith(ERROR_PREFIX)]
    return said[-1] if said else f"Its log is {log}"


async def _ask(settings: Settings, base_url: str, key: str, question: str, out: Console) -> None:
    try:
        import anthropic  # noqa: PLC0415 - an extra: the server itself does not need a client
    except ImportError:
        raise SettingsError("The demo needs the official SDK: pip install 'antiphon[demo]'") from None
    out.print(Text("\n> ", style="bold cyan").append(f"{question}\n", style="not bold default"), soft_wrap=True)
    direct = anthropic.DefaultAsyncHttpxClient(mounts={"all://127.0.0.1": None})  # past any proxy of the environment
    try:
        async with anthropic.AsyncAnthropic(api_key=key, base_url=base_url, http_client=direct) as client:
            await client.models.list(limit=1)  # connects, so that the first token's time is the server's alone
            told = await _streamed(client, out, max_tokens=_MAX_TOKENS, system=_SYSTEM, question=question)
            await _tell(settings, told, out)
            await _show_cache(client, out)
    except anthropic.AnthropicError as error:
        raise EngineFailed(f"The answer failed: {error}") from None


class _Told(msgspec.Struct):
    """A streamed answer; times in seconds."""

    message: anthropic.types.Message
    headers: Mapping[str, str]
    first: float
    rest: float


async def _streamed(
    client: anthropic.AsyncAnthropic, out: Console, *, max_tokens: int, system: Any, question: str
) -> _Told:
    clock = SystemClock()
    first: float | None = None
    began = clock.monotonic()
    async with client.messages.stream(
        model=_MODEL, max_tokens=max_tokens, system=system, messages=[{"role": "user", "content": question}]
    ) as stream:
        async for text in stream.text_stream:
            first = clock.monotonic() if first is None else first
            out.print(text, end="", markup=False, highlight=False, soft_wrap=True)
        message = await stream.get_final_message()
    ended = clock.monotonic()
    first = ended if first is None else first
    return _Told(message, stream.response.headers, first - began, ended - first)


async def _tell(settings: Settings, told: _Told, out: Console) -> None:
    message = told.message
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("model", f"{message.model}, answered by {told.headers.get('antiphon-model', '?')}")
    table.add_row("time to first token", f"{told.first:.2f} s")
    table.add_row("speed", f"{(message.usage.output_tokens - 1) / max(told.rest, 1e-6):.1f} tokens/s")
    table.add_row("usage", f"{message.usage.input_tokens} input, {message.usage.output_tokens} output tokens")
    if (nano := await _cost(settings, told.headers.get("request-id", ""))) is not None:
        table.add_row("cost", f"${decimal(nano, DOLLARS, least=2)}, at the list price of {message.model}")
    table.add_row("stop reason", str(message.stop_reason))
    out.print("\n")
    out.print(table)


async def _show_cache(client: anthropic.AsyncAnthropic, out: Console) -> None:
    """Two questions about one long text, which is marked for the cache: the second one reads what the first wrote."""
    source = inspect.getsource(heapq)[:_SOURCE_CHARACTERS]
    system = [{"type": "text", "text": source, "cache_control": {"type": "ephemeral"}}]
    out.print("\nTwo questions about the source of Python's heapq, marked for the prompt cache:")
    table = Table(box=None, pad_edge=False)
    for column in ("written to the cache", "read from it", "other input", "time to first token"):
        table.add_column(column, justify="right")
    for question in _ABOUT_SOURCE:
        out.print(Text("\n> ", style="bold cyan").append(f"{question}\n", style="not bold default"), soft_wrap=True)
        told = await _streamed(client, out, max_tokens=_ABOUT_TOKENS, system=system, question=question)
        used = told.message.usage
        written, read = used.cache_creation_input_tokens, used.cache_read_input_tokens
        table.add_row(f"{written}", f"{read}", f"{used.input_tokens}", f"{told.first:.2f} s")
        out.print()
    out.print()
    out.print(table)


async def _cost(settings: Settings, request_id: str) -> int | None:
    """What a request cost according to the ledger, nano-dollars; its record is on the way there for a moment."""
    async with opened(settings) as database:
        for _ in range(_LOOKS):
            async with database.reading() as connection:
                record = await usage.get(Scope(DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE), connection, request_id)
            if record is not None:
                return record.cost.total_nano
            await asyncio.sleep(_LOOK_SECONDS)
    return None


def _how_to_go_on(settings: Settings, config: Path | None, out: Console) -> None:
    beside = Path(sys.executable).with_name("antiphon")
    found = shutil.which("antiphon")
    antiphon = "antiphon" if found and Path(found).samefile(beside) else shlex.quote(str(beside))
    where = f"--home {shlex.quote(str(settings.home_path.absolute()))}"
    where += f" --config {shlex.quote(str(config.absolute()))}" if config else ""
    out.print("\n[bold]To go on[/]")
    out.print(
        f"""\
  Start the server:
    {antiphon} serve {where}

  In another terminal, make a key and point any client at the server:
    export ANTHROPIC_BASE_URL=http://127.0.0.1:{settings.port}
    export ANTHROPIC_API_KEY=$({antiphon} keys create --quiet {where})

  Python SDK:   anthropic.Anthropic().messages.create(model="{_MODEL}", ...)
  Claude Code:  ANTHROPIC_AUTH_TOKEN=$ANTHROPIC_API_KEY claude
  Cost so far:  {antiphon} cost --by model {where}
  curl:         curl $ANTHROPIC_BASE_URL/v1/messages -H "x-api-key: $ANTHROPIC_API_KEY" \\
                  -H "content-type: application/json" \\
                  -d '{{"model":"{_MODEL}","max_tokens":100,"messages":[{{"role":"user","content":"Hello"}}]}}'""",
        soft_wrap=True,
        markup=False,
    )


def _free_port(wanted: int) -> int:
    """The port of the settings if nobody has it, else any."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise SettingsError("No port is free")
