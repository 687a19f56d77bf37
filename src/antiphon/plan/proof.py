"""Whether a model's chat template can be followed: proven at load, on a corpus, by a child process with limits.

`python -m antiphon.plan.proof VOCABULARY DIALECT OUT` is that child. What a template cannot do goes into its proof; one
that cannot be followed at all is refused (architecture, section 2, "Rendering").
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Container, Iterable
from pathlib import Path

import msgspec

import antiphon
from antiphon.core.clock import SystemClock
from antiphon.core.errors import InvalidRequest, WeightsError
from antiphon.engine import limited
from antiphon.engine.contract import TokenSpan
from antiphon.engine.tokenizer import Tokenizer
from antiphon.engine.vocabulary import Vocabulary, kept_vocabulary
from antiphon.plan.render import Rendered, Renderer
from antiphon.wire.blocks import TextBlock, ToolResultBlock, ToolUseBlock
from antiphon.wire.request import Conversation, InputMessage
from antiphon.wire.tools import CustomTool

#: Limits of the child: the corpus takes milliseconds, building the largest tokenizers 400 MB.
CHILD_SECONDS = 60.0
CHILD_BYTES = 4 << 30


class Proof(msgspec.Struct, frozen=True):
    """What a model's chat template can do.

    `system`: it takes a system turn at the start; `system_amid`: also later on. Where it does not, the text
    goes into user turns. `faithful`: texts that are hard to follow (blanks at the ends, quotes, control text,
    thinking marks) come out as they are, stripped or escaped. Where that is false, some are rendered without
    what the template would do to them (`Rendered.aligned`).
    """

    system: bool
    system_amid: bool
    faithful: bool


class _Kept(msgspec.Struct, frozen=True):
    """The stored form: says what was proven."""

    subject: str
    proof: Proof


def proven(vocabulary: Vocabulary, dialect: str, vocabulary_cache: Path, cache: Path) -> Proof:
    """The proof of a model file's template, from the file `cache` if that is of the same template, dialect and
    version of Antiphon, else made by a child process with limits: a template is a program of a stranger's.

    `vocabulary_cache` is where `load_vocabulary` keeps `vocabulary`. Blocks for up to `CHILD_SECONDS`.

    Raises:
        WeightsError: the template does not prove (see `prove`), or is too demanding.
    """
    subject = _subject(vocabulary, dialect)
    kept = _kept(cache)
    if kept is None or kept.subject != subject:
        arguments = [str(vocabulary_cache), dialect, str(cache)]
        limited.run(__name__, arguments, what="the chat template", seconds=CHILD_SECONDS)
        kept = _kept(cache)
    if kept is None or kept.subject != subject:
        raise WeightsError("The model file changed while its chat template was proven")
    return kept.proof


def _subject(vocabulary: Vocabulary, dialect: str) -> str:
    """What a proof is about, as a digest."""
    text = "\0".join((antiphon.__version__, dialect, vocabulary.chat_template or "", *vocabulary.control.values()))
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


def _kept(cache: Path) -> _Kept | None:
    try:
        return msgspec.msgpack.decode(cache.read_bytes(), type=_Kept)
    except (OSError, msgspec.MsgspecError):
        return None


def prove(renderer: Renderer) -> Proof:
    """Render a small corpus and see what comes of it. Takes some milliseconds.

    Raises:
        WeightsError: the template refuses plain conversations, changes their texts in a way that cannot be
            followed, or lets a text write control tokens.
    """
    plain = [_prove_one(renderer, conversation) for conversation in _plain_corpus()]
    if not all(rendered.aligned for rendered in plain):
        raise WeightsError("The model's chat template changes texts in a way that cannot be followed")
    control = renderer._control
    expected = _controls(_prove_one(renderer, _tool_conversation("harmless")), control)
    hard = [_prove_one(renderer, _tool_conversation(text)) for text in _hard_texts(control.values())]
    if any(_controls(rendered, control) != expected for rendered in hard):
        raise WeightsError("The model's chat template lets a text write control tokens")
    _, _, system, amid = plain
    return Proof(
        system=not system.folded,
        system_amid=not amid.folded,
        faithful=all(rendered.aligned for rendered in hard),
    )


def _prove_one(renderer: Renderer, conversation: Conversation) -> Rendered:
    try:
        return renderer.render(conversation)
    except InvalidRequest:
        raise WeightsError("The model's chat template refuses plain conversations") from None


def _controls(rendered: Rendered, control: Container[int]) -> int:
    return sum(
        token in control for span in rendered.prompt.segments if isinstance(span, TokenSpan) for token in span.ids
    )


def _plain_corpus() -> tuple[Conversation, Conversation, Conversation, Conversation]:
    asked, answered = InputMessage("user", "How far is it?"), InputMessage("assistant", "Two miles.")
    told = InputMessage("system", "Be brief.")
    return (
        Conversation(model="", messages=(asked,)),
        Conversation(model="", messages=(asked, answered, asked, InputMessage("assistant", "About"))),
        Conversation(model="", messages=(asked, answered, asked), system="Be kind."),
        Conversation(model="", messages=(asked, answered, asked, told), system="Be kind."),
    )


def _tool_conversation(text: str) -> Conversation:
    """Two calls at once and their results, with `text` wherever a client can put one."""
    calls = tuple(ToolUseBlock(id=name, name=name, input={text: text}) for name in ("a", "b"))
    results = tuple(ToolResultBlock(tool_use_id=name, content=text) for name in ("a", "b"))
    return Conversation(
        model="",
        messages=(
            InputMessage("user", text),
            InputMessage("assistant", (TextBlock(text=text), *calls)),
            InputMessage("user", results),
            InputMessage("assistant", text),
            InputMessage("user", text),
        ),
        system=text,
        tools=(CustomTool(name="a", description=text, input_schema={"type": "object", "title": text}),),
    )


def _hard_texts(control: Iterable[str]) -> tuple[str, ...]:
    return (
        "  blanks at both ends \n\n",
        '"quotes", \\ and\ttabs\r\n <b>&amp;</b> {{ braces }} {% raw %} é 日本 🙂',
        "<think>a</think>\n\nb",
        f"before {' '.join(control)} behind",
    )


def _main(vocabulary_cache: Path, dialect: str, out: Path) -> int:
    """The child."""
    limited.limit_memory(CHILD_BYTES)

    def made() -> bytes:
        vocabulary = kept_vocabulary(vocabulary_cache)
        renderer = Renderer(vocabulary, Tokenizer(vocabulary), dialect, SystemClock())
        return msgspec.msgpack.encode(_Kept(_subject(vocabulary, dialect), prove(renderer)))

    return limited.ended(made, out)


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))
