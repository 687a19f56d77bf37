"""What Alembic runs to run migrations. It works when it is loaded, because that is Alembic's contract;
nothing of ours imports it. The connection, and the transaction around it, come from `store.migration`."""

from __future__ import annotations

from alembic import context

from antiphon.store.tables import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    # SQLite cannot change a column in place: Alembic copies the table.
    render_as_batch=connection.dialect.name == "sqlite",
)
with context.begin_transaction():
    context.run_migrations()
