"""Costs and workflows of usage records, sums of old ones; people, limits, activities, request logs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_TOKENS = ("input", "cache_write_5m", "cache_write_1h", "cache_read", "output", "thinking")
#: How long an act stays, whoever wants it gone: six years (contract platform-and-tools 7.13), two of them leap years.
_KEPT_MS = 2192 * 24 * 3600 * 1000
_REFUSAL = "activities are kept as they are, for six years"
_COSTS = ("input_nano", "cache_write_5m_nano", "cache_write_1h_nano", "cache_read_nano", "output_nano")


def upgrade() -> None:
    for column in _costs():
        op.add_column("usage_records", column)
    op.add_column("usage_records", sa.Column("workflow", sa.String()))
    for name in ("display_color", "tags", "allowed_geographies", "default_geography"):
        op.add_column("workspaces", sa.Column(name, sa.String()))
    op.add_column("workspaces", sa.Column("logs_requests", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("api_keys", sa.Column("unscoped", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("api_keys", sa.Column("principal", sa.String()))
    _rollups()
    _people()
    _limits()
    _activities()
    _request_logs()
    op.execute("INSERT INTO changes VALUES ('people', 0)")
    op.execute("INSERT INTO changes VALUES ('limits', 0)")


def _costs() -> tuple[sa.Column[int], ...]:
    return tuple(sa.Column(name, sa.BigInteger(), nullable=False, server_default=sa.text("0")) for name in _COSTS)


def _rollups() -> None:
    dimensions = (
        "key_id",
        "requested_model",
        "served_model",
        "service_tier",
        "speed",
        "geography",
        "context_window",
        "user_id",
        "workflow",
    )
    op.create_table(
        "usage_rollups",
        sa.Column("organization", sa.String(), nullable=False),
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("hour_ms", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.String(), nullable=False) for name in dimensions),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        *(sa.Column(f"{name}_tokens", sa.BigInteger(), nullable=False) for name in _TOKENS),
        *_costs(),
        sa.PrimaryKeyConstraint("organization", "workspace", "hour_ms", *dimensions, name="pk_usage_rollups"),
    )
    op.create_index("ix_usage_rollups_organization_hour_ms", "usage_rollups", ["organization", "hour_ms"])


def _people() -> None:
    op.create_table(
        "users",
        sa.Column("organization", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("email", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("added_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("organization", "id", name="pk_users"),
        sa.ForeignKeyConstraint(["organization"], ["organizations.id"], name="fk_users_organization"),
        sa.UniqueConstraint("organization", "email", name="uq_users_organization_email"),
    )
    op.create_table(
        "invites",
        sa.Column("organization", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("email", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("invited_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.Column("accepted_ms", sa.BigInteger()),
        sa.Column("deleted_ms", sa.BigInteger()),
        sa.PrimaryKeyConstraint("organization", "id", name="pk_invites"),
        sa.ForeignKeyConstraint(["organization"], ["organizations.id"], name="fk_invites_organization"),
    )
    op.create_table(
        "workspace_members",
        sa.Column("organization", sa.String(), nullable=False),
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("added_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("workspace", "user_id", name="pk_workspace_members"),
        sa.ForeignKeyConstraint(
            ["organization", "workspace"],
            ["workspaces.organization", "workspaces.id"],
            name="fk_workspace_members_organization_workspace",
        ),
        sa.ForeignKeyConstraint(
            ["organization", "user_id"],
            ["users.organization", "users.id"],
            name="fk_workspace_members_organization_user_id",
            ondelete="CASCADE",
        ),
    )


def _limits() -> None:
    op.create_table(
        "rate_limits",
        sa.Column("organization", sa.String(), nullable=False),
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("limit_group", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("organization", "workspace", "limit_group", "kind", name="pk_rate_limits"),
        sa.ForeignKeyConstraint(["organization"], ["organizations.id"], name="fk_rate_limits_organization"),
    )
    op.create_table(
        "spend_limits",
        sa.Column("organization", sa.String(), nullable=False),
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("period", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("amount_nano", sa.BigInteger()),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("organization", "workspace", "period", name="pk_spend_limits"),
        sa.ForeignKeyConstraint(["organization"], ["organizations.id"], name="fk_spend_limits_organization"),
        sa.UniqueConstraint("id", name="uq_spend_limits_id"),
        sa.CheckConstraint("period IN ('daily', 'weekly', 'monthly')", name=op.f("ck_spend_limits_period")),
    )


def _activities() -> None:
    op.create_table(
        "activities",
        sa.Column("organization", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("actor_type", sa.String(), nullable=False),
        *(sa.Column(name, sa.String()) for name in ("actor_id", "address", "user_agent", "workspace", "subject")),
        *(sa.Column(name, sa.String()) for name in ("refused", "old", "new")),
        sa.PrimaryKeyConstraint("organization", "id", name="pk_activities"),
    )
    op.create_index("ix_activities_organization_created_ms_id", "activities", ["organization", "created_ms", "id"])
    if op.get_bind().dialect.name == "sqlite":
        _append_only_sqlite()
    else:
        _append_only_postgresql()


def _append_only_sqlite() -> None:
    """No row of `activities` is changed, none is replaced, and none removed before its time, whoever asks. A later
    migration that copies the table has to make these anew."""
    # `INSERT OR REPLACE` would remove a row without asking the trigger of `DELETE`.
    known = "SELECT 1 FROM activities WHERE organization = NEW.organization AND id = NEW.id"
    young = f"OLD.created_ms > CAST(strftime('%s', 'now') AS INTEGER) * 1000 - {_KEPT_MS}"
    for deed, when in (("INSERT", f"EXISTS ({known})"), ("UPDATE", "1"), ("DELETE", young)):
        op.execute(
            f"CREATE TRIGGER activities_refuse_{deed.lower()} BEFORE {deed} ON activities WHEN {when} "
            f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
        )


def _append_only_postgresql() -> None:
    """The same. A function of three triggers; a row's own time is only known where it is removed."""
    op.execute(
        "CREATE FUNCTION activities_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF TG_OP = 'DELETE' THEN "
        f"IF OLD.created_ms <= CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT) - {_KEPT_MS} THEN "
        "RETURN OLD; END IF; END IF; "
        f"RAISE EXCEPTION '{_REFUSAL}' USING ERRCODE = 'integrity_constraint_violation'; END $$"
    )
    for deed, each in (("UPDATE", "ROW"), ("DELETE", "ROW"), ("TRUNCATE", "STATEMENT")):
        op.execute(
            f"CREATE TRIGGER activities_refuse_{deed.lower()} BEFORE {deed} ON activities "
            f"FOR EACH {each} EXECUTE FUNCTION activities_refuse()"
        )


def _request_logs() -> None:
    op.create_table(
        "request_logs",
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("organization", sa.String(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("request", sa.LargeBinary(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("workspace", "request_id", name="pk_request_logs"),
    )
    op.create_index("ix_request_logs_created_ms", "request_logs", ["created_ms"])
