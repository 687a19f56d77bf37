"""A model's vocabulary and chat template, taken out of its file once and kept beside the weights.

The file may be hostile and its metadata is large, so `load_vocabulary` reads it in a child process with
limits on time and memory and keeps only what is used here: `python -m antiphon.engine.vocabulary MODEL OUT`
is that child.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import msgspec

from antiphon.core.errors import WeightsError
from antiphon.engine import limited
from antiphon.engine.gguf import Value, read_metadata

T = TypeVar("T")

#: Limits of the child: the largest vocabularies need 2 s and 300 MB.
CHILD_SECONDS = 60.0
CHILD_BYTES = 2 << 30
#: A chat template longer than this is no chat template; the longest published one has 30,000 characters.
MAX_TEMPLATE_CHARACTERS = 256 * 1024

_CONTROL, _USER_DEFINED = 3, 4
#: Names by which llama.cpp knows an end of generation (`llama-vocab.cpp`, the tokens it calls EOG).
# fmt: off
_END_NAMES = frozenset((
    "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eot|>", "<|eom_id|>", "<|end|>", "<|return|>",
    "<|call|>", "<|calls|>", "<|flush|>", "<|end_of_text|>", "<|ifm|im_end|>", "<|plamo:eos|>",
    "<end_of_turn>", "<turn|>", "<end_of_utterance>", "<｜end▁of▁sentence｜>", "<EOT>", "_<EOT>", "[EOT]",
    "[EOS]", "</s>", "<eos>", "<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]", "<|fim_repo|>",
    "<|tool_response>", "[e~[", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>", "<|file_sep|>",
))
# fmt: on
#: Pre-tokenizers for which llama.cpp adds the first token when the file does not say whether to.
_BOS_BY_DEFAULT = frozenset({"llama3", "llama-v3", "llama-bpe", "falcon3", "pixtral"})


class Vocabulary(msgspec.Struct, frozen=True, kw_only=True):
    """What makes and reads a model's tokens. A token's id is its place in `tokens`.

    `tokens` are written in the byte-level alphabet of GPT-2, except for control tokens, which are plain text.
    `control` holds every id that text must never become: control and user-defined tokens (GGUF token types 3
    and 4). `context_length` is in tokens.
    """

    model: str
    pre: str
    tokens: tuple[str, ...]
    merges: tuple[str, ...]
    token_types: tuple[int, ...]
    bos: int | None
    eos: int | None
    add_bos: bool
    end_tokens: tuple[int, ...]
    control: dict[int, str]
    chat_template: str | None
    context_length: int
    architecture: str

    @property
    def markup_tokens(self) -> tuple[int, ...]:
        """The model's own markup: user-defined tokens, which libraries take for text."""
        return tuple(i for i in self.control if self.token_types[i] == _USER_DEFINED)


class _Stored(msgspec.Struct, frozen=True):
    """The cached form: says which reader and which file it came from."""

    format: int
    size: int
    modified_ns: int
    vocabulary: Vocabulary


_FORMAT = 1


def read_vocabulary(path: Path) -> Vocabulary:
    """The vocabulary of a GGUF file; one cut off behind its metadata will do.

    Raises:
        WeightsError: the file is malformed, or its tokenizer is not byte-level BPE.
    """
    entries = read_metadata(path, _wanted)
    architecture = _entry(entries, "general.architecture", str)
    model = _entry(entries, "tokenizer.ggml.model", str)
    if model != "gpt2":
        raise WeightsError(f"The model's tokenizer is of the kind {model!r}; only byte-level BPE ('gpt2') is served")
    tokens = _texts(entries, "tokenizer.ggml.tokens")
    if not tokens:
        raise WeightsError("The model file has no tokens")
    types = _types(entries, len(tokens))
    pre = _entry(entries, "tokenizer.ggml.pre", str, "default")
    told = [_token_id(entries, f"tokenizer.ggml.{name}_token_id", len(tokens)) for name in ("eos", "eot", "eom")]
    ends = {index: text for index, text in enumerate(tokens) if text in _END_NAMES}
    # llama.cpp takes a token of such a name for a control token even where the file forgot to say so (Qwen's
    # `</s>`).
    control = ends | {
        index: tokens[index] for index, kind in enumerate(types) if kind in (_CONTROL, _USER_DEFINED) and tokens[index]
    }
    template = _entry(entries, "tokenizer.chat_template", str, "") or None
    if template is not None and len(template) > MAX_TEMPLATE_CHARACTERS:
        raise WeightsError(f"The model's chat template has {len(template)} characters")
    return Vocabulary(
        model=model,
        pre=pre,
        tokens=tokens,
        merges=_texts(entries, "tokenizer.ggml.merges"),
        token_types=types,
        bos=_token_id(entries, "tokenizer.ggml.bos_token_id", len(tokens)),
        eos=told[0],
        add_bos=_entry(entries, "tokenizer.ggml.add_bos_token", bool, pre in _BOS_BY_DEFAULT),
        end_tokens=_end_tokens(ends, told),
        control=dict(sorted(control.items())),
        chat_template=template,
        context_length=_entry(entries, f"{architecture}.context_length", int),
        architecture=architecture,
    )


def load_vocabulary(model_file: Path, cache: Path) -> Vocabulary:
    """The vocabulary of `model_file`, from the file `cache` if that was made from the same model file, else
    taken out of the model file by a child process and kept there. Blocks for up to `CHILD_SECONDS`.

    Raises:
        WeightsError: the model file is malformed or too demanding, or the cache cannot be written.
    """
    vocabulary = _cached(model_file, cache)
    if vocabulary is not None:
        return vocabulary
    _extract(model_file, cache)
    vocabulary = _cached(model_file, cache)
    if vocabulary is None:
        raise WeightsError(f"The model file {model_file.name} changed while it was read")
    return vocabulary


def builtin_vocabulary() -> Vocabulary:
    """256 byte tokens and ChatML's specials: enough for the scripted engine to have true token counts."""
    specials = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>")
    tokens = (*byte_alphabet(), *specials)
    control = {256 + index: text for index, text in enumerate(specials)}
    return Vocabulary(
        model="gpt2",
        pre="gpt-2",
        tokens=tokens,
        merges=(),
        token_types=(1,) * 256 + (_CONTROL,) * len(specials),
        bos=None,
        eos=258,
        add_bos=False,
        end_tokens=(256, 258),
        control=control,
        chat_template=_CHATML,
        context_length=200_000,
        architecture="builtin",
    )


_CHATML = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


def byte_alphabet() -> tuple[str, ...]:
    """GPT-2's letter for each of the 256 bytes: printable ones stand for themselves, the rest follow from
    U+0100."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (byte for byte in range(256) if byte not in printable)
    moved = {byte: chr(0x100 + place) for place, byte in enumerate(others)}
    return tuple(moved.get(byte) or chr(byte) for byte in range(256))


def _end_tokens(named: dict[int, str], told: Iterable[int | None]) -> tuple[int, ...]:
    """Those of known names and those the file names. In a vocabulary where `<|return|>` or the like ends the
    turn, `<|end|>` only ends a part of it (gpt-oss)."""
    texts = set(named.values())
    inner = "<|end|>" if {"<|return|>", "<|call|>"} <= texts or {"<|calls|>", "<|flush|>"} <= texts else None
    found = {index for index, text in named.items() if text != inner}
    return tuple(sorted(found.union(index for index in told if index is not None)))


def _wanted(key: str) -> bool:
    return key == "general.architecture" or key.startswith("tokenizer.") or key.endswith(".context_length")


def _entry(entries: dict[str, Value], key: str, kind: type[T], default: T | None = None) -> T:
    value = entries.get(key, default)
    if not isinstance(value, kind):
        raise WeightsError(f"The model file's metadata entry {key!r} is missing or malformed")
    return value


def _texts(entries: dict[str, Value], key: str) -> tuple[str, ...]:
    value = _entry(entries, key, tuple)
    if value and not isinstance(value[0], str):
        raise WeightsError(f"The model file's metadata entry {key!r} is not a list of texts")
    return value


def _types(entries: dict[str, Value], count: int) -> tuple[int, ...]:
    types = _entry(entries, "tokenizer.ggml.token_type", tuple)
    if len(types) != count or not isinstance(types[0], int):
        raise WeightsError("The model file does not give a type to each token")
    return types


def _token_id(entries: dict[str, Value], key: str, count: int) -> int | None:
    if key not in entries:
        return None
    value = _entry(entries, key, int)
    if not 0 <= value < count:
        raise WeightsError(f"The model file's metadata entry {key!r} names a token that does not exist")
    return value


def kept_vocabulary(cache: Path) -> Vocabulary:
    """What `load_vocabulary` keeps in `cache`, without looking at the model file.

    Raises:
        WeightsError: it is not there or damaged.
    """
    try:
        return msgspec.msgpack.decode(cache.read_bytes(), type=_Stored).vocabulary
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        raise WeightsError(f"{cache.name} is not there or damaged") from None


def _cached(model_file: Path, cache: Path) -> Vocabulary | None:
    """What the cache holds, or None where it is absent, damaged or from another file: it is then made
    anew."""
    try:
        stored = msgspec.msgpack.decode(cache.read_bytes(), type=_Stored)
        about = model_file.stat()
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    same = (stored.format, stored.size, stored.modified_ns) == (_FORMAT, about.st_size, about.st_mtime_ns)
    return stored.vocabulary if same else None


def _extract(model_file: Path, cache: Path) -> None:
    limited.run(__name__, [str(model_file), str(cache)], what=model_file.name, seconds=CHILD_SECONDS)


def _main(model_file: Path, out: Path) -> int:
    """The child."""
    limited.limit_memory(CHILD_BYTES)

    def extracted() -> bytes:
        about = model_file.stat()
        stored = _Stored(_FORMAT, about.st_size, about.st_mtime_ns, read_vocabulary(model_file))
        return msgspec.msgpack.encode(stored)

    return limited.ended(extracted, out)


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1]), Path(sys.argv[2])))
