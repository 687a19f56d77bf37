"""Text to tokens and back, in the API process, for byte-level BPE vocabularies.

The tokenizer inside knows no control tokens at all: they are left out of its vocabulary, so that no text can
become one. (Switches that turn "special" tokens off, in llama.cpp as in `tokenizers`, still let user-defined
ones such as `<tool_call>` through: `spikes.md` section B.) Ids for text that holds no control token's text
are llama.cpp's own: its regular expressions, and no Unicode normalisation, which Hugging Face's files ask for
and llama.cpp does not do.
"""

from __future__ import annotations

import re
import threading
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import accumulate

import msgspec
import tokenizers
from tokenizers import models, pre_tokenizers

from antiphon.core.errors import InvalidRequest, WeightsError
from antiphon.engine.vocabulary import Vocabulary, byte_alphabet

#: How much text the cache of encoded segments covers, in characters: about 16 MB with its ids.
CACHE_CHARACTERS = 4_000_000

#: Texts longer than a lot are encoded piece by piece: ids become Python's under the interpreter's lock, and all of
#: those of a 20 MB text at once would hold other threads up for a second.
_LOT = 256 * 1024
#: The longest stretch of text without a place to cut. In ten times as many blanks the library's regular expressions
#: give up.
LONGEST_STRETCH = 1_000_000
#: Where every family ends one word and begins another, wherever in a text that is, and whatever stands further on:
#: a blank behind what is none; a letter beside a digit or a sign; a line's end in front of what is no blank. Of what
#: is not ASCII, only letters that no version of Unicode disputes.
_LETTERS = "a-zA-Z\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fa5\uac00-\ud7a3"
_SIGNS = "!-/:-@\\[-`{-~\u3001\u3002"
_CUT = re.compile(
    rf"(?<=[!-~{_LETTERS}])(?= )|(?<=[{_LETTERS}0-9])(?=[\t\n\r{_SIGNS}])|(?<=[{_LETTERS}])(?=[0-9])|"
    rf"(?<=[0-9])(?=[{_LETTERS}])|(?<=[!-~]\n)(?=[!-~])"
)

#: GGUF's token type of markup that was added to a vocabulary.
_USER_DEFINED = 4

_CONTRACTION = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


class _Family(msgspec.Struct, frozen=True):
    """How text is cut into words before merging: patterns applied one after the other.

    `whole_words`: a word that is a token as it stands is taken as such, whatever the merges say.
    """

    patterns: tuple[str, ...]
    whole_words: bool = False


_QWEN2 = _Family((rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_REST}",))
_LLAMA3 = _Family((rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_REST}",), whole_words=True)
_DIGITS_APART = _Family((r"\p{N}", _GPT2))
_PLAIN = _Family((_GPT2,))
#: The name in the model file -> its family (llama.cpp `llama-vocab.cpp`, `llm_tokenizer_bpe`).
_FAMILIES = {
    "gpt-2": _PLAIN,
    "phi-2": _PLAIN,
    "olmo": _PLAIN,
    "smollm": _DIGITS_APART,
    "starcoder": _DIGITS_APART,
    "refact": _DIGITS_APART,
    "command-r": _DIGITS_APART,
    "codeshell": _DIGITS_APART,
    "exaone": _DIGITS_APART,
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": _QWEN2,
    "stablelm2": _QWEN2,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "llama-bpe": _LLAMA3,
    "falcon3": _LLAMA3,
    "pixtral": _LLAMA3,
}


class Tokenizer:
    """One model's tokenizer. Safe to use from several threads.

    Raises:
        WeightsError: when built of a vocabulary whose pre-tokenizer is not known here, or whose merges are
        malformed.
    """

    def __init__(self, vocabulary: Vocabulary, cache_characters: int = CACHE_CHARACTERS) -> None:
        self._tokens = vocabulary.tokens
        self._control = vocabulary.control
        self._types = vocabulary.token_types
        self._control_ids = {text: index for index, text in vocabulary.control.items()}
        by_length = sorted(self._control_ids, key=len, reverse=True)
        self._split = re.compile("(" + "|".join(map(re.escape, by_length)) + ")" if by_length else r"(?!)")
        self._bpe = _build(vocabulary)
        #: The longest token's length, in bytes: a text has at least so many tokens as this goes into it.
        self.longest = max(
            (len(text) for index, text in enumerate(self._tokens) if index not in self._control), default=1
        )
        #: Of each token, in bytes: one letter of the byte alphabet is one byte.
        self._lengths = [len(text) for text in self._tokens]
        self._cache = _Segments(cache_characters)
        self._bytes = {ord(letter): chr(byte) for byte, letter in enumerate(byte_alphabet())}

    def encode(self, text: str) -> list[int]:
        """The ids of a text, none of them a control token's. For long texts `encode_batch` frees other
        threads."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text; those encoded lately come from a cache. Other threads run meanwhile.

        Raises:
            InvalidRequest: a text cannot be read, because there is no break in `LONGEST_STRETCH` characters of it.
        """
        return [ids.tolist() for ids in self.encode_shared(texts)]

    def encode_shared(self, texts: Sequence[str]) -> list[array[int]]:
        """As `encode_batch`, in a sixth of the memory. The arrays are the cache's own: not to be changed.

        Raises:
            InvalidRequest: as `encode_batch`.
        """
        found = {text: self._cache.get(text) for text in texts}
        missing = [text for text, ids in found.items() if ids is None]
        if not missing:
            return [ids for text in texts if (ids := found[text]) is not None]
        fresh = [array("I") for _ in missing]
        for lot in _lots(missing):
            pieces = [piece for _, piece in lot]
            for (place, _), encoding in zip(
                lot, self._bpe.encode_batch_fast(pieces, add_special_tokens=False), strict=True
            ):
                fresh[place].extend(encoding.ids)
        # What is large would drive out all that others come back for.
        keeps = sum(map(len, missing)) <= self._cache.capacity // 4
        for text, ids in zip(missing, fresh, strict=True):
            found[text] = ids
            if keeps:
                self._cache.put(text, ids)
        return [ids for text in texts if (ids := found[text]) is not None]

    def ends(self, text: str, ids: Sequence[int]) -> tuple[list[int], bool]:
        """Where in `text` each of its tokens ends: in bytes, where every byte of it is in a token, which is told
        without encoding it again (true), or else in characters, as `encode_with_offsets` (false)."""
        size = len(text) if text.isascii() else len(text.encode())
        reached = list(accumulate(map(self._lengths.__getitem__, ids)))
        if (reached[-1] if reached else 0) == size:
            return reached, True
        return [end for _, end in self.encode_with_offsets(text)[1]], False

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """The ids, and for each the characters it stands for, as `(start, end)`.

        A token that holds only some bytes of a character covers that character whole, so neighbours may
        overlap; starts and ends never go back.
        """
        encoding = self._bpe.encode_batch([text], add_special_tokens=False)[0]
        return encoding.ids, encoding.offsets

    def encode_with_control(self, text: str) -> list[int]:
        """The ids as the engine itself would give them, control tokens in the text included. For checks, and
        for text that is wholly ours: never for a client's."""
        ids: list[int] = []
        for part in self.split_control(text):
            ids.extend([part] if isinstance(part, int) else self.encode(part))
        return ids

    def split_control(self, text: str) -> list[str | int]:
        """A text cut at every control token in it: texts (never empty) and the ids between them."""
        ids = self._control_ids
        return [ids[part] if at % 2 else part for at, part in enumerate(self._split.split(text)) if part]

    def control_id(self, text: str) -> int | None:
        """The id of the control token that is written so."""
        return self._control_ids.get(text)

    def token_bytes(self, token: int) -> bytes:
        """What a token adds to the text; nothing for control tokens and for ids that do not exist."""
        if token in self._control or not 0 <= token < len(self._tokens):
            return b""
        text = self._tokens[token]
        try:
            return text.translate(self._bytes).encode("latin-1")
        except UnicodeEncodeError:  # not written in the byte alphabet, such as unused places of a vocabulary
            return text.encode()

    def made_bytes(self, token: int) -> bytes:
        """What a token that a model made adds to the text. Tokens of the model's own markup (user-defined ones, such as
        `<tool_call>`) are text then; those that end and separate turns are not."""
        if token in self._control and self._types[token] == _USER_DEFINED:
            return self._control[token].encode()
        return self.token_bytes(token)

    def read(self, ids: Sequence[int]) -> str:
        """Tokens as text, control tokens as they are written. For text that is wholly ours."""
        parts = [self._control[i].encode() if i in self._control else self.token_bytes(i) for i in ids]
        return b"".join(parts).decode("utf-8", "replace")

    @property
    def missing_bytes(self) -> frozenset[int]:
        """The bytes that no token is: text that holds them cannot be written, nor read."""
        single = {token for index, token in enumerate(self._tokens) if len(token) == 1 and index not in self._control}
        return frozenset(byte for byte, letter in enumerate(byte_alphabet()) if letter not in single)

    @property
    def cached_characters(self) -> int:
        """How much text the cache holds, in characters."""
        return self._cache.characters

    def decode(self, ids: Sequence[int]) -> bytes:
        """The bytes of the tokens in a row: not always whole characters."""
        return b"".join(map(self.token_bytes, ids))


class _Segments:
    """Encoded texts, the least lately used forgotten first, bounded by the characters they hold in all."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.characters = 0
        self._entries: OrderedDict[str, array[int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, text: str) -> array[int] | None:
        with self._lock:
            ids = self._entries.get(text)
            if ids is not None:
                self._entries.move_to_end(text)
            return ids

    def put(self, text: str, ids: array[int]) -> None:
        with self._lock:
            if text in self._entries or len(text) > self.capacity:
                return
            self._entries[text] = ids
            self.characters += len(text)
            while self.characters > self.capacity:
                gone, _ = self._entries.popitem(last=False)
                self.characters -= len(gone)


def _lots(texts: Sequence[str]) -> Iterator[list[tuple[int, str]]]:
    """The pieces of the texts, each with its text's place, so many at a time as make a lot."""
    lot: list[tuple[int, str]] = []
    room = _LOT
    for place, text in enumerate(texts):
        for piece in _pieces(text):
            lot.append((place, piece))
            room -= len(piece)
            if room <= 0:
                yield lot
                lot, room = [], _LOT
    if lot:
        yield lot


def _pieces(text: str) -> Iterator[str]:
    """A text cut where that changes none of its ids.

    Raises:
        InvalidRequest: as `Tokenizer.encode_batch`.
    """
    start = 0
    while len(text) - start > _LOT and (cut := _next_cut(text, start)):
        yield text[start:cut]
        start = cut
    if len(text) - start > LONGEST_STRETCH:
        raise InvalidRequest(f"a text has no break within {LONGEST_STRETCH} characters")
    yield text[start:]


def _next_cut(text: str, start: int) -> int:
    """The first place for a cut that leaves at least half a lot, 0 if there is none."""
    step = _LOT // 4  # a search holds other threads up
    for begin in range(start + _LOT // 2, min(start + LONGEST_STRETCH, len(text)), step):
        found = _CUT.search(text, begin, begin + step + 1)
        if found is not None:
            return found.start()
    return 0


def _build(vocabulary: Vocabulary) -> tokenizers.Tokenizer:
    family = _FAMILIES.get(vocabulary.pre)
    if family is None:
        raise WeightsError(
            f"The model's pre-tokenizer {vocabulary.pre[:80]!r} is not known; known are {', '.join(sorted(_FAMILIES))}"
        )
    control = vocabulary.control
    ids = {text: index for index, text in enumerate(vocabulary.tokens) if index not in control}
    tokenizer = tokenizers.Tokenizer(
        models.BPE(vocab=ids, merges=_merges(vocabulary.merges, ids), ignore_merges=family.whole_words)
    )
    steps: list[pre_tokenizers.PreTokenizer] = [
        pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated") for pattern in family.patterns
    ]
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    return tokenizer


def _merges(merges: Sequence[str], ids: dict[str, int]) -> list[tuple[str, str]]:
    """The merges in order, without those that would make or use a token that text must not become."""
    pairs: list[tuple[str, str]] = []
    for merge in merges:
        left, space, right = merge.partition(" ")
        if not (left and space and right):
            raise WeightsError(f"The model's vocabulary has the malformed merge {merge[:80]!r}")
        if left in ids and right in ids and left + right in ids:
            pairs.append((left, right))
    return pairs
