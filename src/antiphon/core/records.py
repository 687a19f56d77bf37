"""The frozen records that more than one stage of a turn reads.

Money is in nano-dollars, times are in milliseconds since the epoch (UTC), durations in microseconds; all integers.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

DEFAULT_ORGANIZATION = "org_default"
DEFAULT_WORKSPACE = "wrkspc_default"


#: Whose rules bind a request for a Claude id: those of the model that runs, or also the id's own.
Profile: TypeAlias = Literal["model", "claude"]
#: What a person may do in the organization (contract platform-and-tools 7.2).
Role: TypeAlias = Literal["user", "claude_code_user", "developer", "billing", "admin", "managed"]
#: What a person may do in a workspace (contract platform-and-tools 7.3).
WorkspaceRole: TypeAlias = Literal[
    "workspace_user",
    "workspace_developer",
    "workspace_restricted_developer",
    "workspace_admin",
    "workspace_billing",
]


class Scope(msgspec.Struct, frozen=True):
    """Whose data this is. First argument of every store, cache and file function (architecture, rule 4)."""

    organization: str
    workspace: str


class Caller(msgspec.Struct, frozen=True):
    """Who asks: the outcome of checking a credential."""

    scope: Scope
    key_id: str
    admin: bool = False
    profile: Profile | None = None
    """The workspace's; None: the installation's (setting `profile`)."""
    unscoped: bool = False
    """The key is not bound to its workspace: a request may name another one of the organization."""
    user: str | None = None
    """Whose key it is, if a person's."""
    role: Role | None = None
    """That person's in the organization."""
    allowed_geographies: tuple[str, ...] | None = None
    """Those that the workspace's requests may name; None: any."""
    default_geography: str | None = None
    """The workspace's; None: none was set."""
    logs_requests: bool = False
    """Whether the workspace has its requests and answers kept."""


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one attempt or one request (contract `messages-and-inference.md` 3.5)."""

    input_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    cache_read_tokens: int = 0
    output_tokens: int = 0
    thinking_tokens: int = 0


class Cost(msgspec.Struct, frozen=True):
    """What a request costs, in nano-dollars: exact, and rounded once for each class of tokens."""

    input_nano: int = 0
    cache_write_5m_nano: int = 0
    cache_write_1h_nano: int = 0
    cache_read_nano: int = 0
    output_nano: int = 0

    @property
    def total_nano(self) -> int:
        """All of it."""
        return (
            self.input_nano
            + self.cache_write_5m_nano
            + self.cache_write_1h_nano
            + self.cache_read_nano
            + self.output_nano
        )


class Attempt(msgspec.Struct, frozen=True):
    """One try at answering: a request has one, or several after escalation and fallback."""

    model: str
    engine: str
    outcome: str
    usage: Usage
    started_ms: int
    queue_us: int
    first_token_us: int | None
    duration_us: int
    reused_tokens: int | None = None


class UsageRecord(msgspec.Struct, frozen=True):
    """What one request used; exactly one per answered request, unique by `request_id` (architecture, rule 5).

    `outcome` is the stop reason, or `client_closed`, `stalled`, or the error's kind.
    """

    request_id: str
    organization: str
    workspace: str
    key_id: str
    endpoint: str
    requested_model: str
    served_model: str
    outcome: str
    usage: Usage
    attempts: tuple[Attempt, ...]
    created_ms: int
    duration_us: int
    message_id: str | None = None
    streamed: bool = False
    service_tier: str = "standard"
    speed: str = "standard"
    geography: str | None = None
    batch_id: str | None = None
    batch_item: str | None = None
    user_id: str | None = None
    cost: Cost = Cost()
    workflow: str | None = None
    """The header `antiphon-workflow`: what piece of work this request belongs to."""
