"""How large is it? Keys, state, memory, and what runs where."""

from __future__ import annotations

from panels import query, series, table
from queries import HERE, ours
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
        58,
        "Memory of the processes",
        "Resident memory of each worker. Beyond what the interpreter takes it grows with the keys.",
        [query(f"max by (instance) ({ours(f'process_resident_memory_bytes{HERE}')})", "{{instance}}")],
        size=(6, 7),
        unit="bytes",
        empty=NO_WORKER,
        min=0,
    ),
    table(
        54,
        "Builds",
        "What runs where. Two versions at once are right only during a roll-out.",
        [query(f"max by (instance, version, python) (overdraw_build_info{HERE})", ref="A", instant=True, table=True)],
        size=(6, 7),
        unit="none",
        empty="–",
        sort_by="Worker",
        rename={"instance": "Worker", "version": "Version", "python": "Python"},
        drop=("Time", "Value"),
    ),
]
