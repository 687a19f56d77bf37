"""What several commands share: their options, and how a failure is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeAlias

import typer
from rich.console import Console
from rich.text import Text

from antiphon.core import settings
from antiphon.core.errors import AntiphonError
from antiphon.core.settings import Settings

HomeOption: TypeAlias = Annotated[Path | None, typer.Option("--home", help="The data folder.")]
ConfigOption: TypeAlias = Annotated[Path | None, typer.Option("--config", help="The settings file.")]

#: What a failure's line on standard error begins with.
ERROR_PREFIX = "antiphon: "
#: Columns of what goes into a file or a pipe, where nothing tells how wide it may be.
_PIPE_WIDTH = 160


def settings_from(home: Path | None, config: Path | None, **overrides: object) -> Settings:
    """The settings of this call. Raises SettingsError."""
    return settings.load({"home": str(home) if home else None, **overrides}, config=config)


def console(*, stderr: bool = False, least: int = 0) -> Console:
    """Where a command writes; wide enough for its tables when nobody looks, and never under `least` columns."""
    out = Console(stderr=stderr, highlight=False, emoji=False)
    out.width = max(out.width, least) if out.is_terminal else max(_PIPE_WIDTH, least)
    return out


@contextmanager
def errors_told() -> Iterator[None]:
    """Whatever Antiphon raises on purpose becomes one clear line on standard error, and exit status 1; so does what the
    system refuses (a folder that cannot be written, a full disk)."""
    try:
        yield
    except AntiphonError as error:
        _tell(str(getattr(error, "reason", None) or error.message))
        raise typer.Exit(1) from None
    except OSError as error:
        _tell(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        raise typer.Exit(1) from None


def _tell(text: str) -> None:
    line = Text(ERROR_PREFIX, style="bold red").append(text, style="not bold default")
    Console(stderr=True, highlight=False, soft_wrap=True).print(line)
