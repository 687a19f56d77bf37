"""`antiphon`: the command."""

from __future__ import annotations

from typing import Annotated

import typer

import antiphon
from antiphon.cli import audit, cache, demo, doctor, keys, models, reports, requestlogs, serve, users, workspaces
from antiphon.cli.options import console

app = typer.Typer(
    name="antiphon",
    help="A self-hosted developer platform that speaks the Claude API, over models you run.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("serve")(serve.serve)
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
app.command("usage")(reports.usage)
app.command("cost")(reports.cost)
app.command("audit")(audit.audit)
app.add_typer(models.app, name="models")
app.add_typer(keys.app, name="keys")
app.add_typer(workspaces.app, name="workspaces")
app.add_typer(users.app, name="users")
app.add_typer(requestlogs.app, name="logs")
app.add_typer(cache.app, name="cache")


def _version(asked: bool) -> None:
    if asked:
        console().print(f"antiphon {antiphon.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Everything below shares `--home` (or ANTIPHON_HOME), the data folder, and `--config`, a settings file."""


def run() -> None:
    """The console script."""
    app()
