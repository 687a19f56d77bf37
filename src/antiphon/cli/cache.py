"""`antiphon cache explain`: why a prompt was not read from the cache. Needs no server: it plans both requests as one
would, and asks a cache of its own what each finds there."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from antiphon.cli.cache_shown import Compared, Measurement, Priced, document, show
from antiphon.cli.options import ConfigOption, HomeOption, console, errors_told, settings_from
from antiphon.core.clock import Clock, SystemClock
from antiphon.core.errors import InvalidRequest, RequestError, SettingsError
from antiphon.core.records import DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE, Scope
from antiphon.core.settings import Settings
from antiphon.gate import residency
from antiphon.parts import ServedModel, caching_for
from antiphon.plan.caching.advice import Measured, advice
from antiphon.plan.caching.explain import Side, explain
from antiphon.plan.caching.index import CacheIndex, Found
from antiphon.plan.caching.positions import marks
from antiphon.plan.caching.prefixes import Caching
from antiphon.plan.plan import Plan
from antiphon.routing import book, catalogue, profile
from antiphon.routing.catalogue import ModelCard
from antiphon.routing.prices import Terms
from antiphon.routing.resolve import Route, Router
from antiphon.serving import served_models
from antiphon.wire import versions
from antiphon.wire.parse import parse_messages
from antiphon.wire.request import MessagesRequest

_STANDARD_INPUT = "-"
#: No engine runs, so its memory has one life.
_EPOCH = 0

app = typer.Typer(help="Prompt caching.", no_args_is_help=True)


@app.callback()
def cache() -> None:
    """What is read from the cache and what is not."""


@app.command("explain")
def explain_requests(
    a: Annotated[str, typer.Argument(metavar="A.json", help="The earlier request: a body of /v1/messages.")],
    b: Annotated[str, typer.Argument(metavar="B.json", help="The later one; - for one from standard input.")],
    model: Annotated[
        str | None, typer.Option("--model", help="By this served model, whatever the requests ask for.")
    ] = None,
    version: Annotated[
        str, typer.Option("--version", help="The version of the API: the header anthropic-version.")
    ] = versions.OLDEST,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    home: HomeOption = None,
    config: ConfigOption = None,
) -> None:
    """Show where two requests part, to the character, and what each would cost."""
    with errors_told():
        if a == b == _STANDARD_INPUT:
            raise InvalidRequest("Only one of the two requests can come from standard input")
        versions.version_of(version.encode())
        bodies = [(_name(file), _body(file)) for file in (a, b)]
        requests = [_request(name, body, version) for name, body in bodies]
        with _planning(settings_from(home, config), model) as planning:
            first, second = (planning.asked(name, request) for (name, _), request in zip(bodies, requests, strict=True))
            compared = _compared(planning, first, second)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(document(compared))).decode())
        return
    show(compared, console())


def _name(file: str) -> str:
    return "standard input" if file == _STANDARD_INPUT else file


def _body(file: str) -> bytes:
    return sys.stdin.buffer.read() if file == _STANDARD_INPUT else Path(file).read_bytes()


def _request(name: str, body: bytes, version: str) -> MessagesRequest:
    """A request as a server reads it.

    Raises:
        InvalidRequest: it is none; in the API's words, behind the file's name.
    """
    with _named(name):
        parsed = parse_messages(body)
        versions.check(version, parsed.request, parsed.ignored)
        return parsed.request


@contextmanager
def _named(name: str) -> Iterator[None]:
    """What is wrong with a request, with its file in front."""
    try:
        yield
    except RequestError as error:
        raise InvalidRequest(error.message, path=name) from None


class Asked(msgspec.Struct, frozen=True):
    """A request that was planned. `ends`: where each of its positions ends, in tokens."""

    name: str
    request: MessagesRequest
    route: Route
    caching: Caching
    plan: Plan
    ends: tuple[int, ...]
    geography: str


class _Planning:
    """What of a server is needed to plan requests."""

    def __init__(self, settings: Settings, clock: Clock, model: str | None) -> None:
        """
        Raises:
            SettingsError: weights are not on this machine, or nothing of the name `model` is served.
        """
        self._clock = clock
        self._only = model
        cards: list[ModelCard] = []
        self._models: dict[str, ServedModel] = {}
        for card, served in served_models(settings, clock):
            stands = card.geography or (None if settings.geography == "any" else settings.geography)
            cards.append(msgspec.structs.replace(card, geography=stands))
            self._models[card.name] = served
        self._cards: Mapping[str, ModelCard] = {card.name: card for card in cards}
        if model is not None and model not in self._cards:
            raise SettingsError(f"No model {model} is served; there is {', '.join(self._cards)}")
        prices = book.configured(settings.prices, catalogue.from_settings(settings))
        self._router = Router(cards, profile=settings.profile, book=prices)
        self._secret = CacheIndex(clock).secret

    def asked(self, name: str, request: MessagesRequest) -> Asked:
        """Plan one request, of the default workspace.

        Raises:
            InvalidRequest: it is refused, in the API's words, behind the file's name.
        """
        with _named(name):
            within = residency.wanted(request.inference_geo, allowed=None, default=None)
            route = self._route(request, within)
            rules = route.rules
            if rules is not None:
                profile.check(rules, request)
            told = residency.served(
                within,
                model=route.model.geography or within,
                asked=request.inference_geo,
                knows=rules is None or rules.geography,
            )
            caching = caching_for(Scope(DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE), self._secret, route)
            planner = self._models[route.model.name].planner
            plan = planner.plan(request, rules.window if rules is not None else None, caching)
            ends = planner.ends(request)
        side = Side.of(request, caching)
        return Asked(name, request, route, caching, plan, tuple([ends[each.path] for each in side.found]), told)

    def usages(self, a: Asked, b: Asked) -> Sequence[Priced]:
        """What they find and cost: A in an empty cache, B after it, and B in an empty one."""
        cache = CacheIndex(self._clock)
        first = self._found(cache, a)
        cache.write(first, _EPOCH)
        after, alone = self._found(cache, b), self._found(CacheIndex(self._clock), b)
        rows = (("A, the first", a, first), ("B after A", b, after), ("B without A", b, alone))
        return [self._priced(label, asked, found) for label, asked, found in rows]

    def close(self) -> None:
        """End what runs outside of this process."""
        for model in self._models.values():
            model.planner.close()

    def _route(self, request: MessagesRequest, within: residency.Geography) -> Route:
        """As a server finds it; with `--model`, that model answers for whatever the request asks for."""
        if self._only is None or request.model == self._only:
            return self._router.resolve(request.model, within=within)
        try:
            route = self._router.resolve(request.model, within=within)
        except RequestError:
            return self._router.resolve(self._only)
        return msgspec.structs.replace(route, model=self._cards[self._only])

    def _found(self, cache: CacheIndex, asked: Asked) -> Found:
        return cache.look_up(asked.plan.tokens, asked.plan.cacheable, _EPOCH)

    def _priced(self, label: str, asked: Asked, found: Found) -> Priced:
        terms = Terms(geography=asked.geography)
        return Priced(label, found.usage, asked.route.price.cost(found.usage, self._clock.now_ms(), terms))


@contextmanager
def _planning(settings: Settings, model: str | None) -> Iterator[_Planning]:
    """What serving says of its models is for a server's log, and no part of what is shown here."""
    with redirect_stdout(io.StringIO()):
        planning = _Planning(settings, SystemClock(), model)
    try:
        yield planning
    finally:
        planning.close()


def _compared(planning: _Planning, a: Asked, b: Asked) -> Compared:
    sides = [Side.of(each.request, each.caching) for each in (a, b)]
    told = explain(*sides)
    first, second = (
        Measured(side, each.ends, tuple(marks(each.request, side.found)))
        for side, each in zip(sides, (a, b), strict=True)
    )
    measurements = [
        Measurement(each.name, each.route.requested, each.route.model.name, each.plan.tokens, one)
        for each, one in zip((a, b), (first, second), strict=True)
    ]
    return Compared(
        measurements[0], measurements[1], told, tuple(planning.usages(a, b)), tuple(advice(first, second, told))
    )
