"""Is it healthy? Six figures that are green when nobody needs to look further."""

from __future__ import annotations

from panels import override, query, stat, steps
from queries import HERE, WATERMARK_AGE, WORKERS, outcome, quantile, share
from rows import NO_WORKER

PANELS = [
    stat(
        1,
        "Workers",
        "Ready: assigned, recovered and not stuck. Not ready: the others that Prometheus knew within a day; see the "
        "log of one that stays so. Where a worker is gone, the others take its partitions after the session time-out.",
        [
            query(f"sum(overdraw_ready{HERE}) or 0 * count({WORKERS})", "ready", ref="A"),
            query(f"count({WORKERS}) - (sum(overdraw_ready{HERE}) or vector(0))", "not ready", ref="B"),
        ],
        size=(4, 4),
        unit="none",
        empty=NO_WORKER,
        graph="none",
        text="value_and_name",
        limits=[("red", None), ("green", 1)],
        overrides=[override("byName", "not ready", thresholds=steps(("green", None), ("red", 1)))],
    ),
    stat(
        2,
        "Open, high or critical",
        "Open incidents that are meant to wake somebody. The key, the numbers and the reason are in the alert: "
        "`overdraw alerts tail`.",
        [
            # Nought only if a worker says so: no worker must not look like no incident.
            query(
                'sum(overdraw_alerts_open{instance=~"$instance", severity=~"high|critical"}) '
                f"or 0 * count(overdraw_build_info{HERE})",
                "open",
            )
        ],
        size=(4, 4),
        unit="none",
        empty=NO_WORKER,
        limits=[("green", None), ("red", 1)],
    ),
    stat(
        3,
        "Oldest watermark",
        "How far the slowest partition's event time lags behind the clock. Buckets close, and most alerts come, when "
        "the watermark passes: the allowed lateness (60 s) is normal; far more means a backlog, a silent gateway or a "
        "wrong clock there.",
        [query(f"max({WATERMARK_AGE})", "age")],
        size=(4, 4),
        unit="s",
        empty="No partition has a watermark",
        limits=[("green", None), ("orange", 600), ("red", 1800)],
    ),
    stat(
        4,
        "Consumer lag",
        "Records in the source topic that no worker has applied. Rises and falls with bursts; if it only rises, add a "
        "worker (up to one for each partition).",
        [query(f"sum(max by (partition) (overdraw_consumer_lag_events{HERE}))", "lag")],
        size=(4, 4),
        unit="short",
        empty="No partition is assigned",
        limits=[("green", None), ("orange", 50_000), ("red", 500_000)],
    ),
    stat(
        5,
        "Event age, 95 %",
        "From the end of a call to the moment its record is applied, for 95 of 100 records: gateway, Kafka and worker "
        "together.",
        [query(quantile(0.95, "overdraw_event_age_seconds"), "age")],
        size=(4, 4),
        unit="s",
        empty="No calls in this time",
        limits=[("green", None), ("orange", 60), ("red", 600)],
    ),
    stat(
        6,
        "Refused records",
        "Share of records that became dead letters: they are not counted, so a key could hide among them. The reasons "
        "are below, the records in the dead-letter topic.",
        [query(share(outcome("dead_letter")), "refused")],
        size=(4, 4),
        unit="percentunit",
        empty="No calls in this time",
        limits=[("green", None), ("orange", 0.001), ("red", 0.01)],
    ),
]
