"""`antiphon doctor`: what works here, what does not, and how to mend it."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shlex
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

import msgspec
import typer
from rich.text import Text

import antiphon
from antiphon.cli.options import ConfigOption, HomeOption, console, errors_told, settings_from
from antiphon.cli.serve import at, listen
from antiphon.core.clock import SystemClock
from antiphon.core.errors import AntiphonError
from antiphon.core.records import DEFAULT_ORGANIZATION
from antiphon.core.settings import Settings
from antiphon.engine import choice, memory, weights
from antiphon.engine.scripted import read_script
from antiphon.http.health import Welcome
from antiphon.routing import catalogue
from antiphon.routing.catalogue import ModelEntry
from antiphon.serving import engine_of, fit, models_folder
from antiphon.store import keys
from antiphon.store.database import open_database


class Finding(msgspec.Struct, frozen=True):
    """One thing looked at. `mend` says what to do where it is not well."""

    what: str
    well: bool
    found: str
    mend: str = ""


def doctor(home: HomeOption = None, config: ConfigOption = None) -> None:
    """Look at everything a server needs; exit with 1 when something is missing."""
    with errors_told():
        settings = settings_from(home, config)
    out = console()
    out.print(f"antiphon {antiphon.__version__}, data folder {settings.home_path}\n", soft_wrap=True)
    findings = list(examine(settings))
    for finding in findings:
        mark = Text("ok  ", style="green") if finding.well else Text("no  ", style="red")
        out.print(mark.append(f"{finding.what}: {finding.found}", style="default"), soft_wrap=True)
        if not finding.well and finding.mend:
            out.print(f"    to mend it: {finding.mend}", soft_wrap=True, markup=False)
    if not all(finding.well for finding in findings):
        raise typer.Exit(1)


def examine(settings: Settings) -> Iterator[Finding]:
    """Everything a server needs, looked at one by one. Changes nothing."""
    yield _folder(settings)
    yield from _models(settings)
    yield _keys(settings)
    yield _port(settings)
    yield from _extras(settings)


def _folder(settings: Settings) -> Finding:
    home = settings.home_path
    nearest = next(p for p in (home, *home.parents) if p.exists())
    writable = os.access(nearest, os.W_OK)
    free = shutil.disk_usage(nearest).free / 1e9
    return Finding(
        "data folder",
        writable and free > 1,
        f"{'writable' if writable else 'not writable'}, {free:.0f} GB free",
        f"make {home} writable with at least 1 GB free, or choose another folder with --home",
    )


def _engine_library() -> Finding:
    try:
        import xllamacpp  # noqa: PLC0415 - the server itself never loads the engine's library, its child does
    except ImportError as error:
        return Finding("engine llama_cpp", False, f"cannot be loaded ({error})", "pip install xllamacpp")
    return Finding("engine llama_cpp", True, f"xllamacpp {xllamacpp.__version__}, {os.cpu_count()} processors")


def _engine_of(settings: Settings, entry: ModelEntry, path: Path) -> Finding:
    try:
        chosen = engine_of(settings, entry, path)
    except AntiphonError as error:
        return Finding(f"engine of {entry.name}", False, error.message, "fetch the weights anew")
    found = f"{chosen.engine}: {chosen.why}"
    if chosen.prepare:
        found += f" (`antiphon models prepare {entry.name}{_home(settings)}`)"
    there = chosen.engine == "llama_cpp" or choice.installed()
    return Finding(f"engine of {entry.name}", there, found, "pip install 'antiphon[openvino]'")


def _memory_of(settings: Settings, entry: ModelEntry, path: Path, budget: int) -> Finding:
    what = f"memory for {entry.name}"
    try:
        sized = fit(settings, entry, path, engine_of(settings, entry, path), budget)
    except AntiphonError as error:
        return Finding(what, False, error.message, "serve a smaller model (setting `models`), or free memory")
    return Finding(
        what,
        True,
        f"about {sized.need / 1e9:.1f} GB, with a cache of {sized.pool_tokens:,} tokens and a window of "
        f"{sized.window:,}; all models together may take {budget / 1e9:.1f} GB",
    )


def _models(settings: Settings) -> Iterator[Finding]:
    try:
        known = catalogue.from_settings(settings)
        script = read_script(Path(settings.scripted).expanduser()) if settings.scripted else None
        if script is None:
            entries = known.served(settings.models)
        else:
            entries = (known.get(script.model),) if script.model else ()
            yield Finding("script", True, f"{settings.scripted}, {len(script.rules)} rules; no model answers")
    except AntiphonError as error:
        mend = "correct the setting `models`, `catalogue` or `scripted`"
        yield Finding("models", False, error.message, mend)
        return
    budget = memory.budget(settings.memory)
    if script is None and any(entry.engine != "llama_server" for entry in entries):
        yield _engine_library()
    for entry in entries:
        path = weights.installed(entry.weights, models_folder(settings))
        found = f"{entry.weights.size / 1e6:,.0f} MB, {'verified' if path else 'not on this machine'}"
        if entry.weights.pinned_by == "hub":
            found += ", digest pinned by the hub's word" if path else ", digest to be told by the hub"
        yield Finding(
            f"weights of {entry.name}", path is not None, found, f"antiphon models pull {entry.name}{_home(settings)}"
        )
        if script is None and path is not None and entry.engine != "llama_server":
            yield _engine_of(settings, entry, path)
            yield _memory_of(settings, entry, path, budget)


def _home(settings: Settings) -> str:
    return f" --home {shlex.quote(settings.home)}" if settings.home != Settings().home else ""


def _keys(settings: Settings) -> Finding:
    nothing = "none to use; a start on loopback makes one, and so does `antiphon keys create`"
    if not settings.database and not (settings.home_path / "antiphon.db").exists():
        return Finding("API keys", True, nothing)
    try:
        usable = asyncio.run(_usable_keys(settings))
    except AntiphonError as error:
        reason = str(getattr(error, "reason", error.message))
        if "no such table" in reason or "does not exist" in reason:
            return Finding("API keys", True, nothing)
        return Finding("database", False, reason, "see that the database answers; the setting is `database`")
    return Finding("API keys", True, f"{usable} to use" if usable else nothing)


async def _usable_keys(settings: Settings) -> int:
    database = open_database(settings.database_url)
    try:
        async with database.reading() as connection:
            found = await keys.of_organization(DEFAULT_ORGANIZATION, connection)
    finally:
        await database.close()
    now_ms = SystemClock().now_ms()
    return sum(key.status_at(now_ms) == "active" for key in found)


def _port(settings: Settings) -> Finding:
    address = at(settings.host, settings.port)
    try:
        listen(settings).close()
    except AntiphonError as error:
        state = _running(settings)
        if state is not None:
            return Finding("port", True, f"{address} is Antiphon's own: a server runs there, {state}")
        return Finding("port", False, error.message, "end what listens there, or choose another with --port")
    return Finding("port", True, f"{address} is free")


def _running(settings: Settings) -> str | None:
    """What an Antiphon that listens on the address says of itself; None when nobody, or another program, does."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - a question, no listener
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{at(host, settings.port)}/", timeout=2) as reply:
            welcome = msgspec.json.decode(reply.read(10_000), type=Welcome)
        with opener.open(f"http://{at(host, settings.port)}/health/ready", timeout=2):
            return f"version {welcome.version}, ready" if welcome.name == "antiphon" else None
    except urllib.error.HTTPError:
        return "not ready"
    except (OSError, HTTPException, msgspec.MsgspecError):
        return None


def _extras(settings: Settings) -> Iterator[Finding]:
    """Packages that only some uses need: a use that was not asked for is no fault."""
    if settings.traces == "otlp":
        there = importlib.util.find_spec("opentelemetry.exporter") is not None
        yield Finding("traces", there, "otlp", "pip install 'antiphon[otlp]'")
    if importlib.util.find_spec("anthropic") is None:
        yield Finding("demo", True, "not installed; for `antiphon demo`: pip install 'antiphon[demo]'")
