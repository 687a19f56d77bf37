"""What a tool returned, as texts: each kind of content that has words (contract `messages-and-inference.md` 5.2)."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

from antiphon.core.errors import InvalidRequest
from antiphon.wire.blocks import (
    BlocksSource,
    BrowserStateBlock,
    DocumentBlock,
    ResultBlock,
    SearchResultBlock,
    Tab,
    TextBlock,
    ToolReferenceBlock,
    ToolResultBlock,
    block_type,
)
from antiphon.wire.sources import PlainText


def result_texts(block: ToolResultBlock, path: str, deferred: MutableMapping[str, list[str]]) -> list[str]:
    """The texts of a result's content, in its order; none where nothing was returned.

    `deferred` holds the definitions that a `tool_reference` brings, by the name it gives. Each is told once, and taken
    out of it: told again at every reference, a small request would make a prompt without bounds.

    Raises:
        InvalidRequest: content without words, such as an image; names its path.
    """
    if block.content is None or isinstance(block.content, str):
        return [block.content] if block.content else []
    return [_text(part, f"{path}.content.{position}", deferred) for position, part in enumerate(block.content)]


def _text(part: ResultBlock, path: str, deferred: MutableMapping[str, list[str]]) -> str:
    match part:
        case TextBlock():
            return part.text
        case ToolReferenceBlock():
            found = deferred.pop(part.tool_name, None)
            if not found:
                return f"The tool {part.tool_name} can be used."
            return "\n".join([f"The tool {part.tool_name} can be used from now on:", *found])
        case SearchResultBlock():
            return "\n".join([part.title, part.source, *[text.text for text in part.content]])
        case DocumentBlock():
            return _document(part, path)
        case BrowserStateBlock():
            return _browser_state(part)
        case _:
            raise _unsupported(block_type(part), path)


def _document(block: DocumentBlock, path: str) -> str:
    head = [each for each in (block.title, block.context) if each]
    match block.source:
        case PlainText(data=data):
            return "\n".join([*head, data])
        case BlocksSource(content=str(text)):
            return "\n".join([*head, text])
        case BlocksSource(content=parts):
            texts = [part.text for part in parts if isinstance(part, TextBlock)]
            if len(texts) < len(parts):
                raise _unsupported("image", f"{path}.source.content")
            return "\n".join([*head, *texts])
        case _:
            raise _unsupported("document", path)


def _browser_state(block: BrowserStateBlock) -> str:
    lines = ["Open tabs:", *[_tab(tab) for tab in block.tabs]] if block.tabs else ["No tab is open."]
    if block.state_changes:
        lines += ["Changes:", *[f"- {_change(change)}" for change in block.state_changes]]
    return "\n".join(lines)


def _tab(tab: Tab) -> str:
    return f"- tab {tab.tab_id}{' (active)' if tab.active else ''}: {tab.title} | {tab.url}"


def _change(change: Mapping[str, Any]) -> str:
    kind = str(change.get("type", "")).replace("_", " ")
    if "tab_id" in change:
        return f"{kind}: tab {change['tab_id']}"
    said = [f"{kind}: {change.get('download_id', '')} from {change.get('url', '')}"]
    if change.get("path"):
        said.append(f"saved at {change['path']}")
    if change.get("size_bytes") is not None:
        said.append(f"{change['size_bytes']} bytes")
    if change.get("error"):
        said.append(f"error: {change['error']}")
    return ", ".join(said)


def _unsupported(kind: str, path: str) -> InvalidRequest:
    return InvalidRequest(f"`{kind}` blocks are not supported by this model", path=path)
