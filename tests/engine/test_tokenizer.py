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
from antiphon.core.errors import InvalidRequest, WeightsError
from antiphon.engine import tokenizer as module
from antiphon.engine.tokenizer import LONGEST_STRETCH, Tokenizer
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


# Long texts


@pytest.mark.real
@pytest.mark.parametrize("pre", ["gpt-2", "smollm", "qwen2", "llama-bpe"])
def test_a_text_read_in_pieces_has_the_same_ids(
    vocabulary: Vocabulary, pre: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever family: cut wherever it may be, as often as it can be."""
    tokenizer = Tokenizer(msgspec.structs.replace(vocabulary, pre=pre), cache_characters=0)
    texts = corpus.mixed(3000, seed=7)
    whole = tokenizer.encode_batch(texts)
    monkeypatch.setattr(module, "_LOT", 4)
    assert sum(len(list(module._pieces(text))) > 3 for text in texts) > 1000
    assert [text for text, ids in zip(texts, whole, strict=True) if tokenizer.encode(text) != ids] == []


_ALPHABET = " \n\t\r\x1c\x85\xa0\u180e\u2028\u3000\u0301aZsltm'éж日かカー한09²٣.-\"/_|。、🙂\u200d"


@pytest.mark.real
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.sampled_from(_ALPHABET), min_size=1, max_size=60), data=st.data())
def test_a_text_cut_anywhere_it_may_be_has_the_same_ids(
    families: list[Tokenizer], text: str, data: st.DataObject
) -> None:
    cuts = [found.start() for found in module._CUT.finditer(text)]
    if cuts:
        cut = data.draw(st.sampled_from(cuts))
        for each in families:
            assert each.encode(text[:cut]) + each.encode(text[cut:]) == each.encode(text)


@pytest.fixture(scope="module")
def families(vocabulary: Vocabulary) -> list[Tokenizer]:
    return [
        Tokenizer(msgspec.structs.replace(vocabulary, pre=pre), cache_characters=0)
        for pre in ("gpt-2", "smollm", "qwen2", "llama-bpe")
    ]


def test_a_long_text_is_read_in_lots(monkeypatch: pytest.MonkeyPatch) -> None:
    lots: list[list[str]] = []
    monkeypatch.setattr(module, "_LOT", 100)
    tokenizer = Tokenizer(builtin_vocabulary())
    encode = tokenizer._bpe.encode_batch_fast

    class Watched:
        def encode_batch_fast(self, texts: list[str], *, add_special_tokens: bool) -> object:
            lots.append(texts)
            return encode(texts, add_special_tokens=add_special_tokens)

    monkeypatch.setattr(tokenizer, "_bpe", Watched())
    texts = ["one two three " * 50, "x", "four " * 30]
    assert [bytes(ids).decode() for ids in tokenizer.encode_batch(texts)] == texts
    assert len(lots) > 5 and all(sum(map(len, lot)) < 250 for lot in lots)
    assert sum(len(text) for lot in lots for text in lot) == sum(map(len, texts))


@pytest.mark.parametrize("unbroken", ["a", " ", "9", "\n", "..", "🙂", "ب"])
def test_a_text_without_a_break_is_refused(unbroken: str) -> None:
    with pytest.raises(InvalidRequest, match="a text has no break within 1000000 characters"):
        _BYTES.encode("It is " + unbroken * (LONGEST_STRETCH + 1_000))


def test_what_is_large_does_not_drive_out_what_is_kept() -> None:
    tokenizer = Tokenizer(builtin_vocabulary(), cache_characters=1000)
    tokenizer.encode("kept")
    tokenizer.encode_batch([f"{number:02}" * 20 for number in range(100)])
    assert tokenizer.cached_characters == len("kept")
    for number in range(100):
        tokenizer.encode(f"{number:02}" * 20)
    assert tokenizer.cached_characters == 1000


def test_shared_ids_are_those_of_a_batch_and_texts_may_repeat() -> None:
    tokenizer = Tokenizer(builtin_vocabulary())
    texts = ["a", "b", "a", ""]
    assert [ids.tolist() for ids in tokenizer.encode_shared(texts)] == tokenizer.encode_batch(texts)
    assert tokenizer.encode_batch(texts) == [[97], [98], [97], []]
