"""`GET|HEAD /openapi.json`: this server's API as an OpenAPI 3.1 document.

Paths and methods are read off the route table, schemas off the wire types (`http.schemas`); what neither can say
stands in `http.described` and in `http.organization.described`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from antiphon.http.described import PLAIN, TOKENS, Json, Operation, Operations
from antiphon.http.exchange import OF_THE_ORGANIZATION, Exchange
from antiphon.http.organization.described import KEYS, LIMITS, PEOPLE, WORKSPACES
from antiphon.http.organization.described_reports import REPORTS
from antiphon.http.routes import Route
from antiphon.http.schemas import name_of, ref, schemas
from antiphon.wire import errors, request
from antiphon.wire.versions import NEWEST, OLDEST

#: Every refusal: the `error.type` in its body, and when it comes.
REFUSALS: Mapping[int, tuple[str, str]] = {
    400: ("invalid_request_error", "The request is malformed, breaks a rule or asks for what cannot be had."),
    401: ("authentication_error", "No key, a wrong one, or a web page that may not call."),
    403: ("permission_error", "The key is valid and not for this."),
    404: ("not_found_error", "No such model or object for this key."),
    408: ("invalid_request_error", "The headers did not arrive in time. The connection is closed."),
    409: ("conflict_error", "It does not go with what there is, such as a name that is taken."),
    413: ("request_too_large", "The body is over the limit, as sent or after decoding."),
    429: (
        "rate_limit_error",
        "More is asked in a minute than the limits allow. Without `retry-after`, trying again does not help.",
    ),
    431: ("invalid_request_error", "The headers are too many or too large. The connection is closed."),
    500: ("api_error", "The model or the server failed."),
    529: ("overloaded_error", "More is asked than can be answered now; try again after `retry-after` seconds."),
}
#: What a connection may answer before there is a request, and a defect whenever.
_ANYWHERE = (400, 408, 431, 500)

_ABOUT = (
    "The Claude API, spoken by models that run here. Unknown fields in a request are let pass and named in the "
    "`antiphon-ignored` header of the answer. Not all that a schema allows is served: what is not is refused with 400 "
    "and the path of the field. A path that does not exist is answered with 404, a method that a path does not answer "
    "with 405 and an `allow` header, both in `ErrorEnvelope`."
)


#: Everything that may be in the route table.
OPERATIONS: Operations = {**PLAIN, **PEOPLE, **WORKSPACES, **KEYS, **LIMITS, **REPORTS}


class Description:
    """The endpoint: tell it the routes, its own among them. The document is made when it is first asked for."""

    def __init__(self, version: str) -> None:
        self._version = version
        self.open: Sequence[Route] = ()
        self.keyed: Sequence[Route] = ()
        self._bytes = b""

    def describe(self, open_routes: Sequence[Route], keyed_routes: Sequence[Route]) -> None:
        """The routes that need no key, and those that do."""
        self.open, self.keyed = open_routes, keyed_routes

    async def get(self, exchange: Exchange, _: Mapping[str, str]) -> None:
        if not self._bytes:
            self._bytes = msgspec.json.encode(document(self._version, self.open, self.keyed))
        await exchange.answer(200, self._bytes, b"application/json")


def document(version: str, open_routes: Sequence[Route], keyed_routes: Sequence[Route]) -> Json:
    """The whole document: the same for the same routes, whenever it is made.

    Raises:
        KeyError: a route is missing in `OPERATIONS`.
    """
    described = [*_described(open_routes), *_described(keyed_routes)]
    tags = dict.fromkeys(what.tag for what in described)
    return {
        "openapi": "3.1.1",
        "info": {"title": "Antiphon", "version": version, "description": _ABOUT},
        "security": [{"apiKey": []}, {"bearer": []}],
        "tags": [{"name": name} for name in sorted(tags)],
        "paths": {
            **{route.path: _path(route, keyed=False) for route in open_routes},
            **{route.path: _path(route, keyed=True) for route in keyed_routes},
        },
        "components": {
            "schemas": _schemas(described),
            "responses": {str(status): _refusal(status) for status in REFUSALS},
            "headers": _HEADERS,
            "parameters": _PARAMETERS,
            "securitySchemes": {
                "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _path(route: Route, *, keyed: bool) -> Json:
    names = re.findall(r"{(\w+)}", route.path)
    steps = [{"name": n, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}} for n in names]
    return {
        **({"parameters": steps} if steps else {}),
        **{method.lower(): _operation(route, method, keyed=keyed) for method in route.methods},
    }


def _operation(route: Route, method: str, *, keyed: bool) -> Json:
    what = _what(route, method)
    headers = [{"$ref": f"#/components/parameters/{name}"} for name in _PARAMETERS] if keyed else []
    if what.beta is not None:
        headers = [header for header in headers if not header["$ref"].endswith("/anthropic-beta")]
        headers.append(_PARAMETERS["anthropic-beta"] | {"required": True, "schema": _naming(what.beta)})
    made: Json = {
        "operationId": what.name if method != "HEAD" else f"{what.name}_head",
        "tags": [what.tag],
        "summary": what.summary,
        "parameters": [*headers, *what.parameters],
        "responses": {str(status): made for status, made in _responses(route, method, what, keyed=keyed)},
    }
    if not keyed:
        made["security"] = []
    if what.body is not None:
        made["requestBody"] = {"required": True, "content": {"application/json": {"schema": _payload(what.body)}}}
    return made


def _responses(route: Route, method: str, what: Operation, *, keyed: bool) -> Iterator[tuple[int, Json]]:
    """Every status that the route can answer with, by its number. An answer to HEAD has no body."""
    headers = ["request-id"]
    if keyed:
        headers.append("anthropic-organization-id")
    if keyed and not route.path.startswith(OF_THE_ORGANIZATION):
        headers.append("anthropic-workspace-id")
    headers += _limit_headers(what.limits)
    if what.tag == "messages":
        headers.append("antiphon-ignored")
    content: Json = {"application/json": {"schema": _payload(what.answer)}}
    if isinstance(what.answer, str):
        content = {what.answer: {"schema": {"type": "string"}}}
    if what.body is request.MessagesRequest:
        headers.append("antiphon-model")
        content["text/event-stream"] = _STREAM
    answers = {200: content, **{s: {"application/json": {"schema": _payload(k)}} for s, k in what.also.items()}}
    for status in sorted({*answers, *_refusals(route, what, keyed=keyed)}):
        if status not in answers:
            bare = {"description": REFUSALS[status][1], "headers": _sent(_refusal_headers(status))}
            yield status, bare if method == "HEAD" else {"$ref": f"#/components/responses/{status}"}
            continue
        body = {} if method == "HEAD" else {"content": answers[status]}
        yield status, {"description": HTTPStatus(status).phrase, "headers": _sent(headers), **body}


def _refusals(route: Route, what: Operation, *, keyed: bool) -> set[int]:
    """The order of checks in `http.app`, as statuses."""
    statuses = {*_ANYWHERE, *what.refusals}
    if keyed:
        statuses |= {401, 403, 529}  # a key may not be for the workspace that is named, if not for the route
    if route.receipt is not None:
        statuses.add(413)
    if "{" in route.path:
        statuses.add(404)
    return statuses


def _refusal(status: int) -> Json:
    kind, about = REFUSALS[status]
    narrowed = {"properties": {"error": {"properties": {"type": {"const": kind}}}}}
    schema = {"allOf": [_payload(errors.ErrorEnvelope), narrowed]}
    return {
        "description": about,
        "headers": _sent(_refusal_headers(status)),
        "content": {"application/json": {"schema": schema}},
    }


def _refusal_headers(status: int) -> list[str]:
    headers = ["request-id", "x-should-retry"]
    if status in (429, 529):
        headers.append("retry-after")
    return [*headers, *_limit_headers(TOKENS)] if status == 429 else headers


def _limit_headers(limits: Sequence[str]) -> list[str]:
    return [f"anthropic-ratelimit-{of}-{what}" for of in limits for what in ("limit", "remaining", "reset")]


#: One event: OpenAPI has no word for the whole stream before version 3.2.
_STREAM: Json = {
    "schema": {
        "description": "Where `stream` is true: server-sent events, one after the other.",
        "type": "object",
        "properties": {
            "event": {"description": "The same as the `type` in its data.", "type": "string"},
            "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": ref("StreamEvent")},
        },
        "required": ["event", "data"],
    }
}

_PARAMETERS: Json = {
    "anthropic-version": {
        "name": "anthropic-version",
        "in": "header",
        "description": f"The version of the API that the client was written for; {OLDEST} without it.",
        "schema": {"enum": [OLDEST, NEWEST]},
    },
    "anthropic-beta": {
        "name": "anthropic-beta",
        "in": "header",
        "description": "Names of betas, with commas between. Unknown ones are named in `antiphon-ignored`.",
        "schema": {"type": "string", "maxLength": 4096, "pattern": r"^([A-Za-z0-9_.-]+(, ?[A-Za-z0-9_.-]+)*)?$"},
    },
    "anthropic-workspace-id": {
        "name": "anthropic-workspace-id",
        "in": "header",
        "description": "The workspace to work in, with a key that is not bound to one.",
        "schema": {"type": "string"},
    },
}


def _header(about: str, kind: str = "string", *, required: bool = False) -> Json:
    return {"description": about, "schema": {"type": kind}, **({"required": True} if required else {})}


_HEADERS: Json = {
    "request-id": _header("Names this answer; on every one, errors too.", required=True),
    "anthropic-organization-id": _header("The key's organization.", required=True),
    "anthropic-workspace-id": _header("The key's workspace.", required=True),
    "antiphon-model": _header("The model that answered.", required=True),
    "antiphon-ignored": _header("Fields and betas without effect, with commas between."),
    "x-should-retry": _header("`true` or `false`, where the status alone would mislead."),
    "retry-after": _header("Seconds after which to try again.", "integer"),
    **{
        f"anthropic-ratelimit-{of}-{what}": _header(about.format(of.replace("-", " ")), kind)
        for of in TOKENS
        for what, about, kind in (
            ("limit", "The {} that a minute allows.", "integer"),
            ("remaining", "How many {} are left; tokens rounded to the nearest thousand.", "integer"),
            ("reset", "When all {} are there again, RFC 3339.", "string"),
        )
    },
}


def _sent(names: Sequence[str]) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _naming(beta: str) -> Json:
    """Lists of betas with this one among them."""
    return {"type": "string", "maxLength": 4096, "pattern": rf"(^|, ?){beta}(,|$)"}


def _payload(kind: Any) -> Json:
    return {"type": "object"} if kind is dict or isinstance(kind, str) else ref(name_of(kind))


def _what(route: Route, method: str) -> Operation:
    return OPERATIONS["GET" if method == "HEAD" else method, route.path]


def _described(routes: Sequence[Route]) -> Iterator[Operation]:
    for route in routes:
        yield from (_what(route, method) for method in route.methods if method != "HEAD")


def _schemas(described: Sequence[Operation]) -> Json:
    asked = [what.body for what in described if what.body is not None]
    given = [what.answer for what in described if not isinstance(what.answer, str) and what.answer is not dict]
    return schemas(asked, [*given, errors.ErrorEnvelope])
