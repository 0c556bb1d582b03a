"""Inside the workers: size, work done, moves of partitions, versions."""

from __future__ import annotations

from panels import colored, query, series, stat, table
from queries import HERE, rate
from rows import NO_WORKER

PANELS = [
    series(
        50,
        "Keys tracked",
        "Keys with a baseline, by worker. The installation's limit is OVERDRAW_MAX_KEYS.",
        [query(f"sum by (instance) (overdraw_keys_tracked{HERE})", "{{instance}}")],
        size=(6, 7),
        unit="short",
        empty=NO_WORKER,
        min=0,
        stacked=True,
    ),
    series(
        51,
        "Packed state",
        "Estimated size of the keys' states as the state topic holds them, by worker: what a recovery has to read.",
        [query(f"sum by (instance) (overdraw_state_bytes{HERE})", "{{instance}}")],
        size=(6, 7),
        unit="bytes",
        empty=NO_WORKER,
        min=0,
        stacked=True,
    ),
    series(
        52,
        "Buckets closed",
        "Per second: a key's bucket is judged and learned when it closes. Comes in bursts, at every bucket's end.",
        [query(rate("overdraw_buckets_closed_total", "instance"), "{{instance}}")],
        size=(6, 7),
        unit="count:buckets/s",
        empty=NO_WORKER,
        min=0,
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
    table(
        54,
        "Builds",
        "What runs where. Two versions at once are right only during a roll-out.",
        [query(f"max by (instance, version, python) (overdraw_build_info{HERE})", ref="A", instant=True, table=True)],
        size=(18, 5),
        unit="none",
        empty="–",
        sort_by="Worker",
        rename={"instance": "Worker", "version": "Version", "python": "Python"},
        drop=("Time", "Value"),
    ),
    stat(
        55,
        "Recovery, 95 %",
        "From a partition's assignment to its first record, since the workers' start: so long nobody watches its keys.",
        # Not the rate: a recovery comes before Prometheus has seen its worker once, and would never be shown.
        [query(f"histogram_quantile(0.95, sum by (le) (overdraw_recovery_seconds_bucket{HERE})) >= 0", "recovery")],
        size=(6, 5),
        unit="s",
        empty="No partition was assigned",
        graph="none",
        color={"mode": "fixed", "fixedColor": "text"},
    ),
]
