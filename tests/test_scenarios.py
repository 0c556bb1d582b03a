"""Scenarios as data: tests/scenarios/*.toml say what comes in and what is to be found in it by replay."""

from __future__ import annotations

import base64
import json
import math
import random
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from stream.lab.replay import Replay
from stream.partition import partition_of
from stream.settings import Settings

FOLDER = Path(__file__).parent / "scenarios"
START = 1_772_409_600.0  # 2026-03-02T00:00:00Z, a Monday
HOUR, DAY = 3600.0, 86_400.0
NOW = START + 400 * DAY
CHUNK = 5_000


@dataclass
class Traffic:
    """The records of a scenario, and what they add up to."""

    values: list[bytes] = field(default_factory=list)
    calls: Counter = field(default_factory=Counter)
    tokens: Counter = field(default_factory=Counter)
    extra: float = 0.0
    bad: Counter = field(default_factory=Counter)


def lost(scenario, time):
    return any(0 <= time - START - loss["day"] * DAY < loss["hours"] * HOUR for loss in scenario.get("losses", []))


def change_of(scenario, key_id, time):
    factor = 1.0
    for change in scenario.get("changes", []):
        if change["key"] == key_id and 0 <= time - START - change["day"] * DAY < change["hours"] * HOUR:
            factor *= change["times"]
    return factor


def generate(scenario):
    """Calls in time order; a change multiplies the calls of a record, so that a long one stays cheap."""
    rng = random.Random(scenario["seed"])
    timed, traffic = [], Traffic()
    for key in scenario["keys"]:
        noise = key.get("noise", 0.0)
        time = START
        while True:
            hour = int((time - START) // HOUR)
            rate = key["calls_per_hour"]
            if not 8 <= hour % 24 < 18:
                rate *= key.get("night", 1.0)
            if (hour // 24) % 7 >= 5:
                rate *= key.get("weekend", 1.0)
            time += rng.expovariate(rate / HOUR)
            if time >= START + scenario["days"] * DAY:
                break
            if lost(scenario, time):
                continue
            n = round(change_of(scenario, key["id"], time))
            size = key["tokens"] * math.exp(rng.gauss(0.0, noise))
            given, taken = round(n * size * 0.75), round(n * size * 0.25)
            record = {
                "event_id": f"{key['id']}-{len(timed)}",
                "time": time,
                "key_id": key["id"],
                "calls": n,
                "input_tokens": given,
                "output_tokens": taken,
            }
            timed.append((time, json.dumps(record).encode()))
            traffic.calls[key["id"]] += n
            traffic.tokens[key["id"]] += given + taken
            traffic.extra += (n - 1) / n * (given + taken)
    traffic.values = [value for _, value in sorted(timed)]
    for bad in scenario.get("bad", []):
        value = base64.b64decode(bad["base64"]) if "base64" in bad else bad["value"].encode()
        for _ in range(bad["count"]):
            traffic.values.insert(rng.randrange(len(traffic.values)), value)
        traffic.bad[bad["reason"]] += bad["count"]
    return traffic


def rows():
    """Every file of the folder, by its name."""
    for path in sorted(FOLDER.glob("*.toml")):
        scenario = tomllib.loads(path.read_text("utf-8"))
        yield pytest.param(scenario, id=path.stem, marks=[pytest.mark.slow] if scenario.get("slow") else [])


@pytest.mark.parametrize("scenario", list(rows()))
def test_a_scenario_is_found_as_it_says(scenario):
    expect, why = scenario["expect"], scenario["why"]
    traffic = generate(scenario)
    replay = Replay(Settings(partitions=2, **scenario.get("settings", {})), partition_of=partition_of, now=NOW)
    for first in range(0, len(traffic.values), CHUNK):
        replay.feed(traffic.values[first : first + CHUNK])
    replay.finish()
    summary = replay.summary.as_json(0.0)

    assert summary["events"]["dead_letters"] == dict(traffic.bad), why
    assert (summary["events"]["late"], summary["events"]["duplicate"]) == (0, 0), why
    assert summary["events"]["read"] == len(traffic.values)
    assert summary["events"]["accepted"] == len(traffic.values) - traffic.bad.total()
    for key_id, calls in traffic.calls.items():
        view = replay.key(key_id)
        assert (view.calls, view.input_tokens + view.output_tokens) == (calls, traffic.tokens[key_id]), why

    alerts = replay.summary.step.alerts
    opened = [alert for alert in alerts if alert.status == "opened"]
    assert [[alert.kind, alert.entity.id] for alert in opened] == expect["opened"], why
    if "within_minutes" in expect:
        begin = START + scenario["changes"][0]["day"] * DAY
        assert 0 <= opened[0].detected_at - begin <= expect["within_minutes"] * 60, why
    if expect.get("resolved"):
        assert alerts[-1].status == "resolved"
    if "excess_share" in expect:
        low, high = expect["excess_share"]
        assert low <= summary["tokens"]["excess"] / traffic.extra <= high, why


def test_there_are_a_hundred_bad_records():
    scenario = tomllib.loads((FOLDER / "bad_records.toml").read_text("utf-8"))
    assert sum(bad["count"] for bad in scenario["bad"]) == 100
