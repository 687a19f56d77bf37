"""From a conversation to the ids the model reads, with a true place for every block of the client's.

The dialect turns blocks into turns, the model's chat template writes them down, and the text is cut only at
control tokens that the template or the dialect wrote. Those become ids of their own; what stands between two
of them is encoded as one string by a tokenizer that knows no control tokens, so that no client can write one,
and the ids are the engine's own for the whole prompt (architecture, section 2, "Rendering"; measured in
`spikes.md` section C).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import msgspec

from antiphon.core.clock import Clock
from antiphon.core.errors import InvalidRequest, PromptTooLong, WeightsError
from antiphon.dialect import dialect_named
from antiphon.dialect.base import CallForm, Piece, Turn, block_paths
from antiphon.dialect.template import ChatTemplate, Message, TemplateRefused
from antiphon.engine.contract import Prompt, TokenSpan
from antiphon.engine.tokenizer import Tokenizer
from antiphon.engine.vocabulary import Vocabulary
from antiphon.plan.layout import BlockEnd, Layout
from antiphon.plan.skeleton import Form, Placeholders, Skeleton, align, reform
from antiphon.wire.request import Conversation, Role

#: Skeletons kept, and the longest shape kept, in turns: a conversation of that length renders in a few
#: milliseconds.
_SHAPES = 512
_LONGEST_SHAPE = 256
_TRUSTED_TEXTS = 4096


class Rendered(msgspec.Struct, frozen=True):
    """A prompt. `tokens` is its length.

    `aligned` is false where the template did something to a content that is not understood: the contents then
    stand as they are in what the template writes around others, which is safe and may differ from the
    template's intent. `folded` is true where system text had to go into a user turn, because the template
    takes it nowhere else.
    """

    prompt: Prompt
    tokens: int
    aligned: bool
    folded: bool
    layout: Layout

    @property
    def blocks(self) -> tuple[BlockEnd, ...]:
        """Every block of the request, in the prompt's order. Worked out when asked for, anew each time."""
        return self.layout.block_ends()

    def end_of(self, path: str) -> int:
        """Where the block of this path ends: see `Layout.end_of`; `path in rendered.layout` tells whether there is
        one.

        Raises:
            InvariantBroken: there is no such block.
        """
        return self.layout.end_of(path)


class Renderer:
    """Renders conversations for one model. Built once per model; safe to use from several threads.

    Raises:
        WeightsError: when built for a model without a chat template, or of an unknown dialect.
    """

    def __init__(self, vocabulary: Vocabulary, tokenizer: Tokenizer, dialect: str, clock: Clock) -> None:
        if vocabulary.chat_template is None:
            raise WeightsError("The model file has no chat template")
        self._tokenizer = tokenizer
        self._dialect = dialect_named(dialect)
        self._bos = vocabulary.bos if vocabulary.add_bos else None
        self._template = ChatTemplate(
            vocabulary.chat_template,
            clock,
            bos=_token_text(vocabulary, vocabulary.bos),
            eos=_token_text(vocabulary, vocabulary.eos),
        )
        self._control = vocabulary.control
        self._placeholders = Placeholders(self._template)
        self._kept = lru_cache(_SHAPES)(self._placeholders.skeleton)
        self._cut = lru_cache(_TRUSTED_TEXTS)(tokenizer.split_control)

    def render(self, conversation: Conversation, most: int | None = None) -> Rendered:
        """The prompt for a conversation, ending where the answer begins (or goes on, after prefill).

        Raises:
            PromptTooLong: it has more than `most` tokens; of one that is far too long the least that it can have is
                told, for an exact count would take long.
            InvalidRequest: a block has no form in the model's dialect, or the template cannot write these
                turns, or a text cannot be read.
        """
        layout, aligned, folded = self._laid_out(conversation)
        if most is not None and (least := layout.least_tokens(self._tokenizer)) > most:
            raise PromptTooLong(least, most)
        tokens = layout.measure(self._tokenizer)
        if most is not None and tokens > most:
            raise PromptTooLong(tokens, most)
        return Rendered(
            prompt=Prompt((TokenSpan(layout.ids()),)), tokens=tokens, aligned=aligned, folded=folded, layout=layout
        )

    def count(self, conversation: Conversation) -> int:
        """How many tokens the prompt of a conversation has. Of a large one this takes a sixth of the memory.

        Raises:
            InvalidRequest: as `render`.
        """
        return self._laid_out(conversation)[0].measure(self._tokenizer)

    def _laid_out(self, conversation: Conversation) -> tuple[Layout, bool, bool]:
        """The prompt before it is read, whether it is `aligned`, and whether it is `folded`."""
        turns = self._dialect.turns(conversation)
        prefill = turns.pop() if turns and turns[-1].role == "assistant" else None
        # No dialect reads thinking yet: a template that invited it would put it into the answer's text.
        thinking = False
        shaped, skeleton = self._shape(turns, thinking)
        contents = [turn.text for turn in shaped]
        forms = self._align(skeleton, shaped, contents, thinking)
        layout = self._lay_out(skeleton, shaped, forms, prefill)
        layout.settle(block_paths(conversation))
        return layout, forms is not None, shaped is not turns

    @property
    def call_form(self) -> CallForm:
        """How this model's family writes a call."""
        return self._dialect.form

    @property
    def missing_bytes(self) -> frozenset[int]:
        """See `Tokenizer`. Worked out when asked for."""
        return self._tokenizer.missing_bytes

    def write(self, text: str) -> tuple[int, ...]:
        """The ids of text that the platform writes into an answer; control tokens in it are meant."""
        ids: list[int] = []
        for part in self._cut(text):
            ids += [part] if isinstance(part, int) else self._tokenizer.encode(part)
        return tuple(ids)

    def control_id(self, text: str) -> int | None:
        """The id of a control token, if this model has it."""
        return self._tokenizer.control_id(text)

    def _shape(self, turns: list[Turn], thinking: bool) -> tuple[list[Turn], Skeleton]:
        """The turns as the template can take them: as they are, or with system text moved into user turns."""
        skeleton = self._skeleton(turns, thinking)
        if skeleton is not None:
            return turns, skeleton
        for first in (1, 0):  # first only those amid the conversation, then all
            folded = _fold(turns, first)
            skeleton = self._skeleton(folded, thinking) if folded != turns else None
            if skeleton is not None:
                return folded, skeleton
        raise InvalidRequest("the model's chat template cannot write these turns", path="messages")

    def _skeleton(self, turns: Sequence[Turn], thinking: bool) -> Skeleton | None:
        roles: tuple[Role, ...] = tuple([turn.role for turn in turns])
        if self._template.tells_time or len(roles) > _LONGEST_SHAPE:
            return self._placeholders.skeleton(roles, thinking)
        return self._kept(roles, thinking)

    def _align(
        self, skeleton: Skeleton, turns: Sequence[Turn], contents: Sequence[str], thinking: bool
    ) -> list[Form] | None:
        messages = [Message(turn.role, content) for turn, content in zip(turns, contents, strict=True)]
        try:
            text = self._template.render(messages, generate=True, thinking=thinking)
        except TemplateRefused:
            return None
        return align(text, skeleton, contents)

    def _lay_out(
        self, skeleton: Skeleton, turns: Sequence[Turn], forms: Sequence[Form] | None, prefill: Turn | None
    ) -> Layout:
        layout = Layout()
        opening = self._cut(skeleton.literals[0])
        if self._bos is not None and opening[:1] != [self._bos]:
            layout.add([self._bos])
        layout.add(opening)
        for place, turn in enumerate(turns):
            self._add_pieces(layout, turn.pieces, "raw" if forms is None else forms[place])
            layout.add(self._cut(skeleton.literals[place + 1]))
        if prefill is not None:
            self._add_pieces(layout, prefill.pieces, "raw")
        layout.close()
        return layout

    def _add_pieces(self, layout: Layout, pieces: tuple[Piece, ...], form: Form) -> None:
        if form != "raw":
            shown = reform([piece.text for piece in pieces], form)
            pieces = tuple(msgspec.structs.replace(piece, text=text) for piece, text in zip(pieces, shown, strict=True))
        for piece in pieces:
            if piece.trusted:
                layout.add(self._cut(piece.text))
            else:
                layout.add_text(piece.text)
            if piece.path:
                layout.end_block(piece.path)


def _fold(turns: Sequence[Turn], first: int) -> list[Turn]:
    """System turns from place `first` on become part of the user turns beside them, as paragraphs of their
    own."""
    folded: list[Turn] = []
    for place, turn in enumerate(turns):
        role: Role = "user" if turn.role == "system" and place >= first else turn.role
        if folded and folded[-1].role == role:
            folded[-1] = Turn(role, (*folded[-1].pieces, Piece("\n\n", trusted=True), *turn.pieces))
        else:
            folded.append(Turn(role, turn.pieces))
    return folded


def _token_text(vocabulary: Vocabulary, token: int | None) -> str:
    return "" if token is None else vocabulary.tokens[token]
