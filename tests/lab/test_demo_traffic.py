"""The demo's traffic: quiet weeks, a live part up to now, an attack in it."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from stream.alerts import Alert
from stream.gateways.errors import InputError
from stream.gateways.overdraw import parse
from stream.lab.demo import Story
from stream.lab.demo_traffic import HISTORY_DAYS, PLANS, PLAY_SECONDS, DemoTraffic
from stream.lab.evaluation.installation import Installation
from stream.lab.replay import Replay
from stream.partition import partition_of
from stream.settings import load_settings

pytestmark = pytest.mark.slow

NOW = 1_790_000_123.4
LONG = ("drift", "campaign")
"""Found after hours, of which more are played."""


@pytest.fixture(scope="module", params=list(PLANS))
def demo(request):
    demo = DemoTraffic(NOW, request.param)
    return request.param, demo, list(demo)


def test_the_history_comes_first_and_the_live_part_leads_up_to_now(demo) -> None:
    name, traffic, windows = demo
    live = [window.live for window in windows]
    assert live == sorted(live)
    history = [window for window in windows if not window.live]
    assert history[-1].until == traffic.live_start
    assert traffic.live_start % 300 == 0
    assert history[-1].until - windows[0].until == HISTORY_DAYS * 86_400 - 3600
    length = NOW - traffic.live_start
    assert length / 60 == pytest.approx(780 if name in LONG else 65, abs=5)
    assert length / traffic.speed == PLAY_SECONDS
    assert (traffic.attack_start - traffic.live_start) / 60 == pytest.approx(180 if name in LONG else 15)
    assert windows[-1].until == NOW
    assert sum(len(window.records) for window in windows) <= 400_000
    steps = [b.until - a.until for a, b in pairwise([history[-1], *(w for w in windows if w.live)])]
    assert all(0 < step <= traffic.step_seconds + 0.001 for step in steps)
    assert len(steps) == pytest.approx(2 * PLAY_SECONDS, abs=15)


def test_records_are_in_order_in_their_window_and_never_later_than_now(demo) -> None:
    _, _, windows = demo
    last = 0.0
    for window in windows:
        for time, _, _ in window.records:
            assert last <= time < window.until
            last = time
    calls, rejects = parse([(0, value, NOW) for window in windows for _, _, value in window.records[:20]])
    assert rejects == []
    keys = {call.key_id for _, _, call in calls}
    assert 40 <= len(keys) <= 40 + len(demo[1].members)


def test_only_the_attacked_key_goes_up_and_only_after_the_calm(demo) -> None:
    name, traffic, windows = demo
    usual: dict[str, float] = {}
    attacked: dict[str, float] = {}
    days = (traffic.attack_start - windows[0].until + 3600) / 86_400
    for window in windows:
        for time, key, value in window.records:
            document = json.loads(value)
            tokens = document.get("input_tokens", 0) + document.get("output_tokens", 0)
            into = attacked if time >= traffic.attack_start else usual
            into[key] = into.get(key, 0) + tokens
    hours = (NOW - traffic.attack_start) / 3600
    ratios = {key: (attacked.get(key, 0) / hours) / (total / days / 24) for key, total in usual.items()}
    if name == "calm":
        assert traffic.attacked is None
        assert traffic.labels == []
        assert max(ratios.values()) < 6
        return
    if name == "campaign":
        assert not traffic.members & set(usual)
        assert set(attacked) == set(usual) | traffic.members
        assert max(ratios.values()) < 6
        assert {label.key_id for label in traffic.labels} == traffic.members
        return
    times = PLANS[name].times
    assert max(ratios, key=ratios.__getitem__) == traffic.attacked
    assert times * 0.6 < ratios.pop(traffic.attacked) < times * 1.6
    assert max(ratios.values()) < 6
    [label] = traffic.labels
    assert label.key_id == traffic.attacked
    assert label.attack_tokens > 500_000


def test_the_same_now_gives_the_same_traffic_and_any_now_will_do() -> None:
    first = [window.records for window in DemoTraffic(NOW, history_days=2)]
    assert first == [window.records for window in DemoTraffic(NOW, history_days=2)]
    for now in (NOW + 7 * 3600, NOW + 4 * 86_400):
        demo = DemoTraffic(now)
        assert demo.attack_start < now
        assert demo.attacked is not None


def test_an_unknown_scenario_names_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"did you mean 'drift'.*surge, leaked-key, drift, campaign, calm"):
        DemoTraffic(NOW, "drifd")


def test_accounts_each_below_the_line_become_one_alert_within_the_demos_time() -> None:
    traffic = DemoTraffic(NOW, "campaign", history_days=9)
    installation = Installation(load_settings(environ={}))
    alerts: list[Alert] = []
    for window in traffic:
        calls, _ = parse([(0, value, NOW) for _, _, value in window.records])
        alerts += installation.observe([call for _, _, call in calls])
    alerts += installation.finish(NOW)
    opened = [alert for alert in alerts if alert.status == "opened"]
    assert [alert for alert in opened if alert.entity.type == "key"] == []
    [campaign] = opened
    story = Story("campaign", "", attacked=traffic.attacked, members=traffic.members)
    assert story.is_hit(campaign)
    assert traffic.attack_start < campaign.detected_at
    assert (campaign.detected_at - traffic.live_start) / traffic.speed < 0.8 * PLAY_SECONDS


@pytest.mark.parametrize("demo", [name for name in PLANS if name not in ("calm", "campaign")], indirect=True)
def test_the_detector_finds_the_attack_and_nothing_else(demo) -> None:
    """Among every fifth key: what is learned of one says nothing of another."""
    _, traffic, windows = demo
    keys = sorted({key for window in windows for _, key, _ in window.records})
    some = {*keys[::5], traffic.attacked}
    replay = Replay(load_settings(environ={}), partition_of=partition_of, now=NOW)
    for window in windows:
        replay.feed([value for _, key, value in window.records if key in some])
    replay.finish()
    opened = [alert for alert in replay.summary.step.alerts if alert.status == "opened"]
    assert {alert.entity.id for alert in opened} == {traffic.attacked}
    assert traffic.attack_start < opened[0].detected_at <= NOW
    # seconds after the live part began, at the demo's pace
    assert (opened[0].detected_at - traffic.live_start) / traffic.speed < 0.8 * PLAY_SECONDS
