"""The tables, in types that SQLite and PostgreSQL both have.

Times are milliseconds since the epoch (UTC), durations microseconds, amounts of tokens plain counts: all
`BIGINT`. Every key of a workspace's data begins with the workspace (architecture, rule 4), so that one
workspace's rows lie together and a statement that forgets the workspace is a slow one that shows.

What the tables look like here and what the migrations make of them is compared by
`tests/store/test_migrations.py`.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    false,
    text,
)

metadata = MetaData(
    naming_convention={
        # Named constraints, because a later migration can only change what it can name.
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

organizations = Table(
    "organizations",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
)

workspaces = Table(
    "workspaces",
    metadata,
    Column("id", String, primary_key=True),
    Column("organization", String, ForeignKey("organizations.id"), nullable=False),
    Column("name", String, nullable=False),
    #: Enters every hash of the workspace's prompt cache, so that no entry can match another workspace's.
    Column("secret", String, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("archived_ms", BigInteger),
    #: Whose rules bind its requests for Claude ids; null: as the installation is set.
    Column("profile", String),
    #: `#RRGGBB`, for people.
    Column("display_color", String),
    #: A JSON object of strings.
    Column("tags", String),
    #: Geographies that its requests may name, with commas between; null: any that there is.
    Column("allowed_geographies", String),
    Column("default_geography", String),
    #: Whether requests and answers are kept: not unless somebody switches it on.
    Column("logs_requests", Boolean, nullable=False, server_default=false()),
    CheckConstraint("profile IN ('model', 'claude')", name="profile"),
    UniqueConstraint("organization", "name"),
    # Not a rule of its own (`id` is unique): what the keys' foreign key refers to, so that a key cannot name
    # a workspace of another organization.
    UniqueConstraint("organization", "id"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("workspace", String, primary_key=True),
    Column("id", String, primary_key=True),
    Column("organization", String, nullable=False),
    Column("name", String, nullable=False),
    #: SHA-256 of the whole key as the caller sends it; the key itself is nowhere.
    Column("secret_hash", LargeBinary(32), nullable=False),
    #: The key's last four characters, for people to tell keys apart.
    Column("hint", String(4), nullable=False),
    Column("admin", Boolean, nullable=False),
    Column("status", String, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger),
    Column("last_used_ms", BigInteger),
    Column("created_by", String),
    #: Not bound to its workspace: a request names one (`anthropic-workspace-id`), and its own is the default one.
    Column("unscoped", Boolean, nullable=False, server_default=false()),
    #: Whose key it is, if a person's; what it may do then follows from that person's role.
    Column("principal", String),
    # A request names a key before its workspace is known, so ids are unique over all workspaces.
    UniqueConstraint("id"),
    ForeignKeyConstraint(["organization", "workspace"], ["workspaces.organization", "workspaces.id"]),
    CheckConstraint("status IN ('active', 'inactive', 'archived')", name="status"),
)


def _tokens() -> tuple[Column[int], ...]:
    """The six counts of `core.records.Usage`, under its field names."""
    names = (
        "input_tokens",
        "cache_write_5m_tokens",
        "cache_write_1h_tokens",
        "cache_read_tokens",
        "output_tokens",
        "thinking_tokens",
    )
    return tuple(Column(name, BigInteger, nullable=False) for name in names)


def _costs() -> tuple[Column[int], ...]:
    """The five amounts of `core.records.Cost`, nano-dollars."""
    names = ("input_nano", "cache_write_5m_nano", "cache_write_1h_nano", "cache_read_nano", "output_nano")
    return tuple(Column(name, BigInteger, nullable=False, server_default=text("0")) for name in names)


# No foreign keys to workspaces or keys: a record is a fact that has happened, and posting it must not fail
# because of what became of its key since.
usage_records = Table(
    "usage_records",
    metadata,
    Column("workspace", String, primary_key=True),
    Column("request_id", String, primary_key=True),
    Column("organization", String, nullable=False),
    Column("key_id", String, nullable=False),
    Column("endpoint", String, nullable=False),
    Column("requested_model", String, nullable=False),
    Column("served_model", String, nullable=False),
    Column("outcome", String, nullable=False),
    *_tokens(),
    Column("created_ms", BigInteger, nullable=False),
    Column("duration_us", BigInteger, nullable=False),
    Column("message_id", String),
    Column("streamed", Boolean, nullable=False),
    Column("service_tier", String, nullable=False),
    Column("speed", String, nullable=False),
    Column("geography", String),
    Column("batch_id", String),
    Column("batch_item", String),
    Column("user_id", String),
    *_costs(),
    Column("workflow", String),
    # What makes posting idempotent (architecture, rule 5).
    UniqueConstraint("request_id"),
    Index(None, "workspace", "created_ms"),
    Index(None, "organization", "created_ms"),
)

usage_attempts = Table(
    "usage_attempts",
    metadata,
    Column("workspace", String, primary_key=True),
    Column("request_id", String, primary_key=True),
    Column("ordinal", Integer, primary_key=True, autoincrement=False),
    Column("model", String, nullable=False),
    Column("engine", String, nullable=False),
    Column("outcome", String, nullable=False),
    *_tokens(),
    Column("started_ms", BigInteger, nullable=False),
    Column("queue_us", BigInteger, nullable=False),
    Column("first_token_us", BigInteger),
    Column("duration_us", BigInteger, nullable=False),
    Column("reused_tokens", BigInteger),
    ForeignKeyConstraint(
        ["workspace", "request_id"],
        ["usage_records.workspace", "usage_records.request_id"],
        ondelete="CASCADE",
    ),
)

# What is left of usage records that are past their retention: sums by hour and by everything reports can group by. A
# dimension that a request did not have is an empty string, so that the primary key holds.
usage_rollups = Table(
    "usage_rollups",
    metadata,
    Column("organization", String, primary_key=True),
    Column("workspace", String, primary_key=True),
    Column("hour_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("key_id", String, primary_key=True),
    Column("requested_model", String, primary_key=True),
    Column("served_model", String, primary_key=True),
    Column("service_tier", String, primary_key=True),
    Column("speed", String, primary_key=True),
    Column("geography", String, primary_key=True),
    Column("context_window", String, primary_key=True),
    Column("user_id", String, primary_key=True),
    Column("workflow", String, primary_key=True),
    Column("requests", BigInteger, nullable=False),
    *_tokens(),
    *_costs(),
    Index(None, "organization", "hour_ms"),
)

users = Table(
    "users",
    metadata,
    Column("organization", String, ForeignKey("organizations.id"), primary_key=True),
    Column("id", String, primary_key=True),
    Column("email", String, nullable=False),
    Column("name", String, nullable=False),
    Column("role", String, nullable=False),
    Column("added_ms", BigInteger, nullable=False),
    UniqueConstraint("organization", "email"),
)

# `accepted`, `deleted` or, where neither has happened, `pending` until the time is up and `expired` then.
invites = Table(
    "invites",
    metadata,
    Column("organization", String, ForeignKey("organizations.id"), primary_key=True),
    Column("id", String, primary_key=True),
    Column("email", String, nullable=False),
    Column("role", String, nullable=False),
    Column("invited_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("accepted_ms", BigInteger),
    Column("deleted_ms", BigInteger),
)

workspace_members = Table(
    "workspace_members",
    metadata,
    Column("organization", String, nullable=False),
    Column("workspace", String, primary_key=True),
    Column("user_id", String, primary_key=True),
    Column("role", String, nullable=False),
    Column("added_ms", BigInteger, nullable=False),
    ForeignKeyConstraint(["organization", "workspace"], ["workspaces.organization", "workspaces.id"]),
    ForeignKeyConstraint(["organization", "user_id"], ["users.organization", "users.id"], ondelete="CASCADE"),
)

# Limits that somebody set over the tier's: a workspace's own, or with an empty workspace the organization's.
rate_limits = Table(
    "rate_limits",
    metadata,
    Column("organization", String, ForeignKey("organizations.id"), primary_key=True),
    Column("workspace", String, primary_key=True),
    Column("limit_group", String, primary_key=True),
    Column("kind", String, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

# A workspace's, or with an empty workspace the organization's.
spend_limits = Table(
    "spend_limits",
    metadata,
    Column("organization", String, ForeignKey("organizations.id"), primary_key=True),
    Column("workspace", String, primary_key=True),
    Column("period", String, primary_key=True),
    Column("id", String, nullable=False),
    #: Null: switched off, which is not the same as 0.
    Column("amount_nano", BigInteger),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    UniqueConstraint("id"),
    CheckConstraint("period IN ('daily', 'weekly', 'monthly')", name="period"),
)

# Every administrative act, done or refused. Rows are added and never changed; what is past its time is removed.
activities = Table(
    "activities",
    metadata,
    Column("organization", String, primary_key=True),
    Column("id", String, primary_key=True),
    Column("created_ms", BigInteger, nullable=False),
    Column("type", String, nullable=False),
    Column("actor_type", String, nullable=False),
    Column("actor_id", String),
    Column("address", String),
    Column("user_agent", String),
    #: The workspace that was acted in, and the object that was acted on.
    Column("workspace", String),
    Column("subject", String),
    #: Why it was refused; null: it was done.
    Column("refused", String),
    #: JSON objects: what changed, before and after. Never a secret.
    Column("old", String),
    Column("new", String),
    Index(None, "organization", "created_ms", "id"),
)

# What was asked and answered, of workspaces that have switched this on; gone when its time is up.
request_logs = Table(
    "request_logs",
    metadata,
    Column("workspace", String, primary_key=True),
    Column("request_id", String, primary_key=True),
    Column("organization", String, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("request", LargeBinary, nullable=False),
    Column("answer", LargeBinary, nullable=False),
    Index(None, "created_ms"),
)

#: How often each subject was written. Raised inside the transaction that writes, so a reader in another
#: process that has seen a count has seen all that came before it.
changes = Table(
    "changes",
    metadata,
    Column("subject", String, primary_key=True),
    Column("counter", BigInteger, nullable=False),
)
