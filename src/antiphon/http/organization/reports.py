"""Reports of usage and cost: the older and the newer routes, from one query (contract platform-and-tools 7.6).

    GET /v1/organizations/usage_report/messages      buckets of time, the empty ones too
    GET /v1/organizations/cost_report                the same, by day
    GET /v1/organizations/analytics/usage            rows, in any order; beta analytics-usage-cost-2026-08-24
    GET /v1/organizations/analytics/cost
    GET /v1/organizations/analytics/usage_report     buckets, each with its hundred largest groups
    GET /v1/organizations/analytics/cost_report

Beyond what is documented, all of them group by `served_model`, `user_id` (a request's `metadata.user_id`) and
`workflow` (its header `antiphon-workflow`), and filter by `served_models[]`, `user_ids[]` and `workflows[]`. `model` is
the one that was asked for, because that is what is paid. A page may end within a bucket that has very many groups; the
next one then begins with the same bucket and the rest of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from antiphon.core.clock import Clock, rfc3339
from antiphon.core.errors import InvalidRequest, InvariantBroken
from antiphon.http.exchange import Exchange
from antiphon.http.organization import report_rows as rows
from antiphon.http.organization.report_queries import WIDTHS, Asked, ceiling, floor
from antiphon.http.organization.report_rows import Group
from antiphon.http.routes import Endpoint, Permit, Route
from antiphon.store import reports
from antiphon.store.database import Database
from antiphon.store.reports import DAY_MS, HOUR_MS, MINUTE_MS, Dimension, Metric, Question, Sums
from antiphon.wire.organization.reports import Bucket, CostItem, ReportPage, UsageItem

_PREFIX = "/v1/organizations"
#: Rows on one page of buckets, all buckets together.
_MOST_ROWS = 5000
#: Buckets on a page by their width: where nothing is said, and at most.
_LIMITS: Mapping[int, tuple[int, int]] = {DAY_MS: (7, 31), HOUR_MS: (24, 168), MINUTE_MS: (60, 1440)}
_ANALYTICS_LIMITS: Mapping[int, tuple[int, int]] = {**_LIMITS, MINUTE_MS: (60, 256)}
_MOST_GROUPS = 5
_BEST = 100
_LONGEST_MS = 31 * DAY_MS
_OLDEST_MS = 365 * DAY_MS
_FIRST_MS = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 1000
_USAGE_ORDERS: Mapping[str, Metric | None] = {
    "output_tokens": "output_tokens",
    "requests": "requests",
    "time": None,
    "total_tokens": "total_tokens",
    "uncached_input_tokens": "uncached_input_tokens",
}
_COST_ORDERS: Mapping[str, Metric | None] = {"amount": "amount", "list_amount": "amount", "time": None}
_ANALYTICS_BETA, _SPEED_BETA = "analytics-usage-cost-2026-08-24", "fast-mode-2026-02-01"

_Results = Callable[[Sums, Group, Sequence[str]], Iterable[object]]


class Reports:
    """The routes. `read_usage` and `read_costs` raise where a caller may not read the one or the other."""

    def __init__(self, database: Database, clock: Clock, *, read_usage: Permit, read_costs: Permit) -> None:
        self._database = database
        self._clock = clock
        self._read_usage = read_usage
        self._read_costs = read_costs

    def routes(self) -> list[Route]:
        usage: dict[str, Endpoint] = {
            "/usage_report/messages": self.messages_usage,
            "/analytics/usage": self.usage,
            "/analytics/usage_report": self.usage_report,
        }
        costs: dict[str, Endpoint] = {
            "/cost_report": self.organization_cost,
            "/analytics/cost": self.cost,
            "/analytics/cost_report": self.cost_report,
        }
        return [
            Route(_PREFIX + path, ("GET", "HEAD"), endpoint, permit=permit)
            for endpoints, permit in ((usage, self._read_usage), (costs, self._read_costs))
            for path, endpoint in endpoints.items()
        ]

    async def messages_usage(self, exchange: Exchange, _: Mapping[str, str]) -> None:
        """The older usage report."""
        asked, organization = _asked("usage_report/messages", exchange)
        width_ms = asked.choice("bucket_width", WIDTHS) or DAY_MS
        names = asked.choices("group_by", rows.MESSAGES_GROUPS)
        if ("speed" in names or asked.many("speeds")) and _SPEED_BETA not in exchange.betas:
            raise InvalidRequest(f"`speed` needs the beta {_SPEED_BETA}", path="group_by" if names else "speeds")
        question = self._older_span(asked, organization, width_ms, _by(names, rows.MESSAGES_GROUPS), {})
        page = await self._buckets(
            asked,
            organization,
            question,
            asked.limit(*_LIMITS[width_ms]),
            _results(names, rows.MESSAGES_GROUPS, lambda sums, group, _: [rows.messages_usage(sums, group)]),
        )
        await exchange.json(200, page)

    async def organization_cost(self, exchange: Exchange, _: Mapping[str, str]) -> None:
        """The older cost report: by day, without what was served at the priority tier, which is not paid by tokens."""
        asked, organization = _asked("cost_report", exchange)
        asked.choice("bucket_width", {"1d": DAY_MS})
        names = asked.choices("group_by", rows.COST_GROUPS)
        by = _by(names, rows.COST_GROUPS)
        described = "description" in names
        if described:
            by = tuple(dict.fromkeys((*by, *rows.DESCRIBED)))
        unpaid: dict[Dimension, tuple[str, ...]] = {"service_tier": ("priority",)}
        question = self._older_span(asked, organization, DAY_MS, by, unpaid)
        page = await self._buckets(
            asked,
            organization,
            msgspec.structs.replace(question, metric="amount"),
            asked.limit(*_LIMITS[DAY_MS]),
            _results(
                names,
                rows.COST_GROUPS,
                lambda sums, group, _: rows.organization_costs(sums, group, described=described),
            ),
        )
        await exchange.json(200, page)

    async def usage(self, exchange: Exchange, _: Mapping[str, str]) -> None:
        """The newer usage report."""

        def items(sums: Sums, group: Group, names: Sequence[str], span: tuple[str, str]) -> Iterable[object]:
            yield UsageItem(*span, rows.usage_group(group.values(sums), names), rows.usage_metrics(sums))

        await self._rows(exchange, "analytics/usage", rows.ANALYTICS_GROUPS, _USAGE_ORDERS, "total_tokens", items)

    async def cost(self, exchange: Exchange, _: Mapping[str, str]) -> None:
        """The newer cost report."""

        def items(sums: Sums, group: Group, names: Sequence[str], span: tuple[str, str]) -> Iterable[object]:
            for key, metrics in rows.costs(sums, group.values(sums), names):
                yield CostItem(*span, key, metrics)

        groups = {**rows.ANALYTICS_GROUPS, **rows.FANNED}
        await self._rows(exchange, "analytics/cost", groups, _COST_ORDERS, "amount", items)

    async def usage_report(self, exchange: Exchange, _: Mapping[str, str]) -> None:
        """Usage in buckets, for people's dashboards."""
        await self._dashboard(
            exchange,
            "analytics/usage_report",
            rows.BUCKETED_GROUPS,
            "total_tokens",
            lambda sums, group, _: [rows.bucketed_usage(sums, group.values(sums))],
        )

    async def cost_report(self, exchange: Exchange, _: Mapping[str, str]) -> None:
        """Cost in buckets."""
        await self._dashboard(
            exchange,
            "analytics/cost_report",
            {**rows.BUCKETED_GROUPS, **rows.FANNED},
            "amount",
            lambda sums, group, names: rows.bucketed_costs(sums, group.values(sums), names),
        )

    async def _rows(
        self,
        exchange: Exchange,
        route: str,
        groups: Mapping[str, Dimension | None],
        orders: Mapping[str, Metric | None],
        usual: Metric,
        items: Callable[[Sums, Group, Sequence[str], tuple[str, str]], Iterable[object]],
    ) -> None:
        """A page of rows. Without a bucket's width they cover whole hours."""
        if _ANALYTICS_BETA not in exchange.betas:
            raise InvalidRequest(f"This endpoint needs the beta {_ANALYTICS_BETA}", path="anthropic-beta")
        asked, organization = _asked(route, exchange)
        width_ms = asked.choice("time_bucket_width", WIDTHS)
        names = asked.choices("group_by", groups)
        if len(set(names) - set(rows.FANNED)) > _MOST_GROUPS:
            raise InvalidRequest(f"List should have at most {_MOST_GROUPS} items", path="group_by")
        if asked.choice("exclude_deleted_users", {"true": True, "false": False}) and "actor" not in names:
            raise InvalidRequest("It needs `group_by[]=actor`", path="exclude_deleted_users")
        if width_ms is not None and asked.time("ending_at") is None:
            raise InvalidRequest("Field required when time_bucket_width is set", path="ending_at")
        from_ms, until_ms = self._analytics_span(asked, DAY_MS if width_ms == MINUTE_MS else _LONGEST_MS)
        step = width_ms or HOUR_MS
        token, limit = asked.page(), asked.limit(20, 1000)
        metric = asked.choice("order_by", {name: (value,) for name, value in orders.items()}) or (usual,)
        descending = asked.choice("order", {"asc": False, "desc": True}) is not False
        question = Question(
            from_ms=floor(from_ms, step),
            until_ms=token.until_ms if token else ceiling(until_ms, step) if width_ms else floor(until_ms, step),
            width_ms=width_ms,
            by=_by(names, groups),
            only=asked.filters(organization),
            metric=metric[0] or usual,
            by_time=metric[0] is None and width_ms is not None,
            newest=descending,
            most=descending,
        )
        found = await self._read(organization, question, limit, token.position if token else None)
        if not found and not names and width_ms is None:
            async with self._database.reading() as connection:
                found = (await reports.total(organization, connection, question),)
        more, found = len(found) > limit, found[:limit]
        group = Group(names, groups, question)
        data = [item for sums in found for item in items(sums, group, names, _span(question, sums))]
        next_page = asked.token(question.until_ms, question.from_ms, found[-1].position) if more else None
        await exchange.json(200, ReportPage(data, more, next_page, rfc3339(self._clock.now_ms())))

    async def _dashboard(
        self,
        exchange: Exchange,
        route: str,
        groups: Mapping[str, Dimension | None],
        metric: Metric,
        results: _Results,
    ) -> None:
        """A page of buckets, each with its largest groups."""
        asked, organization = _asked(route, exchange)
        width_ms = asked.choice("bucket_width", WIDTHS) or DAY_MS
        names = asked.choices("group_by", groups)
        from_ms, until_ms = self._analytics_span(asked, _LONGEST_MS)
        question = Question(
            from_ms=floor(from_ms, width_ms),
            until_ms=ceiling(until_ms, width_ms),
            width_ms=width_ms,
            by=_by(names, groups),
            only=asked.filters(organization),
            metric=metric,
            best=_BEST,
        )
        limit = asked.limit(*_ANALYTICS_LIMITS[width_ms])
        page = await self._buckets(asked, organization, question, limit, _results(names, groups, results))
        await exchange.json(200, msgspec.structs.replace(page, data_refreshed_at=rfc3339(self._clock.now_ms())))

    async def _buckets(
        self,
        asked: Asked,
        organization: str,
        question: Question,
        limit: int,
        results: Callable[[Sums, Question], Iterable[object]],
    ) -> ReportPage[Bucket[object]]:
        """A page of buckets one after the other, with or without anything in them."""
        width_ms, token = question.width_ms or DAY_MS, asked.page()
        if token is not None:
            question = msgspec.structs.replace(
                question, from_ms=floor(token.from_ms, width_ms), until_ms=floor(token.until_ms, width_ms)
            )
        until_ms = question.until_ms
        end_ms = min(until_ms, question.from_ms + limit * width_ms)
        question = msgspec.structs.replace(question, until_ms=end_ms)
        found = await self._read(organization, question, _MOST_ROWS, token.position if token else None)
        next_page = asked.token(until_ms, end_ms, None) if end_ms < until_ms else None
        if len(found) > _MOST_ROWS:
            found = found[:_MOST_ROWS]
            last = found[-1]
            end_ms = last.from_ms + width_ms
            next_page = asked.token(until_ms, last.from_ms, last.position)
        inside: dict[int, list[object]] = {at_ms: [] for at_ms in range(question.from_ms, end_ms, width_ms)}
        for sums in found:
            inside[sums.from_ms].extend(results(sums, question))
        data = [Bucket(rfc3339(at_ms), rfc3339(at_ms + width_ms), own) for at_ms, own in inside.items()]
        return ReportPage(data, next_page is not None, next_page)

    async def _read(
        self, organization: str, question: Question, limit: int, position: reports.Position | None
    ) -> tuple[Sums, ...]:
        """One row more than the limit, where there is one."""
        if position is not None and not reports.fits(question, position):
            raise InvalidRequest("This is not a page token", path="page")
        async with self._database.reading() as connection:
            return await reports.report(organization, connection, question, limit=limit + 1, after=position)

    def _older_span(
        self,
        asked: Asked,
        organization: str,
        width_ms: int,
        by: tuple[Dimension, ...],
        without: Mapping[Dimension, Sequence[str]],
    ) -> Question:
        """Whole buckets: from the one that `starting_at` lies in to the last that has ended by `ending_at`, or else to
        the present one."""
        from_ms, ending_ms = asked.starting_at(), asked.time("ending_at")
        if ending_ms is not None and ending_ms <= from_ms:
            raise InvalidRequest("ending_at must be after starting_at", path="ending_at")
        from_ms = floor(from_ms, width_ms)
        now_ms = self._clock.now_ms()
        until_ms = floor(ending_ms, width_ms) if ending_ms is not None else ceiling(now_ms + 1, width_ms)
        return Question(
            from_ms=from_ms,
            until_ms=max(from_ms, until_ms),
            width_ms=width_ms,
            by=by,
            only=asked.filters(organization),
            without=without,
        )

    def _analytics_span(self, asked: Asked, longest_ms: int) -> tuple[int, int]:
        from_ms, ending_ms, now_ms = asked.starting_at(), asked.time("ending_at"), self._clock.now_ms()
        if from_ms < max(now_ms - _OLDEST_MS, _FIRST_MS):
            raise InvalidRequest(
                "must be within the last 365 days and no earlier than 2026-01-01T00:00:00Z", path="starting_at"
            )
        until_ms = max(from_ms, min(now_ms, from_ms + _LONGEST_MS)) if ending_ms is None else ending_ms
        if ending_ms is not None and ending_ms <= from_ms:
            raise InvalidRequest("ending_at must be after starting_at", path="ending_at")
        if until_ms - from_ms > longest_ms:
            days = longest_ms // DAY_MS
            raise InvalidRequest(
                f"the range may span at most {'24 hours' if days == 1 else f'{days} days'}", path="ending_at"
            )
        return from_ms, until_ms


def _asked(route: str, exchange: Exchange) -> tuple[Asked, str]:
    if exchange.caller is None:
        raise InvariantBroken("a route that is not open has a caller")
    organization = exchange.caller.scope.organization
    return Asked(route, organization, exchange.query), organization


def _by(names: Sequence[str], groups: Mapping[str, Dimension | None]) -> tuple[Dimension, ...]:
    """The dimensions that these names are read from, each once."""
    return tuple(dict.fromkeys(dimension for name in names if (dimension := groups[name]) is not None))


def _results(
    names: Sequence[str], groups: Mapping[str, Dimension | None], results: _Results
) -> Callable[[Sums, Question], Iterable[object]]:
    def of(sums: Sums, question: Question) -> Iterable[Any]:
        return results(sums, Group(names, groups, question), names)

    return of


def _span(question: Question, sums: Sums) -> tuple[str, str]:
    """The times that a row covers."""
    if question.width_ms is None:
        return rfc3339(question.from_ms), rfc3339(question.until_ms)
    return rfc3339(sums.from_ms), rfc3339(sums.from_ms + question.width_ms)
