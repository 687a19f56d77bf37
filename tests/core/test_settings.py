"""Settings from four sources: which one counts, and how a wrong one is told."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from antiphon.core.errors import SettingsError
from antiphon.core.settings import Settings, load

FIELDS = Settings.__struct_fields__
#: A value of each setting that is not its default, as TOML writes it and as it is then.
OTHER: dict[str, tuple[str, object]] = {
    "home": ('"/elsewhere"', "/elsewhere"),
    "host": ('"::1"', "::1"),
    "port": ("9000", 9000),
    "database": ('"postgresql+asyncpg://u:p@h/d"', "postgresql+asyncpg://u:p@h/d"),
    "catalogue": ('"my.toml"', "my.toml"),
    "models": ('["a", "b"]', ("a", "b")),
    "scripted": ('"rules.yaml"', "rules.yaml"),
    "profile": ('"claude"', "claude"),
    "prices": ('"prices.toml"', "prices.toml"),
    "tier": ('"start"', "start"),
    "geography": ('"us"', "us"),
    "limits_store": ('"valkey://localhost:6379/0"', "valkey://localhost:6379/0"),
    "engine": ('"openvino"', "openvino"),
    "precision": ('"bf16"', "bf16"),
    "isolation": ('"strict"', "strict"),
    "loading": ('"refuse"', "refuse"),
    "cors_origins": ('["https://a", "https://b"]', ("https://a", "https://b")),
    "hub_url": ('"https://hub.example"', "https://hub.example"),
    "hub_token": ('"hf_secret"', "hf_secret"),
    "log_level": ('"debug"', "debug"),
    "log_format": ('"json"', "json"),
    "traces": ('"console"', "console"),
}


def other(name: str) -> tuple[str, object]:
    if name in OTHER:
        return OTHER[name]
    value = getattr(Settings(), name) + 3
    return str(value), value


def given_settings(home: Path, toml: str = "", environment: dict[str, str] | None = None, **line: object) -> Settings:
    """What `load` makes of a file, an environment and a command line."""
    home.mkdir(exist_ok=True)
    (home / "antiphon.toml").write_text(toml)
    return load(line, environment={"ANTIPHON_HOME": str(home)} | (environment or {}))


def refusal(home: Path, toml: str = "", environment: dict[str, str] | None = None, **line: object) -> str:
    with pytest.raises(SettingsError) as refused:
        given_settings(home, toml, environment, **line)
    assert "\n" not in refused.value.message
    return refused.value.message


def test_without_anything_given_the_defaults_count() -> None:
    assert load({}, environment={}) == Settings()
    assert (Settings().port, Settings().host) == (8420, "127.0.0.1")


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_can_be_given_in_every_way_and_the_later_source_counts(tmp_path: Path, name: str) -> None:
    written, value = other(name)
    text = ",".join(value) if isinstance(value, tuple) else str(value)
    if name != "home":  # the file is looked for in the data folder
        assert getattr(given_settings(tmp_path, f"{name} = {written}"), name) == value
    assert getattr(given_settings(tmp_path, "", {f"ANTIPHON_{name.upper()}": text}), name) == value
    assert getattr(load({name: value}, environment={"ANTIPHON_HOME": str(tmp_path)}), name) == value


def test_default_file_environment_command_line_in_this_order(tmp_path: Path) -> None:
    toml, environment = "port = 1\nseats = 1\nqueue = 1", {"ANTIPHON_PORT": "2", "ANTIPHON_SEATS": "2"}
    found = given_settings(tmp_path, toml, environment, port=3)
    assert (found.port, found.seats, found.queue, found.cold_prompts) == (3, 2, 1, Settings().cold_prompts)


def test_an_option_that_was_not_given_overrides_nothing(tmp_path: Path) -> None:
    assert given_settings(tmp_path, "port = 5", port=None).port == 5


@pytest.mark.parametrize("text", ["a,b", " a , b ", "a,,b,"])
def test_a_list_in_the_environment_is_parted_by_commas(tmp_path: Path, text: str) -> None:
    assert given_settings(tmp_path, "", {"ANTIPHON_MODELS": text}).models == ("a", "b")


def test_a_settings_file_may_be_named_and_must_exist_then(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("port = 7")
    assert load({}, config=file, environment={}).port == 7
    assert load({}, environment={"ANTIPHON_CONFIG": str(file)}).port == 7
    assert load({}, environment={"ANTIPHON_CONFIG": ""}) == Settings()
    with pytest.raises(SettingsError, match=r"none\.toml does not exist"):
        load({}, config=tmp_path / "none.toml", environment={})
    with pytest.raises(SettingsError, match=r"none\.toml does not exist"):
        load({}, environment={"ANTIPHON_CONFIG": str(tmp_path / "none.toml")})


@pytest.mark.parametrize(
    "content", [b"port =", b"[", b"\xff\xfe", b"port = 1\nport = 2"], ids=["half", "bracket", "binary", "twice"]
)
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "antiphon.toml").write_bytes(content)
    with pytest.raises(SettingsError, match=r"antiphon\.toml is not TOML"):
        load({"home": str(tmp_path)}, environment={})


def test_a_folder_in_the_files_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "antiphon.toml").mkdir()
    with pytest.raises(SettingsError, match=r"antiphon\.toml cannot be read: Is a directory"):
        load({"home": str(tmp_path)}, environment={})


def test_an_unknown_name_is_told_as_its_source_writes_it_with_the_nearest(tmp_path: Path) -> None:
    assert refusal(tmp_path, "prot = 1") == (
        f"Unknown setting `prot` in {tmp_path}/antiphon.toml; did you mean `port`?"
    )
    assert refusal(tmp_path, "", {"ANTIPHON_QUEUE_SECOND": "1"}) == (
        "Unknown setting `ANTIPHON_QUEUE_SECOND` in the environment; did you mean `ANTIPHON_QUEUE_SECONDS`?"
    )
    assert refusal(tmp_path, "", {"ANTIPHON_CONFG": "x"}).endswith("did you mean `ANTIPHON_CONFIG`?")
    assert refusal(tmp_path, drain_second=1) == (
        "Unknown setting `--drain-second` on the command line; did you mean `--drain-seconds`?"
    )
    assert "did you mean" in refusal(tmp_path, "[server]\nport = 1")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("port", "eighty"), ("port", "-1"), ("port", "65536"), ("port", ""), ("seats", "0"), ("seats", "1.5"),
        ("queue", "-1"), ("queue_seconds", "0"), ("queue_seconds", "nan"), ("queue_seconds", "inf"),
        ("body_bytes", "32MB"), ("log_level", "loud"), ("log_format", "xml"), ("traces", "yes"), ("models", " , "),
        ("home", ""), ("host", ""), ("hub_token", "a b"), ("hub_url", ""), ("hub_url", "http://hub.example"),
        ("hub_url", "https://me:pw@hub.example"), ("hub_url", "http://localhost.example"), ("hub_url", "ftp://h"),
    ],
)  # fmt: skip
def test_a_malformed_value_names_its_setting_and_source(tmp_path: Path, name: str, text: str) -> None:
    variable = f"ANTIPHON_{name.upper()}"
    said = refusal(tmp_path, "", {variable: text})
    assert said.startswith(f"The setting `{variable}` in the environment is malformed: ")


def test_a_malformed_value_of_the_file_is_told_as_the_files(tmp_path: Path) -> None:
    assert refusal(tmp_path, "port = [1]").startswith(f"The setting `port` in {tmp_path}/antiphon.toml is malformed")
    assert refusal(tmp_path, "models = [1]").startswith("The setting `models` in")
    assert refusal(tmp_path, 'port = "x"', {"ANTIPHON_PORT": "y"}).startswith("The setting `ANTIPHON_PORT`")


def test_one_of_a_few_words_lists_them(tmp_path: Path) -> None:
    said = refusal(tmp_path, 'log_level = "loud"')
    assert said.endswith("is malformed: it must be one of debug, info, warning, error")


def test_a_malformed_value_is_not_repeated(tmp_path: Path) -> None:
    assert "hunter2" not in refusal(tmp_path, 'database = ["postgresql://u:hunter2@h/d"]')
    assert "hunter2" not in refusal(tmp_path, "", {"ANTIPHON_PORT": "hunter2"})


@st.composite
def misspelt(draw: st.DrawFn) -> tuple[str, str]:
    """A setting's name and one slip of the hand: a letter dropped, doubled, changed, or two exchanged."""
    name = draw(st.sampled_from(FIELDS))
    at = draw(st.integers(0, len(name) - 2))
    letter = draw(st.sampled_from("abcdefghijklmnopqrstuvwxyz_"))
    slips = [
        name[:at] + name[at + 1 :],
        name[:at] + name[at] + name[at:],
        name[:at] + letter + name[at + 1 :],
        name[:at] + name[at + 1] + name[at] + name[at + 2 :],
    ]
    return name, draw(st.sampled_from(slips))


@given(misspelt())
def test_a_slip_of_the_hand_is_always_caught_and_the_right_name_is_told(pair: tuple[str, str]) -> None:
    name, written = pair
    assume(written not in FIELDS)
    with pytest.raises(SettingsError) as refused:
        load({}, environment={"ANTIPHON_HOME": "/nowhere", f"ANTIPHON_{written.upper()}": "1"})
    told = refused.value.message.rpartition("did you mean `ANTIPHON_")[2].rstrip("?`").lower()

    def likeness(candidate: str) -> float:
        return difflib.SequenceMatcher(None, candidate, written).ratio()

    assert told == name or likeness(told) >= likeness(name)


@given(st.dictionaries(st.sampled_from(FIELDS), st.text(max_size=8), max_size=4))
def test_any_values_give_settings_or_a_settings_error(values: dict[str, str]) -> None:
    environment = {f"ANTIPHON_{name.upper()}": text for name, text in values.items() if "\0" not in text}
    try:
        found = load({"home": "/nowhere"}, environment=environment)
    except SettingsError as error:
        assert "malformed" in error.message or "settings file" in error.message
    else:
        assert msgspec.convert(msgspec.to_builtins(found), Settings) == found


def test_the_data_folder_may_be_written_with_a_tilde(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".antiphon").mkdir()
    (tmp_path / ".antiphon" / "antiphon.toml").write_text("port = 4")
    found: Any = load({}, environment={})
    assert (found.port, found.home_path) == (4, tmp_path / ".antiphon")
    assert found.database_url == f"sqlite+aiosqlite:///{tmp_path}/.antiphon/antiphon.db"
