"""Settings: defaults, then `antiphon.toml`, then `ANTIPHON_*`, then the command line; the later one wins.

Every field below is a setting under its own name in the file and as `ANTIPHON_<NAME>` in the environment. An unknown
name is an error that says which known one is nearest, because a misspelt limit must not be a missing limit.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

import msgspec

from antiphon.core.errors import SettingsError

#: Where `hf:` sources of weights lie, unless `hub_url` says otherwise.
PUBLIC_HUB = "https://huggingface.co"

_PREFIX = "ANTIPHON_"
#: Variables of the command line itself, not settings of the server.
_NOT_SETTINGS = frozenset({"config"})

_HUB_ADDRESS = r"^(https://|http://(localhost|127\.[0-9.]+|\[::1\])(?=[:/]|\Z))[^\s@?#]*\Z"
#: Settings that hold several values; the environment writes them with commas between.
_LISTS = ("models", "cors_origins")
Text = Annotated[str, msgspec.Meta(min_length=1)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
#: Up to a year: infinity is no time that a timer can be set to.
Seconds = Annotated[float, msgspec.Meta(gt=0, le=31_536_000)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of one installation. Sizes are in bytes, times in seconds, prompts in tokens."""

    home: Text = "~/.antiphon"
    """The data folder: records, journal, weights."""
    host: Text = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8420
    database: str = ""
    """SQLAlchemy URL; empty means SQLite in the data folder."""
    catalogue: str = ""
    """A `models.toml` whose entries are added to, or replace, the built-in ones."""
    models: Annotated[tuple[Text, ...], msgspec.Meta(min_length=1)] = ("qwen2.5-coder-1.5b-instruct",)
    """Names from the catalogue to serve; the first is the default for ids of no tier."""
    profile: Literal["model", "claude"] = "model"
    """Whose rules bind a request for a Claude id: those of the model that runs, or also the id's own. A workspace may
    be set to another (`antiphon workspaces set`)."""
    hub_url: Annotated[str, msgspec.Meta(pattern=_HUB_ADDRESS)] = PUBLIC_HUB
    """The model hub that `hf:` sources lie on; http only on this machine. Asked by `models pull` alone."""
    hub_token: Annotated[str, msgspec.Meta(pattern=r"^[!-~]{0,1000}\Z")] = ""
    """Sent to the hub's own host as a bearer token, for models that ask for one; never logged."""
    prices: str = ""
    """A price book of one's own (TOML), whose rows go before the published ones (docs/billing.md)."""
    tier: Text = "machine"
    """Which limits hold: `machine`, far above what one machine does; or one of the API's own: `evaluation`, `start`,
    `build`, `scale`, `custom`."""
    geography: Literal["any", "global", "us"] = "any"
    """Where the models stand whose catalogue entry does not say: in `us`, or somewhere (`global`, and a request for
    `us` is refused). `any`: nobody has said, and what a request asks for is taken as it is."""
    request_log_days: Positive = 30
    """How long requests and answers are kept of workspaces that have switched that on, days."""
    usage_days: Positive = 90
    """How long a usage record is kept for itself, days; after that it is part of its hour's sums."""
    limits_store: Annotated[str, msgspec.Meta(pattern=r"^((valkey|valkeys|redis|rediss|unix)://\S+)?\Z")] = ""
    """A Valkey or Redis server by address, where several servers share their limits and budgets; empty: in process."""
    scripted: str = ""
    """A YAML file of rules: the scripted engine answers instead of a model."""

    engine: Literal["auto", "llama_cpp", "openvino"] = "auto"
    """What runs embedded models: one for all; or `auto`, what their entries say, which is mostly `auto` as well and
    goes by the processor and the file (`antiphon doctor` says why)."""
    precision: Literal["auto", "bf16", "f32"] = "auto"
    """What OpenVINO computes in. bf16 is faster at prompts on processors with AMX, f32 (with 8-bit activations) at
    decoding; `auto` is f32 for weights that were prepared, and the library's own choice for others."""
    prompt_chunk: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Prompt tokens that an embedded engine computes in one go, the bound on how long a cancel waits; 0 goes by the
    model's size."""
    memory: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Bytes that embedded models may take together; 0 is three quarters of what is free at the start."""
    loading: Literal["wait", "refuse"] = "wait"
    """What befalls a request whose model is not in memory: it waits while the model is loaded, or is refused with 529
    meanwhile."""
    isolation: Literal["shared", "strict"] = "shared"
    """Whether workspaces share a model's engine. No prompt of one is ever reused for another, nor does time tell it;
    `strict` gives each an engine in a process of its own besides, with weights of its own in memory."""
    idle_seconds: Annotated[float, msgspec.Meta(ge=0, le=31_536_000)] = 0.0
    """A model unused for this long leaves memory until it is asked for again; 0 means it stays."""

    seats: Positive = 4
    """Answers generated at once by one model."""
    queue: Annotated[int, msgspec.Meta(ge=0)] = 64
    """Requests that may wait for a seat, of each class (interactive, batch) and shared between workspaces; the next one
    is refused with 529."""
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
    cors_origins: tuple[Text, ...] = ()
    """Origins of web pages that may call the API from a browser, e.g. `https://app.example.com`; none by default."""
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
    """`auto` is text on a terminal and JSON elsewhere."""
    traces: Literal["off", "console", "otlp"] = "off"
    """`otlp` sends to where the standard `OTEL_EXPORTER_OTLP_*` variables say."""

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
    """Merge all sources. The file is `config`, else `ANTIPHON_CONFIG`, else `antiphon.toml` in the data folder if it
    exists. An override that is None was not given.

    Raises:
        SettingsError: a name is unknown, a value is malformed, or the file cannot be read.
    """
    environ = os.environ if environment is None else environment
    from_environment: dict[str, Any] = {
        name.removeprefix(_PREFIX).lower(): value for name, value in environ.items() if name.startswith(_PREFIX)
    }
    for name in _NOT_SETTINGS:
        from_environment.pop(name, None)
    given = {name: value for name, value in overrides.items() if value is not None}
    if config is None and environ.get("ANTIPHON_CONFIG"):
        config = Path(environ["ANTIPHON_CONFIG"]).expanduser()
    home = given.get("home") or from_environment.get("home") or Settings().home
    path = config or Path(str(home)).expanduser() / "antiphon.toml"
    sources = (
        _Source(f"in {path}", _read(path, required=config is not None), str),
        _Source("in the environment", from_environment, lambda name: _PREFIX + name.upper()),
        _Source("on the command line", given, lambda name: "--" + name.replace("_", "-")),
    )
    merged: dict[str, Any] = {}
    for source in sources:
        _check_names(source)
        merged |= source.values
    for name in _LISTS:
        if isinstance(merged.get(name), str):
            merged[name] = [part.strip() for part in merged[name].split(",") if part.strip()]
    try:
        return msgspec.convert(merged, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(_malformed(str(error), sources)) from None


def variable(name: str) -> str:
    """A variable of the environment that a catalogue names, such as one that holds a server's key; empty for none."""
    return os.environ.get(name, "")


class _Source(msgspec.Struct, frozen=True):
    """Values by field name, where they come from, and how a field is written there."""

    where: str
    values: Mapping[str, Any]
    written: Callable[[str], str]


def _read(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if required:
            raise SettingsError(f"The settings file {path} does not exist") from None
        return {}
    except OSError as error:
        raise SettingsError(f"The settings file {path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"The settings file {path} is not TOML: {error}") from None


def _check_names(source: _Source) -> None:
    fields = Settings.__struct_fields__
    known = [*fields, *(_NOT_SETTINGS if source.written("config") == "ANTIPHON_CONFIG" else ())]
    for name in source.values:
        if name not in fields:
            # The closest in spelling, whatever its distance: better a far hint than none.
            nearest = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.0)[0]
            raise SettingsError(
                f"Unknown setting `{source.written(name)}` {source.where}; did you mean `{source.written(nearest)}`?"
            )


def _malformed(text: str, sources: tuple[_Source, ...]) -> str:
    """A value's error in the words of its source. The value itself is not repeated: it may hold a password."""
    found = re.fullmatch(r"(?P<why>.*) - at `\$\.(?P<name>\w+).*`", text)
    name = found["name"] if found else ""
    last = next((source for source in reversed(sources) if name in source.values), None)
    if found is None or last is None:
        return f"A setting is malformed: {text}"
    choices = [str(choice) for choice in get_args(get_type_hints(Settings)[name])]
    why = f"it must be one of {', '.join(choices)}" if found["why"].startswith("Invalid enum") else found["why"]
    return f"The setting `{last.written(name)}` {last.where} is malformed: {why}"
