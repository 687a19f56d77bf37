"""The `anthropic-beta` header: which names are known, and which are not (contract client-surface 2.2).

An unknown name is no error: clients run ahead of servers. It is named in `antiphon-ignored`, so that nobody has to
guess why it had no effect.
"""

from __future__ import annotations

from collections.abc import Iterable

from antiphon.core.errors import InvalidRequest
from antiphon.wire import fine_grained

#: What a header may hold: names and dates. Longer lists than this are no lists of betas.
_LONGEST = 4096
_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")

KNOWN = frozenset(
    [
        "computer-use-2024-10-22",
        "computer-use-2025-01-24",
        "computer-use-2025-11-24",
        "output-128k-2025-02-19",
        "output-300k-2026-03-24",
        "mcp-client-2025-04-04",
        "mcp-client-2025-11-20",
        "mcp-client-2026-09-15",
        "dev-full-thinking-2025-05-14",
        "interleaved-thinking-2025-05-14",
        "code-execution-2025-05-22",
        "code-execution-2025-08-25",
        "context-1m-2025-08-07",
        "context-management-2025-06-27",
        "model-context-window-exceeded-2025-08-26",
        "fast-mode-2026-02-01",
        "user-profiles-2026-03-24",
        "user-profiles-2026-08-18",
        "user-profiles-2026-09-04",
        "user-profiles-billing-2026-10-01",
        "advisor-tool-2026-03-01",
        "managed-agents-2026-04-01",
        "dreaming-2026-04-21",
        "thinking-token-count-2026-05-13",
        "server-side-fallback-2026-06-01",
        "server-side-fallback-2026-07-01",
        "fallback-credit-2026-06-01",
        "fallback-credit-2026-07-01",
        "agent-memory-2026-07-22",
        "mid-conversation-tool-changes-2026-07-01",
        "mid-conversation-output-config-2026-07-01",
        "mid-conversation-system-clear-at-2026-08-21",
        "compact-2026-01-12",
        "compact-2026-09-04",
        "mcp-tunnels-2026-06-22",
        "structured-outputs-2025-11-13",
        "structured-outputs-2025-12-15",  # sent by SDKs, in no published list
        "task-budgets-2026-03-13",
        "thinking-display-updates-2026-08-18",
        "thinking-binding-controls-2026-08-01",
        "inline-tools-2026-09-15",
        "ce-plugins-2026-09-01",
        "spend-limit-reads-2026-09-26",
        "telemetry-destinations-2026-08-11",
        "webhooks-2026-10-07",
        "admin-user-sign-out-2026-10-08",
        "message-threads-2026-08-12",
        "analytics-usage-cost-2026-08-24",
        "experimental-claude-tag-2026-10-21",
        "message-batches-2024-09-24",
        "prompt-caching-2024-07-31",
        "pdfs-2024-09-25",
        "token-counting-2024-11-01",
        "token-efficient-tools-2025-02-19",
        "files-api-2025-04-14",
        "extended-cache-ttl-2025-04-11",
        "skills-2025-10-02",
        "cache-diagnosis-2026-04-07",
        "ce-user-management-2026-07-13",
        "ce-claude-code-managed-settings-2026-10-06",
        "oauth-2025-04-20",
        "oidc-federation-2026-04-01",
        fine_grained.NAME,
        "claude-code-20250219",
        # Sent by Claude Code 2.1; no page names them.
        "advanced-tool-use-2025-11-20",
        "effort-2025-11-24",
        "per-turn-control-2026-07-01",
        "max-tokens-3-5-sonnet-2024-07-15",
    ]
)


def betas_of(headers: Iterable[bytes]) -> tuple[str, ...]:
    """The names in all `anthropic-beta` headers of a request, each once, in their order.

    Raises:
        InvalidRequest: a header holds what cannot be a name.
    """
    names: dict[str, None] = {}
    for header in headers:
        if len(header) > _LONGEST:
            raise InvalidRequest(f"the header is longer than {_LONGEST} characters", path="anthropic-beta")
        for part in header.decode("latin-1").split(","):
            name = part.strip()
            if not _CHARACTERS.issuperset(name):
                raise InvalidRequest("a name may hold letters, digits, `-`, `_` and `.`", path="anthropic-beta")
            if name:
                names[name] = None
    return tuple(names)
