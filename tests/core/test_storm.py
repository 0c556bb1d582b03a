"""Thousands of incidents at once: each is told once, a crash forgets none, and all of them end."""

from __future__ import annotations

from collections import Counter

import pytest
from core_streams import HOUR, PRIORS, SETTINGS, START

from stream.alerts import Alert
from stream.core.shard import Shard
from stream.core.state import SHARD_KEY, SUMS
from stream.events import Arrival, Call
from stream.lab.bench_storm import copies

KEYS = 3_000
DAYS = 9
CHUNK = 4_000


def new_shard() -> Shard:
    return Shard(0, SETTINGS, partition_of=lambda _: 0, priors=PRIORS)


def hour_of(names: list[str], hour: int, calls: int, first: int) -> list[Arrival]:
    """A record of each key in an hour, in order of time."""
    pace = HOUR / len(names)
    arrivals: list[Arrival] = []
    for place, name in enumerate(names):
        time = START + hour * HOUR + place * pace
        call = Call(
            event_id=f"{hour}", time=time, key_id=name, calls=calls, input_tokens=60 * calls, output_tokens=40 * calls
        )
        arrivals.append((first + place, time, call))
    return arrivals


def observed(shard: Shard, arrivals: list[Arrival]) -> list[Alert]:
    """What comes of them, chunk by chunk."""
    alerts: list[Alert] = []
    for start in range(0, len(arrivals), CHUNK):
        chunk = arrivals[start : start + CHUNK]
        alerts += shard.observe(chunk, chunk[-1][0]).alerts
    return alerts


@pytest.mark.slow
def test_thousands_of_incidents_at_once_open_outlive_a_crash_and_end() -> None:
    learned = new_shard()
    position = 0
    for hour in range(DAYS * 24):
        observed(learned, hour_of(["key"], hour, 4 + hour % 3, position))
        position += 1
    state = dict(copies(learned.changes(), KEYS))
    names = sorted(name[1:].decode() for name in state if name[:1] == SUMS)
    assert len(names) == KEYS

    shard = new_shard()
    shard.load(state.items())
    alerts: list[Alert] = []
    hour = DAYS * 24
    for calls in (400, 5):
        alerts += observed(shard, hour_of(names, hour, calls, position))
        position, hour = position + KEYS, hour + 1
        state.update(shard.changes())
    opened = [alert for alert in alerts if alert.status == "opened"]
    assert Counter(alert.entity.id for alert in opened) == Counter(names), "each once"
    assert len({(alert.alert_id, alert.sequence) for alert in alerts}) == len(alerts)

    again = new_shard()
    again.load(state.items())
    assert len(again) == KEYS
    assert SHARD_KEY in state
    assert sum(1 for _ in again.open_alerts()) == KEYS, "whoever takes it over knows them"
    over: list[Alert] = []
    while len(over) < KEYS and hour < DAYS * 24 + 24:
        said = observed(again, hour_of(names[:1], hour, 5, position))
        assert not [alert for alert in said if alert.status == "opened"]
        over += [alert for alert in said if alert.status == "resolved"]
        position, hour = position + 1, hour + 1
    assert Counter(alert.entity.id for alert in over) == Counter(names), "and each ends once"
    assert not list(again.open_alerts())
