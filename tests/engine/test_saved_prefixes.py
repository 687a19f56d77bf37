"""The account of saved prompts: against a plain model of a child, and rule by rule."""

from __future__ import annotations

from itertools import takewhile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from antiphon.core.clock import SystemClock
from antiphon.core.records import Scope
from antiphon.engine.frames import (
    Command,
    Done,
    Drop,
    Erase,
    Failed,
    Made,
    Progress,
    Restore,
    Restored,
    Save,
    Saved,
)
from antiphon.engine.saved_prefixes import SavedPrefixes
from antiphon.engine.saved_states import SavedState, SavedStates

A, B, C = (Scope("org", name) for name in "abc")
TOKEN = 1000
#: What a saved prompt of 100 tokens is counted with.
HUNDRED = 100 * (TOKEN + 32) + 16 * 1024


class At(SystemClock):
    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds


def words(seed: int, tokens: int) -> list[int]:
    return [seed * 10_000 + i for i in range(tokens)]


def plain_prefix(a: list[int], b: list[int]) -> int:
    return len(list(takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False))))


class PlainChild:
    """Does what the child is told, and knows all that it may not."""

    def __init__(self, slots: int, pool: int) -> None:
        self.slots: list[tuple[Scope | None, list[int]]] = [(None, []) for _ in range(slots)]
        self.pool = pool
        self.files: dict[int, tuple[Scope | None, list[int]]] = {}
        self.failing = False

    def tell(self, command: Command) -> list[Saved | Restored]:
        match command:
            case Save(seat, place):
                scope, ids = self.slots[seat]
                self.files.pop(place, None)
                if self.failing or not ids:
                    return [Saved(place, 0, 0 if self.failing else 36)]
                self.files[place] = (scope, list(ids))
                return [Saved(place, len(ids), len(ids) * (TOKEN + 16) + 2000)]
            case Restore(seat, place):
                taken = sum(len(ids) for number, (_, ids) in enumerate(self.slots) if number != seat)
                if self.failing or place not in self.files or taken + len(self.files[place][1]) > self.pool:
                    return [Restored(seat, place, 0)]
                self.slots[seat] = self.files[place]
                return [Restored(seat, place, len(self.files[place][1]))]
            case Erase(seat):
                self.slots[seat] = (None, [])
            case Drop(place):
                self.files.pop(place, None)
        return []

    @property
    def bytes(self) -> int:
        return sum(len(ids) * (TOKEN + 16) + 2000 for _, ids in self.files.values())


def played(
    account: SavedPrefixes,
    child: PlainChild,
    scope: Scope,
    ids: list[int],
    *,
    keep: float = 0.0,
    number: int | None = None,
) -> int:
    """A whole request, to its end. Returns what was not computed again."""
    if number is None:
        number = account.best(range(len(child.slots)), scope, ids)
    placed = account.place(number, scope, ids, keep)
    for command in placed.before:
        for report in child.tell(command):
            for more in account.heard(None, report):
                child.tell(more)
    owner, there = child.slots[number]
    assert not placed.reuse or owner in (scope, None), "nothing crosses"
    reused = plain_prefix(there, ids) if placed.reuse else 0
    child.slots[number] = (scope, list(ids))
    account.heard(number, Progress(1, reused, len(ids)))
    account.heard(number, Made(1, ((b"x", 1, None, None),)))
    account.heard(number, Done(1, "stop", reused))
    return reused


def seen(slots: int = 1, *, hundreds: float = 4, clock: At | None = None) -> tuple[SavedPrefixes, PlainChild, At]:
    clock = clock or At()
    room = int(hundreds * HUNDRED)
    return (
        SavedPrefixes(slots, clock, room=room, token_bytes=TOKEN, pool_tokens=100_000),
        PlainChild(slots, 100_000),
        clock,
    )


def test_what_is_displaced_comes_back() -> None:
    account, child, _ = seen()
    assert played(account, child, A, words(1, 100)) == 0
    assert played(account, child, A, words(2, 100)) == 0
    assert played(account, child, A, words(1, 120)) == 100
    assert account.held().prompts == 2


def test_a_prompt_that_goes_on_is_saved_once() -> None:
    account, child, _ = seen()
    for length in (100, 150, 200):
        played(account, child, A, words(1, length))
        played(account, child, A, words(2, 100))
    assert len(child.files) == 2
    assert played(account, child, A, words(1, 200)) == 200


def test_a_short_end_is_not_worth_another_save() -> None:
    account, child, _ = seen()
    played(account, child, A, words(1, 100))
    played(account, child, A, words(2, 100))
    played(account, child, A, words(1, 105))
    placed = account.place(0, A, words(2, 100), 0.0)
    assert [type(command) for command in placed.before] == [Restore]


def test_another_workspace_neither_has_it_nor_can_be_told_by_it() -> None:
    account, child, _ = seen(2)
    played(account, child, A, words(1, 100))
    assert played(account, child, B, words(1, 100)) == 0
    assert played(account, child, C, words(1, 100)) == 0
    assert account.seating(A, words(1, 100), 10).cold(0) is False
    assert account.seating(Scope("org", "d"), words(1, 100), 10).cold(0) is True


def test_the_seat_that_goes_on_longest_is_best_and_then_the_one_that_costs_least() -> None:
    account, child, clock = seen(3)
    for number, (seed, keep) in enumerate([(1, 300.0), (2, 0.0), (3, 60.0)]):
        clock.seconds += 1
        played(account, child, A, words(seed, 100), keep=keep, number=number)
    assert account.best([0, 1, 2], A, words(3, 150)) == 2
    assert account.best([0, 1, 2], A, words(9, 150)) == 1, "promised to nobody"
    assert account.best([0, 2], A, words(9, 150)) == 2, "promised for less long"
    clock.seconds += 100
    assert account.best([0, 2], A, words(9, 150)) == 2, "its promise is over"


def test_room_is_given_up_by_the_life_that_is_left() -> None:
    account, child, clock = seen(hundreds=3)
    for seed, keep in ((1, 3600.0), (2, 0.0), (3, 300.0), (4, 0.0), (5, 3600.0)):
        clock.seconds += 1
        played(account, child, A, words(seed, 100), keep=keep)
    played(account, child, A, words(6, 100))
    kept = {ids[0] // 10_000 for _, ids in child.files.values()}
    assert kept == {1, 3, 5}
    assert account.held().evictions == 2
    clock.seconds += 301
    played(account, child, A, words(7, 100), keep=60.0)
    played(account, child, A, words(8, 100), keep=60.0)
    assert {ids[0] // 10_000 for _, ids in child.files.values()} == {1, 5, 7}


@pytest.mark.parametrize(("first", "second"), [(0.0, 3600.0), (3600.0, 0.0), (0.0, 0.0)])
def test_a_workspace_has_its_share_and_cannot_be_pushed_below(first: float, second: float) -> None:
    account, child, clock = seen(hundreds=10)
    for scope, start, keep in ((A, 0, first), (B, 20, second)):
        for seed in range(start, start + 15):
            clock.seconds += 1
            played(account, child, scope, words(seed, 100), keep=keep)
        if scope == A:
            assert len(child.files) >= 9, "alone it has all"
    share = account._states.share(A)
    assert account._states.of(A) >= share
    assert account._states.of(B) >= share - HUNDRED
    assert account.saved_bytes <= 2 * share


def test_what_nobody_was_promised_goes_after_an_hour_without_need() -> None:
    account, child, clock = seen()
    played(account, child, A, words(1, 100))
    played(account, child, A, words(2, 100), keep=7200.0)
    played(account, child, A, words(3, 100))
    clock.seconds += 3601
    played(account, child, B, words(4, 10))
    assert {ids[0] // 10_000 for _, ids in child.files.values()} == {2, 3}, "3 was saved just now"


def test_a_request_without_a_sign_leaves_what_was_there() -> None:
    account, child, _ = seen()
    played(account, child, A, words(1, 100))
    account.place(0, A, words(1, 50) + words(2, 50), 0.0)  # cancelled before the library began
    placed = account.place(0, A, words(1, 100), 0.0)
    assert placed.known == 50
    assert placed.reuse


def test_after_a_request_of_another_workspace_without_a_sign_nothing_is_reused_nor_saved() -> None:
    account, child, _ = seen()
    played(account, child, A, words(1, 100))
    for command in account.place(0, B, words(2, 100), 0.0).before:
        for report in child.tell(command):
            account.heard(None, report)
    placed = account.place(0, B, words(2, 100), 0.0)
    assert not placed.reuse
    assert placed.known == 0
    assert placed.before == ()
    assert played(account, child, A, words(1, 100)) == 100, "it was saved before"


def test_a_prompt_counts_as_far_as_it_came() -> None:
    account, _, _ = seen()
    account.place(0, A, words(1, 1000), 0.0)
    account.heard(0, Progress(1, 0, 256))
    assert account.place(0, A, words(1, 1000), 0.0).known == 256
    account.heard(0, Progress(1, 256, 512))
    account.heard(0, Failed(1, "out of memory"))
    assert account.place(0, A, words(1, 1000), 0.0).known == 0


def test_what_was_made_is_known_but_for_the_last() -> None:
    account, _, _ = seen()
    ids = words(1, 100)
    account.place(0, A, ids, 0.0)
    account.heard(0, Made(1, ()))
    ids += [1, 2, 3]
    assert account.place(0, A, [*ids, 4, 5], 0.0).known == 102


def test_phases_of_a_turn_neither_save_nor_restore() -> None:
    account, child, _ = seen()
    played(account, child, A, words(1, 100))
    played(account, child, A, words(2, 100))
    account.heard(0, Made(1, ()))
    made = [*words(2, 100), *range(500)]
    account._slots[0].ids = made
    assert account.place(0, A, [*words(2, 100), 7, 8], 0.0).before == ()


def test_a_save_that_fails_is_counted_out_and_no_more_are_tried() -> None:
    account, child, _ = seen()
    child.failing = True
    for seed in range(6):
        assert played(account, child, A, words(seed, 100)) == 0
    assert account.saved_bytes == 0
    assert account.place(0, A, words(9, 100), 0.0).before == ()
    account.forget()
    child.failing = False
    played(account, child, A, words(1, 100))
    played(account, child, A, words(2, 100))
    assert account.saved_bytes > 0


def test_a_restore_that_fails_is_no_claim() -> None:
    account, child, _ = seen()
    played(account, child, A, words(1, 100))
    played(account, child, B, words(2, 100))
    child.failing = True
    place = next(iter(child.files))
    assert account.place(0, A, words(1, 100), 0.0).known == 100
    account.heard(None, Restored(0, place, 0))
    child.failing = False
    assert account.place(0, A, words(1, 100), 0.0).before == (Restore(0, place),), "it is tried once more"
    assert account.heard(None, Restored(0, place, 0)) == (Drop(place),)
    assert account.place(0, A, words(1, 100), 0.0) == account.place(0, A, words(1, 100), 0.0)
    assert account.place(0, A, words(1, 100), 0.0).known == 0


def test_idle_slots_make_room_and_those_in_use_do_not() -> None:
    account = SavedPrefixes(4, At(), room=100 * HUNDRED, token_bytes=TOKEN, pool_tokens=1000)
    child = PlainChild(4, 1000)
    for number in range(3):
        played(account, child, A, words(number, 300), number=number)
    account.hold(0, seated=True)
    placed = account.place(3, A, words(9, 500), 0.0)
    account.hold(0, seated=False)
    erased = [command.seat for command in placed.before if isinstance(command, Erase)]
    saved = [command.seat for command in placed.before if isinstance(command, Save)]
    assert erased == saved == [1, 2]


def test_what_takes_more_than_it_was_counted_with_does_not_stay_over_the_room() -> None:
    states = SavedStates(1000, At())
    for size in (400, 400):
        assert states.admit(SavedState(0, A, [1], 1, size, 1.0, 0.0), instead=None, pinned=None) == []
    assert states.saved(1, 1, 700) == [1]
    assert states.bytes == 400


def test_what_is_saved_instead_of_something_has_its_room_and_no_more() -> None:
    states = SavedStates(1000, At())
    first = SavedState(0, A, [1], 1, 400, 2.0, 0.0)
    for state in (first, SavedState(0, A, [2], 1, 400, 1.0, 0.0)):
        assert states.admit(state, instead=None, pinned=None) == []
    grown = SavedState(0, A, [1, 2], 2, 600, 3.0, 0.0)
    assert states.admit(grown, instead=first, pinned=None) == []
    assert grown.place == first.place
    assert states.admit(SavedState(0, A, [1, 2, 3], 3, 700, 4.0, 0.0), instead=grown, pinned=None) == [2]
    assert states.bytes == 700


@pytest.mark.parametrize("size", [1001, 5000])
def test_what_is_larger_than_the_room_is_not_taken(size: int) -> None:
    states = SavedStates(1000, At())
    assert states.admit(SavedState(0, A, [1], 1, size, 1.0, 0.0), instead=None, pinned=None) is None


@given(
    st.integers(500, 2000),
    st.lists(
        st.tuples(
            st.sampled_from([A, B, C]), st.integers(1, 700), st.sampled_from([0.0, 60.0, 3600.0]), st.integers(0, 100)
        ),
        max_size=40,
    ),
)
def test_shares_and_order_hold_whatever_comes(room: int, asked: list[tuple[Scope, int, float, int]]) -> None:
    clock = At()
    states = SavedStates(room, clock)
    for scope, size, keep, seconds in asked:
        clock.seconds += seconds
        now = clock.seconds
        had = dict(states._states)
        before = {each: states.of(each) for each in (A, B, C)}
        new = SavedState(0, scope, [1], 1, size, now, now + keep)
        gone = states.admit(new, instead=None, pinned=None)
        assert states.bytes <= room
        if gone is None:
            assert dict(states._states) == had, "what is refused pushes nobody"
            continue
        lost = [had[place] for place in gone]
        kept = [state for state in had.values() if state not in lost]
        for other in {state.scope for state in lost} - {scope}:
            assert before[other] > states.of(other) >= states.share(scope)
        for state in lost:
            fair = state.scope != scope and before[scope] + size <= states.share(scope)
            assert fair or state.worth(now) < new.worth(now), "what is promised for longer stays"
            mine = [each for each in kept if each.scope == state.scope == scope]
            assert all(state.worth(now) <= each.worth(now) for each in mine), "the least of its own goes first"


class AgainstAPlainChild(RuleBasedStateMachine):
    """Requests of three workspaces on three slots, some of which are cancelled or fail at any point."""

    talks = st.integers(0, 3)
    scopes = st.sampled_from([A, B, C])

    @initialize(hundreds=st.integers(0, 8), pool=st.integers(1000, 3000))
    def begin(self, hundreds: int, pool: int) -> None:
        self.clock = At()
        self.room = hundreds * HUNDRED
        self.account = SavedPrefixes(3, self.clock, room=self.room, token_bytes=TOKEN, pool_tokens=pool)
        self.child = PlainChild(3, pool)

    @rule(
        scope=scopes, talk=talks, length=st.integers(1, 400), fork=st.booleans(), keep=st.sampled_from([0.0, 60.0, 3600.0]),
        end=st.sampled_from(["done", "done", "done", "silent", "part", "failed"]), made=st.integers(0, 30),
    )  # fmt: skip
    def ask(self, scope: Scope, talk: int, length: int, *, fork: bool, keep: float, end: str, made: int) -> None:
        ids = words(talk, length) + (words(99 + length, 50) if fork else [])
        number = self.account.best(range(3), scope, ids)
        placed = self.account.place(number, scope, ids, keep)
        for command in placed.before:
            self.send(command)
        owner, there = self.child.slots[number]
        if placed.reuse:
            assert owner in (scope, None)
        true = plain_prefix(there, ids) if owner == scope else 0
        assert self.account._known(number, scope, ids) <= true
        if end == "silent":
            return
        reused = plain_prefix(there, ids) if placed.reuse else 0
        computed = (reused + len(ids)) // 2 if end == "part" else len(ids)
        self.child.slots[number] = (scope, ids[:computed])
        self.account.heard(number, Progress(1, reused, computed))
        if end == "failed":
            self.account.heard(number, Failed(1, "reason"))
        if end == "done":
            for token in range(made):
                self.account.heard(number, Made(1, ()))
                ids.append(token)
            self.child.slots[number] = (scope, ids[: max(length, len(ids) - 1)] if made else list(ids))
            self.account.heard(number, Done(1, "stop", reused))

    @rule(seconds=st.sampled_from([1.0, 30.0, 400.0, 4000.0]))
    def wait(self, seconds: float) -> None:
        self.clock.seconds += seconds

    @rule()
    def the_library_empties_a_slot(self) -> None:
        """For room, without a word. What is claimed then is too much, and comes right with the next report."""
        number = next((n for n, (_, ids) in enumerate(self.child.slots) if ids), 0)
        self.child.slots[number] = (None, [])
        self.account._slots[number].sure = 0
        self.account._slots[number].whole = False

    @rule()
    def child_is_lost(self) -> None:
        self.account.forget()
        self.child = PlainChild(3, self.child.pool)
        assert self.account.held().prompts == 0

    @rule(failing=st.booleans())
    def trouble(self, *, failing: bool) -> None:
        self.child.failing = failing

    @invariant()
    def the_room_is_never_exceeded(self) -> None:
        if hasattr(self, "account"):
            assert self.account.saved_bytes <= self.room
            assert self.child.bytes <= self.room

    @invariant()
    def what_is_counted_is_what_is_there(self) -> None:
        if hasattr(self, "account"):
            assert set(self.account._states._states) == set(self.child.files)
            for place, (scope, ids) in self.child.files.items():
                state = self.account._states._states[place]
                assert state.scope == scope
                assert plain_prefix(state.ids, ids) == len(state.ids)

    def send(self, command: Command) -> None:
        for report in self.child.tell(command):
            for more in self.account.heard(None, report):
                self.send(more)


AgainstAPlainChild.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestAgainstAPlainChild = AgainstAPlainChild.TestCase
