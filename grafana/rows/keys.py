"""Who draws too much? The strangest keys against what is expected of them."""

from __future__ import annotations

from panels import override, query, series, steps, table
from queries import STRANGEST, per_key
from rows.incidents import KEY_LINK

RATE_PANEL, BAND_PANEL = 10, 12
"""Where open incidents are marked."""

NO_KEYS = "No key to show: no calls in this time, or none of a key that the variable above admits"

PANELS = [
    series(
        RATE_PANEL,
        "Token rate of the strangest keys, against what is expected",
        "The keys with the highest score in the shown time (how many: the variable *Keys shown*). Solid: tokens per "
        "second. Dotted, grey: expected of the key at this hour. Dashed, red: its upper limit. Shaded stretches: "
        "incidents that were open.",
        [
            query(f"{per_key('overdraw_top_key_tokens_per_second')} {STRANGEST}", "{{key_id}}", ref="A"),
            query(
                f"{per_key('overdraw_top_key_expected_tokens_per_second')} {STRANGEST}",
                "{{key_id}} expected",
                ref="B",
            ),
            query(f"{per_key('overdraw_top_key_upper_tokens_per_second')} {STRANGEST}", "{{key_id}} upper", ref="C"),
        ],
        size=(24, 10),
        unit="count:tokens/s",
        empty=NO_KEYS,
        min=0,
        overrides=[
            override(
                "byFrameRefID",
                "B",
                color={"mode": "fixed", "fixedColor": "text"},
                custom_lineWidth=1,
                custom_lineStyle={"fill": "dot", "dash": [2, 6]},
                custom_hideFrom={"legend": True, "tooltip": False, "viz": False},
            ),
            override(
                "byFrameRefID",
                "C",
                color={"mode": "fixed", "fixedColor": "semi-dark-red"},
                custom_lineWidth=1,
                custom_lineStyle={"fill": "dash", "dash": [8, 6]},
                custom_hideFrom={"legend": True, "tooltip": False, "viz": False},
            ),
        ],
    ),
    table(
        11,
        "Top keys now",
        "The keys that Prometheus knows: those with the highest rates and every one with an open incident. Of limit: "
        "rate by upper limit, beyond which a bucket opens an incident by itself. A click on a key opens its dashboard; "
        "`overdraw explain` or the worker's /api/keys/ID tells more.",
        [
            query(per_key("overdraw_top_key_tokens_per_second"), ref="A", instant=True, table=True),
            query(per_key("overdraw_top_key_expected_tokens_per_second"), ref="B", instant=True, table=True),
            query(per_key("overdraw_top_key_upper_tokens_per_second"), ref="C", instant=True, table=True),
            query(
                f"{per_key('overdraw_top_key_tokens_per_second')} / "
                f"({per_key('overdraw_top_key_upper_tokens_per_second')} > 0)",
                ref="D",
                instant=True,
                table=True,
            ),
            query(per_key("overdraw_top_key_score"), ref="E", instant=True, table=True),
        ],
        size=(13, 9),
        unit="count:tokens/s",
        decimals=1,
        empty="–",
        sort_by="Score",
        rename={
            "key_id": "Key",
            "Value #A": "Rate",
            "Value #B": "Expected",
            "Value #C": "Upper",
            "Value #D": "Of limit",
            "Value #E": "Score",
        },
        overrides=[
            override("byName", "Key", links=[KEY_LINK]),
            override(
                "byName",
                "Of limit",
                unit="percentunit",
                decimals=0,
                thresholds=steps(("text", None), ("red", 1)),
                custom_cellOptions={"type": "color-text"},
            ),
            override(
                "byName",
                "Score",
                unit="none",
                decimals=2,
                min=0,
                max=1,
                thresholds=steps(("green", None), ("orange", 0.5), ("red", 0.9)),
                custom_cellOptions={"type": "gauge", "mode": "basic", "valueDisplayMode": "text"},
            ),
        ],
    ),
    series(
        BAND_PANEL,
        "Rate, as part of the key's upper limit",
        "The same keys on one scale, however large they are: above the line a bucket opens an incident by itself.",
        [
            query(
                f"{per_key('overdraw_top_key_tokens_per_second')} / "
                f"({per_key('overdraw_top_key_upper_tokens_per_second')} > 0) {STRANGEST}",
                "{{key_id}}",
            )
        ],
        size=(11, 9),
        unit="percentunit",
        empty=NO_KEYS,
        min=0,
        limits=[("transparent", None), ("red", 1)],
        limit_line=True,
    ),
]
