"""Inside the workers: size, work done, moves of partitions, versions."""

from __future__ import annotations

from panels import query, series, table
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
        "State in memory",
        "Packed size of the keys' states, by worker.",
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
        "Rebalances",
        "Partitions that changed hands, per hour. A few at each restart are normal; steady ones mean that a worker "
        "dies or is too slow to poll.",
        [query("3600 * " + rate("overdraw_rebalances_total", "instance"), "{{instance}}")],
        size=(6, 7),
        unit="count:rebalances/h",
        empty=NO_WORKER,
        min=0,
    ),
    table(
        54,
        "Builds",
        "What runs where. Two versions or configurations at once are right only during a roll-out.",
        [query(f"max by (instance, version) (overdraw_build_info{HERE})", ref="A", instant=True, table=True)],
        size=(24, 5),
        unit="none",
        empty="–",
        sort_by="Worker",
        rename={"instance": "Worker", "version": "Version"},
        drop=("Time", "Value"),
    ),
]
