"""Tokens are llama.cpp's own for harmless text, and never control tokens for any text."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import corpus
from antiphon.core.errors import WeightsError
from antiphon.engine.tokenizer import Tokenizer
from antiphon.engine.vocabulary import Vocabulary, builtin_vocabulary, read_vocabulary
from llama_reference import Reference, serving


@pytest.fixture(scope="module", params=["smol_file", "qwen_file"])
def model_file(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(request.param)
    return path


@pytest.fixture(scope="module")
def vocabulary(model_file: Path) -> Vocabulary:
    return read_vocabulary(model_file)


@pytest.fixture(scope="module")
def tokenizer(vocabulary: Vocabulary) -> Tokenizer:
    return Tokenizer(vocabulary)


@pytest.fixture(scope="module")
def reference(model_file: Path) -> Iterator[Reference]:
    with serving(model_file) as server:
        yield server


@pytest.mark.real
def test_ids_are_the_engines_own(tokenizer: Tokenizer, reference: Reference) -> None:
    texts = corpus.mixed(600)
    ours = tokenizer.encode_batch(texts)
    differing = [text for text, ids in zip(texts, ours, strict=True) if ids != reference.ids(text)]
    assert differing == []


@pytest.mark.real
def test_ids_with_control_tokens_are_the_engines_own(
    tokenizer: Tokenizer, reference: Reference, vocabulary: Vocabulary
) -> None:
    names = list(vocabulary.control.values())
    texts = [f"{left}{names[i % len(names)]}{left[::-1]}" for i, left in enumerate(corpus.mixed(150))]
    texts += ["".join(names), " ".join(names), "\n".join(names)]
    assert [t for t in texts if tokenizer.encode_with_control(t) != reference.ids(t)] == []


@pytest.mark.real
def test_no_control_token_comes_of_text(tokenizer: Tokenizer, vocabulary: Vocabulary) -> None:
    for name in vocabulary.control.values():
        for text in (name, f"a{name}b", f" {name}\n", name * 3, f"\n\n{name}user\n"):
            assert vocabulary.control.keys().isdisjoint(tokenizer.encode(text)), text
            assert tokenizer.decode(tokenizer.encode(text)) == text.encode()


@pytest.mark.real
def test_offsets_cover_the_text(tokenizer: Tokenizer) -> None:
    for text in corpus.mixed(400):
        ids, offsets = tokenizer.encode_with_offsets(text)
        assert ids == tokenizer.encode(text)
        assert offsets[0][0] == 0 and offsets[-1][1] == len(text)
        for (start, end), (after, end_after) in pairwise(offsets):
            assert start <= after <= end <= end_after
        for token, (start, end) in zip(ids, offsets, strict=True):
            assert tokenizer.token_bytes(token) in text[start:end].encode()


@pytest.mark.real
def test_thirty_thousand_tokens_are_fast(tokenizer: Tokenizer) -> None:
    text = "\n".join(corpus.CODE + corpus.SCRIPTS[:2]) * 50
    tokenizer.encode("warm")
    best = 1.0
    for attempt in range(3):
        fresh = f"{attempt}{text}"
        begun = time.perf_counter()
        ids = tokenizer.encode(fresh)
        best = min(best, (time.perf_counter() - begun) / len(ids))
    assert best * 32_000 < 0.2  # 0.05 s on an idle machine; the bound leaves room for a busy one


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_text_goes_there_and_back(text: str) -> None:
    tokenizer = _BYTES
    assert tokenizer.decode(tokenizer.encode(text)) == text.encode()
    assert tokenizer.encode(text) == list(tokenizer.encode_batch([text, text])[1])


_BYTES = Tokenizer(builtin_vocabulary())


def test_an_unknown_pre_tokenizer_is_named() -> None:
    strange = msgspec.structs.replace(builtin_vocabulary(), pre="klingon")
    with pytest.raises(WeightsError, match="klingon"):
        Tokenizer(strange)


def test_a_malformed_merge_is_refused() -> None:
    for merge in ("ab", " b", "a "):
        with pytest.raises(WeightsError, match="merge"):
            Tokenizer(msgspec.structs.replace(builtin_vocabulary(), merges=(merge,)))


def test_a_merge_cannot_make_a_control_token() -> None:
    plain = builtin_vocabulary()
    tokens = (*plain.tokens[:256], "ab", "<|", "<|>")
    hostile = msgspec.structs.replace(plain, tokens=tokens, merges=("a b", "< |", "<| >"), control={258: "<|>"})
    tokenizer = Tokenizer(hostile)
    assert tokenizer.encode("ab<|>") == [256, 257, ord(">")]
    assert tokenizer.encode_with_control("ab<|>") == [256, 258]


def test_a_llama_3_word_that_is_a_token_is_taken_whole_but_not_a_control_token() -> None:
    plain = builtin_vocabulary()
    tokens = (*plain.tokens[:256], "hello", "world")
    tricky = msgspec.structs.replace(plain, pre="llama-bpe", tokens=tokens, control={257: "world"})
    tokenizer = Tokenizer(tricky)
    assert tokenizer.encode("hello") == [256]
    assert 257 not in tokenizer.encode("world")


def test_control_tokens_have_ids_and_no_text() -> None:
    assert _BYTES.control_id("<|im_end|>") == 258
    assert _BYTES.control_id("<|nothing|>") is None
    assert _BYTES.token_bytes(258) == b"" == _BYTES.token_bytes(-1) == _BYTES.token_bytes(10**9)
    assert _BYTES.split_control("a<|im_end|>\n<|im_start|>") == ["a", 258, "\n", 257]
    assert _BYTES.split_control("") == []


def test_the_longest_of_two_control_tokens_wins() -> None:
    plain = builtin_vocabulary()
    both = msgspec.structs.replace(plain, tokens=(*plain.tokens[:256], "<a", "<a>"), control={256: "<a", 257: "<a>"})
    assert Tokenizer(both).encode_with_control("<a><a") == [257, 256]


def test_unused_places_of_a_vocabulary_give_their_text() -> None:
    plain = builtin_vocabulary()
    padded = msgspec.structs.replace(plain, tokens=(*plain.tokens, "[日本]"))
    assert Tokenizer(padded).token_bytes(261) == "[日本]".encode()


def test_the_cache_is_bounded_by_characters_and_answers_the_same() -> None:
    tokenizer = Tokenizer(builtin_vocabulary(), cache_characters=100)
    texts = [f"{number:02}" * 20 for number in range(50)]
    first = tokenizer.encode_batch(texts)
    assert tokenizer.encode_batch(texts) == first
    assert tokenizer.cached_characters <= 100
    assert tokenizer.encode_batch(["x" * 1000, *texts])[1:] == first
    assert tokenizer.cached_characters <= 100


def test_what_a_caller_does_to_its_ids_does_not_reach_the_cache() -> None:
    tokenizer = Tokenizer(builtin_vocabulary())
    tokenizer.encode("again").clear()
    assert tokenizer.decode(tokenizer.encode("again")) == b"again"


def test_many_threads_get_the_same_answers() -> None:
    tokenizer = Tokenizer(builtin_vocabulary(), cache_characters=500)
    texts = [f"text number {number}" for number in range(60)]
    expected = tokenizer.encode_batch(texts)
    answers: list[bool] = []

    def work() -> None:
        answers.extend(tokenizer.encode_batch(texts) == expected for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True] * 80
