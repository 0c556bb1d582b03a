"""The figures of an incident's alert: its window, and observed, expected and upper tokens in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream.alerts import Window
from stream.core import peers
from stream.core.excess import own_upper
from stream.core.incidents import Incident
from stream.core.residuals import HORIZONS

if TYPE_CHECKING:
    from stream.core.bucket import Verdict
    from stream.core.key import KeyState


def horizon_numbers(key: KeyState, verdict: Verdict, incident: Incident) -> tuple[Window, float, float, float]:
    """The window that tipped it."""
    if incident.kind == peers.KIND:
        against = peers.compare(key, incident.shape)
        return against.window, against.observed, against.expected, against.upper
    residuals = key.residuals
    h = HORIZONS.index(incident.horizon)
    buckets = residuals.horizons.buckets[h]
    end = float((verdict.bucket + 1) * key.rules.settings.bucket_seconds)
    window = Window(start=end - incident.horizon, end=end, horizon_seconds=incident.horizon)
    expected = residuals.expected[h] * buckets
    upper = own_upper(key, expected / incident.horizon, incident.horizon)
    return window, residuals.observed[h] * buckets, expected, upper


def incident_numbers(key: KeyState, incident: Incident, bucket: int) -> tuple[Window, float, float, float]:
    """The incident as a whole, up to the end of `bucket`."""
    bucket_seconds = key.rules.settings.bucket_seconds
    start, end = float(incident.started * bucket_seconds), float((bucket + 1) * bucket_seconds)
    window = Window(start=start, end=end, horizon_seconds=end - start)
    upper = incident.upper
    if incident.kind != peers.KIND:
        upper = own_upper(key, incident.expected / (end - start), end - start)
    return window, incident.observed, incident.expected, upper
