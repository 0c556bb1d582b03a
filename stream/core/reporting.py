"""From verdicts to alerts: what a closed bucket, or an early record, does to a key's incident."""

from __future__ import annotations

import math

import msgspec

from stream.alerts import Alert, DataQuality, Status, Window, printable
from stream.core import peers
from stream.core.bucket import EXPECTED, OpenBucket, Verdict
from stream.core.excess import new_taken, own_upper, parts_of, window_of
from stream.core.explain import INFO, SEVERITIES, WARNING, alert_of, severity_of, short, span
from stream.core.figures import horizon_numbers, incident_numbers
from stream.core.incidents import DOUBLED, MOST_CALM_SECONDS, MOST_FLAPS, Incident, rise
from stream.core.key import KeyState, Skips
from stream.core.residuals import HORIZONS
from stream.core.rules import Rules

SLOW_KINDS = ("drift", "ramp", "quiet_hours", "shape")
"""What they take is counted against the slow season, which they have not yet dragged."""


def settle(key: KeyState, limit: int, skips: Skips, quality: DataQuality, keys: int) -> tuple[list[Alert], int]:
    """Close the key's buckets before `limit`; returns its alerts and how many buckets were judged.

    Without an open incident only buckets with records are closed, and the empty ones on the way to them: the rest
    can wait until the key is seen again. With one, all are: it has to end in time.
    """
    alerts: list[Alert] = []
    closed = 0
    while True:
        pending = min(key.open, default=limit)
        if pending >= limit and key.incident is None:
            return alerts, closed
        if key.next_bucket < 0:
            key.next_bucket = pending
        if key.incident is None:
            key.catch_up(pending, skips)
        if key.next_bucket >= limit:
            return alerts, closed
        if key.next_bucket != pending and key.skip(skips):
            continue
        verdict = key.close(key.open.pop(key.next_bucket, None), limit)
        closed += 1
        alert = report(key, verdict, quality, keys)
        if alert is not None:
            alerts.append(alert)


def report(key: KeyState, verdict: Verdict, quality: DataQuality, keys: int) -> Alert | None:
    """Open, continue or resolve the key's incident; returns the alert, if one is due."""
    rules = key.rules
    incident = key.incident
    end = float((verdict.bucket + 1) * rules.settings.bucket_seconds)
    at = end + rules.lateness
    if incident is None:
        if not verdict.anomalous:
            return None
        incident = key.incident = _opened(key, verdict, at)
        _grade(key, incident, verdict.bucket, keys)
        incident.told = incident.excess
        return alert_of(key, incident, "opened", at, quality, horizon_numbers(key, verdict, incident))
    _add(key, incident, verdict)
    known = set(incident.channels)
    for finding in verdict.findings:
        if verdict.score >= verdict.bar or finding.channel in known:
            incident.channels[finding.channel] = max(finding.z, incident.channels.get(finding.channel, -math.inf))
    if verdict.score > incident.score and verdict.findings:
        strongest = verdict.findings[0]
        incident.score, incident.z, incident.horizon = verdict.score, strongest.z, HORIZONS[strongest.horizon]
    _note_shape(key, incident, verdict)
    if incident.event and key.event(verdict.bucket + 1) is None:
        return resolve(key, incident, verdict.bucket, quality, "the planned event is over")
    calm = _calm_buckets(rules, incident)
    transition = incident.move(incident.signal(verdict.anomalous, verdict.bucket, calm))
    if transition == "resolved":
        reason = f"no anomalous bucket for {span(calm * rules.settings.bucket_seconds)}"
        if incident.flaps:
            reason += ", which had to be longer because it keeps coming back"
        return resolve(key, incident, verdict.bucket, quality, reason)
    if transition != "continued":
        return None
    incident.last_anomalous = verdict.bucket
    severity = incident.severity
    _grade(key, incident, verdict.bucket, keys)
    reason = _news(key, incident, verdict.bucket, severity, known)
    if not reason:
        return None
    incident.sequence += 1
    incident.updated, incident.told, incident.reason = verdict.bucket, incident.excess, reason
    return alert_of(key, incident, "updated", at, quality, incident_numbers(key, incident, verdict.bucket))


def resolve(key: KeyState, incident: Incident, bucket: int, quality: DataQuality, reason: str) -> Alert:
    """Resolve the key's open incident as of the end of `bucket`; `reason` is for people."""
    incident.sequence += 1
    incident.reason = reason
    key.incident, key.ended = None, bucket
    key.settle()
    key.stale = True
    at = float((bucket + 1) * key.rules.settings.bucket_seconds) + key.rules.lateness
    return alert_of(key, incident, "resolved", at, quality, incident_numbers(key, incident, bucket))


def _news(key: KeyState, incident: Incident, bucket: int, severity: int, known: set[str]) -> str:
    """What has changed so much that it has to be told; nothing while the key is in a planned event."""
    rules = key.rules
    if key.event(bucket) is not None:
        return ""
    news = []
    if incident.severity > severity:
        news.append(f"it is {SEVERITIES[incident.severity]} now, and was {SEVERITIES[severity]}")
    if more := sorted(set(incident.channels) - known):
        news.append(f"seen by more channels: {', '.join(more)}")
    if incident.excess >= DOUBLED * max(incident.told, rules.settings.min_excess_tokens):
        news.append(f"the excess has doubled since it was told last: {short(incident.excess)} tokens")
    if not news and bucket - incident.updated >= rules.update_buckets:
        news.append(f"still open after {span((bucket + 1 - incident.started) * rules.settings.bucket_seconds)}")
    return "; ".join(news)


def _calm_buckets(rules: Rules, incident: Incident) -> int:
    """How long the incident has to be calm to be over: one that flaps, longer each time."""
    calm = rules.calm_buckets if incident.kind == "surge" else rules.slow_calm_buckets
    most = max(calm, MOST_CALM_SECONDS // rules.settings.bucket_seconds)
    return int(min(calm << incident.flaps, most))


def open_early(key: KeyState, bucket: OpenBucket, at: float, skips: Skips, quality: DataQuality) -> Alert | None:
    """An alert inside a bucket, as soon as its sums are over the whole bucket's threshold; None if one is open.

    `at` is the shard's present; `bucket` must be the oldest that is open, so that an incident's start cannot
    depend on the order of records. The bucket's own sums enter the incident, and its severity, when it closes.
    """
    bucket.early = True
    if key.incident is not None:
        return None
    if key.next_bucket >= 0:
        key.catch_up(bucket.index, skips)
    rules = key.rules
    bucket_seconds = rules.settings.bucket_seconds
    tokens = float(bucket.input_tokens + bucket.output_tokens)
    expected = bucket.plan[EXPECTED]
    incident = key.incident = _surge(key, bucket.index, at, rules.open_score + key.raised(bucket.index), key.opening_z)
    start = float(bucket.index * bucket_seconds)
    window = Window(start=start, end=start + bucket_seconds, horizon_seconds=bucket_seconds)
    if not incident.event:
        incident.severity, incident.severity_reason = 1, "opened inside the bucket; graded when it closes"
    incident.told = max(0.0, tokens - expected)
    key.stale = True  # the incident lies with the model: unwritten, it would open a second time after a crash
    excess, taken = incident.told, new_taken(key)
    taken.add(bucket, expected, excess)
    shown = msgspec.structs.replace(incident, excess=excess, excess_output=taken.output, taken=taken)
    upper = own_upper(key, expected / bucket_seconds, bucket_seconds, bucket.index)
    return alert_of(key, shown, "opened", at, quality, (window, tokens, expected, upper))


def last_alert(key: KeyState, quality: DataQuality) -> Alert | None:
    """What the open incident looks like now, as of the last closed bucket; None if there is none."""
    incident = key.incident
    if incident is None:
        return None
    bucket = max(key.next_bucket - 1, incident.started)
    at = max(incident.detected_at, float((bucket + 1) * key.rules.settings.bucket_seconds) + key.rules.lateness)
    status: Status = "updated" if incident.sequence > key.rules.first_sequence(incident.started) else "opened"
    return alert_of(key, incident, status, at, quality, incident_numbers(key, incident, bucket))


def _surge(key: KeyState, bucket: int, at: float, score: float, z: float) -> Incident:
    """A new incident of the 10-minute window, found at event time `at`."""
    soon = key.ended >= 0 and bucket - key.ended <= key.rules.flap_buckets
    key.flaps = min(key.flaps + 1, MOST_FLAPS) if soon else 0
    event = key.event(bucket)
    planned = "" if event is None else f"planned: {printable(event.why, 200)} (said by {printable(event.by)})"
    return Incident(
        kind="surge",
        started=bucket,
        detected_at=at,
        last_anomalous=bucket,
        updated=bucket,
        score=score,
        z=z,
        horizon=HORIZONS[0],
        sequence=key.rules.first_sequence(bucket),
        channels={"surge": z},
        since=float(bucket * key.rules.settings.bucket_seconds),
        taken=new_taken(key),
        reason="the sums of the bucket are over what its ten minutes need to open an incident",
        severity=INFO if planned else WARNING,
        severity_reason=planned,
        event=planned,
        flaps=key.flaps,
    )


def _opened(key: KeyState, verdict: Verdict, at: float) -> Incident:
    rules = key.rules
    incident = _surge(key, verdict.bucket, at, max(verdict.score, verdict.bar), key.surge.z[0])
    # over the early threshold, but not over the score: the bucket's own surge is all there is
    strongest = verdict.findings[0] if verdict.findings and verdict.score >= verdict.bar else None
    if strongest is not None:
        incident.reason = f"score {verdict.score:.1f} is over {verdict.bar:.1f}, which opens an incident of this key"
        incident.kind, incident.z = strongest.kind, strongest.z
        incident.horizon = HORIZONS[strongest.horizon]
        incident.channels = {finding.channel: finding.z for finding in verdict.findings}
    if incident.kind == peers.KIND:
        incident.taken = peers.new_taken(rules.priors)
    _note_shape(key, incident, verdict)
    _add(key, incident, verdict)
    if strongest is None:
        return incident
    if incident.kind == peers.KIND:
        against = peers.compare(key, incident.shape)
        seconds, excess = against.window.horizon_seconds, against.excess
        window = parts_of(key, against.observed, against.expected, seconds)
    else:
        seconds, excess = incident.horizon, strongest.excess_tokens
        window = window_of(key, strongest.horizon, seconds)
    if excess > incident.excess:
        # a slow window has gathered its excess before the bucket that tipped it
        incident.since = float((verdict.bucket + 1) * rules.settings.bucket_seconds) - seconds
        incident.excess = incident.net = excess
        incident.grown = verdict.bucket
        taken, sums = incident.taken, verdict.sums
        assert taken is not None
        taken.begin_with(window, sums)
        incident.excess_output = taken.output
        # at what the calls of the bucket that tipped it cost
        tokens = sums.input_tokens + sums.output_tokens if sums is not None else 0
        if sums is not None and sums.cost_micros and tokens:
            incident.excess_cost = sums.cost_micros * 1e-6 * incident.excess / tokens
    return incident


def _note_shape(key: KeyState, incident: Incident, verdict: Verdict) -> None:
    """What is unusual about the calls themselves, where their shape speaks; of a newcomer, against other keys."""
    if incident.kind == peers.KIND:
        incident.shape = peers.differences(key.rules.priors, key.moment.aspects) or incident.shape
    elif any(finding.channel == "shape" for finding in verdict.findings):
        incident.shape = key.shape_factors()


def _add(key: KeyState, incident: Incident, verdict: Verdict) -> None:
    """Take a closed bucket into the incident's sums."""
    sums = verdict.sums
    observed = float(sums.input_tokens + sums.output_tokens) if sums is not None else 0.0
    expected = verdict.slow if incident.kind in SLOW_KINDS else verdict.expected
    if incident.kind == peers.KIND:
        seconds = key.rules.settings.bucket_seconds
        expected = peers.usual_rate(key.rules.priors) * seconds
        incident.upper += peers.upper_rate(key.rules, incident.shape) * seconds
    incident.observed += observed
    incident.peak = max(incident.peak, key.tokens_in_hour(verdict.bucket))
    incident.expected += expected
    more = rise(incident, observed, expected)
    if more:
        incident.grown = verdict.bucket
    if incident.taken is not None:
        incident.taken.add(sums, expected, more)
        incident.excess_output = incident.taken.output
    if sums is not None and sums.cost_micros and more:
        incident.excess_cost = (incident.excess_cost or 0.0) + sums.cost_micros * 1e-6 * more / observed


def _grade(key: KeyState, incident: Incident, bucket: int, keys: int) -> None:
    """Severity may rise while the incident is open, never fall; in a planned event it stays as it is."""
    if incident.event or key.event(bucket) is not None:
        return
    hours = ((bucket + 1) * key.rules.settings.bucket_seconds - incident.since) / 3600
    severity, reason = severity_of(incident, key.rules, keys, hours)
    if severity >= incident.severity:
        incident.severity, incident.severity_reason = severity, reason
