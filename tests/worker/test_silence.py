from __future__ import annotations

from typing import Any

from stream.worker.idle import LEAST_QUIET_SECONDS, Idle, Outage, quiet_needed
from tests.worker.fakes import T0, Watched, call


def test_a_shard_is_idle_after_twice_the_lateness_but_never_at_once() -> None:
    assert quiet_needed(60) == 120
    assert quiet_needed(0) == LEAST_QUIET_SECONDS


def test_the_watermark_of_an_idle_shard_keeps_the_clocks_pace_and_never_jumps() -> None:
    idle = Idle(60, needed=20)
    steps = []
    watermark = 600.0
    for now in range(0, 400):
        target = idle.step(at_end=True, watermark=watermark, now=float(now))
        if target is not None:
            steps.append((now, target))
            watermark = target
    assert steps == [(80, 660.0), (140, 720.0), (200, 780.0), (260, 840.0), (320, 900.0), (380, 960.0)]


def test_a_record_begins_the_silence_anew() -> None:
    idle = Idle(60, needed=20)
    idle.step(at_end=True, watermark=600.0, now=0.0)
    assert idle.step(at_end=False, watermark=600.0, now=70.0) is None
    assert idle.step(at_end=True, watermark=605.0, now=80.0) is None
    assert idle.step(at_end=True, watermark=605.0, now=90.0) is None


def test_a_shard_without_any_record_has_no_watermark_to_move() -> None:
    idle = Idle(60, needed=5)
    assert [idle.step(at_end=True, watermark=float("-inf"), now=now) for now in (0.0, 1e6)] == [None, None]


def expect(calls_per_second: float) -> Any:
    return lambda seconds: calls_per_second * seconds


def test_silence_where_calls_are_expected_is_an_outage_until_a_record_comes() -> None:
    outage = Outage(needed=20)
    assert not outage.look({0: 5, 1: 7}, moved=False, expected=expect(10), now=0)
    assert not outage.look({0: 5, 1: 7}, moved=False, expected=expect(10), now=19)
    assert outage.look({0: 5, 1: 7}, moved=False, expected=expect(10), now=20)
    assert outage.active
    assert not outage.look({0: 5, 1: 7}, moved=False, expected=expect(10), now=500)
    assert outage.look({0: 5, 1: 8}, moved=False, expected=expect(10), now=501), "another worker's partition counts"
    assert not outage.active


def test_a_quiet_night_of_a_small_installation_is_no_outage() -> None:
    outage = Outage(needed=20)
    for now in range(0, 1000, 10):
        assert not outage.look({0: 5}, moved=False, expected=expect(0.01), now=now)


def test_an_outage_that_was_known_before_does_not_end_by_looking() -> None:
    outage = Outage(needed=20)
    outage.active = True
    assert not outage.look({0: 5}, moved=False, expected=expect(0), now=0)
    assert outage.active
    assert outage.look({0: 6}, moved=False, expected=expect(0), now=1)
    assert not outage.active


async def busy(bench: Watched, buckets: int, partition: int = 0) -> None:
    """Steady traffic: a hundred calls a bucket."""
    values = [call(f"{bucket}-{i}", T0 + bucket * 60 + i * 0.6) for bucket in range(buckets) for i in range(100)]
    for begin in range(0, len(values), 100):
        await bench.take(bench.kafka.feed(values[begin : begin + 100], partition, T0 + begin * 0.6))
    await bench.flush(partition)


async def test_an_idle_shard_closes_its_buckets_at_the_pace_of_the_clock() -> None:
    bench = Watched()
    await bench.assign(0)
    await bench.take(bench.kafka.feed([call("a", T0 + 5)]))
    await bench.flush()
    shard = bench.shards.live[0]
    before = shard.core.watermark
    for _ in range(150):
        await bench.look()
    assert before < shard.core.watermark <= before + 150 - quiet_needed(10)
    assert bench.kafka.transactions < 10, "one step a bucket, so that the state topic does not drown"


async def test_a_record_that_comes_in_the_silence_is_not_late() -> None:
    bench = Watched()
    await bench.assign(0)
    await bench.take(bench.kafka.feed([call("a", T0 + 5)]))
    for _ in range(200):
        await bench.look()
    await bench.take(bench.kafka.feed([call("b", T0 + 5 + 195)], timestamp=T0 + 205))
    assert bench.calls() == 2


async def test_a_transactions_marker_at_the_end_of_the_log_is_no_lag() -> None:
    bench = Watched()
    await bench.assign(0)
    await bench.take(bench.kafka.feed([call("a", T0)]))
    bench.monitor.ends = {0: 2}
    assert bench.monitor.lag(0) == 1
    bench.group.behind[0] = 2
    assert bench.monitor.lag(0) == 0


async def test_what_an_open_transaction_hides_is_lag_and_no_silence() -> None:
    bench = Watched()
    await bench.assign(0)
    await busy(bench, 40)
    shard = bench.shards.live[0]
    bench.group.concealed[0] = 5
    before = shard.core.watermark
    for _ in range(100):
        await bench.look()
    assert bench.monitor.lag(0) == 5
    assert shard.core.watermark == before, "what is hidden must not find its bucket closed"
    assert not bench.monitor.outage.active
    assert bench.deaths == [], "to start again would not help"


async def test_a_transaction_that_does_not_end_raises_a_feed_alert_until_it_does() -> None:
    bench = Watched()
    await bench.assign(0)
    await bench.take(bench.kafka.feed([call("a", T0)]))
    for hidden, said in ((5, []), (0, []), (5, ["opened"]), (0, ["opened", "resolved"])):
        bench.group.concealed[0] = hidden
        for _ in range(40 if not said or said[-1] == "resolved" else 80):
            await bench.look()
        await bench.flush()
        assert [alert["status"] for alert in bench.alerts()] == said
    assert "open for more than 60 s and hides 5 offsets" in bench.alerts()[0]["summary"]


async def test_silence_of_the_whole_source_freezes_detection_and_raises_one_feed_alert() -> None:
    bench = Watched(partitions=2)
    await bench.assign(0, 1)
    await busy(bench, 65, 0)
    await busy(bench, 65, 1)
    marks = [shard.core.watermark for shard in bench.shards.live.values()]
    for _ in range(120):
        await bench.look()
    for partition in (0, 1):
        await bench.flush(partition)
    assert bench.monitor.outage.active
    assert [shard.core.watermark for shard in bench.shards.live.values()] == marks, "no idle steps in an outage"
    feed = [alert for alert in bench.alerts() if alert["kind"] == "feed"]
    assert [(alert["status"], alert["severity"], alert["entity"]["id"]) for alert in feed] == [("opened", "high", "0")]
    assert feed[0]["expected"] >= 50
    await bench.take(bench.kafka.feed([call("again", T0 + 65 * 60 + 200)], 1, T0 + 65 * 60 + 200))
    await bench.look()
    for partition in (0, 1):
        await bench.flush(partition)
    feed = [alert for alert in bench.alerts() if alert["kind"] == "feed"]
    assert [alert["status"] for alert in feed] == ["opened", "resolved"]
    assert not bench.monitor.outage.active


async def test_a_restart_in_an_outage_neither_resolves_it_nor_opens_another() -> None:
    bench = Watched()
    await bench.assign(0)
    await busy(bench, 65)
    for _ in range(60):
        await bench.look()
    await bench.flush()
    heir = Watched(bench.kafka)
    await heir.assign(0)
    await heir.flush()
    shard = heir.shards.live[0]
    again = bench.kafka.source[0][shard.sequencer.next :]
    assert again, "the ids of the open bucket are read again, which is no traffic"
    await heir.take(again)
    for _ in range(60):
        await heir.look()
        await heir.flush()
    assert heir.monitor.outage.active
    assert [alert["status"] for alert in heir.alerts() if alert["kind"] == "feed"] == ["opened"]


async def test_more_than_one_percent_of_late_records_raises_a_feed_alert_that_resolves() -> None:
    bench = Watched()
    await bench.assign(0)
    fresh = [call(f"a{i}", T0 + 600 + i * 0.01) for i in range(200)]
    late = [call(f"l{i}", T0) for i in range(5)]
    await bench.take(bench.kafka.feed(fresh + late, timestamp=T0 + 600))
    await bench.flush()
    assert [(a["status"], a["kind"], a["channels"][0]["name"]) for a in bench.alerts()] == [("opened", "feed", "late")]
    await bench.take(bench.kafka.feed([call(f"b{i}", T0 + 602) for i in range(1000)], timestamp=T0 + 602))
    await bench.flush()
    assert [alert["status"] for alert in bench.alerts()] == ["opened", "resolved"]
