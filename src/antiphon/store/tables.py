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

#: How often each subject was written. Raised inside the transaction that writes, so a reader in another
#: process that has seen a count has seen all that came before it.
changes = Table(
    "changes",
    metadata,
    Column("subject", String, primary_key=True),
    Column("counter", BigInteger, nullable=False),
)
