"""What a chat template writes around the contents: found by rendering placeholders, then laid over the real
rendering.

A template's text and a client's text look alike once they are rendered, and only one of them may hold control
tokens. So each shape of a conversation (its roles in order) is rendered with a placeholder for each content;
what stands between the placeholders is the template's own. `align` then shows that the real rendering is the
same text with the contents in place of the placeholders, each as it is, stripped or JSON-escaped (`spikes.md`
section C).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import msgspec

from antiphon.dialect.json_text import json_text
from antiphon.dialect.template import ChatTemplate, Message, TemplateRefused
from antiphon.wire.request import Role

#: What a template may do to a content.
Form: TypeAlias = Literal["raw", "strip", "lstrip", "rstrip", "json"]
_FORMS: dict[Form, Callable[[str], str]] = {
    "raw": str,
    "strip": str.strip,
    "lstrip": str.lstrip,
    "rstrip": str.rstrip,
    "json": lambda text: json_text(text)[1:-1],
}
_BLANKS = " \t\r\n\\"


class Skeleton(msgspec.Struct, frozen=True):
    """The template's own text before, between and behind the contents of one shape: one more than there are
    contents.

    `solid`: every text between two contents holds more than blanks, so that contents which differ only in
    blanks at their ends cannot be told apart in two ways.
    """

    literals: tuple[str, ...]
    solid: bool

    def filled(self, contents: Sequence[str]) -> str:
        """The literals with these contents between them."""
        parts = [self.literals[0]]
        for literal, content in zip(self.literals[1:], contents, strict=True):
            parts += (content, literal)
        return "".join(parts)


class Placeholders:
    """Finds skeletons. A placeholder is letters and digits, which no template escapes, with a random
    nonce."""

    def __init__(self, template: ChatTemplate) -> None:
        self._template = template
        self._nonce = secrets.token_hex(8)
        self._pattern = re.compile(f"Q{self._nonce}x([0-9]+)Z")

    def skeleton(self, roles: tuple[Role, ...], thinking: bool) -> Skeleton | None:
        """The skeleton of a shape, or None where the template refuses it, or does not write each content once
        and in order."""
        messages = [Message(role, f"Q{self._nonce}x{place}Z") for place, role in enumerate(roles)]
        try:
            text = self._template.render(messages, generate=True, thinking=thinking)
        except TemplateRefused:
            return None
        parts = self._pattern.split(text)
        if parts[1::2] != [str(place) for place in range(len(roles))]:
            return None
        literals = tuple(parts[0::2])
        return Skeleton(literals, solid=all(literal.strip(_BLANKS) for literal in literals[1:-1]))


def align(text: str, skeleton: Skeleton, contents: Sequence[str]) -> list[Form] | None:
    """Which form each content has in the real rendering `text`; None where the skeleton does not explain it.

    Never guesses: an answer means that `text` is exactly the literals with the contents in these forms
    between them.
    """
    for form in ("raw", "strip"):
        change = _FORMS[form]
        if skeleton.filled(contents if form == "raw" else [change(content) for content in contents]) == text:
            return [form] * len(contents)
    return _align_each(text, skeleton, contents) if skeleton.solid else None


def _align_each(text: str, skeleton: Skeleton, contents: Sequence[str]) -> list[Form] | None:
    literals = skeleton.literals
    if not text.startswith(literals[0]):
        return None
    at = len(literals[0])
    forms: list[Form] = []
    for place, content in enumerate(contents):
        literal = literals[place + 1]
        for form, change in _FORMS.items():
            shown = change(content)
            end = at + len(shown)
            if text.startswith(shown, at) and text.startswith(literal, end):
                forms.append(form)
                at = end + len(literal)
                break
        else:
            return None
    return forms if at == len(text) else None


def reform(texts: Sequence[str], form: Form) -> list[str]:
    """The consecutive texts of one content, as `form` leaves them: stripping reaches over whole texts."""
    if form == "raw":
        return list(texts)
    if form == "json":
        return [_FORMS["json"](text) for text in texts]
    shown = list(texts)
    if form != "rstrip":
        _strip_run(shown, range(len(shown)), str.lstrip)
    if form != "lstrip":
        _strip_run(shown, range(len(shown) - 1, -1, -1), str.rstrip)
    return shown


def _strip_run(texts: list[str], order: range, strip: Callable[[str], str]) -> None:
    for place in order:
        texts[place] = strip(texts[place])
        if texts[place]:
            return
