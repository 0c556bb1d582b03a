"""Does it keep up? Lag, watermark, age of events and time of a flush."""

from __future__ import annotations

from panels import query, series
from queries import HERE, WATERMARK_AGE, quantiles
from rows import NO_CALLS

PANELS = [
    series(
        30,
        "Consumer lag by partition",
        "Records not yet applied. One partition alone: a hot key, or its worker hangs. All: more workers. Of an "
        "intake: records not yet keyed.",
        [
            query(f"max by (partition) (overdraw_consumer_lag_events{HERE})", "{{partition}}", ref="A"),
            query(f"max by (partition) (overdraw_intake_lag_events{HERE})", "intake {{partition}}", ref="B"),
        ],
        size=(6, 8),
        unit="short",
        empty="No partition is assigned: is a worker running, does the source topic exist?",
        min=0,
    ),
    series(
        31,
        "Watermark age by partition",
        "Clock less watermark. A saw-tooth is a gateway that batches; a line that climbs is a partition that stands "
        "still.",
        [query(WATERMARK_AGE, "{{partition}}")],
        size=(6, 8),
        unit="s",
        empty="No partition has a watermark: no call has been read yet",
        min=0,
    ),
    series(
        32,
        "Event age",
        "From the end of a call to its record being applied.",
        quantiles("overdraw_event_age_seconds"),
        size=(6, 8),
        unit="s",
        empty=NO_CALLS,
        min=0,
    ),
    series(
        33,
        "Flush time",
        "How long the transaction takes that writes state, alerts and dead letters. Alerts wait for it; more than "
        "the flush pace (0.5 s) for long means a slow broker.",
        quantiles("overdraw_state_flush_seconds"),
        size=(6, 8),
        unit="s",
        empty="Nothing was written in this time: workers flush only when something changed",
        min=0,
    ),
]
