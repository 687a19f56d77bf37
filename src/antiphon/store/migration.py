"""Runs the schema's migrations (`migrations/versions`) inside the caller's transaction.

All of them happen or none does: a start that is killed half-way leaves the schema it found (case A15).
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, text

from antiphon.core.errors import SettingsError

_FOLDER = Path(__file__).parent / "migrations"
#: Any number that nobody else takes: the name of the lock on a PostgreSQL server.
_LOCK = 0x616E7469


def upgrade(connection: Connection) -> None:
    """Bring the schema to the newest revision; the caller commits.

    On SQLite the caller's write transaction keeps a second process waiting. On PostgreSQL, which lets two
    make tables at once, an advisory lock does.

    Raises:
        SettingsError: the database has a revision that this version does not know.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise SettingsError(f"The database is not one this version can use: {error}") from error
