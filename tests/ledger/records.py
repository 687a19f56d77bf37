"""Usage records for the ledger's tests."""

from __future__ import annotations

from antiphon.core.records import DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE, Attempt, Usage, UsageRecord


def record(number: int, padding: int = 0) -> UsageRecord:
    """A record of its own id; `padding` characters make it larger."""
    usage = Usage(input_tokens=number, output_tokens=5)
    return UsageRecord(
        request_id=f"req_{number:08d}",
        organization=DEFAULT_ORGANIZATION,
        workspace=DEFAULT_WORKSPACE,
        key_id="apikey_1",
        endpoint="/v1/messages",
        requested_model="claude",
        served_model="model",
        outcome="end_turn",
        usage=usage,
        attempts=(Attempt("model", "scripted", "end_turn", usage, 1, 2, 3, 4),),
        created_ms=number,
        duration_us=1000,
        user_id="x" * padding or None,
    )


def ids(numbers: range) -> list[str]:
    return [f"req_{number:08d}" for number in numbers]
