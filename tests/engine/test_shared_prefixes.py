"""The account of what a library remembers that shares blocks between its seats, against a plain model of such a pool."""

from __future__ import annotations

from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.core.records import Scope
from antiphon.engine.frames import Progress, Tokens
from antiphon.engine.shared_prefixes import BLOCK, SharedPrefixes

ONE, OTHER = Scope("org", "one"), Scope("org", "other")
#: A workspace, and all tokens up to a block's end.
Place: TypeAlias = "tuple[Scope, tuple[int, ...]]"


def ids(*blocks: int, rest: int = 0) -> list[int]:
    """So many whole blocks, each of one token's repetition, and some tokens more."""
    return [token for token in blocks for _ in range(BLOCK)] + [9] * rest


def sized(blocks: int) -> SharedPrefixes:
    account = SharedPrefixes()
    account.resize(blocks * BLOCK)
    return account


def answer(account: SharedPrefixes, scope: Scope, prompt: list[int], made: list[int], seat: int = 0) -> int:
    """One phase from its start to its end; how much of its prompt was known."""
    text = list(prompt)
    placed = account.place(seat, scope, text, 0.0)
    for token in made:
        account.heard(seat, Tokens(1, (token,)))
        text.append(token)
    account.heard(seat, Progress(1, None, len(prompt)))
    account.ended(seat)
    return placed.known


def known(account: SharedPrefixes, scope: Scope, prompt: list[int]) -> int:
    """How much of a prompt is, found by asking from which chunk on it is not cold."""
    return next(
        len(prompt) - size for size in range(len(prompt) + 1) if not account.seating(scope, prompt, size).cold(0)
    )


class PlainPool:
    """As the library does it, in the simplest way: a list of blocks from the one longest unused to the last."""

    def __init__(self, blocks: int) -> None:
        self._room = blocks
        self._never_used_again: list[Place] = []
        self._again: list[Place] = []

    def answer(self, scope: Scope, prompt: list[int], made: list[int]) -> int:
        text = [*prompt, *made]
        filled = max(len(prompt), len(text) - 1) // BLOCK
        places: list[Place] = [(scope, tuple(text[: (n + 1) * BLOCK])) for n in range(filled)]
        found = 0
        for place in places[: len(prompt) // BLOCK]:
            if place not in self._never_used_again + self._again:
                break
            self._use(place)
            found += 1
        # What it holds is not given to anybody while it runs.
        for number, place in enumerate([*places[found:], (scope, (*text, -1))], found):
            self._fill(place, places[:number])
        return min(found * BLOCK, len(prompt) - 1) if found else 0

    def _use(self, place: Place) -> None:
        for blocks in (self._never_used_again, self._again):
            if place in blocks:
                blocks.remove(place)
        self._again.append(place)

    def _fill(self, place: Place, held: list[Place]) -> None:
        if place[1][-1] != -1 and place in self._never_used_again + self._again:
            self._use(place)
            return
        if len(self._never_used_again) + len(self._again) < self._room:
            self._fresh(place)
            return
        for blocks in (self._never_used_again, self._again):
            for old in blocks:
                if old not in held:
                    blocks.remove(old)
                    self._again.append(place)
                    return

    def _fresh(self, place: Place) -> None:
        self._never_used_again.append(place)


_prompts = st.builds(
    lambda blocks, rest: ids(*blocks, rest=rest), st.lists(st.integers(1, 2), max_size=5), st.integers(1, BLOCK)
)
_made = st.lists(st.integers(3, 4), max_size=1).flatmap(lambda one: st.integers(0, 2 * BLOCK).map(lambda n: one * n))


@given(st.integers(9, 20), st.lists(st.tuples(st.sampled_from((ONE, OTHER)), _prompts, _made), max_size=25))
def test_it_knows_what_a_plain_pool_holds(blocks: int, asked: list[tuple[Scope, list[int], list[int]]]) -> None:
    account, plain = sized(blocks), PlainPool(blocks)
    for turn, (scope, prompt, said) in enumerate(asked):
        made = [token + 100 * turn for token in said]  # never quite the same
        assert answer(account, scope, prompt, made, seat=turn % 3) == plain.answer(scope, prompt, made)


def test_a_prefix_is_known_on_every_seat_and_to_its_workspace_alone() -> None:
    account = sized(20)
    prompt = ids(1, 2, 3, rest=5)
    assert answer(account, ONE, prompt, [7], seat=0) == 0
    assert known(account, ONE, ids(1, 2, 4)) == 2 * BLOCK
    assert known(account, OTHER, prompt) == 0
    one, other = account.place(1, ONE, list(prompt), 0.0), account.place(2, OTHER, list(prompt), 0.0)
    assert (one.known, other.known) == (3 * BLOCK, 0)
    assert one.salt != other.salt and one.salt and other.salt
    assert account.place(3, ONE, [1], 0.0).salt == one.salt


def test_what_was_made_is_known_too_but_for_the_last_token() -> None:
    account = sized(20)
    answer(account, ONE, ids(1), [5] * BLOCK)
    assert known(account, ONE, ids(1, 5, rest=1)) == BLOCK
    answer(account, ONE, ids(2), [5] * (BLOCK + 1))
    assert known(account, ONE, ids(2, 5, rest=1)) == 2 * BLOCK


def test_the_last_token_of_a_prompt_is_always_computed() -> None:
    account = sized(20)
    answer(account, ONE, ids(1, 2), [7])
    assert known(account, ONE, ids(1, 2)) == 2 * BLOCK - 1


def test_a_prompt_counts_as_it_is_computed() -> None:
    """Who asks the same meanwhile is cold until then, and no longer after."""
    account = sized(20)
    prompt = ids(1, 2, 3, 4, rest=1)
    cold = account.seating(ONE, prompt, BLOCK).cold
    account.place(0, ONE, list(prompt), 0.0)
    assert cold(1)
    account.heard(0, Progress(1, None, 2 * BLOCK))
    assert cold(1) and known(account, ONE, prompt) == 2 * BLOCK
    account.heard(0, Progress(1, None, 3 * BLOCK))
    account.heard(0, Progress(1, None, 0))
    assert known(account, ONE, prompt) == 3 * BLOCK
    account.heard(0, Tokens(1, (5,)))
    assert not cold(1)


def test_a_prompt_follows_one_that_begins_as_it_does_until_that_is_computed() -> None:
    account = sized(40)
    first, second = ids(1, 2, 3, 4, 5, 6), ids(1, 2, 3, 4, 5, 7)
    follows = account.seating(ONE, second, BLOCK).follows
    assert not follows()
    account.seating(ONE, first, BLOCK).seated(0)
    assert follows()
    assert not account.seating(OTHER, second, BLOCK).follows()
    assert not account.seating(ONE, ids(1, 9, 9), BLOCK).follows()
    account.place(0, ONE, list(first), 0.0)
    account.heard(0, Progress(1, None, 3 * BLOCK))
    assert follows()
    account.heard(0, Progress(1, None, 4 * BLOCK))
    assert not follows()  # what is still to come of it is less than is computed in one go


@pytest.mark.parametrize("way", ["a token comes", "its turn ends", "an epoch ends"])
def test_nobody_follows_what_will_not_come(way: str) -> None:
    account = sized(40)
    prompt = ids(1, 2, 3, 4)
    follows = account.seating(ONE, [*prompt, 5], BLOCK).follows
    account.seating(ONE, prompt, BLOCK).seated(0)
    assert follows()
    if way == "a token comes":
        account.place(0, ONE, list(prompt), 0.0)
        account.heard(0, Tokens(1, (5,)))
    elif way == "its turn ends":
        account.came(0)
    else:
        account.forget()
    assert not follows()


def test_a_prompt_that_was_cancelled_counts_as_far_as_it_came() -> None:
    account = sized(20)
    prompt = ids(1, 2, 3, 4, rest=1)
    account.place(0, ONE, list(prompt), 0.0)
    account.heard(0, Progress(1, None, 2 * BLOCK))
    account.ended(0)
    assert known(account, ONE, prompt) == 2 * BLOCK


def test_what_a_phase_holds_is_not_given_up_for_another() -> None:
    account = sized(6)
    long = ids(1, 2, 3, rest=1)
    account.place(0, ONE, long, 0.0)
    account.heard(0, Tokens(1, (5,)))
    for word in range(10, 20):
        answer(account, OTHER, ids(word, word), [5], seat=1)
    assert known(account, ONE, list(long)) == 3 * BLOCK
    account.ended(0)
    for word in range(20, 30):
        answer(account, OTHER, ids(word, word), [5], seat=1)
    assert known(account, ONE, list(long)) == 0


def test_conversations_that_take_turns_stay_known_while_the_pool_holds_them() -> None:
    conversations = {word: ids(word, *[word + 50] * 9) for word in range(12)}
    fits, small = sized(12 * 14), sized(60)
    for turn in range(4):
        for word, text in conversations.items():
            found = [answer(account, ONE, [*text, 9], [8], seat=word % 4) for account in (fits, small)]
            assert found == [len(text) if turn else 0, 0]
        conversations = (
            {word: [*text, *[9] * BLOCK] for word, text in conversations.items()} if turn == 1 else conversations
        )
        if turn == 1:
            break
    assert fits.held().evictions == 0
    assert small.held().evictions > 0
    assert fits.held().prompts >= 12


@pytest.mark.parametrize("way", ["forget", "resize"])
def test_an_epoch_ends_salts_and_all_that_is_known(way: str) -> None:
    account = sized(20)
    prompt = ids(1, 2, rest=1)
    answer(account, ONE, prompt, [5])
    salt = account.place(0, ONE, list(prompt), 0.0).salt
    account.forget() if way == "forget" else account.resize(20 * BLOCK)
    again = account.place(0, ONE, list(prompt), 0.0)
    assert (again.known, again.salt != salt) == (0, True)


def test_where_nothing_is_remembered_nothing_is_known() -> None:
    account = SharedPrefixes()
    for _ in range(3):
        assert answer(account, ONE, ids(1, 2, 3), [5] * 100) == 0
    assert account.seating(ONE, ids(1, 2, 3), BLOCK).cold(0)
    assert account.held().prompts == 0


def test_the_account_of_a_pool_that_is_always_used_does_not_grow() -> None:
    account = sized(20)
    prompt = ids(1, 2, 3, rest=1)
    for _ in range(200):
        answer(account, ONE, prompt, [5])
    assert len(account._unused) <= 5 * 20
    assert len(account._blocks) <= 20
    assert known(account, ONE, prompt) == 3 * BLOCK
