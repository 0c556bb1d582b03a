from __future__ import annotations

import asyncio
import json

import pytest
from aiokafka.errors import KafkaTimeoutError, ProducerFenced

from stream.core.state import SHARD_KEY
from stream.worker.live import Owner
from stream.worker.recovery import FEED_KEY, OWNER_KEY, StateLog
from stream.worker.tools import EXIT_BAD_STATE, EXIT_TWIN
from tests.worker.fakes import T0, Bench, call, records, until


async def test_a_shard_is_fenced_before_its_state_is_read_and_sought_before_it_is_live() -> None:
    bench = Bench()
    steps: list[str] = []
    real_open, real_read = bench.kafka.epochs, bench.kafka.read

    async def read(settings: object, partition: int, log: StateLog, *, stable: bool = False) -> object:
        steps.append(f"read after {real_open[partition]} fences")
        return await real_read(bench.settings, partition, log)

    object.__setattr__(bench.tools, "read", read)
    await bench.assign(0)
    assert bench.group.asked == [("is_member", 0), ("seek", 0, 0), ("resume", 0)]
    assert steps == ["read after 1 fences"]


async def test_what_was_applied_survives_in_another_worker_exactly() -> None:
    bench = Bench()
    await bench.assign(0)
    await bench.take(bench.kafka.feed([call(f"e{i}", T0 + i) for i in range(20)]))
    assert await bench.flush()
    other = Bench(bench.kafka)
    await other.assign(0)
    shard = other.shards.live[0]
    assert (other.calls(), shard.core.applied) == (20, 19)
    assert shard.sequencer.next == 0, "the open bucket's ids are read again"
    await other.take(bench.kafka.source[0])
    assert other.calls() == 20


async def test_a_duplicate_across_a_restart_is_still_one() -> None:
    bench = Bench()
    await bench.assign(0)
    await bench.take(bench.kafka.feed([call("same", T0)]))
    await bench.flush()
    other = Bench(bench.kafka)
    await other.assign(0)
    await other.take(bench.kafka.source[0])
    await other.take(bench.kafka.feed([call("same", T0), call("new", T0)]))
    assert other.calls() == 2


async def test_events_are_acknowledged_only_once_their_transaction_is_committed() -> None:
    bench = Bench()
    await bench.assign(0)
    event = await bench.take(bench.kafka.feed([call("a", T0)]))
    assert not event.acked
    assert bench.shards.committed_offset(0) is None
    await bench.flush()
    assert event.acked
    assert bench.shards.committed_offset(0) == 1


async def test_a_failed_transaction_drops_the_shard_and_it_comes_back_from_the_log() -> None:
    bench = Bench()
    await bench.assign(0)
    await bench.take(bench.kafka.feed([call("a", T0)]))
    await bench.flush()
    event = await bench.take(bench.kafka.feed([call("b", T0)]))
    bench.kafka.fail_next.append(KafkaTimeoutError())
    first = bench.shards.live[0]
    assert not await bench.flush()
    assert first.broken
    assert not event.acked
    await until(lambda: bench.shards.ready(0) is not None)
    assert bench.shards.live[0] is not first
    await bench.take(bench.kafka.source[0])
    assert bench.calls() == 2
    assert bench.observer.counts["dropped"] == 1


async def test_the_first_records_after_a_takeover_are_written_without_waiting_for_the_pace_of_flushes() -> None:
    bench = Bench()
    await bench.assign(0)
    await bench.take(bench.kafka.feed([call("a", T0)]))
    shard = bench.shards.live[0]
    await until(lambda: shard.committed == 0)
    await bench.take(bench.kafka.feed([call("b", T0)]), begin=1)
    await asyncio.sleep(0)
    assert (shard.committed, shard.unflushed) == (0, 1), "the next ones wait for it"


async def test_a_zombie_writes_nothing_once_another_has_taken_over() -> None:
    zombie = Bench()
    await zombie.assign(0)
    assert await zombie.flush(), "else the first records are written at once"
    await zombie.take(zombie.kafka.feed([call("a", T0)]))
    heir = Bench(zombie.kafka)
    await heir.assign(0)
    await heir.take(zombie.kafka.source[0])
    assert await heir.flush()
    before = list(zombie.kafka.state[0])
    zombie.group.member = False
    assert not await zombie.flush()
    assert zombie.kafka.state[0] == before
    assert zombie.shards.ready(0) is None


async def test_a_ghost_that_is_no_member_does_not_fence_the_rightful_owner() -> None:
    ghost = Bench()
    await ghost.assign(0)
    heir = Bench(ghost.kafka)
    await heir.assign(0)
    ghost.group.member = False
    await ghost.take(ghost.kafka.feed([call("a", T0)]))
    assert not await ghost.flush()
    await until(lambda: ghost.group.asked.count(("is_member", 0)) >= 2)
    assert ghost.kafka.epochs[0] == 2, "nobody has fenced the heir"
    ghost.group.mine = set()
    await until(lambda: not any(not task.done() for task in ghost.shards._acquirer._tasks.values()))


async def test_the_older_of_two_twins_leaves_the_work_to_the_younger() -> None:
    older = Bench(instance_id="worker-0")
    await older.assign(0)
    younger = Bench(older.kafka, instance_id="worker-0")
    younger.shards.owner = younger.shards._acquirer._owner = Owner("worker-0", older.shards.owner.started_ms + 5)
    await younger.assign(0)
    assert await younger.flush(), "the owner's record is written even without traffic"
    assert OWNER_KEY in (await older.kafka.read(older.settings, 0)).worker
    assert not await older.flush()
    await until(lambda: bool(older.deaths))
    assert older.deaths[0][0] == EXIT_TWIN
    assert "worker-0" in older.deaths[0][1]
    assert older.kafka.epochs[0] == 2, "the younger one was not fenced"


async def test_the_younger_twin_takes_back_what_the_older_one_fenced() -> None:
    older = Bench(instance_id="worker-0")
    younger = Bench(older.kafka, instance_id="worker-0")
    younger.shards.owner = younger.shards._acquirer._owner = Owner("worker-0", older.shards.owner.started_ms + 5)
    await younger.assign(0)
    await older.assign(0)
    await older.flush()
    assert not await younger.flush()
    await until(lambda: younger.shards.ready(0) is not None)
    assert await younger.flush()
    assert younger.deaths == []


async def test_a_revoked_shard_is_flushed_and_kept_if_it_is_assigned_again() -> None:
    bench = Bench()
    await bench.assign(0)
    await bench.take(bench.kafka.feed([call("a", T0)]))
    shard = bench.shards.live[0]
    await bench.shards.on_revoked()
    assert shard.committed == 0
    assert bench.shards.ready(0) is None
    assert bench.shards.next_offset(0) is None
    await bench.assign(0)
    assert bench.shards.live[0] is shard
    assert bench.group.asked[-2:] == [("seek", 0, 1), ("resume", 0)]
    assert shard.owner_due, "the next flush shows whether the epoch is still ours"


async def test_a_shard_that_somebody_had_in_between_is_not_kept_for_long() -> None:
    bench = Bench()
    await bench.assign(0)
    await bench.flush()
    await bench.shards.on_revoked()
    other = Bench(bench.kafka)
    await other.assign(0)
    await bench.assign(0)
    assert not await bench.flush(), "without any traffic the epoch is tried"


async def test_a_revoked_shard_that_goes_elsewhere_is_closed() -> None:
    bench = Bench(partitions=2)
    await bench.assign(0, 1)
    shard = bench.shards.live[1]
    await bench.shards.on_revoked()
    await bench.assign(0)
    assert shard.broken
    await until(lambda: shard.journal.closed)
    assert set(bench.shards.live) == {0}


async def test_a_last_flush_that_hangs_is_bounded_and_the_shard_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.worker.partitions.LAST_FLUSH_SECONDS", 0.05)
    bench = Bench()
    await bench.assign(0)
    await bench.take(bench.kafka.feed([call("a", T0)]))
    bench.kafka.hang = True
    await bench.shards.on_revoked()
    assert bench.shards.live == {}
    bench.kafka.hang = False


async def test_a_rebalance_during_a_takeover_breaks_it_off_without_a_second_owner() -> None:
    bench = Bench()
    bench.group.mine = {0}
    bench.shards.on_assigned([0])
    await asyncio.sleep(0)
    await bench.shards.on_revoked()
    bench.shards.on_assigned([0])
    await until(lambda: bench.shards.ready(0) is not None)
    assert bench.kafka.epochs[0] <= 2
    assert bench.observer.counts["recovered"] == 1


async def test_an_unreachable_broker_is_tried_again_until_it_answers(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    answers = iter([OSError("connection refused")])
    real = bench.group.is_member

    async def is_member(partition: int) -> bool:
        for error in answers:
            raise error
        return await real(partition)

    bench.group.is_member = is_member  # type: ignore[method-assign]
    await bench.assign(0)
    assert "not taken over (will try again): OSError: connection refused" in caplog.text


async def test_a_state_of_other_settings_ends_the_worker_with_what_to_do() -> None:
    bench = Bench()
    await bench.assign(0)
    await bench.take(bench.kafka.feed([call("a", T0)]))
    await bench.flush()
    other = Bench(bench.kafka, bucket_seconds=300)
    other.group.mine = {0}
    other.shards.on_assigned([0])
    await until(lambda: bool(other.deaths))
    code, text = other.deaths[0]
    assert code == EXIT_BAD_STATE
    assert "bucket_seconds=60, and now it is bucket_seconds=300" in text
    assert "--rebuild" in text


async def test_records_that_retention_took_are_counted_and_raise_a_feed_alert() -> None:
    bench = Bench()
    await bench.assign(0)
    await bench.take(bench.kafka.feed([call(f"e{i}", T0 + i) for i in range(5)]))
    await bench.flush()
    bench.kafka.feed([call(f"f{i}", T0 + i) for i in range(10)])
    bench.kafka.source_start[0] = 12
    other = Bench(bench.kafka)
    await other.assign(0)
    assert other.observer.counts["gap"] == 7
    assert len(other.losses) == 1
    assert other.shards.live[0].sequencer.next == 12
    assert await other.flush()
    alerts = [json.loads(value) for _, value, _ in bench.kafka.topics[other.settings.alert_topic]]
    assert [(alert["kind"], alert["status"], alert["entity"]) for alert in alerts] == [
        ("feed", "opened", {"type": "partition", "id": "0"})
    ]


async def test_a_gap_is_counted_once_however_often_the_shard_moves_before_it_reads_on() -> None:
    bench = Bench()
    await bench.assign(0)
    await bench.take(bench.kafka.feed([call(f"e{i}", T0 + i) for i in range(5)]))
    await bench.flush()
    bench.kafka.feed([call(f"f{i}", T0 + i) for i in range(10)])
    bench.kafka.source_start[0] = 12
    first, second = Bench(bench.kafka), Bench(bench.kafka)
    real, failures = first.group.seek, [OSError("away")]

    async def seek(partition: int, offset: int) -> None:
        if failures:
            raise failures.pop()
        await real(partition, offset)

    first.group.seek = seek  # type: ignore[method-assign]
    await first.assign(0)
    assert first.observer.counts["gap"] == 7, "and not by the attempt that came to nothing"
    await first.shards.on_revoked()
    await second.assign(0)
    assert second.shards.live[0].sequencer.next == 12
    assert second.observer.counts["gap"] == 0
    assert second.losses == []
    assert second.shards.live[0].feed.open is not None
    await second.take(bench.kafka.source[0][12:])
    assert second.calls() == 8


async def test_an_open_feed_alert_survives_a_restart_and_resolves_in_sequence() -> None:
    bench = Bench()
    await bench.assign(0)
    await bench.take(bench.kafka.feed([call(f"e{i}", T0 + i) for i in range(5)]))
    await bench.flush()
    bench.kafka.source_start[0] = 5
    bench.kafka.feed([call("later", T0 + 9)])
    bench.kafka.source_start[0] = 6
    second = Bench(bench.kafka)
    await second.assign(0)
    await second.flush()
    assert FEED_KEY in (await bench.kafka.read(bench.settings, 0)).worker
    third = Bench(bench.kafka)
    await third.assign(0)
    await third.flush()
    third.shards.live[0].find("gap", None)
    await third.flush()
    alerts = [json.loads(value) for _, value, _ in bench.kafka.topics[bench.settings.alert_topic]]
    assert [(alert["sequence"], alert["status"]) for alert in alerts] == [(0, "opened"), (1, "resolved")]
    assert len({alert["alert_id"] for alert in alerts}) == 1


async def test_bad_records_become_dead_letters_in_the_same_transaction() -> None:
    bench = Bench()
    await bench.assign(0)
    await bench.take(bench.kafka.feed([call("a", T0), b"{", call("b", T0), b'[{"event_id": "c"}]']))
    before = bench.kafka.transactions
    await bench.flush()
    assert bench.kafka.transactions == before + 1
    letters = [json.loads(value) for _, value, _ in bench.kafka.topics[bench.settings.dead_letter_topic]]
    assert [(letter["reason"], letter["offset"], letter["element"]) for letter in letters] == [
        ("broken_json", 1, None),
        ("missing_field", 3, 0),
    ]
    assert bench.calls() == 2


async def test_dead_letters_are_not_written_again_when_ids_are_read_again() -> None:
    bench = Bench()
    await bench.assign(0)
    await bench.take(bench.kafka.feed([call("a", T0), b"{", call("b", T0)]))
    await bench.flush()
    other = Bench(bench.kafka)
    await other.assign(0)
    await other.take(bench.kafka.source[0])
    await other.flush()
    assert len(bench.kafka.topics[bench.settings.dead_letter_topic]) == 1


async def test_an_idle_step_is_persisted_before_it_takes_effect() -> None:
    bench = Bench()
    await bench.assign(0)
    await bench.take(bench.kafka.feed([call("a", T0)]))
    await bench.flush()
    shard = bench.shards.live[0]
    seen: list[float] = []
    real = shard.journal.write

    async def write(batches: object) -> None:
        seen.append(shard.core.watermark)
        await real(batches)  # type: ignore[arg-type]

    shard.journal.write = write  # type: ignore[method-assign,assignment]
    before = shard.core.watermark
    assert await bench.shards.step_idle(shard, before + 120)
    assert seen == [before]
    assert shard.core.watermark == before + 120


async def test_a_crash_between_an_idle_steps_commit_and_its_effect_changes_nothing() -> None:
    bench = Bench()
    await bench.assign(0)
    await bench.take(bench.kafka.feed([call("a", T0)]))
    shard = bench.shards.live[0]
    shard.core.announce(shard.core.watermark + 120)
    await bench.flush()
    other = Bench(bench.kafka)
    await other.assign(0)
    assert other.shards.live[0].core.watermark == shard.core.watermark + 120


async def test_no_record_is_applied_between_an_idle_steps_commit_and_its_effect() -> None:
    bench = Bench()
    await bench.assign(0)
    await bench.take(bench.kafka.feed([call("a", T0)]))
    await bench.flush()
    shard = bench.shards.live[0]
    bench.kafka.hang = True
    step = asyncio.create_task(bench.shards.step_idle(shard, shard.core.watermark + 600))
    await asyncio.sleep(0.01)
    taken = asyncio.create_task(bench.take(bench.kafka.feed([call("b", T0 + 1)])))
    await asyncio.sleep(0.02)
    assert bench.calls() == 1
    bench.kafka.hang = False
    assert await step
    await taken
    assert bench.shards.live[0].core.applied == 1


async def test_stopping_flushes_closes_and_leaves_the_group() -> None:
    bench = Bench(partitions=2)
    await bench.assign(0, 1)
    shards = list(bench.shards.live.values())
    await bench.take(bench.kafka.feed([call("a", T0)]))
    assert await bench.shards.stop()
    assert all(shard.journal.closed for shard in shards)
    assert bench.group.left
    assert shards[0].committed == 0
    assert bench.shards.live == {}


async def test_a_stop_in_which_something_cannot_be_written_says_so() -> None:
    bench = Bench()
    await bench.assign(0)
    await bench.take(bench.kafka.feed([call("a", T0)]))
    bench.kafka.fail_next.append(OSError())
    assert not await bench.shards.stop()
    assert bench.group.left


async def test_a_stop_does_not_wait_for_a_journal_whose_closing_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.worker.partitions.CLOSE_SECONDS", 0.05)
    bench = Bench(partitions=2)
    await bench.assign(0, 1)

    async def close(*, fast: bool = False) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(bench.shards.live[0].journal, "close", close)
    assert not await bench.shards.stop()
    assert bench.group.left


async def test_a_stop_in_the_midst_of_a_rebalance_whose_last_flush_hangs_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stream.worker.partitions.LAST_FLUSH_SECONDS", 0.05)
    bench = Bench()
    await bench.assign(0)
    await bench.take(bench.kafka.feed([call("a", T0)]))
    bench.kafka.hang = True
    revoked = asyncio.create_task(bench.shards.on_revoked())
    await asyncio.sleep(0.01)
    assert not await bench.shards.stop()
    await revoked
    assert bench.group.left
    bench.kafka.hang = False


async def test_a_state_that_cannot_be_packed_drops_the_shard_instead_of_losing_a_part() -> None:
    bench = Bench()
    await bench.assign(0)
    await bench.take(bench.kafka.feed([call("a", T0)]))
    shard = bench.shards.live[0]

    def changes() -> list[tuple[bytes, bytes]]:
        raise OverflowError("too large")

    shard.core.changes = changes  # type: ignore[method-assign]
    assert not await bench.flush()
    await until(lambda: bench.shards.ready(0) is not None)
    await bench.take(bench.kafka.source[0])
    assert bench.calls() == 1


async def test_the_flusher_writes_every_shard_at_its_pace() -> None:
    bench = Bench(partitions=2)
    await bench.assign(0, 1)
    task = asyncio.create_task(bench.shards.run())
    await bench.take(bench.kafka.feed([call("a", T0)], partition=0))
    await bench.take(bench.kafka.feed([call("a", T0)], partition=1))
    await until(lambda: all(shard.committed == 0 for shard in bench.shards.live.values()))
    bench.shards.stopping = True
    await task


async def test_nothing_is_written_while_nothing_changes() -> None:
    bench = Bench()
    await bench.assign(0)
    await bench.flush()
    before = bench.kafka.transactions
    assert await bench.flush()
    assert bench.kafka.transactions == before


async def test_the_owner_of_the_shard_stands_on_the_state_topic() -> None:
    bench = Bench(instance_id="worker-7")
    await bench.assign(0)
    await bench.take(bench.kafka.feed([call("a", T0)]))
    await bench.flush()
    log = await bench.kafka.read(bench.settings, 0)
    assert Owner.unpack(log.worker[OWNER_KEY]).instance == "worker-7"
    assert SHARD_KEY in log.states
    assert OWNER_KEY not in log.states


def test_a_damaged_owner_record_is_an_error_that_says_so() -> None:
    with pytest.raises(ValueError, match="damaged"):
        Owner.unpack(b"[]")


async def test_a_fenced_flush_says_one_line(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    await bench.assign(0)
    await bench.take(records([call("a", T0)]))
    bench.kafka.fail_next.append(ProducerFenced())
    await bench.flush()
    bench.group.mine = set()
    dropped = [record for record in caplog.records if "dropped" in record.message]
    assert len(dropped) == 1
    assert dropped[0].exc_info is None
