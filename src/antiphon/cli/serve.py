"""`antiphon serve`: the server in the foreground."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import ipaddress
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
import uvicorn
import uvloop

from antiphon.app import App
from antiphon.cli.keys import any_key, first_key
from antiphon.cli.options import ConfigOption, HomeOption, console, errors_told, settings_from
from antiphon.core.errors import SettingsError
from antiphon.core.settings import Settings
from antiphon.http.protocol import uvicorn_config
from antiphon.observe import logs

#: What is still under way when the drain is over gets this long for its last words.
_CLOSING_SECONDS = 1
_BACKLOG = 2048


class Server(uvicorn.Server):
    """uvicorn with a drain of our own: from the first stop signal on, readiness is false and new turns are refused
    while the door stays open. It closes when the open turns have ended or their time is up, or at a second signal."""

    def __init__(self, config: uvicorn.Config, app: App, drain_seconds: float) -> None:
        super().__init__(config)
        self._app = app
        self._drain_seconds = drain_seconds
        self._close_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Instead of uvicorn's own, which raises the signal again at its end: we would die of it before `App.stop`."""
        if self._close_at is not None:
            self.should_exit = True
        self._app.drain()
        self._close_at = self._close_at or self._app.parts.clock.monotonic() + self._drain_seconds

    async def on_tick(self, counter: int) -> bool:
        if self._close_at is not None:
            late = self._app.parts.clock.monotonic() >= self._close_at
            self.should_exit = self.should_exit or late or not self._app.parts.entrance.admission.open_turns
        return await super().on_tick(counter)


#: After how many new objects, and how many such rounds, memory is looked through.
_COLLECTED_AT = (100_000, 50, 100)


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    scripted: Annotated[Path | None, typer.Option(help="Answer from a YAML file of rules instead of a model.")] = None,
    home: HomeOption = None,
    config: ConfigOption = None,
) -> None:
    """Start the server."""
    with errors_told():
        settings = settings_from(home, config, host=host, port=port, scripted=str(scripted) if scripted else None)
        logs.configure(settings.log_level, settings.log_format)
        # A stop signal during the start cancels it: an end in order, like any other stop.
        with contextlib.suppress(asyncio.CancelledError), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(settings))


async def run(settings: Settings) -> None:
    """Serve until a stop signal.

    Raises:
        AntiphonError: the server cannot be started, or must not be.
    """
    await _refuse_open_door(settings)
    app = App.build(settings)
    try:
        with listen(settings) as listener, _stop_cancels():
            await app.start()
            # What there is by now stays, vocabularies above all. Left to the collector, every look through it
            # would hold all answers up for tens of milliseconds.
            gc.collect()
            gc.freeze()
            # A large request is parsed into hundreds of thousands of objects: looked through as often as Python
            # does by itself, that takes several times as long, in one go.
            gc.set_threshold(*_COLLECTED_AT)
            _take_connections(listener, settings)
            # Last of all, so that a start that fails has not made a key that nobody was shown.
            key = await first_key(settings, name="first start") if is_loopback(settings.host) else None
            _welcome(listener.getsockname()[1], settings, key)
            await Server(uvicorn_config(app.http, _CLOSING_SECONDS), app, settings.drain_seconds).serve(
                sockets=[listener]
            )
    finally:
        await app.stop()


async def _refuse_open_door(settings: Settings) -> None:
    """Nobody may reach a server without keys from outside.

    Raises:
        SettingsError: the address is not loopback and there is no key.
    """
    if not is_loopback(settings.host) and not await any_key(settings):
        raise SettingsError(
            f"Refusing to listen on {settings.host} without any API key. Make one first with `antiphon keys create`, "
            "or listen on 127.0.0.1."
        )


@contextlib.contextmanager
def _stop_cancels() -> Iterator[None]:
    """A stop signal ends the start in order. Without a handler it would leave things lying about, or, sent to a
    container's first process, do nothing. The server puts its own in place of this one, with no gap in between: so it
    is Python's, and not the loop's, which would have to be taken away first."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def cancel(_: int, __: FrameType | None) -> None:
        if task is not None:
            loop.call_soon_threadsafe(task.cancel)

    before = signal.signal(signal.SIGTERM, cancel)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(settings: Settings) -> socket.socket:
    """A socket bound to the address, taken before the model is loaded: a port in use is an error at once. It takes
    connections only when the model is ready.

    Raises:
        SettingsError: the address is not to be had.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise _cannot_listen(settings, error) from None
    return listener


def _take_connections(listener: socket.socket, settings: Settings) -> None:
    """Of two that bound the same port while neither took connections, one loses here."""
    try:
        listener.listen(_BACKLOG)
    except OSError as error:
        raise _cannot_listen(settings, error) from None


def _cannot_listen(settings: Settings, error: OSError) -> SettingsError:
    hint = "; choose another with --port" if error.errno == errno.EADDRINUSE else ""
    return SettingsError(f"Cannot listen on {at(settings.host, settings.port)}: {error.strerror}{hint}")


def at(host: str, port: int) -> str:
    """An address as URLs write it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _welcome(port: int, settings: Settings, key: str | None) -> None:
    out = console(stderr=True)
    out.print(f"Antiphon listens on http://{at(settings.host, port)}", soft_wrap=True, markup=False)
    if key is not None:
        text = f"\nFirst start: here is an API key. It is shown this once.\n\n  {key}\n"
        out.print(text, soft_wrap=True, markup=False)
