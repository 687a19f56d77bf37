"""What an answer is bound to: the grammars of the tools it may call, and of the schema it must fit.

Strict tools and `output_config.format` are checked against the documented subset, and the request's limits over all of
them (contract messages-and-inference 5.5, 6). Other tools get the grammar that their schema allows, down to any JSON
object; nothing of theirs is refused.
"""

from __future__ import annotations

from antiphon.core.errors import InvalidRequest
from antiphon.dialect.client_tools import Function, functions
from antiphon.engine.grammar import Grammar
from antiphon.plan.phases import Calling, Mode, OfferedTool
from antiphon.plan.render import Renderer
from antiphon.plan.schema.cache import LoweredCache
from antiphon.plan.schema.documented import Demand, check_limits
from antiphon.plan.schema.effort import Effort
from antiphon.plan.schema.lowering import Spacing
from antiphon.plan.schema.outside import Outside
from antiphon.plan.schema.writable import unwritable
from antiphon.wire.blocks import JsonObject
from antiphon.wire.request import Conversation
from antiphon.wire.tools import AnyChoice, CustomTool, NamedChoice, NoneChoice

#: As dialects write JSON, so that the next prompt begins with what was generated.
_RENDERED = Spacing(", ", ": ")
#: As the API answers structured outputs: nothing between.
_COMPACT = Spacing(",", ":")


class Constraints:
    """Reads a request's tools and format for one model."""

    def __init__(self, renderer: Renderer, lowered: LoweredCache, outside: Outside) -> None:
        self._renderer = renderer
        self._lowered = lowered
        self._outside = outside
        self._unwritable = unwritable(renderer.missing_bytes)

    def check(self, request: Conversation, *, waits: bool) -> None:
        """What can be refused without an answer in sight. `waits` where a thread may wait for long work.

        Raises:
            InvalidRequest: a schema is outside the documented subset, the limits are passed, or an example does not fit
                its tool.
            TakesLonger: it cannot be had without waiting.
        """
        self._check(request, self._effort(waits=waits))

    def _effort(self, *, waits: bool) -> Effort:
        return Effort(self._lowered, self._outside, waits=waits, unwritable=self._unwritable)

    def _check(self, request: Conversation, effort: Effort) -> None:
        demands: list[Demand] = []
        for index, tool in enumerate(request.tools):
            if isinstance(tool, CustomTool):
                path = f"tools.{index}.custom"
                if tool.strict:
                    demands.append(effort.check(tool.input_schema, f"{path}.input_schema", tool=True))
                effort.examples(tool.input_schema, tool.input_examples, path)
        schema, where = output_schema(request)
        if schema is not None:
            demands.append(effort.check(schema, where, tool=False))
        check_limits(demands)
        _check_choice(request)

    def of(self, request: Conversation, *, waits: bool) -> tuple[Calling | None, Grammar | None]:
        """How tools may be called, and the grammar of the whole answer, where there is either.

        Raises:
            InvalidRequest, TakesLonger: see `check`; or tools cannot be called as is asked.
        """
        effort = self._effort(waits=waits)
        self._check(request, effort)
        schema, path = output_schema(request)
        document = None if schema is None else _grammar(effort, schema, _COMPACT, path)
        return self._calling(request, effort), document

    def _calling(self, request: Conversation, effort: Effort) -> Calling | None:
        offered = functions(request.tools, messages=request.messages)
        if not offered:
            return None
        choice = request.tool_choice
        mode: Mode = "free"
        if isinstance(choice, AnyChoice | NamedChoice):
            mode = "must"
        elif isinstance(choice, NoneChoice):
            mode = "never"
        parallel = isinstance(choice, NoneChoice) or choice is None or not choice.disable_parallel_tool_use
        form = self._renderer.call_form
        # What the API's own tools take is ours to say, and is never outside of what can be asked for.
        custom = {f"tools.{index}" for index, tool in enumerate(request.tools) if isinstance(tool, CustomTool)}
        return Calling(
            form=form,
            write=self._renderer.write,
            opener=self._renderer.control_id(form.stop) if form.stop else None,
            tools={each.shown: _offered(effort, each, strict=each.strict and each.path in custom) for each in offered},
            mode=mode,
            forced=_forced(offered, choice.name) if isinstance(choice, NamedChoice) else None,
            parallel=parallel,
        )


def _offered(effort: Effort, function: Function, *, strict: bool) -> OfferedTool:
    path = f"{function.path}.custom.input_schema" if strict else None
    return OfferedTool(
        shown=function.shown,
        name=function.name,
        grammar=_grammar(effort, function.schema, _RENDERED, path),
        toolset=function.toolset,
        eager=function.eager,
        bare=function.bare,
    )


def _grammar(effort: Effort, schema: JsonObject, spacing: Spacing, strict_at: str | None) -> Grammar:
    """Of a schema that must be kept to if `strict_at` says where it stands."""
    lowered = effort.lower(schema, spacing, strict=strict_at is not None, path=strict_at)
    return Grammar(lowered.rules, lowered.root)


def output_schema(request: Conversation) -> tuple[JsonObject | None, str]:
    """The schema that the whole answer must fit, and where it stands in the request."""
    if request.output_config is not None and request.output_config.format is not None:
        return request.output_config.format.schema, "output_config.format.schema"
    if request.output_format is not None:
        return request.output_format.schema, "output_format.schema"
    return None, ""


def _check_choice(request: Conversation) -> None:
    """A call can only be forced where there is something to call."""
    choice = request.tool_choice
    if isinstance(choice, AnyChoice | NamedChoice):
        offered = functions(request.tools, messages=request.messages)
        if not offered:
            raise InvalidRequest("tool use can only be forced with tools that can be called", path="tool_choice")
        if isinstance(choice, NamedChoice):
            _forced(offered, choice.name)


def _forced(offered: list[Function], name: str) -> str:
    for each in offered:
        if each.name == name and each.toolset is None:
            return each.shown
    raise InvalidRequest(f"Tool '{name}' cannot be called here", path="tool_choice")
