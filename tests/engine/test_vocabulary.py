"""A vocabulary is read once, in a child with limits, and kept; what is kept is never trusted blindly."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from antiphon.core.errors import WeightsError
from antiphon.engine.tokenizer import Tokenizer
from antiphon.engine.vocabulary import builtin_vocabulary, byte_alphabet, load_vocabulary, read_vocabulary


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def _entry(key: str, kind: int, value: bytes) -> bytes:
    return _text(key) + struct.pack("<I", kind) + value


def _texts(key: str, values: list[str]) -> bytes:
    return _entry(key, 9, struct.pack("<IQ", 8, len(values)) + b"".join(map(_text, values)))


def tiny(**changes: bytes | None) -> bytes:
    """A model file of five tokens; entries can be replaced by their last name, or left out."""
    types = struct.pack("<IQ5i", 5, 5, 1, 1, 1, 3, 4)
    entries = {
        "architecture": _entry("general.architecture", 8, _text("tiny")),
        "model": _entry("tokenizer.ggml.model", 8, _text("gpt2")),
        "pre": _entry("tokenizer.ggml.pre", 8, _text("qwen2")),
        "tokens": _texts("tokenizer.ggml.tokens", ["a", "b", "ab", "<|im_end|>", "<tool_call>"]),
        "merges": _texts("tokenizer.ggml.merges", ["a b"]),
        "token_type": _entry("tokenizer.ggml.token_type", 9, types),
        "eos": _entry("tokenizer.ggml.eos_token_id", 4, struct.pack("<I", 3)),
        "context": _entry("tiny.context_length", 4, struct.pack("<I", 4096)),
    }
    kept = [entry for name, entry in (entries | changes).items() if entry is not None]
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(kept)) + b"".join(kept)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(tiny())
    return path


def test_what_matters_is_taken_from_the_file(model: Path) -> None:
    vocabulary = read_vocabulary(model)
    assert vocabulary.control == {3: "<|im_end|>", 4: "<tool_call>"}
    assert vocabulary.end_tokens == (3,)
    assert (vocabulary.bos, vocabulary.eos, vocabulary.add_bos) == (None, 3, False)
    assert (vocabulary.context_length, vocabulary.architecture, vocabulary.pre) == (4096, "tiny", "qwen2")
    assert vocabulary.chat_template is None
    assert Tokenizer(vocabulary).encode("abba") == [2, 1, 0]


def test_the_first_token_is_added_by_default_only_where_llama_cpp_does(model: Path) -> None:
    model.write_bytes(tiny(pre=_entry("tokenizer.ggml.pre", 8, _text("llama-bpe"))))
    assert read_vocabulary(model).add_bos
    off = _entry("tokenizer.ggml.add_bos_token", 7, b"\x00")
    model.write_bytes(tiny(pre=_entry("tokenizer.ggml.pre", 8, _text("llama-bpe")), add=off))
    assert not read_vocabulary(model).add_bos


def test_every_end_that_the_file_or_its_name_tells_is_known(model: Path) -> None:
    eot = _entry("tokenizer.ggml.eot_token_id", 4, struct.pack("<I", 4))
    model.write_bytes(tiny(eot=eot))
    assert read_vocabulary(model).end_tokens == (3, 4)


def test_the_end_of_a_part_is_not_the_end_of_the_turn(model: Path) -> None:
    names = ["<|end|>", "<|return|>", "<|call|>", "<|im_end|>", "<tool_call>"]
    model.write_bytes(tiny(tokens=_texts("tokenizer.ggml.tokens", names), merges=_texts("tokenizer.ggml.merges", [])))
    assert read_vocabulary(model).end_tokens == (1, 2, 3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": _entry("tokenizer.ggml.model", 8, _text("llama"))}, "byte-level BPE"),
        ({"tokens": _texts("tokenizer.ggml.tokens", [])}, "no tokens"),
        ({"tokens": _texts("tokenizer.ggml.tokens", ["a"])}, "type to each"),
        ({"merges": None}, "merges"),
        ({"token_type": None}, "token_type"),
        ({"context": None}, "context_length"),
        ({"eos": _entry("tokenizer.ggml.eos_token_id", 4, struct.pack("<I", 5))}, "does not exist"),
        ({"template": _entry("tokenizer.chat_template", 8, _text("x" * 300_000))}, "chat template"),
    ],
)
def test_a_file_that_does_not_make_sense_is_refused(model: Path, changes: dict[str, bytes], said: str) -> None:
    model.write_bytes(tiny(**changes))
    with pytest.raises(WeightsError, match=said):
        read_vocabulary(model)


def test_a_vocabulary_is_kept_and_taken_from_the_cache(model: Path, tmp_path: Path) -> None:
    cache = tmp_path / "kept" / "vocabulary"
    first = load_vocabulary(model, cache)
    written = cache.stat().st_mtime_ns
    assert load_vocabulary(model, cache) == first == read_vocabulary(model)
    assert cache.stat().st_mtime_ns == written
    assert [path.name for path in cache.parent.iterdir()] == ["vocabulary"]


@pytest.mark.parametrize("damage", [b"", b"\x00", b"\xff" * 100])
def test_a_damaged_cache_is_made_anew(model: Path, tmp_path: Path, damage: bytes) -> None:
    cache = tmp_path / "vocabulary"
    expected = load_vocabulary(model, cache)
    cache.write_bytes(damage)
    assert load_vocabulary(model, cache) == expected


def test_a_cache_cut_short_is_made_anew(model: Path, tmp_path: Path) -> None:
    cache = tmp_path / "vocabulary"
    expected = load_vocabulary(model, cache)
    cache.write_bytes(cache.read_bytes()[:-3])
    assert load_vocabulary(model, cache) == expected


def test_a_cache_of_another_model_is_made_anew(model: Path, tmp_path: Path) -> None:
    cache = tmp_path / "vocabulary"
    load_vocabulary(model, cache)
    model.write_bytes(tiny(pre=_entry("tokenizer.ggml.pre", 8, _text("smollm"))))
    os.utime(model, ns=(1, 1))
    assert load_vocabulary(model, cache).pre == "smollm"


def test_the_child_says_why_it_refuses(tmp_path: Path) -> None:
    model = tmp_path / "bad.gguf"
    model.write_bytes(b"not a model")
    with pytest.raises(WeightsError, match="not a GGUF file"):
        load_vocabulary(model, tmp_path / "vocabulary")
    assert not (tmp_path / "vocabulary").exists()


def test_the_built_in_vocabulary_has_every_byte_and_chatml() -> None:
    vocabulary = builtin_vocabulary()
    tokenizer = Tokenizer(vocabulary)
    assert len(set(byte_alphabet())) == 256
    assert vocabulary.context_length == 200_000
    everything = "".join(map(chr, range(0x250))) + "日本🙂"
    assert tokenizer.decode(tokenizer.encode(everything)) == everything.encode()
    assert len(tokenizer.encode(everything)) == len(everything.encode())
    assert [tokenizer.control_id(text) for text in ("<|im_start|>", "</tool_call>")] == [257, 260]


@pytest.mark.real
def test_real_models_say_how_their_answers_end(smol_file: Path, qwen_file: Path) -> None:
    smol, qwen = read_vocabulary(smol_file), read_vocabulary(qwen_file)
    assert smol.pre == "smollm" and qwen.pre == "qwen2"
    assert {qwen.tokens[i] for i in qwen.end_tokens} >= {"<|im_end|>", "<|endoftext|>"}
    assert smol.eos == 2 and 2 in smol.end_tokens
    assert qwen.control[151657] == "<tool_call>"
    # llama.cpp overrides the type of this one ("control-looking token"), so text must not become it either.
    assert qwen.control[128247] == "</s>"
