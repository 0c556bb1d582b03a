"""Do many keys move at once? Alerts about groups, and what single keys tell of one."""

from __future__ import annotations

from panels import bars, note, override, query, series, stat, table
from queries import GROUPS, INCIDENT_START
from rows import NO_INCIDENT, NO_WORKER
from rows.incidents import KEY_LINK, open_incidents

KNOWN = f"max by (key_id, kind) ({INCIDENT_START})"

ALONE = note(
    80,
    "What this dashboard can show",
    "Overdraw looks at **each key on its own**. Alerts of the kinds *campaign*, *pivot* and *respawn* have their place "
    "in its alerts and metrics, but nothing raises them yet: the first row stays at nought.\n\n"
    "A campaign shows all the same as **many keys whose incidents begin together**: the second row. Who owns the keys "
    "is in the alerts (`overdraw alerts tail`), not in Prometheus.",
    size=(8, 7),
)

GROUP_ALERTS = [
    ALONE,
    stat(
        1,
        "Open group incidents",
        "Open incidents of the kinds campaign, pivot and respawn: about many keys at once, or one that comes back.",
        [query(f"sum(overdraw_alerts_open{{{GROUPS}}}) or 0 * count(overdraw_build_info)", "open")],
        size=(4, 7),
        unit="none",
        empty=NO_WORKER,
        limits=[("green", None), ("red", 1)],
    ),
    series(
        2,
        "Group incidents opened",
        "Newly opened incidents of these kinds, per hour. At nought while nothing of the kind is found.",
        [
            query(
                f'3600 * sum by (kind) (rate(overdraw_alerts_total{{{GROUPS}, status="opened"}}[$__rate_interval]))',
                "{{kind}}",
            )
        ],
        size=(12, 7),
        unit="count:opened/h",
        empty=NO_WORKER,
        min=0,
    ),
]
TOGETHER = [
    series(
        10,
        "Keys with an open incident, by kind",
        "How many keys draw too much at the same time. A step of many keys at once is a campaign, a retry storm, or a "
        "launch; a slow rise is each key on its own.",
        [query(f"count by (kind) ({KNOWN})", "{{kind}}")],
        size=(12, 8),
        unit="none",
        empty=NO_INCIDENT,
        min=0,
        stacked=True,
    ),
    series(
        11,
        "Incidents opened together",
        "Incidents of keys opened within the last ten minutes, by kind: a hill of many says that they have one cause.",
        [
            query(
                'sum by (kind) (increase(overdraw_alerts_total{status="opened", kind!="feed"}[10m])) > 0',
                "{{kind}}",
            )
        ],
        size=(12, 8),
        unit="none",
        empty="No incident was opened in this time",
        min=0,
        stacked=True,
    ),
    bars(
        12,
        "Began within three hours",
        "Keys whose open incident began within the last three hours, by kind.",
        [query(f"count by (kind) ({KNOWN} > time() - 10800)", "{{kind}}", instant=True)],
        size=(6, 9),
        unit="none",
        empty="None began within three hours",
        min=0,
        limits=[("orange", None), ("red", 5)],
    ),
    bars(
        13,
        "What speaks, over all keys",
        "The mean of each channel over the keys with an open incident, in standard deviations: keys that are drained "
        "in one way have the same channels.",
        [
            query(
                "avg by (channel) (max by (key_id, channel) (overdraw_top_key_channel_z))", "{{channel}}", instant=True
            )
        ],
        size=(6, 9),
        unit="short",
        decimals=1,
        empty="No key has an open incident",
        limits=[("orange", None)],
    ),
    open_incidents(25, (12, 9), ""),
    series(
        14,
        "Top keys out of their band",
        "Of the keys that Prometheus knows: how many draw more than their upper limit, and how many it knows. All at "
        "once is a change of the whole service rather than an attack.",
        [
            query(
                "count(max by (key_id) (overdraw_top_key_tokens_per_second) / "
                "(max by (key_id) (overdraw_top_key_upper_tokens_per_second) > 0) > 1) "
                "or 0 * count(overdraw_build_info)",
                "out of band",
                ref="A",
            ),
            query("count(max by (key_id) (overdraw_top_key_score))", "known", ref="B"),
        ],
        size=(12, 8),
        unit="none",
        empty=NO_WORKER,
        min=0,
        overrides=[
            override("byName", "out of band", color={"mode": "fixed", "fixedColor": "red"}),
            override("byName", "known", color={"mode": "fixed", "fixedColor": "text"}),
        ],
    ),
    table(
        15,
        "The ten strangest keys",
        "By score now: rate, and rate by expectation. Keys of one campaign are often alike in both. A click on a key "
        "opens its dashboard.",
        [
            query("topk(10, max by (key_id) (overdraw_top_key_score))", ref="A", instant=True, table=True),
            query(
                "max by (key_id) (overdraw_top_key_tokens_per_second) "
                "and topk(10, max by (key_id) (overdraw_top_key_score))",
                ref="B",
                instant=True,
                table=True,
            ),
            query(
                "max by (key_id) (overdraw_top_key_tokens_per_second) / "
                "(max by (key_id) (overdraw_top_key_expected_tokens_per_second) > 0) "
                "and topk(10, max by (key_id) (overdraw_top_key_score))",
                ref="C",
                instant=True,
                table=True,
            ),
        ],
        size=(12, 8),
        unit="count:tokens/s",
        decimals=1,
        empty="No key is known: no calls yet",
        sort_by="Score",
        rename={"key_id": "Key", "Value #A": "Score", "Value #B": "Rate", "Value #C": "Of expected"},
        overrides=[
            override("byName", "Key", links=[KEY_LINK]),
            override("byName", "Score", unit="none", decimals=3),
            override("byName", "Of expected", unit="percentunit", decimals=0),
        ],
    ),
]
