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
from antiphon.engine.contract import Finish, Step
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
from antiphon.wire.response import Message, OutputText, StopReason, message_usage

_utf8 = codecs.getincrementaldecoder("utf-8")


class Outcome(msgspec.Struct, frozen=True):
    """How a phase ended: the engine's reason, or the stop sequence that ended it."""

    finish: Finish | None = None
    stop_sequence: str | None = None


class Assembler:
    """One answer in the making.

    Args:
        message_id: the answer's id.
        model: the id the client asked for.
        usage: what is known before the first token: the input side.
        stop_sequences: apply to the answer's text only (contract messages-and-inference 3.3).
    """

    def __init__(self, message_id: str, model: str, usage: Usage, stop_sequences: Sequence[str]) -> None:
        self._id = message_id
        self._model = model
        self._input = usage
        self._stops = StopMatcher(stop_sequences)
        self._decoder = _utf8("replace")
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
        return MessageStart(
            Message(id=self._id, model=self._model, content=(), stop_reason=None, usage=message_usage(self._input))
        )

    def feed(self, step: Step) -> list[Event]:
        """The events of one engine step. `outcome` is set once the phase is over; further steps are not wanted then."""
        out: list[Event] = []
        for event in step.events:
            self.output_tokens += event.tokens
            text, stopped = self._stops.feed(self._decoder.decode(event.data))
            if text:
                self._show(text, out)
            if stopped is not None:
                self.outcome = Outcome(stop_sequence=stopped)
                return out
        if step.finish is not None:
            self.outcome = Outcome(finish=step.finish)
            text, stopped = self._stops.feed(self._decoder.decode(b"", final=True))
            text += self._stops.rest()
            if text:
                self._show(text, out)
        return out

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

    def _show(self, text: str, out: list[Event]) -> None:
        if not self._open:
            out.append(ContentBlockStart(self._index, OutputText("")))
            self._open = True
        out.append(ContentBlockDelta(self._index, TextDelta(text)))


def gather(start: MessageStart, events: Sequence[Event]) -> Message:
    """The whole message that a stream of events amounts to, as a client's own accumulator would build it."""
    message = start.message
    texts: list[list[str]] = []
    for event in events:
        match event:
            case ContentBlockStart():
                texts.append([])
            case ContentBlockDelta(index, TextDelta(text)):
                texts[index].append(text)
            case MessageDelta(delta, usage):
                message = msgspec.structs.replace(
                    message,
                    stop_reason=delta.stop_reason,
                    stop_sequence=delta.stop_sequence,
                    usage=msgspec.structs.replace(message.usage, output_tokens=usage.output_tokens),
                )
    invariant(message.stop_reason is not None, "a stream ends with message_delta")
    return msgspec.structs.replace(message, content=tuple(OutputText("".join(parts)) for parts in texts))
