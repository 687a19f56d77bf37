"""What version 2026-10-21 takes away (contract messages-and-inference 1): sampling parameters on every model, documents
in assistant turns, citations in user turns."""

from __future__ import annotations

from collections.abc import Collection

from antiphon.core.errors import InvalidRequest
from antiphon.wire.blocks import DocumentBlock, SearchResultBlock, TextBlock
from antiphon.wire.request import Conversation, InputMessage, MessagesRequest

VERSION = "2026-10-21"


def check(request: Conversation, unknown: Collection[str]) -> None:
    """Check a request of this version or a later one. To token counting the parameters were never known, and sending
    them is refused all the same.

    Raises:
        InvalidRequest: it uses what was taken away; names the path.
    """
    for name in ("temperature", "top_p", "top_k"):
        if name in unknown or (isinstance(request, MessagesRequest) and getattr(request, name) is not None):
            raise InvalidRequest(f"this parameter was removed in API version {VERSION}", path=name)
    for number, message in enumerate(request.messages):
        if not isinstance(message.content, str):
            _check_blocks(message, f"messages.{number}.content")


def _check_blocks(message: InputMessage, path: str) -> None:
    for position, block in enumerate(message.content):
        where = f"{path}.{position}"
        if message.role == "assistant" and isinstance(block, DocumentBlock):
            raise InvalidRequest("`document` blocks are not allowed in assistant messages", path=where)
        if message.role != "user":
            continue
        if isinstance(block, TextBlock) and block.citations:
            raise InvalidRequest("citations are not allowed in user messages", path=f"{where}.citations")
        if isinstance(block, SearchResultBlock):
            for inner, text in enumerate(block.content):
                if text.citations:
                    raise InvalidRequest(
                        "citations are not allowed in user messages", path=f"{where}.content.{inner}.citations"
                    )
