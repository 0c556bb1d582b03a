"""What has it found? Incidents, their size and how soon they were seen."""

from __future__ import annotations

from panels import bars, colored, override, query, series, stat
from queries import HERE, quantile, rate

SEVERITY_COLORS = [
    colored(".*critical.*", "dark-red"),
    colored(".*high.*", "orange"),
    colored(".*warning.*", "yellow"),
    colored(".*info.*", "blue"),
]

PANELS = [
    bars(
        20,
        "Open incidents",
        "Open now, by kind and severity. At most one is open for each key, organisation, network and so on.",
        [
            query(
                f"sum by (kind, severity) (overdraw_alerts_open{HERE}) > 0",
                "{{kind}} · {{severity}}",
                instant=True,
            )
        ],
        size=(8, 8),
        unit="none",
        empty="No incident is open. (Nobody looks unless a worker answers, above.)",
        min=0,
        overrides=SEVERITY_COLORS,
    ),
    series(
        21,
        "Incidents opened",
        "Newly opened, per hour, by kind and severity; of kind feed: the input is broken, not a key. The line is what "
        "the dial OVERDRAW_FALSE_ALERTS_PER_1000_KEY_DAYS accepts of false ones, if every known key is active.",
        [
            query(
                "3600 * " + rate("overdraw_alerts_total", "kind, severity", 'status="opened"') + " > 0",
                "{{kind}} · {{severity}}",
                ref="A",
            ),
            query(
                f"max(overdraw_false_alert_budget_per_key_day{HERE}) * sum(overdraw_keys_tracked{HERE}) / 24",
                "accepted false ones",
                ref="B",
            ),
        ],
        size=(8, 8),
        unit="count:opened/h",
        empty="No incident was opened in this time",
        bars=True,
        stacked=True,
        overrides=[
            *SEVERITY_COLORS,
            override(
                "byName",
                "accepted false ones",
                color={"mode": "fixed", "fixedColor": "text"},
                custom_drawStyle="line",
                custom_fillOpacity=0,
                custom_lineWidth=1,
                custom_stacking={"group": "A", "mode": "none"},
            ),
        ],
    ),
    bars(
        22,
        "Tokens above the baseline",
        "What incidents drew beyond the expectation, summed over the shown time, by kind.",
        [
            query(
                f"sum by (kind) (increase(overdraw_excess_tokens_total{HERE}[$__range])) > 0", "{{kind}}", instant=True
            )
        ],
        size=(4, 8),
        unit="short",
        empty="None in this time",
        min=0,
        limits=[("orange", None)],
    ),
    stat(
        23,
        "Time to detection",
        "From the start of the first anomalous bucket to the alert, in event time, over the shown time. A bucket "
        "(300 s) and the lateness (60 s) are its scale; early alerts are quicker.",
        [
            query(quantile(0.5, "overdraw_detection_delay_seconds", "$__range"), "median", ref="A", instant=True),
            query(quantile(0.95, "overdraw_detection_delay_seconds", "$__range"), "95 %", ref="B", instant=True),
        ],
        size=(4, 8),
        unit="s",
        empty="Nothing was detected",
        graph="none",
        text="value_and_name",
        color={"mode": "fixed", "fixedColor": "text"},
    ),
]
