"""`antiphon models`: which models there are, and their weights on this machine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from antiphon.cli.options import ConfigOption, HomeOption, console, errors_told, settings_from
from antiphon.core.errors import WeightsError
from antiphon.core.settings import Settings
from antiphon.engine import memory, preparing, weights
from antiphon.routing import catalogue
from antiphon.routing.catalogue import ModelEntry
from antiphon.serving import converter_of, engine_of, models_folder

app = typer.Typer(help="The catalogue of models, and their weights on this machine.", no_args_is_help=True)

#: Without a terminal, a pull writes a line each time this share of the file has come (percent).
_LINE_EVERY_PERCENT = 10


@app.command("list")
def list_models(home: HomeOption = None, config: ConfigOption = None) -> None:
    """Show the catalogue; what the settings serve is marked with a star."""
    with errors_told():
        chosen = settings_from(home, config)
        entries = catalogue.from_settings(chosen).entries
    table = Table(box=None, pad_edge=False)
    for column in ("", "name", "tiers", "dialect"):
        table.add_column(column)
    for column in ("window", "size"):
        table.add_column(column, justify="right")
    for column in ("pinned by", "installed"):
        table.add_column(column)
    for entry in entries:
        table.add_row(
            "*" if entry.name in chosen.models else "",
            entry.name,
            ", ".join(entry.tiers),
            entry.dialect,
            f"{entry.window:,}",
            _megabytes(entry.weights.size),
            entry.weights.pinned_by,
            "yes" if weights.installed(entry.weights, models_folder(chosen)) else "no",
        )
    console().print(table)


@app.command("pull")
def pull_models(
    names: Annotated[list[str] | None, typer.Argument(help="Default: the models that are served.")] = None,
    home: HomeOption = None,
    config: ConfigOption = None,
    make_ready: Annotated[bool, typer.Option("--prepare/--no-prepare", help="Make ready what needs it.")] = True,
) -> None:
    """Fetch and verify weights, and make them ready for the engine that will run them, once.

    What is here already is left alone; an interrupted pull goes on."""
    with errors_told():
        chosen = settings_from(home, config)
        entries = catalogue.from_settings(chosen).served(names or chosen.models)
        for entry in entries:
            pull(entry, chosen, console(), make_ready=make_ready)


@app.command("prepare")
def prepare_models(
    names: Annotated[list[str] | None, typer.Argument(help="Default: the models that are served.")] = None,
    home: HomeOption = None,
    config: ConfigOption = None,
) -> None:
    """Make weights that are here ready for OpenVINO: once, in minutes, beside the file they are made of."""
    with errors_told():
        chosen = settings_from(home, config)
        for entry in catalogue.from_settings(chosen).served(names or chosen.models):
            prepare(entry, chosen, console())


@app.command("remove")
def remove_model(
    name: Annotated[str, typer.Argument(help="Its name in the catalogue.")],
    home: HomeOption = None,
    config: ConfigOption = None,
) -> None:
    """Delete a model's weights from this machine."""
    with errors_told():
        chosen = settings_from(home, config)
        entry = catalogue.from_settings(chosen).get(name)
        gone = weights.remove(entry.weights, models_folder(chosen))
    console().print(f"{name}: {'removed' if gone else 'was not here'}", highlight=False)


def pull(entry: ModelEntry, chosen: Settings, out: Console, *, make_ready: bool = True) -> Path:
    """Fetch one model's weights and show how far it is: a bar on a terminal, lines elsewhere.

    Where the engine that suits this machine wants them in another form, they are made ready for it. Where that fails
    it is said, and no more: they run as they are.

    Raises:
        WeightsError: no source gave the right file.
    """
    show = _bar if out.is_terminal else _lines
    hub = weights.Hub(chosen.hub_url, chosen.hub_token)
    with show(entry.name, out) as progress:
        path = asyncio.run(weights.pull(entry.weights, models_folder(chosen), progress, hub=hub))
    converter = wanted_converter(chosen, entry, path) if make_ready else None
    if converter is not None:
        try:
            prepare(entry, chosen, out, converter)
        except WeightsError as error:
            out.print(f"{entry.name}: {error.message}; it runs as it is", highlight=False, markup=False)
    return path


def wanted_converter(chosen: Settings, entry: ModelEntry, path: Path) -> str | None:
    """What is still to be made of a model whose file is here, for the engine that suits it; None where that is nothing,
    or more than this machine has the memory for.

    Raises:
        WeightsError: the file is malformed.
    """
    digest = weights.digest(entry.weights, models_folder(chosen))
    if entry.engine == "llama_server" or digest is None:
        return None
    converter = converter_of(chosen, entry, path, engine_of(chosen, entry, path))
    if converter is None or preparing.prepared(path, digest, converter) is not None:
        return None
    return converter if preparing.MEMORY_FACTOR * path.stat().st_size <= memory.free_bytes() else None


def prepare(entry: ModelEntry, chosen: Settings, out: Console, converter: str = preparing.CONVERTER) -> Path:
    """Make one model's weights ready for OpenVINO, and show how far it is.

    Raises:
        WeightsError: the weights are not here, or cannot be made ready.
    """
    path = weights.installed(entry.weights, models_folder(chosen))
    digest = weights.digest(entry.weights, models_folder(chosen))
    if path is None or digest is None:
        raise WeightsError(f"The weights of {entry.name} are not on this machine; `antiphon models pull` brings them")
    said = ""

    def progress(step: str, fraction: float) -> None:
        nonlocal said
        if step != said:
            said = step
            out.print(f"{entry.name}: {step} ({fraction:.0%})", highlight=False, markup=False, soft_wrap=True)

    return asyncio.run(preparing.prepare(path, digest, progress, converter=converter))


@contextmanager
def _bar(name: str, out: Console) -> Iterator[weights.Progress]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
    )
    with Progress(*columns, console=out) as bar:
        task = bar.add_task(name, total=None, note="")

        def progress(done: int, total: int, note: str) -> None:
            bar.update(task, completed=done, total=total, note=note)

        yield progress


@contextmanager
def _lines(name: str, out: Console) -> Iterator[weights.Progress]:
    shown = -_LINE_EVERY_PERCENT

    def progress(done: int, total: int, note: str) -> None:
        nonlocal shown
        percent = 100 * done // total
        if percent >= shown + _LINE_EVERY_PERCENT or done == total:
            shown = percent
            line = f"{name}: {_megabytes(done)} of {_megabytes(total)} ({percent}%), {note}"
            out.print(line, highlight=False, markup=False, soft_wrap=True)

    yield progress


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"
