"""Where the bytes of images and documents come from, and where a citation points (contract `client-surface.md` 2.3)."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec


class UrlSource(msgspec.Struct, frozen=True, tag="url", tag_field="type"):
    url: str


class FileSource(msgspec.Struct, frozen=True, tag="file", tag_field="type"):
    file_id: str


class Base64Image(msgspec.Struct, frozen=True, tag="base64", tag_field="type"):
    data: str
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]


class Base64Pdf(msgspec.Struct, frozen=True, tag="base64", tag_field="type"):
    data: str
    media_type: Literal["application/pdf"]


class PlainText(msgspec.Struct, frozen=True, tag="text", tag_field="type"):
    data: str
    media_type: Literal["text/plain"]


ImageSource: TypeAlias = Base64Image | UrlSource | FileSource


class CharLocation(msgspec.Struct, frozen=True, tag="char_location", tag_field="type", kw_only=True):
    """In a plain text; characters from 0, the end exclusive (contract messages-and-inference 11.4)."""

    cited_text: str
    document_index: int
    document_title: str | None = None
    file_id: str | None = None
    start_char_index: int
    end_char_index: int


class PageLocation(msgspec.Struct, frozen=True, tag="page_location", tag_field="type", kw_only=True):
    """In a PDF; pages from 1, the end exclusive."""

    cited_text: str
    document_index: int
    document_title: str | None = None
    file_id: str | None = None
    start_page_number: int
    end_page_number: int


class ContentBlockLocation(msgspec.Struct, frozen=True, tag="content_block_location", tag_field="type", kw_only=True):
    """In a document given as blocks; blocks from 0, the end exclusive."""

    cited_text: str
    document_index: int
    document_title: str | None = None
    file_id: str | None = None
    start_block_index: int
    end_block_index: int


class WebSearchLocation(msgspec.Struct, frozen=True, tag="web_search_result_location", tag_field="type", kw_only=True):
    cited_text: str
    encrypted_index: str
    title: str | None = None
    url: str


class SearchResultLocation(msgspec.Struct, frozen=True, tag="search_result_location", tag_field="type", kw_only=True):
    cited_text: str
    search_result_index: int
    source: str
    title: str | None = None
    start_block_index: int
    end_block_index: int


Citation: TypeAlias = CharLocation | PageLocation | ContentBlockLocation | WebSearchLocation | SearchResultLocation


class CitationsConfig(msgspec.Struct, frozen=True):
    """Whether the model may cite from this; off by default."""

    enabled: bool | None = None
