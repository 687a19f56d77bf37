"""The course of an answer as a pure function, played by a model that writes what it is told to."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.core.records import Usage
from antiphon.dialect import dialect_named
from antiphon.dialect.base import Dialect
from antiphon.dialect.stretch import Answer, Between, Document, Input, Name
from antiphon.engine.contract import EngineEvent, Finish, Phase, Sampling, Step
from antiphon.engine.grammar import Grammar, Text, shortest
from antiphon.plan import phases
from antiphon.plan.phases import Calling, Course, Done, Mode, OfferedTool, Part
from antiphon.reply.assemble import Assembler, gather
from antiphon.wire.blocks import ToolUseBlock
from antiphon.wire.events import Event
from antiphon.wire.response import Message, OutputText, OutputToolUse

OPENER = 0x10FFFF
SAMPLING = Sampling()


def offered(*names: str) -> dict[str, OfferedTool]:
    return {
        name: OfferedTool(shown=name, name=name, grammar=Grammar({"input": Text(f'{{"of": "{name}"}}')}, "input"))
        for name in names
    }


def course(
    family: str = "hermes", *names: str, mode: Mode = "free", forced: str | None = None, parallel: bool = True,
    document: str | None = None, max_tokens: int = 500, clamped: bool = False,
) -> Course:  # fmt: skip
    form = dialect_named(family).form

    def write(text: str) -> tuple[int, ...]:
        """A letter is a token, as is the marker."""
        if not form.stop:
            return tuple(map(ord, text))
        before, *rest = text.split(form.stop)
        ids = list(map(ord, before))
        for part in rest:
            ids += [OPENER, *map(ord, part)]
        return tuple(ids)

    calling = None
    if names:
        calling = Calling(
            form=form, write=write, opener=OPENER if form.stop else None, tools=offered(*names), mode=mode,
            forced=forced, parallel=parallel,
        )  # fmt: skip
    grammar = None if document is None else Grammar({"document": Text(document)}, "document")
    return Course(max_tokens=max_tokens, sampling=SAMPLING, clamped=clamped, calling=calling, document=grammar)


class Model:
    """Writes its lines in order, letter by letter: one in each free stretch, and what the grammar leaves to it in the
    others. Keeps what stands in its context behind the prompt."""

    def __init__(self, course: Course, *lines: str, names: Sequence[str] = ()) -> None:
        self.course = course
        self.lines = list(lines)
        self.names = list(names)
        self.context: list[int] = []
        self.parts: list[Part] = []
        self.answer = Assembler("msg", "m", Usage(input_tokens=1), (), call_ids=lambda: "toolu_1")
        self._before = 0

    def run(self) -> Message:
        events: list[Event] = []
        part = self.course.first()
        while isinstance(part, Part):
            self.parts.append(part)
            events += self._stretch(part)
            assert self.answer.ending is not None
            part = self.course.next(part, self.answer.ending)
        return gather(self.answer.start(), [*events, *self.answer.end(part.stop_reason)])

    def _stretch(self, part: Part) -> list[Event]:
        phase = part.phase
        assert phase.max_tokens > 0
        if phase.instead:
            del self.context[self._before :]
        self.context += phase.appended
        self._before = len(self.context)
        events = self.answer.begin(part.stretch, written=len(phase.appended), instead=phase.instead)
        for made, letter in enumerate(self._said(part)):
            if made == phase.max_tokens:
                return [*events, *self.answer.feed(Step((), Finish("length")))]
            stopped = ord(letter) in phase.stop_tokens
            if not stopped:
                self.context.append(ord(letter))
            data = b"" if stopped else letter.encode()
            finish = Finish("stop") if stopped else None
            events += self.answer.feed(Step((EngineEvent(data, 1, (ord(letter),)),), finish))
            if self.answer.ending is not None:
                return events
        finish = Finish("length" if len(self._text) >= phase.max_tokens else "stop")
        return [*events, *self.answer.feed(Step((), finish))]

    def _said(self, part: Part) -> str:
        if isinstance(part.stretch, Name):
            self._text = self.names.pop(0) + part.stretch.closing
        elif isinstance(part.stretch, Answer | Between):
            self._text = self.lines.pop(0) if self.lines else ""
        else:
            assert part.phase.grammar is not None
            self._text = shortest(part.phase.grammar)
        return self._text

    @property
    def text(self) -> str:
        return "".join("<tool_call>" if token == OPENER else chr(token) for token in self.context)

    @property
    def kinds(self) -> list[type]:
        return [type(part.stretch) for part in self.parts]


def rendered(dialect: Dialect, text: str, names: Sequence[str]) -> str:
    """What the next turn's prompt says of an answer."""
    calls = [
        "".join(piece.text for piece in dialect.call(ToolUseBlock(id="1", name=name, input={"of": name}), "path"))
        for name in names
    ]
    return dialect.form.gap.join([text, *calls] if text else calls)


MARK = chr(OPENER)


@pytest.fixture(autouse=True)
def _letters_are_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a marker takes more of them than in any model."""
    monkeypatch.setattr(phases, "_BETWEEN_TOKENS", 20)


def test_without_tools_an_answer_is_one_stretch() -> None:
    model = Model(course(), "Hello.")
    message = model.run()
    assert model.kinds == [Answer]
    assert (message.content, message.stop_reason) == ((OutputText("Hello."),), "end_turn")


def test_with_tools_a_model_may_just_answer() -> None:
    message = Model(course("hermes", "f", "g"), "Hello.").run()
    assert (message.content, message.stop_reason) == ((OutputText("Hello."),), "end_turn")


@pytest.mark.parametrize("text", ["", "Let me see."])
@pytest.mark.parametrize("names", [["f"], ["g", "f"], ["f", "g", "f"]])
def test_calls_stand_in_the_context_as_the_next_prompt_writes_them(text: str, names: list[str]) -> None:
    more = [f"\n{MARK}"] * (len(names) - 1)
    model = Model(course("hermes", "f", "g"), text + ("\n" if text else "") + MARK, *more, names=names)
    message = model.run()
    assert model.text == rendered(dialect_named("hermes"), text, names)
    assert message.stop_reason == "tool_use"
    assert [block.name for block in message.content if isinstance(block, OutputToolUse)] == names
    assert all(block.input == {"of": block.name} for block in message.content if isinstance(block, OutputToolUse))
    assert message.usage.output_tokens == len(model.context)


@pytest.mark.parametrize("names", [["f"], ["g", "f"]])
def test_a_family_without_a_marker_of_its_own_is_read_by_its_text(names: list[str]) -> None:
    more = ["\nTool call: {"] * (len(names) - 1)
    model = Model(course("plain", "f", "g"), 'I look.\nTool call: {"', *more, names=names)
    message = model.run()
    assert model.text == rendered(dialect_named("plain"), "I look.", names)
    assert message.content[0] == OutputText("I look.")
    assert message.stop_reason == "tool_use"


@pytest.mark.parametrize("family", ["hermes", "plain"])
def test_a_call_in_another_form_is_written_anew(family: str) -> None:
    model = Model(course(family, "f", "g"), '```json\n{\n  "name": "g",\n  "arguments": {"of"')
    message = model.run()
    assert model.kinds == [Answer, Input, Between]
    assert model.text.removesuffix("\n") == rendered(dialect_named(family), "", ["g"])
    assert [type(block) for block in message.content] == [OutputToolUse]


@pytest.mark.parametrize("family", ["hermes", "plain"])
def test_a_further_call_without_its_marker_is_written_anew(family: str) -> None:
    model = Model(course(family, "f", "g"), '{"name": "g", "arguments": {', '\n{"', names=["f"])
    message = model.run()
    assert model.kinds == [Answer, Input, Between, Name, Input, Between]
    assert model.text.removesuffix("\n") == rendered(dialect_named(family), "", ["g", "f"])
    assert [type(block) for block in message.content] == [OutputToolUse, OutputToolUse]
    assert message.usage.output_tokens == len(model.context)


def test_the_only_tool_needs_no_name() -> None:
    model = Model(course("hermes", "f"), MARK)
    model.run()
    assert model.kinds == [Answer, Input, Between]


@pytest.mark.parametrize("family", ["hermes", "plain"])
def test_a_forced_tool_is_called_at_once(family: str) -> None:
    model = Model(course(family, "f", "g", mode="must", forced="g", parallel=False))
    message = model.run()
    assert model.kinds == [Input]
    assert [type(block) for block in message.content] == [OutputToolUse]
    assert message.stop_reason == "tool_use"


def test_some_tool_is_called_at_once_and_more_may_follow() -> None:
    model = Model(course("hermes", "f", "g", mode="must"), f"\n{MARK}", names=["f", "g"])
    message = model.run()
    assert model.kinds == [Name, Input, Between, Name, Input, Between]
    assert len(message.content) == 2


@pytest.mark.parametrize("mode", ["must", "free"])
def test_without_parallel_calls_one_is_the_end(mode: Mode) -> None:
    model = Model(course("hermes", "f", "g", mode=mode, parallel=False), MARK, names=["f"])
    message = model.run()
    assert model.kinds[-2:] == [Name, Input]
    assert (len(message.content), message.stop_reason) == (1, "tool_use")


def test_where_tools_may_not_be_called_the_answer_goes_on_as_text() -> None:
    model = Model(course("hermes", "f", mode="never"), f"Well{MARK}", ", no.")
    message = model.run()
    assert "".join(block.text for block in message.content if isinstance(block, OutputText)) == "Well, no."
    assert model.parts[1].phase.grammar is not None
    assert message.stop_reason == "end_turn"


def test_a_document_is_the_whole_answer() -> None:
    model = Model(course(document='{"a":1}'))
    message = model.run()
    assert model.kinds == [Document]
    assert (message.content, message.stop_reason) == ((OutputText('{"a":1}'),), "end_turn")


def test_with_tools_a_document_comes_where_there_is_no_call() -> None:
    model = Model(course("hermes", "f", "g", document='{"a":1}'), "Sure, here")
    message = model.run()
    assert (model.kinds, model.text) == ([Answer, Document], '{"a":1}')
    assert (message.content, message.stop_reason) == ((OutputText('{"a":1}'),), "end_turn")
    assert message.usage.output_tokens == len('{"a":1}')
    model = Model(course("hermes", "f", "g", document='{"a":1}'), MARK, names=["g"])
    assert model.run().stop_reason == "tool_use"
    model = Model(course("hermes", "f", mode="never", document='{"a":1}'))
    model.run()
    assert model.kinds == [Document]


@pytest.mark.parametrize("clamped", [False, True])
@given(
    family=st.sampled_from(["hermes", "plain"]),
    tokens=st.integers(1, 200),
    lines=st.lists(
        st.sampled_from(["Hi", MARK, f"\n{MARK}", "\nTool call: {", '{"name": "f", "arguments": {', "x" * 30])
    ),
    mode=st.sampled_from(["free", "must", "never"]),
    forced=st.sampled_from([None, "g"]),
    document=st.sampled_from([None, '{"a":1}']),
)
def test_no_course_takes_more_tokens_than_it_may(
    clamped: bool, family: str, tokens: int, lines: list[str], mode: Mode, forced: str | None, document: str | None
) -> None:
    family_lines = [line.replace(MARK, "") for line in lines] if family == "plain" else lines
    made = course(
        family, "f", "g", mode=mode, forced=forced if mode == "must" else None, document=document,
        max_tokens=tokens, clamped=clamped,
    )  # fmt: skip
    model = Model(made, *family_lines, names=["f", "g"] * 30)
    message = model.run()
    assert len(model.context) <= message.usage.output_tokens <= tokens
    cut = "model_context_window_exceeded" if clamped else "max_tokens"
    assert message.stop_reason in ("end_turn", "tool_use", cut)
    if message.stop_reason == "tool_use":
        assert isinstance(message.content[-1], OutputToolUse)


def test_no_tokens_is_no_stretch_but_the_prompt() -> None:
    part = course("hermes", "f", max_tokens=0).first()
    assert isinstance(part, Part)
    assert part.phase == Phase(max_tokens=0, sampling=SAMPLING)


def test_what_cannot_even_be_begun_is_cut() -> None:
    assert course("hermes", "f", "g", mode="must", max_tokens=3).first() == Done("max_tokens", used=3)


def test_parts_are_data() -> None:
    part = course("hermes", "f").first()
    assert msgspec.convert(msgspec.to_builtins(part.phase), Phase) == part.phase  # type: ignore[union-attr]
