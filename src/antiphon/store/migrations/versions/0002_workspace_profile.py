"""A workspace's profile: whose rules bind its requests for Claude ids; null is as the installation is set."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    # Both databases take a column together with its check in this one statement. Alembic would add the check apart,
    # for which SQLite has to copy the table; and to drop one that keys refer to, with foreign keys on, is refused.
    op.execute(
        "ALTER TABLE workspaces ADD COLUMN profile VARCHAR "
        "CONSTRAINT ck_workspaces_profile CHECK (profile IN ('model', 'claude'))"
    )
