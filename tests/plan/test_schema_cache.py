"""Lowered schemas are kept for 24 hours from their last use, by what they say, within a bound in bytes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from antiphon.core.errors import InvalidRequest
from antiphon.plan.schema.cache import KEPT_S, LoweredCache
from antiphon.plan.schema.lowering import any_object, lower
from random_schemas import COMPACT, TEMPLATE


class Hands:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 5.0

    def now_ms(self) -> int:
        return int(self.now * 1000)

    def monotonic(self) -> float:
        return self.now


def tool(name: str, **more: Any) -> Any:
    return {"type": "object", "properties": {name: {"type": "string", **more}}, "required": [name]}


def test_what_says_the_same_is_lowered_once() -> None:
    cache = LoweredCache(Hands())
    first = cache.lower(tool("a"), TEMPLATE, strict=False)
    assert first == lower(tool("a"), TEMPLATE, strict=False)
    again = cache.lower(
        {**tool("a", description="d", default="x"), "title": "t", "$comment": "c"}, TEMPLATE, strict=False
    )
    assert again is first
    assert len(cache) == 1


@pytest.mark.parametrize(
    ("schema", "spacing", "strict", "prefix"),
    [
        (tool("b"), TEMPLATE, False, ""),
        (tool("a", pattern="^a$"), TEMPLATE, False, ""),
        (tool("a", enum=["title"]), TEMPLATE, False, ""),
        (tool("a"), COMPACT, False, ""),
        (tool("a"), TEMPLATE, True, ""),
        (tool("a"), TEMPLATE, False, "t1"),
    ],
)
def test_what_says_or_means_something_else_is_another(schema: Any, spacing: Any, strict: bool, prefix: str) -> None:
    cache = LoweredCache(Hands())
    first = cache.lower(tool("a"), TEMPLATE, strict=False)
    other = cache.lower(schema, spacing, strict=strict, prefix=prefix)
    assert other is not first
    assert other == lower(schema, spacing, strict=strict, prefix=prefix)
    assert len(cache) == 2


def test_the_order_of_properties_and_the_form_of_numbers_count() -> None:
    cache = LoweredCache(Hands())
    orders = [{"type": "object", "properties": {name: {} for name in names}} for names in ("ab", "ba")]
    for schema in (*orders, {"enum": [1]}, {"enum": [1.0]}, {"enum": [True]}, {"enum": ["1"]}):
        cache.lower(schema, TEMPLATE, strict=False)
    assert len(cache) == 6


def test_24_hours_from_the_last_use() -> None:
    hands = Hands()
    cache = LoweredCache(hands)
    kept, left = (cache.lower(tool(name), TEMPLATE, strict=False) for name in "ab")
    hands.now += KEPT_S - 1
    assert cache.lower(tool("a"), TEMPLATE, strict=False) is kept
    hands.now += 2
    assert cache.lower(tool("b"), TEMPLATE, strict=False) is not left
    assert cache.lower(tool("a"), TEMPLATE, strict=False) is kept
    assert len(cache) == 2
    hands.now += 2 * KEPT_S
    cache.lower(tool("c"), TEMPLATE, strict=False)
    assert len(cache) == 1


def test_bounded_in_bytes_and_the_one_unused_longest_goes() -> None:
    probe = LoweredCache(Hands())
    probe.lower(tool("a0"), TEMPLATE, strict=False)
    cache = LoweredCache(Hands(), max_bytes=10 * probe.size)
    for number in range(1_000):
        cache.lower(tool("a0"), TEMPLATE, strict=False)
        cache.lower(tool(f"a{number % 100}"), TEMPLATE, strict=False)
        assert cache.size <= 10 * probe.size
    assert 8 <= len(cache) <= 10
    first = cache.lower(tool("a0"), TEMPLATE, strict=False)
    assert cache.lower(tool("a0"), TEMPLATE, strict=False) is first
    assert LoweredCache(Hands(), max_bytes=10).lower(tool("a"), TEMPLATE, strict=False).rules  # given, not kept


def test_what_is_refused_is_not_kept() -> None:
    cache = LoweredCache(Hands())
    for schema in ({"type": "string", "const": 1}, {"enum": list(range(10**6))}):
        with pytest.raises(InvalidRequest) as refusal:
            cache.lower(schema, TEMPLATE, strict=True, path="tools.3.custom.input_schema")
        assert refusal.value.path == "tools.3.custom.input_schema"
    assert cache.lower({"enum": list(range(10**6))}, TEMPLATE, strict=False) == any_object(TEMPLATE)
    assert len(cache) == 0


def test_from_many_threads() -> None:
    cache = LoweredCache(Hands(), max_bytes=100_000)
    with ThreadPoolExecutor(8) as pool:
        names = [f"n{number % 37}" for number in range(800)]
        found = list(pool.map(lambda name: cache.lower(tool(name), TEMPLATE, strict=False), names))
    assert [
        lowered == lower(tool(name), TEMPLATE, strict=False) for name, lowered in zip(names, found, strict=True)
    ] == [True] * 800
    assert cache.size <= 100_000
