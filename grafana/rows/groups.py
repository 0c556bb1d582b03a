"""Do many keys move at once? Alerts about groups, and what single keys tell of one."""

from __future__ import annotations

from panels import bars, note, override, query, series, stat, table
from queries import GROUPS, INCIDENT_START
from rows import NO_INCIDENT, NO_KEEPER, NO_WORKER
from rows.incidents import KEY_LINK, open_incidents

KNOWN = f"max by (key_id, kind) ({INCIDENT_START})"

READING = note(
    80,
    "What this dashboard shows",
    "Keys that share an organisation, a network, a client, a prompt template or a model are judged **together once an "
    "hour**, by the one worker that keeps the groups: alerts of the kinds *campaign*, *pivot* and *respawn*. Who is in "
    "one is in the alert (`overdraw alerts tail`, `/api/groups`), not in Prometheus.\n\n"
    "A campaign may show earlier as **many keys whose incidents begin together**: the second row.",
    size=(8, 7),
)

GROUP_ALERTS = [
    READING,
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
KEEPING = [
    series(
        30,
        "Open campaigns",
        "Open campaigns of groups, by kind, as the worker that keeps the groups knows them.",
        [query("sum by (kind) (overdraw_campaigns_open)", "{{kind}}")],
        size=(8, 7),
        unit="none",
        empty=NO_KEEPER,
        min=0,
        stacked=True,
    ),
    series(
        31,
        "Groups watched",
        "Groups of three keys and more that are judged every hour.",
        [query("sum(overdraw_groups_tracked)", "groups")],
        size=(8, 7),
        unit="none",
        empty=NO_KEEPER,
        min=0,
    ),
    series(
        32,
        "Hours judged",
        "Hours in which all groups were judged, and those of them that lacked a partition which told nothing for long, "
        "or evidence that was deleted before it was read.",
        [
            query("3600 * sum(rate(overdraw_group_hours_closed_total[$__rate_interval]))", "judged", ref="A"),
            query("3600 * sum(rate(overdraw_group_hours_incomplete_total[$__rate_interval]))", "incomplete", ref="B"),
        ],
        size=(8, 7),
        unit="count:hours/h",
        empty=NO_KEEPER,
        min=0,
    ),
    series(
        33,
        "What partitions tell of their keys",
        "Records of the evidence topic by what became of them. Late ones are about hours that had been judged without "
        "them; dead letters cannot be read.",
        [query("sum by (outcome) (rate(overdraw_group_evidence_total[$__rate_interval]))", "{{outcome}}")],
        size=(8, 7),
        unit="count:records/s",
        empty=NO_KEEPER,
        min=0,
    ),
    series(
        34,
        "Evidence not read yet",
        "Records between the worker that keeps the groups and the end of the evidence topic: near nought, but after a "
        "takeover.",
        [query("sum(overdraw_group_lag_events)", "records")],
        size=(8, 7),
        unit="none",
        empty=NO_KEEPER,
        min=0,
    ),
    series(
        35,
        "Age of the last judged hour",
        "By the clock, from the end of the last hour in which groups were judged: between nought and an hour and some "
        "minutes, unless a partition holds it up.",
        [query("time() - max(overdraw_group_watermark_timestamp_seconds)", "age")],
        size=(8, 7),
        unit="s",
        empty=NO_KEEPER,
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
