"""The members of the computer and browser toolsets, with their documented inputs (contract `client-surface.md` 2.4).

An entry of `tools` stands for all of them. The API's own models know them from training; others read what stands here,
so descriptions are short: a set costs its tokens in every request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from antiphon.wire.blocks import JsonObject


class Member(msgspec.Struct, frozen=True):
    """One tool of a set. `enabled`: whether it is offered without being asked for."""

    description: str
    schema: JsonObject
    enabled: bool = True


def text(description: str, *choices: str) -> JsonObject:
    return {"type": "string", **({"enum": list(choices)} if choices else {}), "description": description}


def number(description: str, kind: str = "integer", **bounds: int) -> JsonObject:
    return {"type": kind, **bounds, "description": description}


def numbers(description: str, length: int) -> JsonObject:
    """So many whole numbers, such as the coordinates of a point."""
    return {
        "type": "array",
        "items": {"type": "integer"},
        "minItems": length,
        "maxItems": length,
        "description": description,
    }


def inputs(required: Mapping[str, Any], optional: Mapping[str, Any] | None = None) -> JsonObject:
    """The schema of an input: an object of these members, those that must be there first."""
    return {"type": "object", "properties": {**required, **(optional or {})}, "required": list(required)}


SCROLLING: Final = ("up", "down", "left", "right")
#: How keys are named, for all that press them.
KEYS: Final = 'Keys joined by "+", e.g. "ctrl+s", "Return", "Page_Down".'
_POINT: Final = "The point [x, y] in pixels of the screenshot"
_TEXT: Final = text("The text, typed as it is.")


def _computer() -> dict[str, Member]:
    point = {"coordinate": numbers(f"{_POINT}.", 2)}
    maybe = {"coordinate": numbers(f"{_POINT}; left out: where the cursor is.", 2)}
    held = {"text": text('Keys to hold meanwhile, e.g. "shift".')}
    start = {"start_coordinate": numbers("The point [x, y] where the drag begins.", 2)}
    scroll = {
        "scroll_direction": text("Which way.", *SCROLLING),
        "scroll_amount": number("How many notches of the wheel."),
    }
    repeat = {"repeat": number("How many times; 1 if left out.", minimum=1, maximum=100)}
    held_for = {"text": text(KEYS), "duration": number("Seconds to hold.")}
    waited = {"duration": number("Seconds to wait, at most 300.")}
    region = {"region": numbers("The corners [x0, y0, x1, y1] in pixels of the screenshot.", 4)}
    return {
        "key": Member("Press a key or keys together.", inputs({"text": text(KEYS)}, repeat)),
        "hold_key": Member("Hold a key or keys down for a while.", inputs(held_for)),
        "type": Member("Type text on the keyboard.", inputs({"text": _TEXT})),
        "cursor_position": Member("Get the cursor's position.", inputs({})),
        "mouse_move": Member("Move the cursor without clicking.", inputs(point)),
        "left_mouse_down": Member("Press the left mouse button and keep it down.", inputs({})),
        "left_mouse_up": Member("Let the left mouse button go.", inputs({})),
        "left_click": Member("Click with the left mouse button.", inputs({}, maybe | held)),
        "left_click_drag": Member("Drag with the left mouse button.", inputs(start | point, held)),
        "right_click": Member("Click with the right mouse button.", inputs({}, maybe | held)),
        "middle_click": Member("Click with the middle mouse button.", inputs({}, maybe | held)),
        "double_click": Member("Click twice with the left mouse button.", inputs({}, maybe | held)),
        "triple_click": Member("Click three times with the left mouse button.", inputs({}, maybe | held)),
        "scroll": Member("Turn the mouse wheel.", inputs(scroll, maybe | held)),
        "wait": Member("Wait.", inputs(waited)),
        "screenshot": Member("Take a screenshot of the screen.", inputs({})),
        "zoom": Member("Take a screenshot of a part of the screen, enlarged.", inputs(region)),
    }


def _target(kind: str, properties: JsonObject) -> JsonObject:
    return inputs({"type": {"type": "string", "const": kind}, **properties})


_BY_POINT: Final = _target("coordinate", {"x": {"type": "integer"}, "y": {"type": "integer"}})
_BY_REF: Final = _target("ref", {"ref": {"type": "string"}})


def _browser() -> dict[str, Member]:
    tab = {"tab_id": text("The tab; left out: the active one.")}
    point = {"target": {**_BY_POINT, "description": "A point of the viewport, in pixels."}}
    element = {"target": {**_BY_REF, "description": "An element, by a reference from read_page or find."}}
    either = {"target": {"anyOf": [_BY_POINT, _BY_REF], "description": "A point of the viewport, or an element."}}
    clicking = {"modifiers": text('Keys to hold meanwhile, e.g. "ctrl+shift".')} | tab
    this_tab = {"tab_id": text("The tab.")}
    region = {"region": numbers("The corners [x0, y0, x1, y1] in pixels of the viewport.", 4)}
    value: JsonObject = {"type": ["string", "number", "boolean"], "description": "A boolean for a checkbox."}
    scroll = {"scroll_direction": text("Which way.", *SCROLLING)} | point
    notches = {"scroll_amount": number("Notches of the wheel; 3 if left out.", minimum=1, maximum=10)}
    chosen = {
        "paths": {"type": "array", "items": {"type": "string"}, "description": "Files, by path."},
        "document_ids": {"type": "array", "items": {"type": "string"}, "description": "Files, by id."},
    }
    reading = {
        "filter": text("Which elements; all if left out.", "all", "interactive"),
        "depth": number("How deep to go."),
        "ref": text("The element to begin at."),
    }
    held_for = {"text": text(KEYS), "duration": number("Seconds to hold, at most 30.", "number")}
    waited = {"duration": number("Seconds to wait, at most 30.", "number")}
    pressed = {"repeat": number("How many times; 1 if left out.")} | tab
    address = {"url": text("The address; or back, forward, reload.")}
    code = {"text": text("An expression or a script; its last value is returned. No `return`.")}
    return {
        "navigate": Member("Open a page, or go back, forward or reload.", inputs(address, tab)),
        "list_tabs": Member("List the open tabs.", inputs({})),
        "new_tab": Member("Open an empty tab.", inputs({})),
        "switch_tab": Member("Make a tab the active one.", inputs(this_tab)),
        "close_tab": Member("Close a tab.", inputs(this_tab)),
        "read_page": Member("Get the page's elements as a tree, with a reference for each.", inputs({}, reading | tab)),
        "get_page_text": Member("Get the text of the page.", inputs({}, tab)),
        "read_console": Member("Get what the page wrote to the console since last time.", inputs({}, tab), False),
        "read_network": Member("Get the network requests made since last time.", inputs({}, tab), False),
        "find": Member("Find elements by a description.", inputs({"query": text("What to look for.")}, tab)),
        "form_input": Member("Set the value of a form's element.", inputs(element | {"value": value}, tab)),
        "file_upload": Member("Put files into a file input.", inputs(element, chosen | tab), False),
        "scroll_to": Member("Scroll an element into view.", inputs(element, tab)),
        "screenshot": Member("Take a screenshot of the viewport.", inputs({}, tab)),
        "zoom": Member("Take a screenshot of a part of the viewport, enlarged.", inputs(region, tab)),
        "left_click": Member("Click with the left mouse button.", inputs(either, clicking)),
        "right_click": Member("Click with the right mouse button.", inputs(either, clicking)),
        "middle_click": Member("Click with the middle mouse button.", inputs(either, clicking)),
        "double_click": Member("Click twice with the left mouse button.", inputs(either, clicking)),
        "triple_click": Member("Click three times with the left mouse button.", inputs(either, clicking)),
        "hover": Member("Move the cursor onto something.", inputs(either, tab)),
        "left_click_drag": Member(
            "Drag with the left mouse button, from one point to another.",
            inputs({"from": {**_BY_POINT, "description": "Where the drag begins."}} | point, tab),
        ),
        "left_mouse_down": Member("Press the left mouse button and keep it down.", inputs(point, tab)),
        "left_mouse_up": Member("Let the left mouse button go.", inputs(point, tab)),
        "mouse_move": Member("Move the cursor without clicking.", inputs(point, tab)),
        "scroll": Member("Turn the mouse wheel.", inputs(scroll, notches | tab)),
        "type": Member("Type text where the focus is.", inputs({"text": _TEXT}, tab)),
        "key": Member("Press a key or keys together.", inputs({"text": text(KEYS)}, pressed)),
        "hold_key": Member("Hold a key or keys down for a while.", inputs(held_for, tab)),
        "wait": Member("Wait.", inputs(waited, tab)),
        "javascript_exec": Member("Run JavaScript in the page.", inputs(code, tab), False),
    }


#: By the name that calls carry as `toolset_name`, in the documented order.
TOOLSETS: Final[Mapping[str, Mapping[str, Member]]] = {"computer": _computer(), "browser": _browser()}


def family_of(kind: str) -> str | None:
    """The name a set's calls carry, by the type of its entry; None for what is no client's set."""
    family = kind.partition("_toolset_")[0]
    return family if family != kind and family in TOOLSETS else None
