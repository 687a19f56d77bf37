"""`antiphon serve`: the server in the foreground."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
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
from antiphon.observe import logs

#: Largest header block (uvicorn's own bound on one header line is below it).
_HEADER_BYTES = 64 * 1024


class Server(uvicorn.Server):
    """uvicorn, telling the app at the first stop signal, so that readiness is false before anything closes."""

    def __init__(self, config: uvicorn.Config, app: App) -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._app.drain()
        super().handle_exit(sig, frame)


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
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(settings))


async def run(settings: Settings) -> None:
    """Serve until a stop signal.

    Raises:
        AntiphonError: the server cannot be started, or must not be.
    """
    key = await _key_for_first_start(settings)
    app = App.build(settings)
    try:
        listener = _listen(settings)
        await app.start()
        _welcome(listener.getsockname()[1], settings, key)
        await Server(
            uvicorn.Config(
                app.http,
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
                timeout_keep_alive=75,
                h11_max_incomplete_event_size=_HEADER_BYTES,
            ),
            app,
        ).serve(sockets=[listener])
    finally:
        await app.stop()


async def _key_for_first_start(settings: Settings) -> str | None:
    """Nobody may reach a server without keys from outside; on loopback the first key is made and shown.

    Raises:
        SettingsError: the address is not loopback and there is no key.
    """
    if is_loopback(settings.host):
        return await first_key(settings, name="first start")
    if not await any_key(settings):
        raise SettingsError(
            f"Refusing to listen on {settings.host} without any API key. Make one first with `antiphon keys create`, "
            "or listen on 127.0.0.1."
        )
    return None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(settings: Settings) -> socket.socket:
    """The listening socket, taken before the model is loaded: a port in use is an error at once."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise SettingsError(f"Cannot listen on {settings.host}:{settings.port}: {error.strerror}") from None
    return listener


def _welcome(port: int, settings: Settings, key: str | None) -> None:
    out = console(stderr=True)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    out.print(f"Antiphon listens on [bold]http://{host}:{port}[/]", soft_wrap=True)
    if key is not None:
        out.print(f"\nFirst start: here is an API key. It is shown this once.\n\n  {key}\n", soft_wrap=True)
