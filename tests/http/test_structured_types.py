"""`messages.parse` with all kinds of types: the model says nothing of use, and the answer is of the type nonetheless
(contract client-surface 7, messages-and-inference 6)."""

from __future__ import annotations

import datetime
import enum
import ipaddress
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal

import anthropic
import pytest
from anthropic import transform_schema
from pydantic import AnyUrl, BaseModel, Field, TypeAdapter

from running import Running, scripted_settings

Start = Callable[..., Running]
ASKED: Any = {"model": "claude-opus-5-5", "max_tokens": 900, "messages": [{"role": "user", "content": "Describe it."}]}


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 3


class Point(BaseModel):
    x: int
    y: float


class Nested(BaseModel):
    name: str = Field(description="Its name")
    where: Point
    more: list[Point]


class Optionals(BaseModel):
    maybe: int | None
    absent: str | None = None
    text: str = "as it was"
    many: list[int] = []
    flag: bool = False


class Choices(BaseModel):
    kind: Literal["a", "b"]
    number: Literal[1, 2]
    colour: Colour
    level: Level
    either: int | list[str]
    point: Point | Colour


class Formats(BaseModel):
    day: datetime.date
    moment: datetime.datetime
    span: datetime.timedelta
    key: uuid.UUID
    time: datetime.time
    place: AnyUrl
    four: ipaddress.IPv4Address
    six: ipaddress.IPv6Address


class Circle(BaseModel):
    shape: Literal["circle"]
    radius: float


class Square(BaseModel):
    shape: Literal["square"]
    side: float


class Tagged(BaseModel):
    figure: Annotated[Circle | Square, Field(discriminator="shape")]
    pair: Annotated[list[Circle], Field(min_length=1)]


@dataclass
class Plain:
    unique: set[int]
    nothing: None
    by_name: dict[str, int]
    rows: list[Literal["p", "q"] | None]


class Tree(BaseModel):
    kids: list[Tree]


class Empty(BaseModel):
    pass


class Described(BaseModel):
    """Bounds become part of a description, and the type has them still: text of no use has to fit them too."""

    price: Decimal | None
    name: Annotated[str, Field(max_length=500)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    said = "rules: [{text: 'Certainly! Let me think about that for a moment, shall I?'}]"
    running = Running(scripted_settings(tmp_path_factory.mktemp("types"), said))
    yield running
    running.close()


TYPES: list[type[Any]] = [Nested, Optionals, Choices, Formats, Tagged, Plain, Empty, Described]


@pytest.mark.behaviour("client-surface-7-parse", "client-surface-7-schema", "client-surface-2.1-output-config-format")
@pytest.mark.parametrize("kind", TYPES)
def test_the_answer_is_of_the_type(server: Running, kind: type[Any]) -> None:
    for namespace in (server.client().messages, server.client().beta.messages):
        parsed: Any = namespace.parse(**ASKED, output_format=kind)
        assert isinstance(parsed.parsed_output, kind)
        assert parsed.stop_reason == "end_turn"


@pytest.mark.behaviour("client-surface-7-schema")
@pytest.mark.parametrize("kind", TYPES)
def test_a_transformed_schema_is_taken_and_kept(server: Running, kind: type[Any]) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    schema: Any = transform_schema(adapter.json_schema())
    message: Any = server.client().messages.create(
        **ASKED, output_config={"format": {"type": "json_schema", "schema": schema}}
    )
    assert isinstance(adapter.validate_json(message.content[0].text), kind)


def test_a_type_that_holds_itself_is_refused(server: Running) -> None:
    with pytest.raises(anthropic.BadRequestError, match=r"\$defs\.Tree\..*Circular \$ref detected"):
        server.client().messages.parse(**ASKED, output_format=Tree)


@pytest.mark.behaviour("messages-and-inference-2.7-bad-regex")
@pytest.mark.parametrize("pattern", ["(?=a)b", r"(a)\1", r"a\b"])
def test_a_pattern_that_no_grammar_holds_is_refused(server: Running, pattern: str) -> None:
    schema: Any = {
        "type": "object", "properties": {"a": {"type": "string", "pattern": pattern}}, "required": ["a"],
        "additionalProperties": False,
    }  # fmt: skip
    tool: Any = {"name": "t", "strict": True, "input_schema": schema}
    changes: list[Any] = [{"tools": [tool]}, {"output_config": {"format": {"type": "json_schema", "schema": schema}}}]
    for change in changes:
        with pytest.raises(anthropic.BadRequestError, match="Unsupported regex feature in pattern field: "):
            server.client().messages.create(**ASKED, **change)


@pytest.mark.behaviour("messages-and-inference-2.7-schema-too-big")
def test_a_schema_that_is_too_complex_is_refused(server: Running) -> None:
    schema: Any = {"type": "object", "properties": {}, "additionalProperties": False}
    for _ in range(200):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"], "additionalProperties": False}
    changes: list[Any] = [
        {"tools": [{"name": "t", "strict": True, "input_schema": schema}]},
        {"output_config": {"format": {"type": "json_schema", "schema": schema}}},
    ]
    for change in changes:
        with pytest.raises(anthropic.BadRequestError, match=r"Schema is too complex for compilation"):
            server.client().messages.create(**ASKED, **change)


CITED: Any = [{"role": "user", "content": [
    {"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": "x"}], "citations": {"enabled": True}},
]}]  # fmt: skip
FORMAT: Any = {"type": "json_schema", "schema": transform_schema(Point)}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"max_tokens": 0}, "max_tokens: max_tokens must be at least 1 with structured outputs"),
        ({"messages": [*ASKED["messages"], {"role": "assistant", "content": "{"}]}, "assistant message prefill is not supported with structured outputs"),
        ({"messages": CITED}, "messages.0.content.0.citations.enabled: citations are not supported with structured outputs"),
    ],
)  # fmt: skip
def test_what_a_format_does_not_go_with(server: Running, change: Any, told: str) -> None:
    ways: list[Any] = [{"output_config": {"format": FORMAT}}, {"extra_body": {"output_format": FORMAT}}]
    for asked in ways:
        with pytest.raises(anthropic.BadRequestError) as refused:
            server.client().messages.create(**ASKED | change, **asked)
        assert refused.value.api_message == told
