"""The composition root: every part of the server is made here, once, from settings; nothing is ambient elsewhere.

Reading `build` from top to bottom shows what the server is made of and which part is given to which.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterable, Mapping

import structlog

import antiphon
from antiphon.core.clock import Clock, SystemClock
from antiphon.core.ids import Ids
from antiphon.core.settings import Settings
from antiphon.gate.admission import Admission
from antiphon.gate.identity import Gate
from antiphon.http.app import HttpApp
from antiphon.http.cors import Cors
from antiphon.http.exchange import Receipt
from antiphon.http.health import Operations
from antiphon.http.messages import Messages, inference
from antiphon.http.models import Models
from antiphon.http.openapi import Description
from antiphon.http.routes import Route
from antiphon.http.streaming import StreamLimits
from antiphon.ledger.journal import Journal
from antiphon.ledger.posting import Posting, into
from antiphon.observe.metrics import Metrics, Reading
from antiphon.observe.traces import Tracing, tracing
from antiphon.routing.resolve import Router
from antiphon.serving import check_tokenizer, served_models
from antiphon.store import workspaces
from antiphon.store.database import Database, open_database, private_folder
from antiphon.turn import Parts

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

    def __init__(self, settings: Settings, database: Database, gate: Gate, journal: Journal, parts: Parts) -> None:
        self.settings = settings
        self.database = database
        self.gate = gate
        self.journal = journal
        self.parts = parts
        self._posting: Posting | None = None
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
        parts = Parts(
            admission=Admission(_TURNS),
            router=Router([card for card, _ in served], profile=settings.profile),
            models={card.name: model for card, model in served},
            journal=journal,
            metrics=Metrics(),
            tracing=traces or tracing(settings.traces, antiphon.__version__),
            clock=clock,
            ids=Ids(clock),
        )
        return cls(settings, database, Gate(database, clock), journal, parts)

    async def start(self) -> None:
        """Bring every part to life; afterwards a message would be answered.

        Raises:
            EngineFailed: a model's engine does not start, or does not agree with our tokenizer.
            StoreUnavailable: the database does not answer.
        """
        await self.database.migrate()
        async with self.database.transaction() as connection:
            await workspaces.ensure_defaults(connection, self.parts.clock.now_ms())
        await self.gate.load()
        await self.journal.open()
        self._posting = Posting(self.journal, into(self.database))
        self._background(self.gate.run())
        self._background(self._posting.run())
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
        if self._posting is not None:
            await self._posting.drain(_POSTING_SECONDS)
        await self.journal.close()
        await self.database.close()
        self.parts.tracing.close()

    async def _last_turns(self) -> None:
        """Wait for turns that the HTTP server has cancelled but not waited for: their records are still to come."""
        end = self.parts.clock.monotonic() + _SETTLING_SECONDS
        while self.parts.admission.open_turns and self.parts.clock.monotonic() < end:  # noqa: ASYNC110 - bounded
            await asyncio.sleep(_LOOK_SECONDS)

    def drain(self) -> None:
        """Let no new turn in; readiness says so at once."""
        self.parts.admission.drain()

    def components(self) -> Mapping[str, str]:
        """Every part that an answer needs: `ok`, or what is wrong with it."""
        states = {"server": "draining" if self.parts.admission.draining else "ok"}
        for name, model in self.parts.models.items():
            health = model.engine.health()
            # A model that is not in memory is brought when it is asked for.
            states[f"model {name}"] = "ok" if health.ready else f"down: {health.reason}"
        trouble = self.journal.figures().last_error
        states["journal"] = f"failing: {trouble}" if trouble else "ok"
        return states

    def _background(self, work: Coroutine[None, None, None]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work))

    def _http(self) -> HttpApp:
        settings, parts = self.settings, self.parts
        limits = StreamLimits(settings.early_start_seconds, settings.ping_seconds, settings.stall_seconds)
        receipt = Receipt(settings.body_bytes, settings.receive_seconds)
        messages = Messages(parts, limits)
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
        description.describe(open_routes, keyed_routes)
        return HttpApp(
            table=[*open_routes, *keyed_routes],
            open_paths=frozenset(route.path for route in open_routes),
            identify=self.gate.identify,
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
        yield _count("antiphon_turns_open", "Turns under way", self.parts.admission.open_turns)
        written, posted = self.journal.figures(), self._posting.figures() if self._posting else None
        yield _count("antiphon_journal_appended", "Usage records made durable", written.appended)
        yield _count("antiphon_journal_groups", "Writes that made them durable", written.groups)
        yield _count("antiphon_journal_failed", "Usage records that could not be written", written.failed)
        yield _count(
            "antiphon_journal_pending",
            "Usage records not in the database yet",
            posted.pending if posted else 0,
        )


def _gauge(name: str, text: str, by_model: Mapping[str, float]) -> Reading:
    return name, text, ("model",), [((model,), float(number)) for model, number in by_model.items()]


def _count(name: str, text: str, number: float) -> Reading:
    return name, text, (), [((), float(number))]
