"""Sums over the ledger: one query for every report.

It reads usage records and, where those are past their retention, the hourly sums that are left of them, as one table:
so a report over old and new time adds up to the last digit. A sum of an hour counts at the hour's beginning, whatever
part of the hour a span or a bucket of minutes covers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

import msgspec
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    CompoundSelect,
    Row,
    Select,
    String,
    Subquery,
    and_,
    case,
    cast,
    false,
    func,
    literal,
    or_,
    select,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from antiphon.core.errors import invariant
from antiphon.core.records import Cost, Usage
from antiphon.store.tables import usage_records, usage_rollups

Dimension: TypeAlias = Literal[
    "workspace",
    "key_id",
    "requested_model",
    "served_model",
    "service_tier",
    "speed",
    "geography",
    "context_window",
    "user_id",
    "workflow",
    "product",
]
#: What a request did not have is an empty string. Batches have a service tier of their own, `batch`.
DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)
#: Those that hourly sums have as columns: all but what follows from others.
STORED: tuple[Dimension, ...] = tuple(name for name in DIMENSIONS if name != "product")

Metric: TypeAlias = Literal["total_tokens", "uncached_input_tokens", "output_tokens", "requests", "amount"]

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

#: Prompts of more tokens than this have prices of their own (contract messages-and-inference 14.1).
LONG_PROMPT = 200_000
SHORT_WINDOW, LONG_WINDOW = "0-200k", "200k-1M"
BATCH_TIER = "batch"
MESSAGES, BATCHES = "messages_api", "message_batches_api"

_USAGE = Usage.__struct_fields__
_COST = Cost.__struct_fields__
_SUMMED = ("requests", *_USAGE, *_COST)
_BUCKET = "bucket_ms"
_METRIC = "metric"

#: Where a row stands in its order: what `Page.after` goes on from.
Position: TypeAlias = tuple[int | str, ...]


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What to sum up: requests with `from_ms <= created_ms < until_ms`, by bucket and by dimensions.

    `width_ms` is a bucket's width (buckets begin at multiples of it); None: the whole span is one. `only` names the
    values that a dimension may have; none of them is no request at all. `best` bounds the groups of one bucket to
    those with most of `metric`.
    """

    from_ms: int
    until_ms: int
    width_ms: int | None = None
    by: tuple[Dimension, ...] = ()
    only: Mapping[Dimension, Sequence[str]] = {}
    without: Mapping[Dimension, Sequence[str]] = {}
    metric: Metric = "total_tokens"
    by_time: bool = True
    """The order of the rows: by time and then by `metric`; or by `metric` alone."""
    newest: bool = False
    """Of an order by time: the latest bucket first."""
    most: bool = True
    """Of an order by `metric` alone: the highest first. Within a bucket the highest is always first."""
    best: int | None = None


class Sums(msgspec.Struct, frozen=True):
    """A row of a report. `group` has the values of `Question.by`, in that order; `from_ms` is its bucket's beginning,
    or the span's."""

    from_ms: int
    group: tuple[str, ...]
    requests: int
    usage: Usage
    cost: Cost
    position: Position


async def report(
    organization: str,
    connection: AsyncConnection,
    question: Question,
    *,
    limit: int,
    after: Position | None = None,
) -> tuple[Sums, ...]:
    """At most `limit` rows of a report, from behind the position `after` on. A bucket without requests has no row.

    Raises:
        StoreUnavailable: the database cannot be reached.
    """
    grouped = _grouped(organization, question)
    order = _order(question, grouped)
    query: Select[Any] = select(grouped)
    if question.best is not None:
        query = query.where(grouped.c.place <= question.best)
    if after is not None:
        query = query.where(_behind(order, after))
    query = query.order_by(*(column.asc() if rising else column.desc() for column, rising in order)).limit(limit)
    names = [column.name for column, _ in order]
    return tuple(_sums(row, question, names) for row in await connection.execute(query))


async def total(organization: str, connection: AsyncConnection, question: Question) -> Sums:
    """The sums over everything that a question asks for, whatever it groups by; zeros if that is nothing."""
    whole = msgspec.structs.replace(question, width_ms=None, by=(), best=None)
    found = await report(organization, connection, whole, limit=1)
    return found[0] if found else Sums(question.from_ms, (), 0, Usage(), Cost(), ())


def fits(question: Question, position: Sequence[object]) -> bool:
    """Whether a position, which may come from anywhere, could be one of this question's rows."""
    kinds = [int, int, *[str] * len(question.by)]
    return len(position) == len(kinds) and all(
        type(value) is kind and (abs(value) < 2**63 if isinstance(value, int) else "\0" not in str(value))
        for value, kind in zip(position, kinds, strict=True)
    )


def record_dimensions() -> dict[Dimension, ColumnElement[str]]:
    """The dimensions of a usage record. The roll-up stores what these say, which is why both halves agree."""
    record = usage_records.c
    prompt = (
        record.input_tokens + record.cache_write_5m_tokens + record.cache_write_1h_tokens + record.cache_read_tokens
    )
    tier = case((record.batch_id.is_not(None), BATCH_TIER), else_=record.service_tier)
    return {
        "workspace": record.workspace,
        "key_id": record.key_id,
        "requested_model": record.requested_model,
        "served_model": record.served_model,
        "service_tier": tier,
        "speed": record.speed,
        "geography": func.coalesce(record.geography, ""),
        "context_window": case((prompt > LONG_PROMPT, LONG_WINDOW), else_=SHORT_WINDOW),
        "user_id": func.coalesce(record.user_id, ""),
        "workflow": func.coalesce(record.workflow, ""),
        "product": _product(tier),
    }


def _product(tier: ColumnElement[str]) -> ColumnElement[str]:
    return case((tier == BATCH_TIER, BATCHES), else_=MESSAGES)


def _grouped(organization: str, question: Question) -> Subquery:
    """The sums of each bucket and group."""
    ledger = _ledger(organization, question).subquery("ledger")
    keys = [ledger.c[_BUCKET], *(ledger.c[name] for name in question.by)]
    sums = {name: cast(func.sum(ledger.c[name]), BigInteger) for name in _SUMMED}
    metric = _metric(sums, question.metric)
    columns = [*keys, *(value.label(name) for name, value in sums.items()), metric.label(_METRIC)]
    if question.best is not None:
        rank = func.row_number().over(partition_by=ledger.c[_BUCKET], order_by=[metric.desc(), *keys[1:]])
        columns.append(rank.label("place"))
    return select(*columns).group_by(*keys).subquery("grouped")


def _ledger(organization: str, question: Question) -> CompoundSelect[Any]:
    """Records and hourly sums as one table, with no more columns than are asked for.

    The bucket is worked out here, under a name, because PostgreSQL takes the same expression with two parameters for
    two expressions when it groups.
    """
    record, hour = usage_records.c, usage_rollups.c
    records = _half(
        question, record.created_ms, record_dimensions(), {name: record[name] for name in (*_USAGE, *_COST)}
    ).where(record.organization == organization)
    hours = _half(
        question,
        hour.hour_ms,
        {name: hour[name] for name in STORED} | {"product": _product(hour.service_tier)},
        {name: hour[name] for name in _SUMMED},
    ).where(hour.organization == organization)
    return union_all(records, hours)


def _half(
    question: Question,
    time: ColumnElement[int],
    dimensions: Mapping[Dimension, ColumnElement[str]],
    numbers: Mapping[str, ColumnElement[int]],
) -> Select[Any]:
    width = question.width_ms
    bucket = literal(question.from_ms, BigInteger) if width is None else time - time % literal(width, BigInteger)
    requests = numbers.get("requests", literal(1, BigInteger))
    columns: list[Any] = [
        bucket.label(_BUCKET),
        *(cast(dimensions[name], String).label(name) for name in question.by),
        requests.label("requests"),
        *(numbers[name].label(name) for name in (*_USAGE, *_COST)),
    ]
    query: Select[Any] = select(*columns).where(time >= question.from_ms, time < question.until_ms)
    for name, values in question.only.items():
        query = query.where(dimensions[name].in_(values) if values else false())
    for name, values in question.without.items():
        query = query.where(dimensions[name].not_in(values))
    return query


def _metric(sums: Mapping[str, ColumnElement[int]], metric: Metric) -> ColumnElement[int]:
    names: dict[Metric, tuple[str, ...]] = {
        "total_tokens": tuple(name for name in _USAGE if name != "thinking_tokens"),  # those are output already
        "uncached_input_tokens": ("input_tokens",),
        "output_tokens": ("output_tokens",),
        "requests": ("requests",),
        "amount": _COST,
    }
    first, *others = names[metric]
    value = sums[first]
    for name in others:
        value = value + sums[name]
    return value


def _order(question: Question, grouped: Subquery) -> list[tuple[ColumnElement[Any], bool]]:
    """The columns that rows are ordered by, and whether each of them rises. Together they name one row."""
    time = (grouped.c[_BUCKET], not question.newest)
    metric = (grouped.c[_METRIC], not question.by_time and not question.most)
    first = [time, metric] if question.by_time else [metric, time]
    return [*first, *((grouped.c[name], True) for name in question.by)]


def _behind(order: Sequence[tuple[ColumnElement[Any], bool]], position: Position) -> ColumnElement[bool]:
    """Rows behind a position: further on in one column, and equal in all those before it."""
    invariant(len(order) == len(position), "a position is one of the same question")
    ways = []
    for place, (column, rising) in enumerate(order):
        equal = [order[before][0] == position[before] for before in range(place)]
        ways.append(and_(*equal, column > position[place] if rising else column < position[place]))
    return or_(*ways)


def _sums(row: Row[Any], question: Question, order: Sequence[str]) -> Sums:
    values = row._mapping
    return Sums(
        from_ms=int(values[_BUCKET]),
        group=tuple(values[name] for name in question.by),
        requests=int(values["requests"]),
        usage=Usage(*(int(values[name]) for name in _USAGE)),
        cost=Cost(*(int(values[name]) for name in _COST)),
        position=tuple(values[name] for name in order),
    )
