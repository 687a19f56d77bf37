"""Reads the TOML files that an operator writes: every complaint names the file, the entry and the key.

An unknown key is an error that names the nearest known one, for the reason settings give: a misspelt limit must not be
a missing limit.
"""

from __future__ import annotations

import difflib
import tomllib
import typing
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from antiphon.core.errors import SettingsError

_Entry = TypeVar("_Entry", bound=msgspec.Struct)


def text_of(file: Path, called: str) -> str:
    """What the file says; `called` is what it is to people, e.g. `catalogue`.

    Raises:
        SettingsError: it cannot be read.
    """
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"The {called} {file} cannot be read: {error}") from None


def tables_of(text: str, where: str) -> dict[str, Any]:
    """The tables of a file.

    Raises:
        SettingsError: it is not TOML.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"In {where}: {error}") from None


def entry_of(table: object, kind: type[_Entry], where: str, named_by: str = "") -> _Entry:
    """One table as what it stands for. `named_by` is the key whose value names it.

    Raises:
        SettingsError: a key is unknown or missing, a value is malformed, or they do not fit together.
    """
    if not isinstance(table, dict):
        raise SettingsError(f"{where}: it must be a table")
    if named_by in table:
        where += f" ({table[named_by]!r})"
    _check_keys(table, kind, where)
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{where}: {error}") from None


def nearest(name: str, known: Collection[str]) -> str:
    """A hint at what was meant: better a far one than none."""
    return f"did you mean `{difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]}`?"


def _check_keys(table: Mapping[str, Any], kind: type[msgspec.Struct], where: str) -> None:
    """msgspec refuses unknown keys too; this says which known one was meant."""
    known = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    for key, value in table.items():
        if key not in known:
            raise SettingsError(f"{where}: unknown key `{key}`; {nearest(key, known)}")
        for inner in (known[key], *typing.get_args(known[key])):
            if not (isinstance(inner, type) and issubclass(inner, msgspec.Struct)):
                continue
            if isinstance(value, dict):
                _check_keys(value, inner, f"{where}, {key}")
            elif isinstance(value, list):
                for number, each in enumerate(value, 1):
                    if isinstance(each, dict):
                        _check_keys(each, inner, f"{where}, {key} {number}")
