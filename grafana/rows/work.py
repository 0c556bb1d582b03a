"""What does it get done? Records, buckets and processor time, worker by worker."""

from __future__ import annotations

from panels import query, series
from queries import HERE, ours, rate
from rows import NO_CALLS, NO_WORKER

PANELS = [
    series(
        60,
        "Records by worker",
        "Records of the source that each worker applied, per second, whatever became of them.",
        [query(rate("overdraw_events_total", "instance"), "{{instance}}")],
        size=(6, 8),
        unit="count:records/s",
        empty=NO_CALLS,
        min=0,
        stacked=True,
    ),
    series(
        52,
        "Buckets closed",
        "Per second: a key's bucket is judged and learned when it closes. Comes in bursts, at every bucket's end.",
        [query(rate("overdraw_buckets_closed_total", "instance"), "{{instance}}")],
        size=(6, 8),
        unit="count:buckets/s",
        empty=NO_WORKER,
        min=0,
    ),
    series(
        61,
        "Processor time",
        "Of each worker, in cores: a worker is one process and takes one at most. Near 1 for long: add workers, up to "
        "one for each partition.",
        [
            query(
                f"max by (instance) ({ours(f'rate(process_cpu_seconds_total{HERE}[$__rate_interval])')})",
                "{{instance}}",
            )
        ],
        size=(6, 8),
        unit="none",
        decimals=2,
        empty=NO_WORKER,
        min=0,
        limits=[("transparent", None), ("red", 0.9)],
        limit_line=True,
    ),
    series(
        62,
        "Flushes",
        "Transactions per second, by worker: each writes what changed in one partition. At rest there are none.",
        [
            query(
                f"sum by (instance) (rate(overdraw_state_flush_seconds_count{HERE}[$__rate_interval]))",
                "{{instance}}",
            )
        ],
        size=(6, 8),
        unit="count:flushes/s",
        empty=NO_WORKER,
        min=0,
        stacked=True,
    ),
]
