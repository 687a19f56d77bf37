"""One server for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anthropic
import pytest

from office import Office


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """A server that answers `/v1/organizations`, with two organizations."""
    running = Office(tmp_path_factory.mktemp("office"))
    yield running
    running.close()


@pytest.fixture
def admin(office: Office) -> anthropic.Anthropic:
    """The official SDK with the admin key."""
    return office.client()


@pytest.fixture
def own_office(tmp_path: Path) -> Iterator[Office]:
    """A server for one test, which may set its clock ahead."""
    running = Office(tmp_path)
    yield running
    running.close()
