"""Results of tools that the server ran, as a client sends them back (contract `client-surface.md` 2.3).

Error codes are open strings: a client may hold a code that a later version of the API gave it.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec


class WebSearchResult(msgspec.Struct, frozen=True, tag="web_search_result", tag_field="type", kw_only=True):
    url: str
    title: str
    encrypted_content: str
    page_age: str | None = None


class WebSearchError(msgspec.Struct, frozen=True, tag="web_search_tool_result_error", tag_field="type"):
    error_code: str


class WebFetchError(msgspec.Struct, frozen=True, tag="web_fetch_tool_result_error", tag_field="type"):
    error_code: str


class CodeOutput(msgspec.Struct, frozen=True, tag="code_execution_output", tag_field="type"):
    """A file that the code left behind."""

    file_id: str


class CodeResult(msgspec.Struct, frozen=True, tag="code_execution_result", tag_field="type", kw_only=True):
    stdout: str
    stderr: str
    return_code: int
    content: tuple[CodeOutput, ...]


class EncryptedCodeResult(
    msgspec.Struct, frozen=True, tag="encrypted_code_execution_result", tag_field="type", kw_only=True
):
    encrypted_stdout: str
    stderr: str
    return_code: int
    content: tuple[CodeOutput, ...]


class CodeError(msgspec.Struct, frozen=True, tag="code_execution_tool_result_error", tag_field="type"):
    error_code: str


class BashOutput(msgspec.Struct, frozen=True, tag="bash_code_execution_output", tag_field="type"):
    file_id: str


class BashResult(msgspec.Struct, frozen=True, tag="bash_code_execution_result", tag_field="type", kw_only=True):
    stdout: str
    stderr: str
    return_code: int
    content: tuple[BashOutput, ...]


class BashError(msgspec.Struct, frozen=True, tag="bash_code_execution_tool_result_error", tag_field="type"):
    error_code: str


class EditorView(
    msgspec.Struct, frozen=True, tag="text_editor_code_execution_view_result", tag_field="type", kw_only=True
):
    content: str
    file_type: str
    num_lines: int | None = None
    start_line: int | None = None
    total_lines: int | None = None


class EditorCreate(
    msgspec.Struct, frozen=True, tag="text_editor_code_execution_create_result", tag_field="type", kw_only=True
):
    is_file_update: bool


class EditorReplace(
    msgspec.Struct, frozen=True, tag="text_editor_code_execution_str_replace_result", tag_field="type", kw_only=True
):
    lines: tuple[str, ...] | None = None
    old_start: int | None = None
    old_lines: int | None = None
    new_start: int | None = None
    new_lines: int | None = None


class EditorError(
    msgspec.Struct, frozen=True, tag="text_editor_code_execution_tool_result_error", tag_field="type", kw_only=True
):
    error_code: str
    error_message: str | None = None


class ToolReference(msgspec.Struct, frozen=True, tag="tool_reference", tag_field="type"):
    tool_name: str


class ToolSearchResult(
    msgspec.Struct, frozen=True, tag="tool_search_tool_search_result", tag_field="type", kw_only=True
):
    tool_references: tuple[ToolReference, ...]


class ToolSearchError(msgspec.Struct, frozen=True, tag="tool_search_tool_result_error", tag_field="type", kw_only=True):
    error_code: str
    error_message: str | None = None


class AdvisorResult(msgspec.Struct, frozen=True, tag="advisor_result", tag_field="type", kw_only=True):
    text: str
    stop_reason: str | None = None


class AdvisorRedacted(msgspec.Struct, frozen=True, tag="advisor_redacted_result", tag_field="type", kw_only=True):
    encrypted_content: str
    stop_reason: str | None = None


class AdvisorError(msgspec.Struct, frozen=True, tag="advisor_tool_result_error", tag_field="type"):
    error_code: str


WebSearchContent: TypeAlias = tuple[WebSearchResult, ...] | WebSearchError
CodeContent: TypeAlias = CodeResult | EncryptedCodeResult | CodeError
BashContent: TypeAlias = BashResult | BashError
EditorContent: TypeAlias = EditorView | EditorCreate | EditorReplace | EditorError
ToolSearchContent: TypeAlias = ToolSearchResult | ToolSearchError
AdvisorContent: TypeAlias = AdvisorResult | AdvisorRedacted | AdvisorError
