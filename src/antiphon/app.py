"""The composition root: every part of the server is made here, once, from settings; nothing is ambient elsewhere.

Reading `build` from top to bottom shows what the server is made of and which part is given to which.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterable, Mapping

import msgspec
import structlog

import antiphon
from antiphon.admin.acts import Acts
from antiphon.admin.retention import Retention
from antiphon.core.clock import Clock, SystemClock
from antiphon.core.errors import Overloaded
from antiphon.core.ids import Ids
from antiphon.core.settings import Settings
from antiphon.engine.contract import TellsRemembered
from antiphon.gate.feed_pool import FeedPool
from antiphon.gate.identity import Gate
from antiphon.gate.rights import demand
from antiphon.governance import Governance
from antiphon.http.app import HttpApp
from antiphon.http.compliance import Compliance
from antiphon.http.cors import Cors
from antiphon.http.exchange import Receipt
from antiphon.http.health import Operations
from antiphon.http.messages import Messages, inference
from antiphon.http.models import Models
from antiphon.http.openapi import Description
from antiphon.http.organization.administration import actor_of
from antiphon.http.organization.routes import Organization
from antiphon.http.routes import Route
from antiphon.http.streaming import StreamLimits
from antiphon.ledger.journal import Journal
from antiphon.ledger.posting import Posting, into
from antiphon.ledger.requestlog import Keeper
from antiphon.ledger.retention import UsageRetention
from antiphon.observe.metrics import Metrics, Reading
from antiphon.observe.traces import Tracing, tracing
from antiphon.parts import Parts
from antiphon.plan.caching.diagnosis import Diagnoses
from antiphon.plan.caching.index import CacheIndex
from antiphon.routing import book, catalogue
from antiphon.routing.catalogue import ModelCard
from antiphon.routing.resolve import Router
from antiphon.serving import check_tokenizer, served_models
from antiphon.store import workspaces
from antiphon.store.database import Database, open_database, private_folder

_log = structlog.get_logger()

#: Turns at once, in all states: far above what seats and queue hold, so that it bounds memory and nothing else.
_TURNS = 4096
#: What the journal's last records get to reach the database when the server stops; the rest waits for the next start.
_POSTING_SECONDS = 5.0
#: What cancelled turns get to settle.
_SETTLING_SECONDS = 5.0
_LOOK_SECONDS = 0.01


class App:
    """A built server: `start` it, hand `http` to an ASGI server, `stop` it."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        gate: Gate,
        governance: Governance,
        posting: Posting,
        parts: Parts,
    ) -> None:
        self.settings = settings
        self.database = database
        self.gate = gate
        self.journal = parts.journal
        self.parts = parts
        self._governance = governance
        self._posting = posting
        self._keeper = Keeper(database, parts.clock)
        self._tasks: list[asyncio.Task[None]] = []
        self.http = self._http()
        parts.metrics.watch(self._readings)

    @classmethod
    def build(cls, settings: Settings, *, clock: Clock | None = None, traces: Tracing | None = None) -> App:
        """Make every part. Opens files, starts nothing and makes no outbound call.

        Raises:
            SettingsError: a setting, the catalogue or the script is wrong, or weights are missing.
            WeightsError: a model's file cannot be used.
        """
        clock = clock or SystemClock()
        private_folder(settings.home_path)
        database = open_database(settings.database_url)
        served = list(served_models(settings, clock))
        journal = Journal(settings.home_path / "journal" / "server")
        posting = Posting(journal, into(database))
        governance = Governance(settings, database, clock, turns=_TURNS, posted=posting.caught_up)
        prices = book.configured(settings.prices, catalogue.from_settings(settings))
        parts = Parts(
            entrance=governance.entrance,
            router=Router([_standing(card, settings) for card, _ in served], profile=settings.profile, book=prices),
            models={card.name: model for card, model in served},
            journal=journal,
            metrics=Metrics(),
            tracing=traces or tracing(settings.traces, antiphon.__version__),
            clock=clock,
            ids=Ids(clock),
            cache=CacheIndex(clock),
            diagnoses=Diagnoses(clock),
        )
        gate = Gate(database, clock)
        gate.follow(governance.governing.read)
        return cls(settings, database, gate, governance, posting, parts)

    async def start(self) -> None:
        """Bring every part to life; afterwards a message would be answered.

        Raises:
            EngineFailed: a model's engine does not start, or does not agree with our tokenizer.
            StoreUnavailable: the database does not answer.
        """
        clock = self.parts.clock
        await self.database.migrate()
        async with self.database.transaction() as connection:
            await workspaces.ensure_defaults(connection, clock.now_ms())
        await self.gate.load()
        await self.journal.open()
        self._background(self.gate.run())
        await self._recount()
        self._background(self._posting.run())
        self._background(self._keeper.run())
        self._background(Retention(self.database, clock, request_days=self.settings.request_log_days).run())
        records = UsageRetention(self.database, clock, days=self.settings.usage_days, settled=self._all_posted)
        self._background(records.run())
        await asyncio.gather(*(model.engine.start() for model in self.parts.models.values()))
        for model in self.parts.models.values():
            await check_tokenizer(model)
        _log.info("server.ready", models=list(self.parts.models))

    async def stop(self) -> None:
        """End every part; the record of what was done last."""
        self.drain()
        await self._last_turns()
        for model in self.parts.models.values():
            await model.engine.stop()
            await asyncio.to_thread(model.planner.close)
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self._posting.drain(_POSTING_SECONDS)
        await self._keeper.drain(_POSTING_SECONDS)
        await self._governance.close()
        await self.journal.close()
        await self.database.close()
        self.parts.tracing.close()

    async def _last_turns(self) -> None:
        """Wait for turns that the HTTP server has cancelled but not waited for: their records are still to come."""
        end = self.parts.clock.monotonic() + _SETTLING_SECONDS
        while self.parts.entrance.admission.open_turns and self.parts.clock.monotonic() < end:  # noqa: ASYNC110 - bounded
            await asyncio.sleep(_LOOK_SECONDS)

    def drain(self) -> None:
        """Let no new turn in; readiness says so at once."""
        self.parts.entrance.admission.drain()

    def components(self) -> Mapping[str, str]:
        """Every part that an answer needs: `ok`, or what is wrong with it."""
        states = {"server": "draining" if self.parts.entrance.admission.draining else "ok"}
        for name, model in self.parts.models.items():
            health = model.engine.health()
            # A model that is not in memory is brought when it is asked for.
            states[f"model {name}"] = "ok" if health.ready else f"down: {health.reason}"
        trouble = self.journal.figures().last_error
        states["journal"] = f"failing: {trouble}" if trouble else "ok"
        return states

    async def _recount(self) -> None:
        """Repair what servers that share their budgets, and were killed, never told of."""
        with contextlib.suppress(Overloaded):  # whoever needs a budget then asks again
            await self.parts.entrance.spending.recount()

    def _all_posted(self) -> bool:
        return self._posting.figures().pending == 0

    def _background(self, work: Coroutine[None, None, None]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work))

    def _http(self) -> HttpApp:
        settings, parts = self.settings, self.parts
        limits = StreamLimits(settings.early_start_seconds, settings.ping_seconds, settings.stall_seconds)
        receipt = Receipt(settings.body_bytes, settings.receive_seconds)
        messages = Messages(parts, limits, self._keeper)
        models = Models(parts.router)
        operations = Operations(antiphon.__version__, self.components, parts.metrics)
        reading = ("GET", "HEAD")
        description = Description(antiphon.__version__)
        open_routes = [
            Route("/", reading, operations.root),
            Route("/health/live", reading, operations.live),
            Route("/health/ready", reading, operations.ready),
            Route("/metrics", reading, operations.metrics),
            Route("/openapi.json", reading, description.get),
        ]
        keyed_routes = [
            Route("/v1/messages", ("POST",), messages.create, receipt, inference),
            Route("/v1/messages/count_tokens", ("POST",), messages.count_tokens, receipt, inference),
            Route("/v1/models", reading, models.list),
            Route("/v1/models/{model_id}", reading, models.get),
        ]
        acts = Acts(self.database, parts.ids, parts.clock)
        limiter = parts.entrance.limiter
        organization = Organization(
            acts,
            self.gate,
            book=limiter.policy.book,
            tier=settings.tier,
            router=parts.router,
        )
        feed = Compliance(
            acts,
            actor_of=actor_of,
            permit=lambda exchange: demand(exchange.caller, "activities", "read"),
            admit=FeedPool(limiter.buckets, parts.clock).admit,
        )
        keyed_routes += [*organization.routes(), *feed.routes()]
        description.describe(open_routes, keyed_routes)
        return HttpApp(
            table=[*open_routes, *keyed_routes],
            open_paths=frozenset(route.path for route in open_routes),
            door=self.gate,
            cors=Cors(settings.cors_origins),
            metrics=parts.metrics,
            tracing=parts.tracing,
            clock=parts.clock,
            ids=parts.ids,
        )

    def _readings(self) -> Iterable[Reading]:
        healths = {name: model.engine.health() for name, model in self.parts.models.items()}
        yield _gauge(
            "antiphon_engine_ready",
            "1 when the model could answer now",
            {n: h.ready for n, h in healths.items()},
        )
        yield _gauge("antiphon_seats_taken", "Answers in the making", {n: h.seats_taken for n, h in healths.items()})
        yield _gauge(
            "antiphon_queue_waiting",
            "Requests waiting for a seat",
            {n: h.waiting for n, h in healths.items()},
        )
        yield _gauge("antiphon_engine_restarts", "Restarts of the engine", {n: h.restarts for n, h in healths.items()})
        engines = {name: model.engine for name, model in self.parts.models.items()}
        remembered = {name: e.remembered() for name, e in engines.items() if isinstance(e, TellsRemembered)}
        yield _gauge(
            "antiphon_engine_remembered_prompts",
            "Prompts that the engine remembers",
            {n: r.prompts for n, r in remembered.items()},
        )
        yield _gauge(
            "antiphon_engine_remembered_bytes",
            "Memory of what it remembers, where that is known",
            {n: r.bytes for n, r in remembered.items()},
        )
        yield _gauge(
            "antiphon_engine_remembered_evictions",
            "Prompts given up for want of room",
            {n: r.evictions for n, r in remembered.items()},
        )
        yield _count("antiphon_cache_entries", "Prefixes that can be read from the cache", len(self.parts.cache))
        yield _count("antiphon_cache_evictions", "Entries given up for want of room", self.parts.cache.evictions)
        yield _count("antiphon_turns_open", "Turns under way", self.parts.entrance.admission.open_turns)
        failures, owed = self._governance.figures()
        yield _count("antiphon_limits_store_failures", "Calls that the limits' server did not answer", failures)
        yield _count("antiphon_limits_store_owed", "What the limits' server has not heard of yet", owed)
        written, posted = self.journal.figures(), self._posting.figures()
        yield _count("antiphon_journal_appended", "Usage records made durable", written.appended)
        yield _count("antiphon_journal_groups", "Writes that made them durable", written.groups)
        yield _count("antiphon_journal_failed", "Usage records that could not be written", written.failed)
        yield _count(
            "antiphon_journal_pending",
            "Usage records not in the database yet",
            posted.pending,
        )


def _standing(card: ModelCard, settings: Settings) -> ModelCard:
    """A model, where it stands included."""
    if card.geography is not None or settings.geography == "any":
        return card
    return msgspec.structs.replace(card, geography=settings.geography)


def _gauge(name: str, text: str, by_model: Mapping[str, float]) -> Reading:
    return name, text, ("model",), [((model,), float(number)) for model, number in by_model.items()]


def _count(name: str, text: str, number: float) -> Reading:
    return name, text, (), [((), float(number))]
