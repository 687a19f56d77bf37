"""`antiphon doctor`: what works here, what does not, and how to mend it."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import typer

import antiphon
from antiphon.cli.keys import any_key
from antiphon.cli.options import ConfigOption, HomeOption, console, errors_told, settings_from
from antiphon.core.errors import AntiphonError
from antiphon.core.settings import Settings
from antiphon.engine import weights
from antiphon.routing import catalogue
from antiphon.serving import models_folder

_MEMORY_OVERHEAD = 1.6


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
        mark = "[green]ok[/]  " if finding.well else "[red]no[/]  "
        out.print(f"{mark}{finding.what}: {finding.found}", soft_wrap=True, highlight=False)
        if not finding.well and finding.mend:
            out.print(f"    to mend it: {finding.mend}", soft_wrap=True, highlight=False, markup=False)
    if not all(finding.well for finding in findings):
        raise typer.Exit(1)


def examine(settings: Settings) -> Iterator[Finding]:
    """Everything a server needs, looked at one by one."""
    yield _folder(settings)
    yield _engine_library()
    yield from _models(settings)
    yield _memory(settings)
    yield _keys(settings)
    yield _port(settings)


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


def _models(settings: Settings) -> Iterator[Finding]:
    try:
        entries = catalogue.from_settings(settings).served(settings.models)
    except AntiphonError as error:
        yield Finding("models", False, error.message, "correct the setting `models` or the catalogue")
        return
    for entry in entries:
        path = weights.installed(entry.weights, models_folder(settings))
        found = f"{entry.weights.size / 1e6:,.0f} MB, {'verified' if path else 'not on this machine'}"
        yield Finding(f"weights of {entry.name}", path is not None, found, f"antiphon models pull {entry.name}")


def _memory(settings: Settings) -> Finding:
    try:
        entries = catalogue.from_settings(settings).served(settings.models)
        needed = sum(entry.weights.size for entry in entries) * _MEMORY_OVERHEAD / 1e9
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    except (AntiphonError, ValueError, OSError):
        return Finding("memory", True, "cannot be told here")
    return Finding(
        "memory",
        total > needed,
        f"{total:.0f} GB in all, about {needed:.1f} GB needed by the models",
        "serve fewer or smaller models (setting `models`)",
    )


def _keys(settings: Settings) -> Finding:
    if not Path(settings.home_path / "antiphon.db").exists() and not settings.database:
        return Finding("API keys", True, "none yet; the first start on loopback makes one")
    try:
        there = asyncio.run(any_key(settings))
    except AntiphonError as error:
        reason = getattr(error, "reason", error.message)
        return Finding("database", False, str(reason), "see that the database answers; the setting is `database`")
    found = "there is one to use" if there else "none"
    return Finding("API keys", True, found + ("" if there else "; make one with `antiphon keys create`"))


def _port(settings: Settings) -> Finding:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            text = f"{settings.host}:{settings.port} cannot be taken ({error.strerror})"
            return Finding("port", False, text, "if that is not Antiphon itself, choose another with --port")
    return Finding("port", True, f"{settings.host}:{settings.port} is free")
