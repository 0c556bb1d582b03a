"""What is the matter? One sentence where there is nothing to show, or less than there should be."""

from __future__ import annotations

from panels import Json, query, stat, states
from queries import ANY_WORKER, GROUPS, HERE, INCIDENT_START, KEY_IS, WATERMARK_AGE, WORKERS, first_of

LINE = 90
"""The number of the line on every dashboard."""
SILENT = "Prometheus does not answer: is it running, and is it the one that the variable Prometheus names?"
NO_WORKER_CASES = (
    (9, f"unless on () {ANY_WORKER}"),
    (8, "unless on () overdraw_build_info"),
    (7, "and on () (sum(overdraw_ready) < 1)"),
)
NO_WORKER_STATES = {
    "_9": ("No worker was scraped within a day: is one running, and among the targets of Prometheus?", "dark-red"),
    "_8": ("No worker answers: all have ended, or Prometheus does not reach them. Nobody looks at calls", "red"),
    "_7": ("No worker is ready: they start, recover their state, or miss their broker. /readyz says which", "orange"),
}


def verdict(title: str, description: str, expr: str, texts: dict[str, tuple[str, str]]) -> Json:
    """A line across the dashboard that says what is the matter."""
    return stat(
        LINE,
        title,
        description,
        [query(expr, "matter")],
        size=(24, 3),
        unit="none",
        empty=SILENT,
        graph="none",
        text="value",
        mappings=states(**texts),
    )


STATE = verdict(
    "What is the matter?",
    "The first thing that is wrong, or that explains an empty panel below. An error mark on every panel means that "
    "Prometheus itself does not answer.",
    first_of(
        *NO_WORKER_CASES,
        (6, f"and on () (count({WORKERS}) > sum(overdraw_ready{HERE}))"),
        (5, f"unless on () overdraw_watermark_timestamp_seconds{HERE}"),
        (4, 'and on () (sum(overdraw_alerts_open{instance=~"$instance", kind="feed"}) > 0)'),
        (3, f"and on () (max({WATERMARK_AGE}) > 1800)"),
        (2, f"unless on () (sum(increase(overdraw_events_total{HERE}[$__range])) > 0)"),
        (1, f"and on () (sum(overdraw_keys_tracked{HERE}) == 1)"),
    ),
    {
        **NO_WORKER_STATES,
        "_6": ("A worker is not ready: it restarts or is gone, and others take its partitions", "orange"),
        "_5": ("No call was read yet: does the gateway write to the source topic? overdraw check tells", "orange"),
        "_4": ("The detector is blind in part: an alert of kind feed is open, which says why", "red"),
        "_3": ("A partition is half an hour behind: a backlog, a silent gateway, or a wrong clock", "orange"),
        "_2": ("No calls in this time: choose a longer one, or look whether the gateway writes", "orange"),
        "_1": ("Fine, with one key only: it is watched against its own past", "green"),
        "_0": ("Fine: every worker is ready, calls come in, no partition is behind", "green"),
    },
)

KEY_STATE = verdict(
    "What is the matter with this key?",
    "Prometheus knows the 20 busiest keys of each worker and those with an open incident, however many keys there are. "
    "`overdraw explain KEY` and a worker's /api/keys/KEY know every key.",
    first_of(
        *NO_WORKER_CASES,
        (6, "unless on () last_over_time(overdraw_top_key_score[$__range])"),
        (5, f"unless on () last_over_time(overdraw_top_key_score{KEY_IS}[$__range])"),
        (4, f"unless on () overdraw_top_key_score{KEY_IS}"),
        (3, f'and on () {INCIDENT_START}{{key_id="$key", severity=~"high|critical"}}'),
        (2, f"and on () {INCIDENT_START}{KEY_IS}"),
        (1, f"unless on () overdraw_top_key_upper_tokens_per_second{KEY_IS}"),
    ),
    {
        **NO_WORKER_STATES,
        "_6": ("No key at all in this time: no call was read. overdraw check tells why", "orange"),
        "_5": ("Not among the keys that Prometheus knows in this time; overdraw explain knows it", "orange"),
        "_4": ("No longer among the busiest keys, and no incident is open: what is below is its past", "blue"),
        "_3": ("An incident of high severity is open: ask the key's owner, else block or rotate it", "red"),
        "_2": ("An incident is open: look at it in working hours", "orange"),
        "_1": ("Calm; too young, or too restless, for a limit of its own", "blue"),
        "_0": ("Calm: no incident is open", "green"),
    },
)

GROUP_STATE = verdict(
    "What is the matter?",
    "The first thing that is wrong, or that explains an empty panel below. Of keys with an open incident up to 200 of "
    "each worker are here, so that a campaign cannot fill Prometheus.",
    first_of(
        *NO_WORKER_CASES,
        (5, "unless on () overdraw_watermark_timestamp_seconds"),
        (6, f'and on () (sum(overdraw_alerts_open{{{GROUPS}, severity=~"high|critical"}}) > 0)'),
        (4, f"and on () (count(max by (key_id) ({INCIDENT_START} > time() - 10800)) >= 5)"),
        (3, f"and on () (sum(overdraw_alerts_open{{{GROUPS}}}) > 0)"),
        (1, "and on () (sum(overdraw_keys_tracked) == 1)"),
    ),
    {
        **NO_WORKER_STATES,
        "_6": ("A campaign of high severity is open: ask its members' owners, or block them all at once", "red"),
        "_5": ("No call was read yet, so there is no key that could move with others", "orange"),
        "_4": ("Five keys or more began to draw too much within three hours: have they one owner?", "red"),
        "_3": ("A group's incident is open: look in working hours at what its keys share", "orange"),
        "_1": ("One key only: there is no other that it could move with", "blue"),
        "_0": ("No group's incident is open, and fewer than five keys began to draw too much in three hours", "green"),
    },
)
