"""The route table: every path and method there is, in one place.

Paths are matched whole, without the query string (`/v1/messages?beta=true` is `/v1/messages`), and a doubled `/v1`,
which clients make when their base URL already ends in it, is understood (contract platform-and-tools 13, trap 12).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from antiphon.core.errors import MethodNotAllowed, NotFound
from antiphon.http.exchange import Exchange, Receipt

Endpoint = Callable[[Exchange, Mapping[str, str]], Awaitable[None]]
#: Raises PermissionDenied where the exchange's caller may not use a route.
Permit = Callable[[Exchange], object]


class Route(msgspec.Struct, frozen=True):
    """A path, whose `{name}` steps stand for anything; the methods it answers; and what answers.

    `receipt` bounds the body of a route that reads one. `permit` is asked before the endpoint, where not every caller
    that is known may use the route.
    """

    path: str
    methods: tuple[str, ...]
    endpoint: Endpoint
    receipt: Receipt | None = None
    permit: Permit | None = None


class Routes:
    """Finds the endpoint of a request."""

    def __init__(self, table: Sequence[Route]) -> None:
        self._exact = {route.path: route for route in table if "{" not in route.path}
        self._patterns = [(route.path.split("/"), route) for route in table if "{" in route.path]

    def find(self, method: str, path: str) -> tuple[Route, Mapping[str, str]]:
        """The route and its parameters.

        Raises:
            NotFound: no such path.
            MethodNotAllowed: the path answers other methods.
        """
        while path.startswith("/v1/v1/"):
            path = path[3:]
        route = self._exact.get(path)
        parameters: Mapping[str, str] = {}
        if route is None:
            route, parameters = self._match(path)
        if method not in route.methods:
            raise MethodNotAllowed(route.methods)
        return route, parameters

    def _match(self, path: str) -> tuple[Route, Mapping[str, str]]:
        steps = path.split("/")
        for pattern, route in self._patterns:
            if len(pattern) != len(steps):
                continue
            parameters: dict[str, str] = {}
            for expected, step in zip(pattern, steps, strict=True):
                if expected.startswith("{") and step:
                    parameters[expected.strip("{}")] = step
                elif expected != step:
                    break
            else:
                return route, parameters
        raise NotFound("Not Found")
