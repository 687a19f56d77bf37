"""`INSERT … ON CONFLICT DO NOTHING`, which SQLAlchemy spells once per database."""

from __future__ import annotations

from sqlalchemy import Insert, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection


def insert_once(connection: AsyncConnection, table: Table) -> Insert:
    """Insert rows that are not there yet; a row that breaks any unique key is skipped without an error."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()
