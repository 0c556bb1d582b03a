"""Is the input sound? What became of every record."""

from __future__ import annotations

from panels import colored, override, query, series
from queries import outcome, rate, share
from rows import NO_CALLS, NO_WORKER

PANELS = [
    series(
        40,
        "Calls and tokens",
        "What was accepted, per second. Calls on the right-hand axis; also, where there is an intake topic, what the "
        "intake has passed on or refused.",
        [
            query(rate("overdraw_tokens_total", "direction"), "{{direction}} tokens", ref="A"),
            query(rate("overdraw_calls_total"), "calls", ref="B"),
            query(rate("overdraw_intake_records_total", "outcome") + " > 0", "intake {{outcome}}", ref="C"),
        ],
        size=(8, 8),
        unit="count:tokens/s",
        empty=NO_CALLS,
        min=0,
        overrides=[
            override("byName", "calls", unit="count:calls/s", custom_axisPlacement="right"),
            override("byRegexp", "/^intake /", unit="count:calls/s", custom_axisPlacement="right"),
        ],
    ),
    series(
        41,
        "Records by outcome",
        "Every record has one outcome: accepted, duplicate (the same event id again), late (its bucket is closed) or "
        "dead letter.",
        [query(rate("overdraw_events_total", "outcome"), "{{outcome}}")],
        size=(8, 8),
        unit="count:records/s",
        empty=NO_CALLS,
        min=0,
        stacked=True,
        overrides=[
            colored("accepted", "green"),
            colored("duplicate", "blue"),
            colored("late", "orange"),
            colored("dead_letter", "red"),
        ],
    ),
    series(
        42,
        "Dead letters by reason",
        "Refused records per second. The record with its reason is in the dead-letter topic; misrouted means that the "
        "producer does not partition by key id.",
        [query(rate("overdraw_dead_letters_total", "reason") + " > 0", "{{reason}}")],
        size=(8, 8),
        unit="count:records/s",
        empty="No dead letters in this time",
        bars=True,
        stacked=True,
    ),
    series(
        43,
        "Late and duplicate records",
        "Share of all records. Late ones enter no sum: above 1 % (the line) raise the allowed lateness, or mend the "
        "gateway's batching. Duplicates count once; many mean that the gateway retries.",
        [
            query(share(outcome("late")), "late", ref="A"),
            query(share(outcome("duplicate")), "duplicate", ref="B"),
        ],
        size=(8, 8),
        unit="percentunit",
        empty=NO_CALLS,
        min=0,
        limits=[("transparent", None), ("red", 0.01)],
        limit_line=True,
        overrides=[colored("duplicate", "blue"), colored("late", "orange")],
    ),
    series(
        44,
        "Missing usage",
        "Share of accepted records without token counts: the detector estimates them, and they may hide a drain. "
        "Streaming calls often lack usage unless the gateway asks the model for it.",
        [query(f"({rate('overdraw_missing_usage_total')} or vector(0)) / {outcome('accepted')} >= 0", "without usage")],
        size=(8, 8),
        unit="percentunit",
        empty=NO_CALLS,
        min=0,
        limits=[("transparent", None), ("orange", 0.05)],
        limit_line=True,
    ),
    series(
        45,
        "Not seen by the detector",
        "Tokens of late records, which are in no bucket and no sum; and, on the right-hand axis, records that the "
        "topic's retention deleted before a worker read them: lengthen it, or add workers.",
        [
            query(rate("overdraw_late_tokens_total"), "late", ref="A"),
            query(rate("overdraw_skipped_offsets_total", where='cause="deleted"'), "deleted unread", ref="B"),
        ],
        size=(8, 8),
        unit="count:tokens/s",
        empty=NO_WORKER,
        min=0,
        overrides=[
            colored("late", "orange"),
            override(
                "byName",
                "deleted unread",
                unit="count:records/s",
                custom_axisPlacement="right",
                color={"mode": "fixed", "fixedColor": "red"},
            ),
        ],
    ),
]
