"""Organizations, workspaces, keys, usage."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    _identity()
    _usage()
    changes = op.create_table(
        "changes",
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("counter", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("subject", name="pk_changes"),
    )
    op.bulk_insert(changes, [{"subject": "keys", "counter": 0}, {"subject": "workspaces", "counter": 0}])


def _identity() -> None:
    op.create_table(
        "organizations",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_organizations"),
    )
    op.create_table(
        "workspaces",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("organization", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("secret", sa.String(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("archived_ms", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_workspaces"),
        sa.ForeignKeyConstraint(["organization"], ["organizations.id"], name="fk_workspaces_organization"),
        sa.UniqueConstraint("organization", "name", name="uq_workspaces_organization_name"),
        sa.UniqueConstraint("organization", "id", name="uq_workspaces_organization_id"),
    )
    op.create_table(
        "api_keys",
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("organization", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("hint", sa.String(4), nullable=False),
        sa.Column("admin", sa.Boolean(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger()),
        sa.Column("last_used_ms", sa.BigInteger()),
        sa.Column("created_by", sa.String()),
        sa.PrimaryKeyConstraint("workspace", "id", name="pk_api_keys"),
        sa.UniqueConstraint("id", name="uq_api_keys_id"),
        sa.ForeignKeyConstraint(
            ["organization", "workspace"],
            ["workspaces.organization", "workspaces.id"],
            name="fk_api_keys_organization_workspace",
        ),
        sa.CheckConstraint("status IN ('active', 'inactive', 'archived')", name=op.f("ck_api_keys_status")),
    )


def _tokens() -> tuple[sa.Column[int], ...]:
    names = ("input", "cache_write_5m", "cache_write_1h", "cache_read", "output", "thinking")
    return tuple(sa.Column(f"{name}_tokens", sa.BigInteger(), nullable=False) for name in names)


def _usage() -> None:
    op.create_table(
        "usage_records",
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("organization", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("requested_model", sa.String(), nullable=False),
        sa.Column("served_model", sa.String(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        *_tokens(),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("duration_us", sa.BigInteger(), nullable=False),
        sa.Column("message_id", sa.String()),
        sa.Column("streamed", sa.Boolean(), nullable=False),
        sa.Column("service_tier", sa.String(), nullable=False),
        sa.Column("speed", sa.String(), nullable=False),
        sa.Column("geography", sa.String()),
        sa.Column("batch_id", sa.String()),
        sa.Column("batch_item", sa.String()),
        sa.Column("user_id", sa.String()),
        sa.PrimaryKeyConstraint("workspace", "request_id", name="pk_usage_records"),
        sa.UniqueConstraint("request_id", name="uq_usage_records_request_id"),
    )
    for owner in ("workspace", "organization"):
        op.create_index(f"ix_usage_records_{owner}_created_ms", "usage_records", [owner, "created_ms"])
    op.create_table(
        "usage_attempts",
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("engine", sa.String(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        *_tokens(),
        sa.Column("started_ms", sa.BigInteger(), nullable=False),
        sa.Column("queue_us", sa.BigInteger(), nullable=False),
        sa.Column("first_token_us", sa.BigInteger()),
        sa.Column("duration_us", sa.BigInteger(), nullable=False),
        sa.Column("reused_tokens", sa.BigInteger()),
        sa.PrimaryKeyConstraint("workspace", "request_id", "ordinal", name="pk_usage_attempts"),
        sa.ForeignKeyConstraint(
            ["workspace", "request_id"],
            ["usage_records.workspace", "usage_records.request_id"],
            name="fk_usage_attempts_workspace_request_id",
            ondelete="CASCADE",
        ),
    )
