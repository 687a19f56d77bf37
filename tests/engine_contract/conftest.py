"""Every case of this folder runs over every body."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine_contract.bodies import BODIES, Body, Desk, Limits


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
async def shared(body: Body, model_file: Path | None) -> AsyncIterator[Desk]:
    """One engine for all cases that leave it as it was."""
    async with body.open(model_file, Limits()) as desk:
        yield desk


@pytest.fixture
async def desk(shared: Desk) -> AsyncIterator[Desk]:
    """The shared engine; a case has failed that did not give everything back, or lost the child."""
    restarts = shared.engine.health().restarts
    yield shared
    await shared.idle()
    assert shared.engine.health().ready
    assert shared.engine.health().restarts == restarts
