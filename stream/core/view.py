"""What others may see of a key."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KeyView:
    """Lifetime sums (exact) and the last closed bucket's rates of one key. Times are epoch seconds."""

    key_id: str
    calls: int
    input_tokens: int
    output_tokens: int
    first_seen: float
    last_seen: float
    tokens_per_second: float
    expected_tokens_per_second: float
    upper_tokens_per_second: float | None
    score: float
    open_incidents: list[str]
    blocked: bool = False
    """Whether an operator has said that the gateway refuses it."""
