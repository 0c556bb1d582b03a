"""Every Prometheus series, of a worker and of a notifier. Base units, bounded labels, key ids only in the top-K."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

AGE_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 86_400.0)
DELAY_BUCKETS = (10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 21_600.0, 86_400.0)
FLUSH_BUCKETS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
RECOVERY_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """One family: its name as Prometheus shows it, its type, labels, unit and what it says."""

    name: str
    kind: str
    unit: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


class MetricRow(NamedTuple):
    """A family as `overdraw schema metrics` shows it."""

    name: str
    type: str
    labels: list[str]
    unit: str
    help: str


TABLE = (
    Metric("overdraw_events_total", "counter", "events",
           "Records of the source, by what became of them: accepted, duplicate, late, dead_letter.", ("outcome",)),
    Metric("overdraw_calls_total", "counter", "calls", "API calls in accepted records."),
    Metric("overdraw_tokens_total", "counter", "tokens",
           "Tokens of accepted records, by direction: input, output.", ("direction",)),
    Metric("overdraw_late_tokens_total", "counter", "tokens", "Tokens of records that came too late to be counted."),
    Metric("overdraw_missing_usage_total", "counter", "events",
           "Accepted records whose gateway gave no token counts."),
    Metric("overdraw_zero_usage_total", "counter", "events",
           "Accepted records that were answered by no tokens at all, by the gateway's word."),
    Metric("overdraw_out_of_order_total", "counter", "events",
           "Accepted records more than a second older than the newest one before them."),
    Metric("overdraw_dead_letters_total", "counter", "events", "Refused records, by reason code.", ("reason",)),
    Metric("overdraw_buckets_closed_total", "counter", "buckets", "Buckets of keys that were closed and judged."),
    Metric("overdraw_alerts_total", "counter", "alerts",
           "Alerts written, by kind, severity and status (opened, updated, resolved).",
           ("kind", "severity", "status")),
    Metric("overdraw_excess_tokens_total", "counter", "tokens",
           "Tokens above the baseline in incidents, by kind.", ("kind",)),
    Metric("overdraw_detection_delay_seconds", "histogram", "seconds",
           "From the start of an incident's first anomalous bucket to its detection, in event time.",
           (), DELAY_BUCKETS),
    Metric("overdraw_event_age_seconds", "histogram", "seconds",
           "From an event's own time to its application to the state.", (), AGE_BUCKETS),
    Metric("overdraw_state_flush_seconds", "histogram", "seconds",
           "Duration of a shard's transaction.", (), FLUSH_BUCKETS),
    Metric("overdraw_recovery_seconds", "histogram", "seconds",
           "From the beginning of a shard's takeover until it is live.", (), RECOVERY_BUCKETS),
    Metric("overdraw_rebalances_total", "counter", "assignments", "Assignments of partitions to this worker."),
    Metric("overdraw_shards_dropped_total", "counter", "shards",
           "Shards thrown away after a failure, to be read again from the log."),
    Metric("overdraw_skipped_offsets_total", "counter", "offsets",
           "Offsets passed over, by cause: empty (markers, compaction), deleted (by retention or with the topic: "
           "data lost).",
           ("cause",)),
    Metric("overdraw_intake_records_total", "counter", "events",
           "Elements of records of the intake topic, by outcome: passed (written to the source), dead_letter.",
           ("outcome",)),
    Metric("overdraw_group_evidence_total", "counter", "records",
           "What shards told of their keys, by outcome: taken, late (of an hour that had closed), dead_letter.",
           ("outcome",)),
    Metric("overdraw_group_hours_closed_total", "counter", "hours", "Hours in which all groups were judged."),
    Metric("overdraw_group_hours_incomplete_total", "counter", "hours",
           "Those of them that lacked a shard which told nothing for long, or evidence that was deleted."),
    Metric("overdraw_groups_tracked", "gauge", "groups",
           "Groups of three keys and more; of the worker that keeps them."),
    Metric("overdraw_campaigns_open", "gauge", "campaigns",
           "Open campaigns, by kind: campaign, pivot, respawn; of the worker that keeps the groups.", ("kind",)),
    Metric("overdraw_group_lag_events", "gauge", "records",
           "Records between the keeper of the groups and the end of the evidence topic."),
    Metric("overdraw_group_watermark_timestamp_seconds", "gauge", "seconds",
           "Event time up to which the groups' hours are closed."),
    Metric("overdraw_keys_tracked", "gauge", "keys", "Keys known to this worker's shards."),
    Metric("overdraw_alerts_open", "gauge", "incidents",
           "Open incidents of this worker's shards.", ("kind", "severity")),
    Metric("overdraw_consumer_lag_events", "gauge", "events",
           "Records between a shard and its log's end.", ("partition",)),
    Metric("overdraw_intake_lag_events", "gauge", "events",
           "Records between a partition of the intake and its log's end.", ("partition",)),
    Metric("overdraw_watermark_timestamp_seconds", "gauge", "seconds",
           "Event time up to which a shard's buckets are closed.", ("partition",)),
    Metric("overdraw_data_quality_ratio", "gauge", "",
           "Share of what a shard was sent in the last hour or so, by fault: missing_usage (of the calls), late, "
           "duplicates, out_of_order, zero_usage (of the records).", ("partition", "fault")),
    Metric("overdraw_caution_decades", "gauge", "",
           "By how much a shard's bar for alerts is raised for poor data, 0 to 1.", ("partition",)),
    Metric("overdraw_gateway_records", "gauge", "events",
           "Records of the last 10 to 20 minutes, by the gateway's instance that they name; of the 20 with the most.",
           ("gateway",)),
    Metric("overdraw_gateway_missing_usage_ratio", "gauge", "",
           "Share of them that were answered and have no token counts.", ("gateway",)),
    Metric("overdraw_gateway_clock_skew_seconds", "gauge", "seconds",
           "How far an instance's clock is ahead of the others', negative: behind; by the order of the log.",
           ("gateway",)),
    Metric("overdraw_state_bytes", "gauge", "bytes",
           "Packed state of this worker's shards, estimated from what was read and written last."),
    Metric("overdraw_ready", "gauge", "", "1 while the worker is assigned, recovered and not stuck, else 0."),
    Metric("overdraw_top_key_tokens_per_second", "gauge", "tokens/s",
           "Rate of the busiest keys, and of those with an open incident, in their last closed bucket.", ("key_id",)),
    Metric("overdraw_top_key_expected_tokens_per_second", "gauge", "tokens/s",
           "What the baseline expects of these keys.", ("key_id",)),
    Metric("overdraw_top_key_upper_tokens_per_second", "gauge", "tokens/s",
           "From here on a bucket of these keys opens an incident by itself; absent where none could.", ("key_id",)),
    Metric("overdraw_top_key_score", "gauge", "", "Score of these keys, 0 to 1.", ("key_id",)),
    Metric("overdraw_top_key_incident_start_timestamp_seconds", "gauge", "seconds",
           "Start, in event time, of the open incident of a key; of the 200 with the most tokens above the baseline.",
           ("key_id", "kind", "severity")),
    Metric("overdraw_top_key_channel_z", "gauge", "",
           "What each channel of evidence says of these incidents, as in their newest alert, standardised.",
           ("key_id", "channel")),
    Metric("overdraw_false_alert_budget_per_key_day", "gauge", "alerts",
           "False alerts that the first dial accepts, per active key and day."),
    Metric("overdraw_false_page_budget_per_week", "gauge", "alerts",
           "False alerts that the second dial lets be high or critical, per week and installation."),
    Metric("overdraw_build_info", "gauge", "", "Always 1; what runs is in the labels.", ("version", "python")),
)  # fmt: skip
"""All series of a worker but those of the process and the platform, which prometheus_client brings along."""

NOTIFIER_TABLE = (
    Metric("overdraw_notifications_total", "counter", "messages",
           "Messages by notifier and outcome: delivered, digested (told in a digest), resent (said again as it lasts), "
           "retried (an attempt failed), rejected and refused (given up: the service does not take it), expired (given "
           "up: too old), unreadable (no alert of this version).", ("notifier", "outcome")),
    Metric("overdraw_notifier_lag_seconds", "gauge", "seconds",
           "Age of the oldest alert that waits to be delivered; 0 if none does.", ("notifier",)),
    Metric("overdraw_notifier_queue_messages", "gauge", "messages", "Messages that wait to be delivered; bounded.",
           ("notifier",)),
    Metric("overdraw_notifier_incidents", "gauge", "incidents", "Open incidents that a notifier was told of.",
           ("notifier",)),
    Metric("overdraw_notifier_ready", "gauge", "", "1 while all notifiers read the alert topic, else 0."),
)  # fmt: skip
"""The series of `overdraw notifier`."""

RESPONDER_TABLE = (
    Metric("overdraw_responses_total", "counter", "responses",
           "Steps of responses, by action and the state that it led to; those of a rehearsal as well.",
           ("action", "state")),
    Metric("overdraw_responses", "gauge", "responses", "Responses from which something may come yet.",
           ("action", "state")),
    Metric("overdraw_gateway_failures_total", "counter", "attempts", "Attempts that a gateway did not take.",
           ("gateway",)),
    Metric("overdraw_responder_ready", "gauge", "", "1 while the responder is at work or stands by for another one."),
)  # fmt: skip
"""The series of `overdraw responder`."""

_ROWS = {row.name: row for row in (*TABLE, *NOTIFIER_TABLE, *RESPONDER_TABLE)}


def metric(name: str) -> Metric:
    """The row of a family; raises KeyError on an unknown name."""
    return _ROWS[name]


def metric_table() -> list[MetricRow]:
    """The table as it is shown to others.

    >>> metric_table()[0].name
    'overdraw_events_total'
    """
    return [MetricRow(row.name, row.kind, list(row.labels), row.unit, row.help) for row in _ROWS.values()]
