"""Why one request reads nothing of another from the cache, or less than it could, and what to mend: in plain words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import msgspec

from antiphon.plan.caching.explain import Difference, Explanation, Parting, Side
from antiphon.plan.caching.index import LOOK_BACK
from antiphon.plan.caching.positions import Mark

_MARK = "`cache_control`"
_NAMES = (
    r"(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?|today|tomorrow|yesterday|[ap]m|utc|gmt|"
    r"jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    r"nov(?:ember)?|dec(?:ember)?"
)
_WORD = re.compile(r"[\w:./+-]*\Z"), re.compile(r"[\w:./+-]*")
_TIME = re.compile(rf"(?:{_NAMES}|[0-9]+(?:st|nd|rd|th)?|[0-9][0-9:./+TZ-]*)[.,]?", re.IGNORECASE)
_ID = re.compile(r"(?=.*[0-9])[\w-]{8,}\Z")
#: How far a word is followed, in characters.
_LONGEST_WORD = 64


class Measured(msgspec.Struct, frozen=True):
    """A request whose prompt was measured: where each position ends (tokens), and its breakpoints, in order."""

    side: Side
    ends: tuple[int, ...]
    marks: tuple[Mark, ...]

    @property
    def long_enough(self) -> list[Mark]:
        """The breakpoints that something can end at (contract messages-and-inference 7.3)."""
        return [mark for mark in self.marks if self.ends[mark.place] >= self.side.caching.minimum]

    def path(self, place: int) -> str:
        """A position's."""
        return self.side.found[place].path


def advice(a: Measured, b: Measured, told: Explanation) -> list[str]:
    """What keeps B from reading what A wrote: what they differ in first, then the breakpoints."""
    return [*_of_parting(a, b, told), *_of_marks(a, b, told)]


def _of_parting(a: Measured, b: Measured, told: Explanation) -> Iterator[str]:
    parting = told.parting
    if parting is None:
        return
    if parting.level == "messages" and not (_marks_behind(a, parting.same) or _marks_behind(b, parting.same)):
        return  # as it should be: what is new stands behind the last breakpoint
    if parting.cause == "parameters":
        names = [each.name for each in told.parameters if each.level == parting.level]
        lost = "nothing at all is shared" if parting.level is None else f"{_levels(parting.level)} cannot be read"
        yield f"{_listed(names)} differ{'s' if len(names) == 1 else ''}, so {lost}: keep it the same in both requests."
        return
    if parting.level == "tools":
        yield "The tools stand in front of everything: send the same ones, in the same order, with every request."
    if parting.difference is not None:
        yield from _of_difference(parting, parting.difference)


def _marks_behind(request: Measured, same: int) -> bool:
    """Whether a breakpoint stands behind so many positions that are the same."""
    return any(mark.place >= request.side.shared[same] for mark in request.marks)


def _of_difference(parting: Parting, found: Difference) -> Iterator[str]:
    if found.kind == "order":
        yield (
            f"{parting.path_b} has the same fields in another order, and the order counts: write JSON objects always "
            "in one order (sorted keys)."
        )
    if found.kind != "text" or found.character is None:
        return
    words = [_word(text or "", found.character) for text in (found.a, found.b)]
    if all(_TIME.fullmatch(word) for word in words):
        kind = "a date, a time or a counter"
    elif all(_ID.match(word) for word in words):
        kind = "an id that is made anew"
    else:
        return
    yield (
        f"What differs looks like {kind} ({_short(words[0])} and {_short(words[1])}): put it behind the last "
        "breakpoint, for instance into the newest user message, or leave it out."
    )


def _of_marks(a: Measured, b: Measured, told: Explanation) -> Iterator[str]:
    for name, request, lacks in (("A", a, "nothing of it is written"), ("B", b, "nothing is looked for")):
        if not request.marks:
            yield f"{name} has no {_MARK}, so {lacks}: mark the end of what stays the same."
            return
        if not request.long_enough:
            last, minimum = request.marks[-1], request.side.caching.minimum
            yield (
                f"{name}'s prefix up to its last breakpoint, {request.path(last.place)}, has "
                f"{_tokens(request.ends[last.place])}; this model caches none under {minimum:,}."
            )
            return
    places = {key: place for place, key in enumerate(b.side.keyed.keys)} if _one_root(told) else {}
    written = [(mark, places[key]) for mark in a.long_enough if (key := a.side.keyed.keys[mark.place]) in places]
    if not written:
        yield from _of_none_before(a, told)
        return
    read = [(mark, place) for mark, place in written if _reached(b, place)]
    if not read:
        yield _of_reach(b, written[-1][1])
        return
    if told.parting is not None:
        yield from _of_more(a, told.parting.same, read[-1][0])
    yield from _of_lifetime(a, b, read[-1][0])


def _one_root(told: Explanation) -> bool:
    return told.parting is None or told.parting.level is not None


def _of_none_before(a: Measured, told: Explanation) -> Iterator[str]:
    """Whatever A wrote ends behind the divergence."""
    parting = told.parting
    if parting is None:
        yield "A goes on where B has ended, and A's breakpoints stand only there: mark an earlier block in A."
    if parting is None or not parting.same:
        return
    place = a.side.shared[parting.same - 1]
    tokens, minimum = a.ends[place], a.side.caching.minimum
    if tokens < minimum:
        yield (
            f"Both begin with the same {_tokens(tokens)} (up to {a.path(place)}); this model caches none under "
            f"{minimum:,}, so a breakpoint there would not help."
        )
        return
    yield (
        f"No breakpoint stands before the divergence: A's first is at {a.path(a.marks[0].place)}. Put one at "
        f"{a.path(place)}, where {_tokens(tokens)} are the same."
    )


def _reached(b: Measured, place: int) -> bool:
    return any(mark.place - LOOK_BACK < place <= mark.place for mark in b.long_enough)


def _of_reach(b: Measured, place: int) -> str:
    behind = [mark.place for mark in b.long_enough if mark.place > place]
    if not behind:
        return (
            f"A's entry ends at {b.path(place)}, behind all of B's breakpoints, and an entry is looked for only from a "
            "breakpoint backwards: keep the earlier breakpoint where it was, or set one at the end."
        )
    return (
        f"A's entry ends at {b.path(place)}, {behind[0] - place} positions before B's next breakpoint "
        f"({b.path(behind[0])}); only {LOOK_BACK} are looked at, the breakpoint's own among them: set another "
        "breakpoint in between."
    )


def _of_more(a: Measured, same: int, read: Mark) -> Iterator[str]:
    """There is more in common than an entry ends at."""
    place = a.side.shared[same - 1]
    if a.ends[place] > a.ends[read.place] and len(a.marks) < 4:
        yield (
            f"A breakpoint in A at {a.path(place)} would let B read {_tokens(a.ends[place])} instead of "
            f"{a.ends[read.place]:,}."
        )


def _of_lifetime(a: Measured, b: Measured, read: Mark) -> Iterator[str]:
    key = a.side.keyed.keys[read.place]
    other = next((mark for mark in b.marks if b.side.keyed.keys[mark.place] == key), None)
    if other is not None and other.lifetime != read.lifetime:
        yield (
            f"A writes the prefix up to {a.path(read.place)} for {read.lifetime} and B marks it for {other.lifetime}: "
            f"it is read all the same, and keeps its {read.lifetime}."
        )
    if read.lifetime == "5m":
        yield (
            "B reads this only within 5 minutes after A, or after whoever read it last; for longer pauses mark it with "
            '`"ttl": "1h"`.'
        )


def _levels(level: str) -> str:
    order: Sequence[str] = ("tools", "system", "messages")
    return _listed(order[order.index(level) :])


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _tokens(number: int) -> str:
    return f"{number:,} token{'' if number == 1 else 's'}"


def _word(text: str, at: int) -> str:
    """The word that a character is in, without the sentence's punctuation."""
    before, behind = text[max(0, at - _LONGEST_WORD) : at], text[at : at + _LONGEST_WORD]
    found = [pattern.search(part) for pattern, part in zip(_WORD, (before, behind), strict=True)]
    return "".join(match[0] for match in found if match is not None).strip(".,:/+-")


def _short(word: str) -> str:
    return f'"{word[:24]}…"' if len(word) > 24 else f'"{word}"'
