"""The phases of an answer: a pure function from how one stretch ended to the next one, or the end.

    answer    free text, until the model begins a call, a stop sequence, or the end of its turn
    name      of the tool, out of those that are offered, under a grammar
    input     under the tool's own grammar, so that it cannot be malformed
    between   after a call: whether one more follows
    document  the whole answer under the grammar of a schema

The platform writes what stands around names and inputs, in the family's own form, so that the next turn's prompt begins
with what was generated. Where a call is forced, no text precedes it (contract messages-and-inference 5.3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

import msgspec

from antiphon.dialect.base import CallForm
from antiphon.dialect.stretch import Answer, Between, Document, Ending, Input, Name, Stretch
from antiphon.engine.contract import Phase, Sampling
from antiphon.engine.grammar import Characters, Choice, Grammar, Repeat, Sequence, Text
from antiphon.wire.response import StopReason

#: What a model may write behind a call before it is taken to be done, in tokens.
_BETWEEN_TOKENS = 8
#: Text in which no call can begin: markers are control tokens, which no grammar lets through.
_FREE_TEXT = Grammar({"text": Repeat(Characters((), negated=True), 0, None)}, "text")

_NOTHING = Ending(how="end", used=0)

Mode: TypeAlias = Literal["free", "must", "never"]


class Done(msgspec.Struct, frozen=True):
    """The turn is over, and this is what the client is told. `used` is set where the output tokens are not those that
    were made: a call began and what stands before its input did not fit any more, so that none of it was written."""

    stop_reason: StopReason
    used: int | None = None


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One stretch: how it is read, and what the engine is asked for. `calls` were completed before it."""

    stretch: Stretch
    phase: Phase
    calls: int = 0


class OfferedTool(msgspec.Struct, frozen=True, kw_only=True):
    """A tool that can be called; `grammar` is of its input, a JSON object. `shown` is the name that the model reads and
    writes, `name` and `toolset` what the call carries to the client."""

    shown: str
    name: str
    grammar: Grammar
    toolset: str | None = None
    eager: bool = False
    bare: bool = False


class Calling(msgspec.Struct, frozen=True, kw_only=True):
    """How tools may be called in one turn: `must` at once, or `never` although they are shown.

    `write` gives the ids of text in which control tokens are meant; `opener` is the one that begins a call.
    """

    form: CallForm
    write: Callable[[str], tuple[int, ...]]
    opener: int | None
    tools: Mapping[str, OfferedTool]
    """By the names that the model writes."""
    mode: Mode = "free"
    forced: str | None = None
    parallel: bool = True


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """The phases of one turn. `clamped` is whether the window, not the client, set `max_tokens`."""

    max_tokens: int
    sampling: Sampling
    clamped: bool = False
    calling: Calling | None = None
    document: Grammar | None = None

    def first(self) -> Part | Done:
        """What a turn begins with."""
        if self.max_tokens == 0:
            return self._part(Answer(), 0)  # only the prompt is processed
        calling = self.calling
        if calling is None:
            return self._document(0) if self.document is not None else self._part(Answer(), self.max_tokens)
        if calling.mode == "must":
            return self._named(calling, _NOTHING, calling.form.marker, forced=calling.forced)
        if calling.mode == "never" and self.document is not None:
            return self._document(0)
        free = calling.mode == "free"
        answer = Answer(
            opener=calling.opener,
            # At the start of a line; at the very start of the answer it is one of the other forms.
            marker=f"{calling.form.gap}{calling.form.marker}{{" if free and calling.opener is None else "",
            names=frozenset(calling.tools) if free else frozenset(),
            bare=frozenset(shown for shown, tool in calling.tools.items() if free and tool.bare),
            hidden=self.document is not None,
        )
        return self._part(answer, self.max_tokens, stops=True)

    def next(self, part: Part, ending: Ending) -> Part | Done:
        """What follows a stretch that ended so."""
        if ending.how == "sequence":
            return Done("stop_sequence")
        left = self.max_tokens - ending.used
        if ending.how == "length" or (left <= 0 and ending.how not in ("end", "no_call")):
            return Done("tool_use") if isinstance(part.stretch, Between) else self._cut()
        calling = self.calling
        match part.stretch:
            case Answer() if calling is not None:
                return self._after_answer(calling, ending)
            case Name() if calling is not None:
                return self._input(calling, calling.tools[ending.name], part.calls, left)
            case Input() if calling is not None:
                return self._after_call(calling, part.calls + 1, left)
            case Between() if calling is not None:
                if ending.how not in ("call", "spotted"):
                    return Done("tool_use")
                # What is text so far, marker or not, is written anew, whole.
                instead = calling.opener is None or ending.how == "spotted"
                marker = calling.form.gap + calling.form.marker if instead else calling.form.marker
                return self._named(calling, ending, marker, part.calls, instead=instead)
            case _:
                return Done("end_turn")

    def _after_answer(self, calling: Calling, ending: Ending) -> Part | Done:
        left = self.max_tokens - ending.used
        form = calling.form
        match ending.how:
            case "call" if calling.mode == "never":
                # It may not, and goes on as if it had not begun.
                phase = Phase(max_tokens=left, sampling=self.sampling, grammar=_FREE_TEXT)
                return Part(stretch=Answer(), phase=phase)
            case "call" if calling.opener is not None:
                return self._named(calling, ending, form.marker)
            case "call":
                # The marker is text, and the token that completed it may hold more: all is written anew.
                before = f"{ending.kept}{form.gap}" if ending.kept else ""
                return self._named(calling, ending, before + form.marker, instead=True)
            case "spotted":
                tool = calling.tools[ending.name]
                left += ending.made
                return self._input(calling, tool, 0, left, opening=_opening(form, tool.shown), instead=True)
            case "no_call" if self.document is not None:
                return self._document(ending.used - ending.made, instead=True)
            case _:
                return Done("end_turn")

    def _named(
        self,
        calling: Calling,
        ending: Ending,
        marker: str,
        calls: int = 0,
        *,
        instead: bool = False,
        forced: str | None = None,
    ) -> Part | Done:
        """A call begins: its name is generated, unless there is only one it can be."""
        form, left = calling.form, self.max_tokens - ending.used + (ending.made if instead else 0)
        if forced is not None or len(calling.tools) == 1:
            tool = calling.tools[forced or next(iter(calling.tools))]
            opening = marker + _opening(form, tool.shown).removeprefix(form.marker)
            return self._input(calling, tool, calls, left, opening=opening, instead=instead)
        closing = form.before_input.rstrip()
        names = Choice(tuple(Text(name) for name in calling.tools))
        grammar = Grammar({"name": Sequence((names, Text(closing)))}, "name")
        written = calling.write(marker + form.before_name)
        return self._under(Name(closing), grammar, left - len(written), written, calls, instead=instead)

    def _input(
        self,
        calling: Calling,
        tool: OfferedTool,
        calls: int,
        left: int,
        *,
        opening: str = "",
        instead: bool = False,
    ) -> Part | Done:
        form = calling.form
        leading = form.before_input[len(form.before_input.rstrip()) :]
        stretch = Input(
            name=tool.name,
            toolset=tool.toolset,
            eager=tool.eager,
            whole=tool.toolset is not None,
            leading=leading,
            closing=form.after_input,
        )
        rules = {**tool.grammar.rules}
        rules["call"] = Sequence((Text(leading), rules[tool.grammar.root], Text(form.after_input)))
        written = calling.write(opening) if opening else ()
        return self._under(stretch, Grammar(rules, "call"), left - len(written), written, calls, instead=instead)

    def _after_call(self, calling: Calling, calls: int, left: int) -> Part | Done:
        form = calling.form
        written = calling.write(form.end) if form.end else ()
        left -= len(written)
        if not calling.parallel or left <= 0:
            return Done("tool_use")
        stretch = Between(calling.opener, form.marker if calling.opener is None else "")
        stops = () if calling.opener is None else (calling.opener,)
        phase = Phase(
            max_tokens=min(left, _BETWEEN_TOKENS), sampling=self.sampling, stop_tokens=stops, appended=written
        )
        return Part(stretch=stretch, phase=phase, calls=calls)

    def _document(self, used: int, *, instead: bool = False) -> Part:
        phase = Phase(max_tokens=self.max_tokens - used, sampling=self.sampling, grammar=self.document, instead=instead)
        return Part(stretch=Document(), phase=phase)

    def _under(
        self, stretch: Stretch, grammar: Grammar, left: int, written: tuple[int, ...], calls: int, *, instead: bool
    ) -> Part | Done:
        if left <= 0:
            return self._cut(self.max_tokens)
        phase = Phase(max_tokens=left, sampling=self.sampling, grammar=grammar, appended=written, instead=instead)
        return Part(stretch=stretch, phase=phase, calls=calls)

    def _part(self, stretch: Stretch, tokens: int, *, stops: bool = False) -> Part:
        opener = self.calling.opener if self.calling is not None and stops else None
        stop_tokens = () if opener is None else (opener,)
        return Part(stretch=stretch, phase=Phase(max_tokens=tokens, sampling=self.sampling, stop_tokens=stop_tokens))

    def _cut(self, used: int | None = None) -> Done:
        return Done("model_context_window_exceeded" if self.clamped else "max_tokens", used)


def _opening(form: CallForm, name: str) -> str:
    """What stands before a call's input, but for the blank that goes with it."""
    return form.marker + form.before_name + name + form.before_input.rstrip()
