"""What the routes do: all that the OpenAPI document says of them beyond what the route table and the wire types say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from antiphon.http.health import Status, Welcome
from antiphon.wire import compliance, models, request, response

Json: TypeAlias = dict[str, Any]
#: By method and path. A path that answers GET answers HEAD alike, without the body.
Operations: TypeAlias = Mapping[tuple[str, str], "Operation"]

#: What is counted by the minute, as the names of the `anthropic-ratelimit-*` headers have it.
REQUESTS = ("requests",)
TOKENS = ("requests", "tokens", "input-tokens", "output-tokens")

LIST: Json = {"type": "array", "items": {"type": "string"}}
STRING: Json = {"type": "string"}
GIVEN_MOMENT: Json = {"type": "string", "format": "date-time"}
#: A value that is empty is as good as none.
MOMENT: Json = {"anyOf": [GIVEN_MOMENT, {"const": ""}]}


class Operation(msgspec.Struct, frozen=True):
    """What a path does when it is asked with a method. A payload is a type, or the media type of what is not JSON."""

    name: str
    tag: str
    summary: str
    answer: Any
    body: Any = None
    parameters: tuple[Json, ...] = ()
    also: Mapping[int, type] = {}
    """Further statuses that carry an answer instead of an error."""
    refusals: tuple[int, ...] = ()
    """Statuses of refusals that the route does not tell of."""
    limits: tuple[str, ...] = ()
    """Limits whose state the headers of an answer tell."""
    beta: str | None = None
    """The beta without which nothing is answered."""


def query(name: str, about: str, schema: Json, *, required: bool = False) -> Json:
    """A parameter of a query."""
    described: Json = {"name": name, "in": "query", "description": about, "schema": schema}
    return described | ({"required": True} if required else {})


def several(name: str, about: str, *choices: str, most: int | None = None) -> Json:
    """A parameter of a query that may come several times, out of these values if there are any."""
    items: Json = {"enum": list(choices)} if choices else {"type": "string"}
    return query(f"{name}[]", about, {"type": "array", "items": items, **({} if most is None else {"maxItems": most})})


def one_of(name: str, about: str, *choices: str) -> Json:
    """A parameter of a query that is one of these values."""
    return query(name, about, {"enum": list(choices)})


def limit(what: str, most: int, default: int | None) -> Json:
    """How much a page holds."""
    schema: Json = {"type": "integer", "minimum": 1, "maximum": most}
    return query("limit", f"{what} on a page.", schema | ({} if default is None else {"default": default}))


def walk(what: str, *, most: int = 1000, default: int = 20) -> tuple[Json, ...]:
    """The parameters of a list that is walked by ids."""
    return (
        limit(what, most, default),
        query("after_id", "The page behind this id.", {"type": "string"}),
        query("before_id", "The page ahead of this id; not together with `after_id`.", {"type": "string"}),
    )


_STAGES = several("lifecycle", "Stages to list; `active` and `deprecated` unless said otherwise.", "active",
                  "deprecated", "retired")  # fmt: skip
_WORKFLOW: Json = {
    "name": "antiphon-workflow",
    "in": "header",
    "description": "The piece of work that the request belongs to, for reports.",
    "schema": {"type": "string", "maxLength": 200, "pattern": r"^[ -~]*$"},
}
_MOMENTS = tuple(
    query(f"created_at.{bound}", f"Only activities {words} this time.", MOMENT)
    for bound, words in (("gte", "at or after"), ("gt", "after"), ("lte", "at or before"), ("lt", "before"))
)

PLAIN: Operations = {
    ("GET", "/"): Operation("root", "operations", "Name and version of the server", Welcome),
    ("GET", "/health/live"): Operation("live", "operations", "Whether the process answers", Status),
    ("GET", "/health/ready"): Operation(
        "ready", "operations", "Whether a message would be answered, and what is not well", Status, also={503: Status}
    ),
    ("GET", "/metrics"): Operation("metrics", "operations", "Figures in the Prometheus text format", "text/plain"),
    ("GET", "/openapi.json"): Operation("openapi", "operations", "This document", dict),
    ("POST", "/v1/messages"): Operation(
        "messages",
        "messages",
        "Answer a conversation, whole or as a stream",
        response.Message,
        request.MessagesRequest,
        parameters=(_WORKFLOW,),
        limits=TOKENS,
        refusals=(404, 429),
    ),
    ("POST", "/v1/messages/count_tokens"): Operation(
        "count_tokens",
        "messages",
        "Count a conversation's prompt",
        response.TokenCount,
        request.CountTokensRequest,
        limits=REQUESTS,
        refusals=(404, 429),
    ),
    ("GET", "/v1/models"): Operation(
        "models", "models", "A page of models", models.ModelPage, parameters=(*walk("Models"), _STAGES)
    ),
    ("GET", "/v1/models/{model_id}"): Operation("model", "models", "One model, retired or not", models.Model),
    ("GET", "/v1/compliance/activities"): Operation(
        "activities",
        "compliance",
        "A page of the audit, newest first",
        compliance.ActivityPage,
        parameters=(
            *walk("Activities", most=5000, default=100),
            several("activity_types", "Only activities of these types."),
            several("exclude_activity_types", "No activities of these types; not together with `activity_types[]`."),
            several("actor_ids", "Only what these did."),
            several("organization_ids", "Only activities of these organizations, by id or UUID."),
            *_MOMENTS,
        ),
        limits=REQUESTS,
        refusals=(429,),
    ),
}
