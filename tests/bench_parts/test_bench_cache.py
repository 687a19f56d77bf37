"""What `bench.cache` works out of what it sees."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from bench.cache_parts.arithmetic import chance_of_gap, largest_gap, share, tail
from bench.cache_parts.asking import Heard
from bench.cache_parts.interleaved import Conversation
from bench.cache_parts.watching import read_metric


def test_the_share_is_of_all_that_there_was() -> None:
    assert share([(50, 100), (300, 300)]) == pytest.approx(87.5)
    assert share([(95, 100)]) == pytest.approx(95)


def test_a_surplus_hides_no_want() -> None:
    assert share([(150, 100), (50, 100)]) == pytest.approx(75)


def test_nothing_of_nothing_is_no_success() -> None:
    assert share([]) == 0
    assert share([(5, 0)]) == 0


def test_the_gap_of_samples_that_can_be_counted_by_hand() -> None:
    assert largest_gap([1, 2, 3, 4], [1, 2, 3, 4]) == 0
    assert largest_gap([1, 2], [3, 4]) == 1
    # At 2: three quarters of the one, half of the other; at 3 all of the one, half of the other.
    assert largest_gap([1, 2, 2, 3], [1, 2, 4, 5]) == pytest.approx(0.5)
    assert largest_gap([1, 1, 1, 5], [1, 5]) == pytest.approx(0.25)  # ties count once


@pytest.mark.parametrize(
    ("value", "chance"), [(0.0, 1.0), (0.5, 0.96395), (1.0, 0.27), (1.3581, 0.05), (1.6276, 0.01), (1.9495, 0.001)]
)
def test_the_tail_has_the_values_of_the_tables(value: float, chance: float) -> None:
    assert tail(value) == pytest.approx(chance, abs=2e-5)


def test_the_tail_has_no_step_where_it_is_no_longer_summed() -> None:
    assert tail(0.2) == pytest.approx(tail(0.1999), abs=1e-9)


def test_alike_samples_are_told_apart_about_as_seldom_as_the_chance_says() -> None:
    random = Random(1)
    draws = [[[random.gauss(500, 20) for _ in range(200)] for _ in range(2)] for _ in range(300)]
    chances = [chance_of_gap(one, other) for one, other in draws]
    assert 0.02 < sum(chance < 0.05 for chance in chances) / 300 < 0.09
    assert sum(chance < 0.01 for chance in chances) <= 8


def test_a_difference_of_a_spread_is_told() -> None:
    random = Random(2)
    slow, fast = ([random.gauss(mean, 20) for _ in range(200)] for mean in (500, 480))
    assert chance_of_gap(slow, fast) < 1e-6


def test_another_shape_is_told_where_the_medians_are_alike() -> None:
    random = Random(3)
    narrow, wide = ([random.gauss(500, spread) for _ in range(200)] for spread in (5, 30))
    assert chance_of_gap(narrow, wide) < 1e-6


class _Answers:
    """A side that has read so much at each turn, of prompts of so many tokens."""

    def __init__(self, *told: tuple[int, int]) -> None:
        self._told = iter(told)
        self.sent: list[list[Any]] = []

    def ask(self, system: str, messages: list[Any], max_tokens: int) -> Heard:
        self.sent.append(messages)
        prompt, read = next(self._told)
        return Heard("  ", 0.1, prompt, 0, read)


def test_a_turn_reuses_what_was_sent_at_the_turn_before() -> None:
    held, side = Conversation("A long text."), _Answers((3000, 7), (3030, 2990), (3060, 0))
    for _ in range(3):
        held.take_turn(side)
    assert list(held.reused()) == [(2990, 3000), (0, 3030)]


def test_a_conversation_goes_on_from_what_was_said_and_marks_the_newest_message() -> None:
    held, side = Conversation("A long text."), _Answers((1, 0), (2, 0))
    held.take_turn(side)
    held.take_turn(side)
    first, second = side.sent
    assert first[0]["content"][0]["text"].startswith("A long text.")
    assert [message["role"] for message in second] == ["user", "assistant", "user"]
    assert second[0]["content"][0]["text"] == first[0]["content"][0]["text"]
    assert second[1]["content"].strip(), "no message may be empty"
    assert ["cache_control" in message["content"][0] for message in second[::2]] == [False, True]


_EXPOSITION = b"""# HELP tokens_read_total Read
# TYPE tokens_read_total counter
tokens_read_total{model="a"} 12.0
tokens_read_total{model="b",how="estimated"} 3e+01
# TYPE tokens_read_created gauge
tokens_read_created{model="a"} 1.7e+09
# TYPE tokens_reading gauge
tokens_reading 5.0
# TYPE empty_total counter
"""


def test_a_metric_is_all_of_its_series_and_no_others() -> None:
    read = read_metric(_EXPOSITION, "tokens_read")
    assert (read.value, read.known, read.estimated) == (42, True, True)
    assert read_metric(_EXPOSITION, "tokens_read", 'model="a"').value == 12
    reading = read_metric(_EXPOSITION, "tokens_reading")
    assert (reading.value, reading.known, reading.estimated) == (5, True, False)


def test_a_metric_without_series_is_known_and_one_without_a_name_is_not() -> None:
    assert (read_metric(_EXPOSITION, "empty").value, read_metric(_EXPOSITION, "empty").known) == (0, True)
    assert not read_metric(_EXPOSITION, "tokens").known
