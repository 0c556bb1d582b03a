"""Can what it is sent be trusted? What is wrong with the records, by shard and by the gateway that wrote them."""

from __future__ import annotations

from panels import colored, override, query, series
from queries import HERE, outcome, rate
from rows import NO_CALLS, NO_WORKER

UNNAMED = 'No record names its gateway: deploy/gateways/README.md, "Which of the gateways it was"'


def by_gateway(metric: str) -> str:
    """A gauge of gateways by name; each worker has its own, of what its shards were sent: the worst."""
    return f"max by (gateway) ({metric}{HERE})"


PANELS = [
    series(
        70,
        "Faults of the data, worst partition",
        "Shares of what a shard was sent in the last hour or so: of its calls those without usage; of its records "
        "late, duplicate, out of order (by more than a second) and answered by zero tokens. Where usage is missing or "
        "records are late, from 5 % on (the line), the bar for alerts rises.",
        [query(f"max by (fault) (overdraw_data_quality_ratio{HERE})", "{{fault}}")],
        size=(8, 8),
        unit="percentunit",
        empty=NO_WORKER,
        min=0,
        limits=[("transparent", None), ("orange", 0.05)],
        limit_line=True,
        overrides=[colored("^late$", "orange"), colored("^duplicates$", "blue"), colored("^missing_usage$", "red")],
    ),
    series(
        71,
        "Caution by partition",
        "By how many decades of rarity a shard's bar for alerts is raised, since its data are poor: 0 is none, 1 (the "
        "line) is the most. Alerts say it as data_quality.caution.",
        [query(f"max by (partition) (overdraw_caution_decades{HERE})", "partition {{partition}}")],
        size=(8, 8),
        unit="short",
        empty=NO_WORKER,
        min=0,
        limits=[("transparent", None), ("red", 1)],
        limit_line=True,
    ),
    series(
        72,
        "Records with a fault",
        "Accepted records per second that have no token counts, that were answered by no tokens at all by the "
        "gateway's word, or that are more than a second older than one before them; and duplicates, which count once.",
        [
            query(rate("overdraw_missing_usage_total"), "without usage", ref="A"),
            query(rate("overdraw_zero_usage_total"), "zero tokens", ref="B"),
            query(rate("overdraw_out_of_order_total"), "out of order", ref="C"),
            query(outcome("duplicate"), "duplicate", ref="D"),
        ],
        size=(8, 8),
        unit="count:records/s",
        empty=NO_CALLS,
        min=0,
        overrides=[colored("^duplicate$", "blue"), colored("^without usage$", "red")],
    ),
    series(
        73,
        "Records by gateway",
        "Records of the last 10 to 20 minutes, by the instance of the gateway that they name; of the 20 with the most. "
        "One that ends has stopped, or writes elsewhere.",
        [query(f"sum by (gateway) (overdraw_gateway_records{HERE})", "{{gateway}}")],
        size=(8, 8),
        unit="short",
        empty=UNNAMED,
        min=0,
    ),
    series(
        74,
        "Missing usage by gateway",
        "Share of an instance's answered records without token counts; of several workers the worst. One far above the "
        "others runs with another configuration or release.",
        [query(by_gateway("overdraw_gateway_missing_usage_ratio"), "{{gateway}}")],
        size=(8, 8),
        unit="percentunit",
        empty=UNNAMED,
        min=0,
        limits=[("transparent", None), ("orange", 0.05)],
        limit_line=True,
    ),
    series(
        75,
        "Clock skew by gateway",
        "How far an instance's clock is ahead of the others', below zero: behind, by the order of the log. Look at its "
        "time synchronisation: what it says is late, or ahead of its hour.",
        [
            query(by_gateway("overdraw_gateway_clock_skew_seconds"), "{{gateway}}, at most", ref="A"),
            query(f"min by (gateway) (overdraw_gateway_clock_skew_seconds{HERE})", "{{gateway}}, at least", ref="B"),
        ],
        size=(8, 8),
        unit="s",
        empty=UNNAMED,
        overrides=[override("byRegexp", "/at least$/", custom_lineStyle={"dash": [6, 6], "fill": "dash"})],
    ),
]
