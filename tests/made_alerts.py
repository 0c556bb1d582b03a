"""Alerts made by hand, for the ledger's tests."""

from __future__ import annotations

from typing import Any

from stream.alerts import (
    Alert,
    DataQuality,
    Entity,
    Member,
    Members,
    ModelShare,
    Window,
    alert_id_of,
    fingerprint_of,
    model_id_of,
)

T0 = 1_772_323_200.0  # 2026-03-01T00:00:00Z
HOUR = 3600.0
LARGE, SMALL = model_id_of("m-large"), model_id_of("m-small")


def alert(
    who: str = "key-1", sequence: int = 0, *, type: str = "key", start: float = 0.0, hours: float = 2.0, **changes: Any
) -> Alert:
    """A step of an incident of 1 M tokens that began `start` hours after T0."""
    entity = Entity(type=type, id=who)
    began = T0 + start * HOUR
    end = began + hours * HOUR
    status = changes.pop("status", "resolved")
    values: dict[str, Any] = {
        "alert_id": alert_id_of(entity, began),
        "fingerprint": fingerprint_of(entity),
        "sequence": sequence,
        "status": status,
        "severity": "warning",
        "severity_reason": "too little for a page",
        "kind": "surge" if type == "key" else "campaign",
        "entity": entity,
        "started_at": began,
        "detected_at": began + 600,
        "updated_at": end,
        "resolved_at": end if status == "resolved" else None,
        "window": Window(start=began, end=end, horizon_seconds=hours * HOUR),
        "observed": 1_100_000,
        "expected": 100_000,
        "upper": 200_000,
        "ratio": 11.0,
        "z": 5.0,
        "score": 0.999,
        "false_alarm_probability": 0.001,
        "excess_tokens": 1_000_000,
        "excess_input_tokens": 400_000,
        "excess_cached_input_tokens": 100_000,
        "excess_output_tokens": 600_000,
        "excess_reasoning_tokens": 200_000,
        "excess_low": 900_000,
        "excess_high": 1_050_000,
        "excess_since": began,
        "excess_per_hour": 500_000,
        "calls": 250,
        "models": [ModelShare(id=LARGE, share=1.0)],
        "data_quality": DataQuality(missing_usage=0, late=0, duplicates=0, lag_seconds=0),
        "summary": f"{type} {who} uses more than it should",
        "suggested_action": "Ask its owner.",
        "config_digest": "0123456789abcdef",
    }
    return Alert(**{**values, **changes})


def group(who: str = "acme", named: dict[str, float] | None = None, **changes: Any) -> Alert:
    """A campaign of an organisation; `named`: tokens above the baseline of the keys that it names."""
    named = {"key-1": 400_000.0, "key-2": 600_000.0} if named is None else named
    top = [Member(key_id=key, z=1.5, excess_tokens=tokens) for key, tokens in named.items()]
    values = {"type": "org", "members": Members(count=len(top), top=top, shared_traits={"network": "192.0.2.0/24"})}
    return alert(who, **{**values, **changes})
