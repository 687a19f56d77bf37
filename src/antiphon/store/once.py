"""`INSERT … ON CONFLICT DO NOTHING`, which SQLAlchemy spells once per database."""

from __future__ import annotations

from sqlalchemy import Dialect, Insert, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_once(dialect: Dialect, table: Table) -> Insert:
    """Insert rows that are not there yet; a row that breaks any unique key is skipped without an error."""
    if dialect.name == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()
