"""From engine steps to the events of one answer; a plain answer is the same events, gathered.

Holds the block that is open, the characters that are not whole yet, and the count of tokens; what the text of a stretch
is, a reader of its own says. Thinking will be a further one.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec

from antiphon.core.errors import invariant
from antiphon.core.records import Usage
from antiphon.dialect.stretch import Answer, Between, Document, Ending, Input, Name, Stretch
from antiphon.engine.contract import Step
from antiphon.reply.calls import BetweenReader, InputReader, NameReader
from antiphon.reply.stops import StopMatcher
from antiphon.reply.text import DocumentReader, TextReader
from antiphon.wire.events import (
    ContentBlockDelta,
    ContentBlockStart,
    ContentBlockStop,
    DeltaUsage,
    Event,
    InputJsonDelta,
    MessageDelta,
    MessageStart,
    MessageStop,
    StopDelta,
    TextDelta,
)
from antiphon.wire.request import MessagesRequest
from antiphon.wire.response import (
    CacheMiss,
    Diagnostics,
    Message,
    OutputBlock,
    OutputText,
    OutputToolUse,
    StopReason,
    message_usage,
)

_Reader: TypeAlias = TextReader | NameReader | InputReader | BetweenReader


class Conditions(msgspec.Struct, frozen=True):
    """What an answer says of the conditions it was made under, because its request asked."""

    inference_geo: str | None = None
    speed: str | None = None
    diagnostics: Diagnostics | msgspec.UnsetType | None = msgspec.UNSET

    @classmethod
    def of(cls, request: MessagesRequest, geography: str | None = None, missed: CacheMiss | None = None) -> Conditions:
        """`geography` is where it is served, `missed` why the cache was. Fast is served at the standard speed, and says
        so."""
        asked = request.diagnostics
        if asked is None:
            diagnostics: Diagnostics | msgspec.UnsetType | None = msgspec.UNSET
        else:
            diagnostics = None if missed is None else Diagnostics(missed)
        return cls(geography, "standard" if request.speed else None, diagnostics)


_UNASKED = Conditions()
_ANSWER = Answer()


class Assembler:
    """One answer in the making: one stretch after the other (`begin`), each fed until it has an `ending`.

    Args:
        message_id: the answer's id.
        model: the id the client asked for.
        usage: what is known before the first token: the input side.
        stop_sequences: apply to the answer's text only (contract messages-and-inference 3.3).
        by_token: each token's text is an event of its own. Otherwise all text is one, at the end: nobody reads along.
        call_ids: gives each call its id.
    """

    def __init__(
        self,
        message_id: str,
        model: str,
        usage: Usage,
        stop_sequences: Sequence[str],
        *,
        by_token: bool = True,
        conditions: Conditions = _UNASKED,
        call_ids: Callable[[], str] = lambda: "toolu_",
    ) -> None:
        self._id = message_id
        self._model = model
        self._input = usage
        self._stops = StopMatcher(stop_sequences) if stop_sequences else None
        self._by_token = by_token
        self._conditions = conditions
        self._call_ids = call_ids
        self._cut_off = b""
        self._index = 0
        self._open = False
        self._reader: _Reader = TextReader(_ANSWER, self._stops, by_token=by_token)
        self._made = 0
        self.output_tokens = 0
        self.ending: Ending | None = None

    @property
    def usage(self) -> Usage:
        """Usage so far."""
        return msgspec.structs.replace(self._input, output_tokens=self.output_tokens)

    def start(self) -> MessageStart:
        """The first event: everything but the content and its end."""
        said = self._conditions
        return MessageStart(
            Message(
                id=self._id,
                model=self._model,
                content=(),
                stop_reason=None,
                usage=message_usage(self._input, inference_geo=said.inference_geo, speed=said.speed),
                diagnostics=said.diagnostics,
            )
        )

    def begin(self, stretch: Stretch, *, written: int = 0, instead: bool = False) -> list[Event]:
        """What comes next. `written` tokens were put there by the platform; with `instead`, in the place of what the
        last stretch made."""
        if instead:
            self.output_tokens -= self._made
        self._made = 0
        self.output_tokens += written
        self.ending = None
        self._cut_off = b""
        match stretch:
            case Answer():
                self._reader = TextReader(stretch, self._stops, by_token=self._by_token)
            case Document():
                self._reader = DocumentReader(self._stops, by_token=self._by_token)
            case Name():
                self._reader = NameReader(stretch)
            case Input():
                self._reader = InputReader(stretch, by_token=self._by_token)
                return [*self._closed(), self._opened(stretch)]
            case Between():
                self._reader = BetweenReader(stretch)
        return []

    def feed(self, step: Step) -> list[Event]:
        """The events of one engine step. `ending` is set once the stretch is over; no further step is wanted then."""
        reader, shown = self._reader, []
        if reader.ends_anywhere:
            for event in step.events:
                self._count(event.tokens)
                shown += reader.feed(self._decode(event.data), event)
                if reader.how is not None:
                    if reader.how == "call" and not event.data:
                        self._count(-event.tokens)  # the control token is written with what follows it
                    break
        else:
            self._count(sum([event.tokens for event in step.events]))
            shown = reader.feed_all(self._decode_each([event.data for event in step.events]))
        if reader.how is None and step.finish is not None:
            reader.how = "length" if step.finish.reason == "length" else "end"
            shown += reader.rest(self._decode(b"", final=True))
        if reader.how is not None:
            self.ending = reader.ending(self.output_tokens, self._made)
        return self._deltas(shown, reader)

    def end(self, stop_reason: StopReason) -> list[Event]:
        """The last events: they leave once the usage record is durable."""
        out: list[Event] = self._closed()
        usage = self.usage
        stop_sequence = self.ending.sequence if self.ending else None
        out.append(
            MessageDelta(
                StopDelta(stop_reason, stop_sequence),
                DeltaUsage(
                    usage.input_tokens,
                    usage.cache_write_5m_tokens + usage.cache_write_1h_tokens,
                    usage.cache_read_tokens,
                    usage.output_tokens,
                ),
            )
        )
        out.append(MessageStop())
        return out

    def _count(self, tokens: int) -> None:
        self._made += tokens
        self.output_tokens += tokens

    def _decode_each(self, parts: Sequence[bytes]) -> list[str]:
        try:
            if not self._cut_off:  # nearly always: engines give whole characters
                return [part.decode() for part in parts]
        except UnicodeDecodeError:
            pass
        return [self._decode(part) for part in parts]

    def _decode(self, data: bytes, *, final: bool = False) -> str:
        """The characters that are whole by now; what there is of the next one is kept."""
        data = self._cut_off + data
        text, used = codecs.utf_8_decode(data, "replace", final)
        self._cut_off = data[used:]
        return text

    def _deltas(self, texts: Sequence[str], reader: _Reader) -> list[Event]:
        kind = InputJsonDelta if isinstance(reader, InputReader) else TextDelta
        events: list[Event] = [ContentBlockDelta(self._index, kind(text)) for text in texts if text]
        if events and not self._open:
            self._open = True
            events.insert(0, ContentBlockStart(self._index, OutputText("")))
        return events

    def _opened(self, call: Input) -> Event:
        self._open = True
        toolset = msgspec.UNSET if call.toolset is None else call.toolset
        shell = OutputToolUse(id=self._call_ids(), name=call.name, input={}, toolset_name=toolset)
        return ContentBlockStart(self._index, shell)

    def _closed(self) -> list[Event]:
        if not self._open:
            return []
        self._open = False
        self._index += 1
        return [ContentBlockStop(self._index - 1)]


def gather(start: MessageStart, events: Sequence[Event]) -> Message:
    """The whole message that a stream of events amounts to, as a client's own accumulator would build it."""
    message = start.message
    blocks: list[OutputBlock] = []
    pieces: list[list[str]] = []
    for event in events:
        if isinstance(event, ContentBlockDelta):
            delta = event.delta
            pieces[event.index].append(delta.text if isinstance(delta, TextDelta) else delta.partial_json)
        elif isinstance(event, ContentBlockStart):
            blocks.append(event.content_block)
            pieces.append([])
        elif isinstance(event, MessageDelta):
            message = msgspec.structs.replace(
                message,
                stop_reason=event.delta.stop_reason,
                stop_sequence=event.delta.stop_sequence,
                usage=msgspec.structs.replace(message.usage, output_tokens=event.usage.output_tokens),
            )
    invariant(message.stop_reason is not None, "a stream ends with message_delta")
    content = tuple(_whole(block, "".join(parts)) for block, parts in zip(blocks, pieces, strict=True))
    return msgspec.structs.replace(message, content=content)


def _whole(block: OutputBlock, text: str) -> OutputBlock:
    if isinstance(block, OutputText):
        return OutputText(text)
    return msgspec.structs.replace(block, input=msgspec.json.decode(text or "{}"))
