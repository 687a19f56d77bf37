"""The beta `fine-grained-tool-streaming-2025-05-14`, which `eager_input_streaming` has taken the place of
(contract messages-and-inference 4, "Fine-grained")."""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from antiphon.core.errors import InvalidRequest
from antiphon.wire.request import Conversation
from antiphon.wire.tools import CustomTool, McpToolset, Tool, Toolset

NAME: Final = "fine-grained-tool-streaming-2025-05-14"

R = TypeVar("R", bound=Conversation)


def applied(request: R) -> R:
    """A request as it is meant under the beta: each tool is eager that does not say otherwise.

    Raises:
        InvalidRequest: it has a toolset, whose inputs always come in one piece.
    """
    for index, tool in enumerate(request.tools):
        if isinstance(tool, Toolset) and not isinstance(tool, McpToolset):
            raise InvalidRequest(f"toolsets cannot be used with the `{NAME}` beta", path=f"tools.{index}")
    return msgspec.structs.replace(request, tools=tuple(_eager(tool) for tool in request.tools))


def _eager(tool: Tool) -> Tool:
    if isinstance(tool, CustomTool) and tool.eager_input_streaming is None:
        return msgspec.structs.replace(tool, eager_input_streaming=True)
    return tool
