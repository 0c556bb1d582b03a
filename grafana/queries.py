"""The pieces of PromQL that panels share."""

from __future__ import annotations

from panels import Json, query

HERE = '{instance=~"$instance"}'
KEYS = '{instance=~"$instance", key_id=~"$keys"}'
KEY_IS = '{key_id="$key"}'
"""On the dashboard of one key, whose variable holds one id."""
# `@ end()` fixes the choice of keys for the whole picture: without it lines would come and go from point to point.
STRANGEST = (
    f"and on (key_id) topk($top, max by (key_id) (max_over_time(overdraw_top_key_score{KEYS}[$__range] @ end())))"
)
# Targets that were workers within a day: a dead one has `up` = 0, but no longer tells that it was one.
WORKERS = f"up{HERE} and on (job, instance) last_over_time(overdraw_build_info{HERE}[1d])"
ANY_WORKER = "last_over_time(overdraw_build_info[1d])"
"""Whatever was a worker within a day, chosen or not."""
INCIDENT_START = "overdraw_top_key_incident_start_timestamp_seconds"
GROUPS = 'kind=~"campaign|pivot|respawn"'
"""Alerts about many keys at once."""
WATERMARK_AGE = f"time() - max by (partition) (overdraw_watermark_timestamp_seconds{HERE} > 0)"


def ours(expr: str) -> str:
    """Of a series that every process has, such as its memory: the workers' own."""
    return f"{expr} and on (job, instance) overdraw_build_info{HERE}"


def first_of(*cases: tuple[int, str]) -> str:
    """The code of the first condition that holds, or 0; empty only where Prometheus itself does not answer.

    A condition is PromQL that begins with `unless` or `and`, as it goes on after the code.
    """
    return " or ".join([f"(vector({code}) {condition})" for code, condition in cases] + ["vector(0)"])


def per_key(metric: str) -> str:
    """A top-key gauge by key; after a move of its partition two workers report a key for a while."""
    return f"max by (key_id) ({metric}{KEYS})"


def rate(metric: str, by: str = "", where: str = "") -> str:
    """Sum of a counter's rate per second, by a label if one is named."""
    labels = f'{{instance=~"$instance"{", " + where if where else ""}}}'
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{labels}[$__rate_interval]))"


def share(part: str) -> str:
    """Part of all records; empty (rather than NaN) while there are none."""
    return f"({part} or vector(0)) / {rate('overdraw_events_total')} >= 0"


def outcome(name: str) -> str:
    """Records per second with one outcome."""
    return rate("overdraw_events_total", where=f'outcome="{name}"')


def quantile(q: float, metric: str, span: str = "$__rate_interval") -> str:
    """A quantile of a histogram over all workers; empty (rather than NaN) without observations."""
    return f"histogram_quantile({q}, sum by (le) (rate({metric}_bucket{HERE}[{span}]))) >= 0"


def quantiles(metric: str) -> list[Json]:
    """Median, 95th and 99th percentile."""
    cases = (("A", 0.5, "median"), ("B", 0.95, "95 %"), ("C", 0.99, "99 %"))
    return [query(quantile(q, metric), name, ref=ref) for ref, q, name in cases]
