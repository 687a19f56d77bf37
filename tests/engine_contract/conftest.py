"""Every case of this folder runs over every body."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from engine_contract import direct
from engine_contract.bodies import BODIES, Body, Desk, reference


@pytest.fixture(
    scope="session",
    params=[pytest.param(body, id=body.name, marks=[pytest.mark.real] if body.real else []) for body in BODIES],
)
def body(request: pytest.FixtureRequest) -> Body:
    """One after the other; skipped, with the reason, where it cannot run."""
    chosen: Body = request.param
    reason = chosen.absent()
    if reason:
        pytest.skip(f"{chosen.name}: {reason}")
    return chosen


@pytest.fixture(scope="session")
def model_file(body: Body, request: pytest.FixtureRequest) -> Path | None:
    file: Path | None = request.getfixturevalue("smol_file") if body.real else None
    return file


@pytest.fixture(scope="session")
def truth(body: Body, model_file: Path | None) -> Future[list[direct.Answer]]:
    """The library's own answers, on their way; skipped where there is no library."""
    if model_file is None:
        pytest.skip(f"{body.name} has no library below it")
    return reference(body, model_file)


@pytest.fixture(scope="session")
async def shared(body: Body, model_file: Path | None) -> AsyncIterator[Desk]:
    """One engine for all cases that leave it as it was."""
    async with body.open(model_file, body.roomy()) as desk:
        yield desk


@pytest.fixture(scope="session")
async def shared_tight(body: Body, model_file: Path | None) -> AsyncIterator[Desk]:
    """Another whose bounds are soon reached."""
    async with body.open(model_file, body.tight()) as desk:
        yield desk


@pytest.fixture
async def desk(shared: Desk) -> AsyncIterator[Desk]:
    """The shared engine; a case has failed that did not give everything back, or lost the child."""
    restarts = shared.engine.health().restarts
    yield shared
    await left_as_it_was(shared, restarts)


@pytest.fixture
async def tight(shared_tight: Desk) -> AsyncIterator[Desk]:
    """Likewise, the one with tight bounds."""
    restarts = shared_tight.engine.health().restarts
    yield shared_tight
    await left_as_it_was(shared_tight, restarts)


async def left_as_it_was(desk: Desk, restarts: int) -> None:
    await desk.idle()
    assert desk.engine.health().ready
    assert desk.engine.health().restarts == restarts
