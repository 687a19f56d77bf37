"""Stop sequences: the outcome depends on the text alone, never on how it was cut into tokens."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from antiphon.reply.stops import StopMatcher

letters = st.text(alphabet="ab\n", max_size=12)
sequences = st.lists(st.text(alphabet="ab\n", min_size=1, max_size=4), max_size=4)


def shown(pieces: list[str], stops: list[str]) -> tuple[str, str | None]:
    matcher = StopMatcher(stops)
    out = ""
    for piece in pieces:
        text, stopped = matcher.feed(piece)
        out += text
        if stopped is not None:
            return out, stopped
    return out + matcher.rest(), None


def expected(text: str, stops: list[str]) -> tuple[str, str | None]:
    """The rule, said plainly: the sequence that is complete first; of those complete together, the longest."""
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            longest = max(ending, key=len)
            return text[: end - len(longest)], longest
    return text, None


@given(st.lists(letters, max_size=6), sequences)
def test_the_outcome_is_the_rules_however_the_text_is_cut(pieces: list[str], stops: list[str]) -> None:
    assert shown(pieces, stops) == expected("".join(pieces), stops)


@given(st.lists(letters, max_size=6), sequences)
def test_nothing_shown_is_ever_taken_back(pieces: list[str], stops: list[str]) -> None:
    matcher = StopMatcher(stops)
    out = ""
    final, _ = expected("".join(pieces), stops)
    for piece in pieces:
        text, stopped = matcher.feed(piece)
        out += text
        assert final.startswith(out)
        if stopped is not None:
            break


def test_text_that_cannot_become_a_stop_is_shown_at_once() -> None:
    matcher = StopMatcher(["END"])
    assert matcher.feed("hello E") == ("hello ", None)
    assert matcher.feed("N") == ("", None)
    assert matcher.feed("ough") == ("ENough", None)
