"""The documented rule of prompt caching, as plainly as it can be said (contract messages-and-inference 7.1 to 7.5).

Written from the contract. Slow on purpose: whole contents are kept and compared where the server compares keys, whole
prompts where it compares digests, and every entry there is is looked at. Of the server only the renderer is used, for
what a prompt's tokens are and where in them a block ends.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from antiphon.engine.contract import TokenSpan
from antiphon.plan.render import Renderer
from antiphon.wire.parse import parse_messages

SECONDS = {"5m": 300, "1h": 3600}
MOST_MARKS = 4
LOOK_BACK = 20
#: They are cached inside a prefix, and cannot end one.
NEVER_MARKED = ("thinking", "redacted_thinking")
#: What the client may write as it likes: in these the order of keys counts.
_OWN_OBJECTS = ("input", "input_schema")


class RefusedByRule(Exception):
    """The API answers 400."""


@dataclass
class Place:
    """One block: `content` is all that must be the same for it to be the same."""

    level: str
    path: str
    content: str
    ttl: str | None
    can_be_marked: bool


@dataclass
class Entry:
    apart: tuple[str, ...]
    content: list[str]
    ids: list[int]
    ttl: str
    until: float
    life: int


@dataclass
class Figures:
    """The input side of usage."""

    input: int
    write_5m: int = 0
    write_1h: int = 0
    read: int = 0


@dataclass
class Asked:
    """A request that was let in. `read_at` is the place of the hit, -1 where there was none."""

    figures: Figures
    tokens: int
    read_at: int = -1
    marks: int = 0
    too_short: int = 0
    writes: list[Entry] = field(default_factory=list)


class ReferenceCache:
    """The cache of one server."""

    def __init__(self, renderer: Renderer, minimum: int) -> None:
        """`minimum`: in tokens."""
        self._renderer = renderer
        self._minimum = minimum
        self._entries: list[Entry] = []
        #: How often all of a content was there, and its tokens in another prompt were others.
        self.cut_otherwise = 0

    def ask(self, body: dict[str, Any], workspace: str, now: float, life: int) -> Asked:
        """The start of a request.

        Raises:
            RefusedByRule: its marks break a rule.
        """
        places = places_of(body)
        marked = marks_of(body, places)
        rendered = self._renderer.render(parse_messages(json.dumps(body).encode()).request)
        ids = [token for span in rendered.prompt.segments if isinstance(span, TokenSpan) for token in span.ids]
        ends = {block.path: block.end for block in rendered.blocks}
        apart = (workspace, body["model"], body.get("speed") or "standard")

        def prefix(place: int) -> list[str]:
            return _prefix(body, places, place)

        def size(place: int) -> int:
            return ends[places[place].path]

        long_enough = [(place, ttl) for place, ttl in marked if size(place) >= self._minimum]
        hit: Entry | None = None
        read_at = -1
        for place, _ in reversed(long_enough):
            for at in range(place, place - LOOK_BACK, -1):
                if at >= 0 and hit is None:
                    hit = self._found(apart, prefix(at), ids, now, life)
                    read_at = at if hit is not None else -1
        if hit is not None:
            _refresh(hit, now)
            for place, _ in long_enough:
                earlier = self._found(apart, prefix(place), ids, now, life) if place < read_at else None
                if earlier is not None:
                    _refresh(earlier, now)
        read = _common(hit.ids, ids) if hit is not None else 0
        after = [(place, ttl) for place, ttl in long_enough if place > read_at]
        last_hour = max([read] + [size(place) for place, ttl in after if ttl == "1h"])
        last = max([last_hour] + [size(place) for place, _ in after])
        return Asked(
            Figures(len(ids) - last, last - last_hour, last_hour - read, read),
            len(ids),
            read_at,
            len(marked),
            len(marked) - len(long_enough),
            [
                Entry(apart, prefix(place), ids[: size(place)], ttl, now + SECONDS[ttl], life)
                for place, ttl in after
            ],
        )  # fmt: skip

    def begin(self, asked: Asked) -> None:
        """The first response begins: what was written can be read. Of two that wrote the same, the one that lives
        longer stays; where the tokens differ, the later."""
        for new in asked.writes:
            same = [each for each in self._entries if (each.apart, each.content) == (new.apart, new.content)]
            longer = [each for each in same if each.life == new.life and each.ids == new.ids]
            for each in same:
                self._entries.remove(each)
            best = max([new, *longer], key=lambda each: each.until)
            best.ttl = "1h" if "1h" in [each.ttl for each in [new, *longer] if each.until == best.until] else best.ttl
            self._entries.append(best)

    def _found(self, apart: tuple[str, ...], content: list[str], ids: list[int], now: float, life: int) -> Entry | None:
        for each in self._entries:
            if each.apart == apart and each.content == content and each.until > now and each.life == life:
                self.cut_otherwise += ids[: len(each.ids)] != each.ids
                # At its end a block may be cut otherwise, by what follows: its last token may reach over the border.
                if _common(each.ids, ids) >= max(1, len(each.ids) - 3):
                    return each
        return None


def _common(one: list[int], other: list[int]) -> int:
    """How many tokens both begin with."""
    for place, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return place
    return min(len(one), len(other))


def _refresh(entry: Entry, now: float) -> None:
    entry.until = now + SECONDS[entry.ttl]


def places_of(body: dict[str, Any]) -> list[Place]:
    """All blocks in the order tools, system, messages."""
    places: list[Place] = []
    for number, tool in enumerate(body.get("tools", [])):
        if not tool.get("defer_loading"):
            places.append(_place("tools", f"tools.{number}", tool, ""))
    system = body.get("system") or []
    for number, block in enumerate(_blocks(system)):
        dropped = not isinstance(system, str) and number == 0
        if not (dropped and block["text"].startswith("x-anthropic-billing-header:")):
            places.append(_place("system", f"system.{number}", block, ""))
    for number, message in enumerate(body["messages"]):
        for at, block in enumerate(_blocks(message["content"])):
            where = f"{message['role']} begins " if at == 0 else ""
            places.append(_place("messages", f"messages.{number}.content.{at}", block, where))
    return places


def marks_of(body: dict[str, Any], places: list[Place]) -> list[tuple[int, str]]:
    """The breakpoints, explicit and automatic.

    Raises:
        RefusedByRule: too many, or in an order that is not allowed, or two that contradict each other.
    """
    found = {number: place.ttl for number, place in enumerate(places) if place.ttl is not None}
    if body.get("cache_control") is not None:
        ttl = body["cache_control"].get("ttl") or "5m"
        for number in range(len(places) - 1, -1, -1):
            if places[number].can_be_marked:
                if found.setdefault(number, ttl) != ttl:
                    raise RefusedByRule("the last block says another ttl")
                break
    in_order = sorted(found.items())
    if len(in_order) > MOST_MARKS:
        raise RefusedByRule("too many")
    ttls = [ttl for _, ttl in in_order]
    if ttls != sorted(ttls):  # "1h" sorts before "5m"
        raise RefusedByRule("an hour behind five minutes")
    return in_order


def _blocks(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def _place(level: str, path: str, block: dict[str, Any], where: str) -> Place:
    control = block.get("cache_control")
    content = {name: value for name, value in block.items() if name != "cache_control"}
    if block.get("type") == "tool_result" and isinstance(block.get("content"), list):
        control = control or next(
            (part["cache_control"] for part in block["content"] if part.get("cache_control")), None
        )
        content["content"] = [
            {name: value for name, value in part.items() if name != "cache_control"} for part in block["content"]
        ]
    ttl = None if control is None else control.get("ttl") or "5m"
    can_be_marked = block.get("type") not in NEVER_MARKED
    return Place(level, path, where + _as_text(content), ttl if can_be_marked else None, can_be_marked)


def _as_text(content: dict[str, Any]) -> str:
    """The API's own fields in any order; the client's own objects as they were written."""
    own = {name: json.dumps(content[name]) for name in _OWN_OBJECTS if name in content}
    return json.dumps(content | own, sort_keys=True)


def _prefix(body: dict[str, Any], places: list[Place], last: int) -> list[str]:
    """All that must be the same for what ends at a place to be the same: the contents, and the parameters of the levels
    that it reaches into (the table of contract 7.5)."""
    content = [f"{place.level}: {place.content}" for place in places[: last + 1]]
    if places[last].level == "messages":
        choice = dict(body.get("tool_choice") or {"type": "auto"})
        if not choice.get("disable_parallel_tool_use"):
            choice.pop("disable_parallel_tool_use", None)
        thinking = body.get("thinking") or {"type": "disabled"}
        config = body.get("output_config") or {}
        content.append(json.dumps([choice, thinking["type"], config.get("effort") or "high", config.get("format")]))
    return content
