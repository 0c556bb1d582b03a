"""Does it stand still? Who is ready, who has which partition, how long a recovery takes."""

from __future__ import annotations

from panels import colored, query, series, stat
from queries import HERE, rate
from rows import NO_WORKER

PANELS = [
    series(
        56,
        "Ready",
        "1 while a worker is assigned, recovered and not stuck. A dip is a restart or a rebalance; at nought for long "
        "nobody watches its keys. Where a line ends, the worker has ended, or Prometheus does not reach it.",
        [query(f"max by (instance) (overdraw_ready{HERE})", "{{instance}}")],
        size=(6, 7),
        unit="none",
        empty=NO_WORKER,
        min=0,
        max=1,
        decimals=0,
    ),
    series(
        57,
        "Partitions by worker",
        "How many partitions each worker holds. In sum as many as the source has: fewer, and some are not read.",
        [query(f"count by (instance) (overdraw_watermark_timestamp_seconds{HERE})", "{{instance}}")],
        size=(6, 7),
        unit="none",
        empty="No partition has a watermark: no call has been read yet",
        min=0,
        decimals=0,
        stacked=True,
    ),
    series(
        53,
        "Moves and failures",
        "Per hour. Assignments: a few at each restart are normal; steady ones mean a worker that dies or is too slow. "
        "Shards dropped: a write failed, and the shard is read again from the log; the worker's log has the reason.",
        [
            query("3600 * " + rate("overdraw_rebalances_total"), "assignments", ref="A"),
            query("3600 * " + rate("overdraw_shards_dropped_total"), "shards dropped", ref="B"),
        ],
        size=(6, 7),
        unit="count:times/h",
        empty=NO_WORKER,
        min=0,
        overrides=[colored("shards dropped", "red")],
    ),
    stat(
        55,
        "Recovery, 95 %",
        "From a partition's assignment to its first record, since the workers' start: so long nobody watches its keys.",
        # Not the rate: a recovery comes before Prometheus has seen its worker once, and would never be shown.
        [query(f"histogram_quantile(0.95, sum by (le) (overdraw_recovery_seconds_bucket{HERE})) >= 0", "recovery")],
        size=(6, 7),
        unit="s",
        empty="No partition was assigned",
        graph="none",
        color={"mode": "fixed", "fixedColor": "text"},
    ),
]
