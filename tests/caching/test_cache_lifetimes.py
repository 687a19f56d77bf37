"""How long an entry lives, on a clock that stands still until it is told (contract messages-and-inference 7.4)."""

from __future__ import annotations

import pytest
from test_against_reference import StepClock

from antiphon.core.records import Scope
from antiphon.plan.caching.bill import Breakpoint
from antiphon.plan.caching.index import Cacheable, CacheIndex, Found
from antiphon.plan.caching.positions import SECONDS, Lifetime

HERE = Scope("org", "here")
IDS = list(range(1000))


class Cache:
    """One index, and requests of one conversation whose positions end every ten tokens."""

    def __init__(self, *, entries: int = 100, workspaces: int = 100) -> None:
        self.clock = StepClock()
        self.index = CacheIndex(self.clock, entries=entries, workspaces=workspaces)

    def look_up(
        self,
        *marks: tuple[int, Lifetime],
        epoch: int = 0,
        name: str = "a",
        scope: Scope = HERE,
        ids: list[int] = IDS,
        let_in: bool = True,
    ) -> Found:
        """A request with marks at these places."""
        keys = tuple([f"{name}{place}".encode() for place in range(100)])
        breakpoints = tuple([Breakpoint(place, place * 10 + 10, lifetime) for place, lifetime in marks])
        found = self.index.look_up(1000, Cacheable(scope, keys, breakpoints, ids), epoch)
        if let_in:
            self.index.read(found)
        return found

    def ask(
        self, *marks: tuple[int, Lifetime], epoch: int = 0, name: str = "a", scope: Scope = HERE
    ) -> tuple[int, int, int]:
        """The tokens read, and written for five minutes and for an hour."""
        found = self.look_up(*marks, epoch=epoch, name=name, scope=scope)
        self.index.write(found, epoch)
        usage = found.usage
        return usage.cache_read_tokens, usage.cache_write_5m_tokens, usage.cache_write_1h_tokens


@pytest.mark.behaviour("messages-and-inference-7.4-lifetimes")
@pytest.mark.parametrize("lifetime", SECONDS)
def test_an_entry_lives_for_so_long(lifetime: Lifetime) -> None:
    for later, read in ((SECONDS[lifetime] - 0.001, 60), (SECONDS[lifetime], 0)):
        cache = Cache()
        assert sum(cache.ask((5, lifetime))) == 60
        cache.clock.seconds += later
        assert cache.ask((5, lifetime))[0] == read


@pytest.mark.behaviour("messages-and-inference-7.4-from-the-start")
def test_it_is_measured_from_the_start_of_the_request() -> None:
    cache = Cache()
    found = cache.look_up((5, "5m"))
    cache.clock.seconds += 100
    cache.index.write(found, 0)
    cache.clock.seconds += 199
    assert cache.look_up((5, "5m")).usage.cache_read_tokens == 60
    cache.clock.seconds += 300
    assert cache.look_up((5, "5m")).usage.cache_read_tokens == 0


@pytest.mark.behaviour("messages-and-inference-7.4-refresh")
@pytest.mark.parametrize("lifetime", SECONDS)
def test_each_read_refreshes_it(lifetime: Lifetime) -> None:
    """By its own lifetime, whatever the reader's mark says."""
    cache = Cache()
    cache.ask((5, lifetime))
    for _ in range(5):
        cache.clock.seconds += SECONDS[lifetime] - 1
        assert cache.ask((5, "5m")) == (60, 0, 0)
    cache.clock.seconds += SECONDS[lifetime]
    assert cache.ask((5, "5m")) == (0, 60, 0)


@pytest.mark.behaviour("messages-and-inference-7.4-refresh")
def test_marks_before_what_is_read_are_refreshed_too() -> None:
    cache = Cache()
    cache.ask((2, "5m"), (5, "5m"))
    for _ in range(3):
        cache.clock.seconds += 200
        assert cache.ask((2, "5m"), (5, "5m")) == (60, 0, 0)
    cache.clock.seconds += 200
    assert cache.ask((2, "5m")) == (30, 0, 0)


@pytest.mark.behaviour("messages-and-inference-7.4-refresh")
def test_a_request_that_is_refused_refreshes_nothing() -> None:
    cache = Cache()
    cache.ask((2, "5m"), (5, "5m"))
    cache.clock.seconds += 299
    assert cache.look_up((2, "5m"), (5, "5m"), let_in=False).usage.cache_read_tokens == 60
    cache.clock.seconds += 1
    assert cache.ask((2, "5m"), (5, "5m")) == (0, 60, 0)


def test_what_lives_shorter_does_not_end_what_was_written_beside_it_for_longer() -> None:
    """Two that came together, and both missed: each may begin first."""
    for order in ((0, 1), (1, 0)):
        cache = Cache()
        found = (cache.look_up((5, "1h")), cache.look_up((5, "5m")))
        for place in order:
            cache.index.write(found[place], 0)
        cache.clock.seconds += 3599
        assert cache.ask((5, "5m"))[0] == 60


def test_the_later_of_two_that_came_one_behind_the_other_counts() -> None:
    cache = Cache()
    first = cache.look_up((5, "5m"))
    cache.clock.seconds += 10
    second = cache.look_up((5, "5m"))
    cache.index.write(second, 0)
    cache.index.write(first, 0)
    cache.clock.seconds += 299
    assert cache.ask((5, "5m"))[0] == 60


def test_what_an_engine_has_lost_is_written_again() -> None:
    cache = Cache()
    cache.ask((5, "1h"))
    assert cache.ask((5, "1h"), epoch=1) == (0, 0, 60)
    assert cache.ask((5, "1h"), epoch=1) == (60, 0, 0)


def test_nothing_is_read_of_which_the_tokens_are_others() -> None:
    cache = Cache()
    cache.ask((5, "5m"))
    changed = [*IDS[:56], 7, *IDS[57:]]
    assert cache.look_up((5, "5m"), ids=changed).usage.cache_read_tokens == 0
    assert cache.look_up((5, "5m"), ids=IDS[:56]).usage.cache_read_tokens == 0
    assert cache.look_up((5, "5m"), ids=[*IDS[:60], 7, *IDS[61:]]).usage.cache_read_tokens == 60


def test_tokens_at_the_very_end_may_be_others_by_what_follows() -> None:
    cache = Cache()
    cache.ask((5, "5m"))
    for same in (59, 58, 57):
        ids = [*IDS[:same], *(7 for _ in IDS[same:])]
        assert cache.look_up((5, "5m"), ids=ids).usage.cache_read_tokens == same


def test_the_longest_unused_goes_first_of_its_own_workspace() -> None:
    cache = Cache(entries=2)
    other = Scope("org", "there")
    cache.ask((5, "5m"), name="x", scope=other)
    for name in ("a", "b", "a", "c"):
        cache.ask((5, "5m"), name=name)
    assert cache.index.evictions == 1
    assert len(cache.index) == 3
    assert cache.look_up((5, "5m"), name="a").usage.cache_read_tokens == 60
    assert cache.look_up((5, "5m"), name="b").usage.cache_read_tokens == 0
    assert cache.look_up((5, "5m"), name="x", scope=other).usage.cache_read_tokens == 60


def test_a_workspace_too_many_takes_the_place_of_the_longest_unused() -> None:
    cache = Cache(workspaces=2)
    for number in range(3):
        cache.ask((5, "5m"), scope=Scope("org", str(number)))
    assert len(cache.index) == 2
    assert cache.look_up((5, "5m"), scope=Scope("org", "2")).usage.cache_read_tokens == 60
    assert cache.look_up((5, "5m"), scope=Scope("org", "0")).usage.cache_read_tokens == 0


@pytest.mark.parametrize(
    ("marks", "before", "kept"),
    [
        ((), (), 0),
        (((5, "5m"),), (), 300),
        (((2, "1h"), (5, "5m")), (), 3600),
        (((5, "5m"),), ((5, "1h"),), 3600),  # what was read lives on for its own time
        (((5, "5m"), (7, "5m")), ((5, "1h"),), 3600),
    ],
)
def test_a_prefix_is_promised_for_as_long_as_the_longest_of_its_entries(
    marks: tuple[tuple[int, Lifetime], ...], before: tuple[tuple[int, Lifetime], ...], kept: float
) -> None:
    cache = Cache()
    cache.ask(*before)
    cache.clock.seconds += 30
    assert cache.look_up(*marks).keep_seconds == kept
