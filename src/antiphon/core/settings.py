"""Settings: defaults, then `antiphon.toml`, then `ANTIPHON_*`, then the command line; the later one wins.

Every field below is a setting under its own name in the file and as `ANTIPHON_<NAME>` in the environment. An unknown
name is an error that says which known one is nearest, because a misspelt limit must not be a missing limit.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from antiphon.core.errors import SettingsError

_PREFIX = "ANTIPHON_"
#: Variables of the command line itself, not settings of the server.
_NOT_SETTINGS = frozenset({"CONFIG"})

Positive = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of one installation. Sizes are in bytes, times in seconds, prompts in tokens."""

    home: str = "~/.antiphon"
    """The data folder: records, journal, weights."""
    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8420
    database: str = ""
    """SQLAlchemy URL; empty means SQLite in the data folder."""
    catalogue: str = ""
    """A `models.toml` whose entries are added to, or replace, the built-in ones."""
    models: tuple[str, ...] = ("qwen2.5-coder-1.5b-instruct",)
    """Names from the catalogue to serve; the first is the default for ids of no tier."""
    scripted: str = ""
    """A YAML file of rules: the scripted engine answers instead of a model."""

    seats: Positive = 4
    """Answers generated at once by one model."""
    queue: Annotated[int, msgspec.Meta(ge=0)] = 64
    """Requests that may wait for a seat; the next one is refused with 529."""
    queue_seconds: Seconds = 300.0
    """The longest wait for a seat before 529 (or an `error` event, once the stream has begun)."""
    cold_prompts: Positive = 2
    """Prompts inside the engine's library at once that have not given their first token."""
    window: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Context window; 0 means the model's own."""
    threads: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Threads of an embedded engine; 0 means one per core."""
    engine_stall_seconds: Seconds = 60.0
    """An engine with work and without progress for this long is killed and restarted."""
    engine_start_seconds: Seconds = 180.0

    body_bytes: Positive = 32 * 1024 * 1024
    """Largest body of Messages and token counting (contract messages-and-inference 2.3)."""
    receive_seconds: Seconds = 60.0
    """How long a sender may take for the whole body."""
    early_start_seconds: Seconds = 2.0
    """A stream still waiting for a seat after this long answers 200 and `message_start`."""
    ping_seconds: Seconds = 10.0
    """Silence in a stream before a `ping`."""
    stall_seconds: Seconds = 60.0
    """A reader that takes nothing for this long loses its generation."""
    drain_seconds: Seconds = 30.0
    """What open streams get to finish after a stop signal."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "text"] = "auto"
    traces: Literal["off", "console", "otlp"] = "off"

    @property
    def home_path(self) -> Path:
        return Path(self.home).expanduser()

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite+aiosqlite:///{self.home_path / 'antiphon.db'}"


def load(
    overrides: Mapping[str, object],
    *,
    config: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Merge all sources. Without `config`, `ANTIPHON_CONFIG`, then `antiphon.toml` in the data folder, is read if it exists.

    Raises:
        SettingsError: a name is unknown, a value is malformed, or the file cannot be read.
    """
    environ = os.environ if environment is None else environment
    from_environment = {
        name.removeprefix(_PREFIX).lower(): value
        for name, value in environ.items()
        if name.startswith(_PREFIX) and name.removeprefix(_PREFIX) not in _NOT_SETTINGS
    }
    given = {name: value for name, value in overrides.items() if value is not None}
    if config is None and "ANTIPHON_CONFIG" in environ:
        config = Path(environ["ANTIPHON_CONFIG"])
    home = given.get("home") or from_environment.get("home") or Settings().home
    path = config or Path(str(home)).expanduser() / "antiphon.toml"
    merged: dict[str, Any] = {}
    merged |= _check_names(_read(path, required=config is not None), f"in {path.name}", "")
    merged |= _check_names(from_environment, "in the environment", _PREFIX)
    merged |= _check_names(given, "on the command line", "")
    if isinstance(merged.get("models"), str):
        merged["models"] = [name.strip() for name in merged["models"].split(",") if name.strip()]
    try:
        return msgspec.convert(merged, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"A setting is malformed: {error}") from None


def _read(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if required:
            raise SettingsError(f"The settings file {path} does not exist") from None
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"The settings file {path} cannot be read: {error}") from None


def _check_names(values: Mapping[str, Any], where: str, prefix: str) -> Mapping[str, Any]:
    known = Settings.__struct_fields__
    for name in values:
        if name not in known:
            shown = prefix + (name.upper() if prefix else name)
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
            nearest = prefix + (near.upper() if prefix else near)
            raise SettingsError(f"Unknown setting `{shown}` {where}; did you mean `{nearest}`?")
    return values
