from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from stream.worker.sequencer import SEEK_PATIENCE_SECONDS, Sequencer, Take


def test_chunks_in_order_are_taken_whole() -> None:
    sequencer = Sequencer(0)
    assert sequencer.take(0, 0, 9, 0.0) == Take(start=0)
    sequencer.applied(9)
    assert sequencer.take(10, 10, 19, 0.0) == Take(start=10)


def test_what_was_applied_is_trimmed_off_a_chunk_that_overlaps() -> None:
    assert Sequencer(5).take(0, 0, 9, 0.0) == Take(start=5)


def test_a_chunk_that_was_applied_is_passed_over_without_a_seek() -> None:
    assert Sequencer(10).take(0, 0, 9, 0.0) == Take()


def test_a_chunk_ahead_of_a_rewind_asks_for_one_seek_and_no_more() -> None:
    sequencer = Sequencer(10)
    assert sequencer.take(50, 50, 59, 0.0) == Take(seek=10)
    assert sequencer.take(60, 60, 69, 0.1) == Take()
    assert sequencer.take(70, 70, 79, 0.2) == Take()
    assert sequencer.seeks == 1


def test_a_seek_that_was_lost_is_asked_for_again_after_a_while() -> None:
    sequencer = Sequencer(10)
    sequencer.take(50, 50, 59, 0.0)
    assert sequencer.take(60, 60, 69, SEEK_PATIENCE_SECONDS) == Take(seek=10)


def test_a_hole_that_persists_after_the_seek_is_accepted_and_counted() -> None:
    sequencer = Sequencer(10)
    sequencer.take(50, 50, 59, 0.0)
    assert sequencer.take(10, 12, 19, 0.1) == Take(start=12, skipped=2)
    assert (sequencer.holes, sequencer.skipped, sequencer.next) == (1, 2, 12)


def test_a_marker_between_contiguous_fetches_is_no_reason_to_seek() -> None:
    sequencer = Sequencer(10)
    assert sequencer.take(10, 11, 11, 0.0) == Take(start=11, skipped=1)
    assert sequencer.seeks == 0


def test_a_stale_chunk_from_before_the_seek_does_not_end_the_wait_for_it() -> None:
    sequencer = Sequencer(10)
    sequencer.take(50, 50, 59, 0.0)
    sequencer.take(60, 60, 69, 0.1)
    assert sequencer.take(10, 10, 59, 0.2) == Take(start=10)
    sequencer.applied(59)
    assert sequencer.take(60, 60, 69, 0.3) == Take(start=60)


class Source:
    """A log with holes, a fetcher, and a way to the sequencer that loses, keeps back and repeats chunks."""

    def __init__(self, offsets: list[int]) -> None:
        self.offsets = offsets
        self.position = 0
        self.begin: int | None = 0

    def fetch(self, count: int) -> tuple[int, list[int]] | None:
        chunk = [offset for offset in self.offsets if offset >= self.position][:count]
        if not chunk:
            return None
        begin = chunk[0] if self.begin is None else self.begin
        self.position = self.begin = chunk[-1] + 1
        return begin, chunk

    def seek(self, offset: int) -> None:
        self.position = self.begin = offset

    def reassign(self, offset: int) -> None:
        """A rebalance: reading starts at the group's offset, and nobody knows what lies before it."""
        self.position, self.begin = offset, None


ACTIONS = st.sampled_from(["deliver", "deliver", "deliver", "lose", "hold", "release", "reassign", "rewind"])


@settings(max_examples=300)
@given(
    present=st.lists(st.booleans(), min_size=1, max_size=60),
    actions=st.lists(st.tuples(ACTIONS, st.integers(1, 7)), max_size=60),
)
def test_every_record_is_applied_once_and_in_order_whatever_happens_on_the_way(
    present: list[bool], actions: list[tuple[str, int]]
) -> None:
    offsets = [offset for offset, there in enumerate(present) if there]
    source, sequencer, applied, now = Source(offsets), Sequencer(0), list[int](), 0.0
    held: list[tuple[int, list[int]]] = []

    def deliver(begin: int, chunk: list[int]) -> None:
        take = sequencer.take(begin, chunk[0], chunk[-1], now)
        if take.seek is not None:
            source.seek(take.seek)
        for offset in chunk:
            if take.start is not None and offset >= take.start:
                applied.append(offset)
                sequencer.applied(offset)

    for action, number in actions:
        now += 0.3
        if action == "release" and held:
            deliver(*held.pop(0))
        elif action == "reassign":
            source.reassign(min(number * 9, len(present)))
        elif action == "rewind":
            source.seek(sequencer.next)
        else:
            fetched = source.fetch(number)
            if fetched is not None and action == "hold":
                held.append(fetched)
            elif fetched is not None and action == "deliver":
                deliver(*fetched)
    assert applied == offsets[: len(applied)], "something was applied twice, out of order, or left out"
    # a rebalance always ends with a seek to the next offset; then the way is free again
    source.seek(sequencer.next)
    for _ in range(200):
        now += 0.3
        fetched = source.fetch(5)
        if fetched is None:
            break
        deliver(*fetched)
    assert applied == offsets, "the sequencer is stuck, or something was lost"
