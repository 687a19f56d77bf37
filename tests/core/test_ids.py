from __future__ import annotations

import re
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from antiphon.core.ids import Ids, secret

_SHAPE = re.compile(r"[a-z]+_01[1-9A-HJ-NP-Za-km-z]{22}")


class Clock:
    def __init__(self, now_ms: int) -> None:
        self.now = now_ms

    def now_ms(self) -> int:
        return self.now

    def monotonic(self) -> float:
        return self.now / 1000


@given(st.integers(0, 2**48 - 1), st.sampled_from(["msg", "req", "apikey", "wrkspc"]))
def test_an_id_has_the_apis_own_shape_at_any_time(now_ms: int, prefix: str) -> None:
    made = Ids(Clock(now_ms)).make(prefix)
    assert _SHAPE.fullmatch(made)
    assert made.startswith(f"{prefix}_01")
    assert len(made) == len(prefix) + 25


@given(st.lists(st.integers(0, 2**48 - 1), min_size=2, max_size=20, unique=True))
def test_ids_sort_by_the_time_they_were_made_at(times: list[int]) -> None:
    clock = Clock(0)
    ids = Ids(clock)
    made = {}
    for time in times:
        clock.now = time
        made[time] = ids.make("msg")
    assert sorted(made.values()) == [made[time] for time in sorted(times)]


def test_ids_of_one_millisecond_differ() -> None:
    ids = Ids(Clock(1_790_000_000_000))
    assert len({ids.make("req") for _ in range(20_000)}) == 20_000


def test_every_character_of_chance_is_as_likely_as_any_other() -> None:
    ids = Ids(Clock(0))
    seen = Counter("".join(ids.make("req")[-13:] for _ in range(40_000)))
    assert len(seen) == 58
    # 520,000 throws of 58: a mean of 8,966 and a deviation of 94, and six of them are one chance in 10^7.
    assert all(abs(times - 520_000 / 58) < 6 * 94 for times in seen.values())


def test_a_secret_has_its_length_and_no_lookalikes() -> None:
    made = [secret(68) for _ in range(200)]
    assert {len(each) for each in made} == {68}
    assert len(set(made)) == 200
    assert not set("".join(made)) & set("0OIl-_")
