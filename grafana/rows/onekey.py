"""One key: its rate in its band, its score, what speaks against it, its incidents."""

from __future__ import annotations

from panels import override, query, series, stat
from queries import INCIDENT_START, KEY_IS
from rows.incidents import open_incidents

NOT_HERE = "Not among the keys that Prometheus knows in this time: see the line at the top"


def of_key(name: str) -> str:
    """A top-key gauge of this key; after a move of its partition two workers report it for a while."""
    return f"max(overdraw_top_key_{name}{KEY_IS})"


TOKENS, EXPECTED, UPPER = (of_key(f"{name}tokens_per_second") for name in ("", "expected_", "upper_"))

FIGURES = [
    stat(
        1,
        "Score",
        "0 to 1: 1 less the chance that a clean key shows as much within a day. 0.999 is reached by one clean key-day "
        "in 1,000.",
        [query(of_key("score"), "score")],
        size=(4, 4),
        unit="none",
        decimals=3,
        empty="Not known now",
        limits=[("green", None), ("orange", 0.9), ("red", 0.999)],
    ),
    stat(
        2,
        "Rate now",
        "Tokens per second, input and output, in the key's last closed bucket (five minutes, unless set otherwise).",
        [query(TOKENS, "rate")],
        size=(4, 4),
        unit="count:tokens/s",
        empty="Not known now",
    ),
    stat(
        3,
        "Expected",
        "What the key's own baseline expects at this hour of the week, per second.",
        [query(EXPECTED, "expected")],
        size=(4, 4),
        unit="count:tokens/s",
        empty="Not known now",
    ),
    stat(
        4,
        "Of its upper limit",
        "Rate by what a bucket of the key takes to open an incident by itself. Most open below, by what lasts.",
        [query(f"{TOKENS} / ({UPPER} > 0)", "of limit")],
        size=(4, 4),
        unit="percentunit",
        decimals=0,
        empty="It has none",
        limits=[("green", None), ("red", 1)],
    ),
    stat(
        5,
        "Incident open for",
        "Since the start of the first anomalous bucket of its open incident, in event time.",
        [query(f"time() - max({INCIDENT_START}{KEY_IS})", "open for")],
        size=(4, 4),
        unit="s",
        empty="No incident",
        limits=[("green", None), ("orange", 0)],
        graph="none",
    ),
    stat(
        6,
        "Above expectation",
        "Tokens beyond the expectation, summed over the shown time, from what Prometheus has seen: about what the "
        "alert says, which counts exactly.",
        [
            query(
                f"60 * sum_over_time(({TOKENS} - {EXPECTED})[$__range:1m])",
                "excess",
                instant=True,
            )
        ],
        size=(4, 4),
        unit="short",
        empty="Not known",
        graph="none",
        color={"mode": "fixed", "fixedColor": "text"},
    ),
]

COURSE = [
    series(
        10,
        "Tokens per second, in the key's band",
        "Solid: what it drew in each bucket. Grey: what its baseline expects. Dashed, red: from there on a "
        "bucket opens an incident by itself. Shaded stretches: its incident was open.",
        [query(TOKENS, "rate", ref="A"), query(EXPECTED, "expected", ref="B"), query(UPPER, "upper", ref="C")],
        size=(24, 10),
        unit="count:tokens/s",
        empty=NOT_HERE,
        min=0,
        overrides=[
            override("byName", "rate", color={"mode": "fixed", "fixedColor": "blue"}),
            override(
                "byName",
                "expected",
                color={"mode": "fixed", "fixedColor": "text"},
                custom_fillOpacity=8,
            ),
            override(
                "byName",
                "upper",
                color={"mode": "fixed", "fixedColor": "semi-dark-red"},
                custom_lineWidth=1,
                custom_lineStyle={"fill": "dash", "dash": [8, 6]},
            ),
        ],
    ),
    series(
        11,
        "Score over time",
        "The red line is 0.999: one clean key-day in 1,000 comes as far. What the dials make of it, they alone say.",
        [query(of_key("score"), "score")],
        size=(12, 7),
        unit="none",
        empty=NOT_HERE,
        min=0,
        max=1,
        limits=[("transparent", None), ("red", 0.999)],
        limit_line=True,
    ),
    series(
        12,
        "Rate, as part of its upper limit",
        "Above the line a bucket opens an incident by itself.",
        [query(f"{TOKENS} / ({UPPER} > 0)", "of limit")],
        size=(12, 7),
        unit="percentunit",
        empty="It has no band yet, or is not known in this time: see the line at the top",
        min=0,
        limits=[("transparent", None), ("red", 1)],
        limit_line=True,
    ),
]

REASONS = [
    series(
        13,
        "What speaks against it, by channel",
        "Each channel of evidence of its open incident, in standard deviations of the key's own daily maxima, as in "
        "the newest alert. `overdraw explain KEY` gives each number with its reason.",
        [query(f"max by (channel) (overdraw_top_key_channel_z{KEY_IS})", "{{channel}}")],
        size=(14, 8),
        unit="short",
        empty="No incident of this key was open in this time, so no channel speaks",
    ),
    open_incidents(25, (10, 8), KEY_IS, title="Its open incident"),
]
