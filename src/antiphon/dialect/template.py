"""A model's own chat template, rendered around the turns: Jinja in a sandbox, with bounds.

The template comes with the weights, so it is code from somewhere else. It sees roles and texts, the names
that Hugging Face's template environment gives (`raise_exception`, `strftime_now`, `tojson`, loop controls,
the `generation` tag), and nothing of ours. Loop turns and calls are counted and watched by the clock, output
is bounded, and numbers that would blow up memory are refused. What one expression can still do within these
bounds is judged at model load, by `plan.render.prove`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

import jinja2
import msgspec
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from antiphon.core.clock import Clock
from antiphon.core.errors import WeightsError
from antiphon.dialect.json_text import json_text
from antiphon.wire.request import Role

#: Bounds of one rendering. The longest conversation the API takes has 100,000 messages.
MAX_SECONDS = 5.0
MAX_STEPS = 5_000_000
#: A template may add this much to the texts it is given, in characters, and as much again per turn.
MAX_ADDED_CHARACTERS = 64 * 1024
_MAX_ADDED_PER_TURN = 1024
_MAX_NUMBER = 1_000_000
_BUDGET = "antiphon_budget"
#: What a template can make Python raise, besides Jinja's own errors.
_FAILURES = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)


class TemplateRefused(Exception):
    """The template does not render this conversation: it raised, failed or ran past its bounds. Stays within `plan`."""


class Message(msgspec.Struct, frozen=True, gc=False):
    """What a template sees of a turn."""

    role: Role
    content: str


class ChatTemplate:
    """One compiled template. Compiled once (about 7 ms); safe to use from several threads.

    Raises:
        WeightsError: when built of a source that is not a template.
    """

    def __init__(self, source: str, clock: Clock, *, bos: str = "", eos: str = "") -> None:
        self._clock = clock
        environment = _Environment()
        environment.globals.update(raise_exception=_refuse, strftime_now=self._strftime)
        #: Whether what the template writes depends on more than the roles and contents it is given.
        self.tells_time = "strftime_now" in source
        try:
            self._template = environment.from_string(source)
        except (jinja2.TemplateError, RecursionError, MemoryError, ValueError) as error:
            raise WeightsError(f"The model's chat template cannot be read ({type(error).__name__})") from None
        given = {"bos_token": bos, "eos_token": eos, "tools": None, "documents": None}
        self._given = {**self._template.globals, **given}

    def render(self, messages: Sequence[Message], *, generate: bool, thinking: bool) -> str:
        """The prompt's text; `generate` asks for the opening of the answer behind it.

        Raises:
            TemplateRefused: see there. Its message is the template's own and for the log.
        """
        # Made anew each time, because a template may append to the lists it is given.
        shown = [{"role": message.role, "content": message.content} for message in messages]
        given = sum([len(message.content) for message in messages])
        room = 2 * given + MAX_ADDED_CHARACTERS + _MAX_ADDED_PER_TURN * len(messages)
        # What `Template.new_context` makes, without walking through the chain of globals anew for each prompt.
        context = Context(
            self._template.environment,
            {
                **self._given,
                "messages": shown,
                "add_generation_prompt": generate,
                "enable_thinking": thinking,
                _BUDGET: _Budget(self._clock),
            },
            self._template.name,
            self._template.blocks,
        )
        chunks: list[str] = []
        try:
            for chunk in self._template.root_render_func(context):
                chunks.append(chunk)
                room -= len(chunk)
                if room < 0:
                    raise TemplateRefused("the chat template writes without end")
        except _FAILURES as error:
            raise TemplateRefused(f"{type(error).__name__}: {error}"[:500]) from None
        return "".join(chunks)

    def _strftime(self, form: str) -> str:
        return datetime.fromtimestamp(self._clock.now_ms() / 1000, tz=UTC).strftime(form)


class _Budget:
    """What one rendering may still do, counted in loop turns and calls."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ends = clock.monotonic() + MAX_SECONDS
        self._steps = MAX_STEPS

    def spend(self) -> None:
        self._steps -= 1
        if self._steps < 0 or (self._steps & 1023 == 0 and self._clock.monotonic() > self._ends):
            raise TemplateRefused("the chat template runs without end")


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox as Hugging Face sets it up, with the bounds above."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _GenerationTag])
        self.filters["tojson"] = _tojson
        self.filters[_BUDGET] = _counted
        del self.globals["lipsum"], self.globals["cycler"], self.globals["joiner"]
        del self.filters["center"], self.filters["random"], self.filters["format"]

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        """Every loop goes over a counted iterable, so that none runs unwatched."""
        tree = super()._parse(source, name, filename)
        for loop in list(tree.find_all(nodes.For)):
            loop.iter = nodes.Filter(loop.iter, _BUDGET, [], [], None, None, lineno=loop.lineno)
            loop.iter.set_environment(self)
        return tree

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        # Kimi's templates append to lists. All lists here are the template's own or copies made for it.
        if attr == "append" and type(obj) is list:
            return True
        return bool(super().is_safe_attribute(obj, attr, value)) and attr not in _REFUSED_METHODS

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        budget = context.parent.get(_BUDGET)
        if isinstance(budget, _Budget):
            budget.spend()
        if any(isinstance(value, int) and abs(value) > _MAX_NUMBER for value in args):
            raise SecurityError("a number is too large")
        return super().call(context, obj, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Arithmetic is free, but not the operators that make long texts and numbers out of short ones."""
        sizes = [abs(side) if isinstance(side, int | float) else len(side) for side in (left, right)]
        if operator == "**" or (operator == "%" and isinstance(left, str)) or sizes[0] * sizes[1] > _MAX_NUMBER**2:
            raise SecurityError(f"the operator {operator!r} is not allowed here")
        if not all(isinstance(side, int | float) for side in (left, right)) and sizes[0] * sizes[1] > _MAX_NUMBER:
            raise SecurityError("a text would be too long")
        return super().call_binop(context, operator, left, right)


#: Methods of texts that make much out of little; no published template uses them.
_REFUSED_METHODS = frozenset({"format", "format_map", "center", "ljust", "rjust", "zfill", "expandtabs"})


class _GenerationTag(Extension):
    """`{% generation %}` marks what training learns from; for us it is what stands inside."""

    tags: ClassVar[set[str]] = {"generation"}  # type: ignore[misc]

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@jinja2.pass_context
def _counted(context: Context, values: Iterable[Any]) -> Iterable[Any]:
    budget = context.parent.get(_BUDGET)
    if isinstance(values, Mapping | str | list | tuple) and len(values) == 0:
        return values
    return _counting(values, budget.spend) if isinstance(budget, _Budget) else values


def _counting(values: Iterable[Any], spend: Callable[[], None]) -> Iterator[Any]:
    for value in values:
        spend()
        yield value


def _tojson(value: Any, indent: int | None = None, **_: Any) -> str:
    """`ensure_ascii`, `separators` and the like are taken and have no effect: this is the form models were
    trained on."""
    return json_text(value, indent or 0)


def _refuse(message: object) -> None:
    raise TemplateRefused(str(message)[:500])
