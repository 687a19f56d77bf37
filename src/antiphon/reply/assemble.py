"""From engine steps to the events of one answer; a plain answer is the same events, gathered.

Holds the text block that is open, the characters and possible stop sequences that are not whole yet, and the count of
tokens. Thinking and tool calls will be further blocks here.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence

import msgspec

from antiphon.core.errors import invariant
from antiphon.core.records import Usage
from antiphon.engine.contract import EngineEvent, Finish, Step
from antiphon.reply.stops import StopMatcher
from antiphon.wire.events import (
    ContentBlockDelta,
    ContentBlockStart,
    ContentBlockStop,
    DeltaUsage,
    Event,
    MessageDelta,
    MessageStart,
    MessageStop,
    StopDelta,
    TextDelta,
)
from antiphon.wire.request import MessagesRequest
from antiphon.wire.response import CacheMiss, Diagnostics, Message, OutputText, StopReason, message_usage


class Outcome(msgspec.Struct, frozen=True):
    """How a phase ended: the engine's reason, or the stop sequence that ended it."""

    finish: Finish | None = None
    stop_sequence: str | None = None


class Conditions(msgspec.Struct, frozen=True):
    """What an answer says of the conditions it was made under, because its request asked."""

    inference_geo: str | None = None
    speed: str | None = None
    diagnostics: Diagnostics | msgspec.UnsetType | None = msgspec.UNSET

    @classmethod
    def of(cls, request: MessagesRequest) -> Conditions:
        """Fast is served at the standard speed, and says so. Nobody can tell yet why a cache was missed."""
        asked = request.diagnostics
        if asked is None:
            diagnostics: Diagnostics | msgspec.UnsetType | None = msgspec.UNSET
        else:
            diagnostics = None if asked.previous_message_id is None else Diagnostics(CacheMiss("unavailable"))
        return cls(request.inference_geo, "standard" if request.speed else None, diagnostics)


_UNASKED = Conditions()


class Assembler:
    """One answer in the making.

    Args:
        message_id: the answer's id.
        model: the id the client asked for.
        usage: what is known before the first token: the input side.
        stop_sequences: apply to the answer's text only (contract messages-and-inference 3.3).
        by_token: each token's text is an event of its own. Otherwise all text is one, at the end: nobody reads along.
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
    ) -> None:
        self._id = message_id
        self._model = model
        self._input = usage
        self._stops = StopMatcher(stop_sequences) if stop_sequences else None
        self._by_token = by_token
        self._conditions = conditions
        self._unread: list[bytes] = []
        self._cut_off = b""
        self._index = 0
        self._open = False
        self.output_tokens = 0
        self.outcome: Outcome | None = None

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

    def feed(self, step: Step) -> list[Event]:
        """The events of one engine step. `outcome` is set once the phase is over; further steps are not wanted then."""
        texts: list[str] = []
        if self._stops is not None:
            texts = self._until_stop(step.events, self._stops)
        else:
            self.output_tokens += sum([event.tokens for event in step.events])
            parts = [event.data for event in step.events]
            if self._by_token:
                texts = self._decode_each(parts)
            else:
                self._unread += parts
        if step.finish is not None and self.outcome is None:
            self.outcome = Outcome(finish=step.finish)
            texts.append(self._rest())
        return self._shown(texts)

    def end(self, stop_reason: StopReason) -> list[Event]:
        """The last events: they leave once the usage record is durable."""
        invariant(self.outcome is not None, "an answer ends after its last phase")
        out: list[Event] = []
        if self._open:
            out.append(ContentBlockStop(self._index))
            self._open = False
        usage = self.usage
        stop_sequence = self.outcome.stop_sequence if self.outcome else None
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

    def _until_stop(self, events: Sequence[EngineEvent], stops: StopMatcher) -> list[str]:
        """Token by token, because the count of tokens ends with the one that completes a stop sequence."""
        texts: list[str] = []
        for event in events:
            self.output_tokens += event.tokens
            text, stopped = stops.feed(self._decode(event.data))
            texts.append(text)
            if stopped is not None:
                self.outcome = Outcome(stop_sequence=stopped)
                break
        return texts

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

    def _rest(self) -> str:
        """What was held back, once it is known that nothing follows."""
        text = self._decode(b"".join(self._unread), final=True)
        return text if self._stops is None else self._stops.feed(text)[0] + self._stops.rest()

    def _shown(self, texts: Sequence[str]) -> list[Event]:
        events: list[Event] = [ContentBlockDelta(self._index, TextDelta(text)) for text in texts if text]
        if events and not self._open:
            self._open = True
            events.insert(0, ContentBlockStart(self._index, OutputText("")))
        return events


def gather(start: MessageStart, events: Sequence[Event]) -> Message:
    """The whole message that a stream of events amounts to, as a client's own accumulator would build it."""
    message = start.message
    texts: list[list[str]] = []
    for event in events:
        if isinstance(event, ContentBlockDelta):
            texts[event.index].append(event.delta.text)
        elif isinstance(event, ContentBlockStart):
            texts.append([])
        elif isinstance(event, MessageDelta):
            message = msgspec.structs.replace(
                message,
                stop_reason=event.delta.stop_reason,
                stop_sequence=event.delta.stop_sequence,
                usage=msgspec.structs.replace(message.usage, output_tokens=event.usage.output_tokens),
            )
    invariant(message.stop_reason is not None, "a stream ends with message_delta")
    return msgspec.structs.replace(message, content=tuple(OutputText("".join(parts)) for parts in texts))
