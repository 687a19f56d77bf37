"""The catalogue: every model that could be served, from the built-in `models.toml` and an operator's file.

What an entry says is written in the head of `models.toml`.
"""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec

from antiphon.core.errors import SettingsError
from antiphon.core.settings import Settings
from antiphon.engine.contract import Sampling
from antiphon.engine.sources import Weights
from antiphon.routing import reading
from antiphon.routing.prices import Prices

Tier: TypeAlias = Literal["opus", "sonnet", "haiku"]

_Tokens = Annotated[int, msgspec.Meta(ge=1)]
#: No slash and no leading dot, so a name is never a path; lower case, so no two names differ by case alone.
_Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,79}\Z")]
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
#: No user and no password, which would be shown in logs; a path where the server has a prefix.
_Address = Annotated[
    str, msgspec.Meta(pattern=r"^https?://(\[[0-9a-fA-F:]+\]|[^\s@?#/:\[\]]+)(:[0-9]{1,5})?(/[^\s@?#]*)?\Z")
]
#: Encrypted, or never on a network.
_PRIVATE = re.compile(r"https://|http://(localhost|127\.[0-9.]+|\[::1\])(?=[:/]|\Z)")
#: Not one of ours: those are settings, and an unknown one stops the start.
_Variable = Annotated[str, msgspec.Meta(pattern=r"^(?!ANTIPHON_)[A-Za-z_][A-Za-z0-9_]{0,127}\Z")]
_SERVER_KEYS = ("address", "plain_http", "key_variable", "pool_tokens")


class Capabilities(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the model was trained for, beyond text in and text out."""

    tools: bool = False
    thinking: bool = False
    images: bool = False


class ModelCard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is told of any model that runs. Window, output and cache minimum are in tokens."""

    name: _Name
    display_name: _Text
    tiers: tuple[Tier, ...]
    window: _Tokens
    max_output: _Tokens
    created: date
    sampling: Sampling = Sampling()
    """Used where the client gives nothing."""
    prices: Prices | None = None
    """What an answer of this model costs, whatever it was asked as; None: what the price book says of the asked-for
    id."""
    geography: Literal["global", "us"] | None = None
    """Where it stands: `us`, or somewhere; None: as the installation is set, and where that says nothing either,
    wherever a request wants it."""
    cache_minimum_tokens: _Tokens = 1024
    capabilities: Capabilities = Capabilities()

    def __post_init__(self) -> None:
        if self.name.startswith("claude-"):
            raise ValueError("names that begin with `claude-` are aliases, and belong to no model")
        if self.max_output > self.window:
            raise ValueError(f"max_output {self.max_output} is more than the window {self.window}")
        chance = self.sampling
        bounds = (
            0 <= chance.temperature <= 2,
            0 < chance.top_p <= 1,
            chance.top_k >= 0,
            0 <= chance.min_p <= 1,
        )
        if not all(bounds):
            raise ValueError(
                "sampling: temperature is from 0 to 2, top_p above 0 to 1, top_k from 0, min_p from 0 to 1"
            )


class ModelEntry(ModelCard, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model of the catalogue: one that has weights, and an engine to run them."""

    engine: Literal["auto", "llama_cpp", "openvino", "llama_server"]
    dialect: Literal["plain", "hermes"]
    licence: _Text
    weights: Weights
    address: _Address | None = None
    """Of the server, where one elsewhere runs the model; its weights are read here for the vocabulary alone."""
    plain_http: bool = False
    """Prompts, answers and the key may go over a network unencrypted."""
    key_variable: _Variable | None = None
    """The environment variable that holds the server's key."""
    pool_tokens: _Tokens | None = None
    """What all seats of the server may hold together; the window if it is not told."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.engine != "llama_server":
            given = [name for name in _SERVER_KEYS if getattr(self, name)]
            if given:
                raise ValueError(f'`{given[0]}` is for `engine = "llama_server"`')
            return
        if self.address is None:
            raise ValueError("`address` is missing: where the server listens")
        if not self.plain_http and not _PRIVATE.match(self.address):
            raise ValueError(
                "`address` is https://, or http:// on this machine; for a network that may read along, "
                "say `plain_http = true`"
            )
        if self.pool_tokens is not None and self.pool_tokens < self.window:
            raise ValueError(f"pool_tokens {self.pool_tokens} is less than the window {self.window}")


#: What runs when a script answers instead of a model. Roomy, so that no test runs into its limits by chance.
SCRIPTED = ModelCard(
    name="scripted",
    display_name="Scripted answers",
    tiers=("opus", "sonnet", "haiku"),
    window=200_000,
    max_output=64_000,
    created=date(2026, 11, 22),
    capabilities=Capabilities(tools=True),
)


class Catalogue(msgspec.Struct, frozen=True):
    """All entries, in the order of the files."""

    entries: tuple[ModelEntry, ...]

    def get(self, name: str) -> ModelEntry:
        """The entry of that exact name.

        Raises:
            SettingsError: there is none; the message has the nearest one.
        """
        for entry in self.entries:
            if entry.name == name:
                return entry
        raise SettingsError(f"Unknown model `{name}`; {reading.nearest(name, [e.name for e in self.entries])}")

    def served(self, names: Iterable[str], *, window: int = 0) -> tuple[ModelEntry, ...]:
        """The entries of these names in their order, each once. A `window` above 0 (tokens) narrows theirs.

        Raises:
            SettingsError: a name is unknown, or there is none at all.
        """
        entries = tuple(_narrowed(self.get(name), window) for name in dict.fromkeys(names))
        if not entries:
            raise SettingsError("The setting `models` is empty; name at least one model to serve")
        return entries


def load(file: Path | None = None) -> Catalogue:
    """Read the built-in catalogue and an operator's file, whose entries add to it or replace by name.

    Raises:
        SettingsError: a file cannot be read, or an entry is malformed; the message names file, entry and key.
    """
    built_in = importlib.resources.files(__package__).joinpath("models.toml").read_text("utf-8")
    entries = {entry.name: entry for entry in _parse(built_in, "the built-in catalogue")}
    if file is not None:
        text = reading.text_of(file, "catalogue")
        entries |= {entry.name: entry for entry in _parse(text, f"the catalogue {file.name}")}
    return Catalogue(tuple(entries.values()))


def from_settings(settings: Settings) -> Catalogue:
    """The catalogue that an installation is set to. Raises what `load` raises."""
    return load(Path(settings.catalogue).expanduser() if settings.catalogue else None)


def _parse(text: str, where: str) -> tuple[ModelEntry, ...]:
    tables = reading.tables_of(text, where)
    models = tables.get("models", [])
    if set(tables) - {"models"} or not isinstance(models, list):
        raise SettingsError(f"In {where}: it must hold nothing but `[[models]]` tables")
    entries = tuple(
        reading.entry_of(model, ModelEntry, f"In {where}, model {number}", "name")
        for number, model in enumerate(models, 1)
    )
    names = [entry.name for entry in entries]
    if twice := [name for name in names if names.count(name) > 1]:
        raise SettingsError(f"In {where}: `{twice[0]}` stands there twice")
    return entries


def _narrowed(entry: ModelEntry, window: int) -> ModelEntry:
    if not 0 < window < entry.window:
        return entry
    return msgspec.structs.replace(entry, window=window, max_output=min(entry.max_output, window))
