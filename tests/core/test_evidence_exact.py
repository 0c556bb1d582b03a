"""What shards tell of their keys: the same whatever happens, whole before every flush, and safe to read."""

from __future__ import annotations

import random

import msgspec
import pytest
from core_streams import HOUR, PRIORS, SETTINGS, START, calls, few, log_of, new_shard
from hypothesis import given, settings
from hypothesis import strategies as st
from shard_traffic import DAY, feed, merged, steady
from shard_traffic import START as BEGIN
from shard_traffic import call as call_at
from shard_traffic import shard as of_traffic

from stream.core.evidence import COUNT, NEVER, PACE, Cell, Evidence, Member
from stream.core.evidencerecord import (
    FIRST_COUNT,
    PACE_ONLY,
    RECORD_BYTES,
    SECOND_COUNT,
    EvidenceError,
    evidence_records,
    pack_evidence,
    unpack_evidence,
)
from stream.core.links import MAX_TRAITS, Links, groups_of
from stream.core.linksrecord import Traits
from stream.core.shard import Shard
from stream.events import Call

seeds = st.integers(0, 10_000)
QUARTERS = SETTINGS.model_copy(update={"bucket_seconds": 900, "allowed_lateness_seconds": 300.0})


def shared(seed, days=3):
    """Calls whose keys share networks and clients, change them now and then, and are refused for some hours."""
    rng = random.Random(seed)
    out = []
    for time, call in calls(seed, days):
        refused = call.key_id == "key-1" and int(time // HOUR) % 24 in (7, 8)
        traits = {
            "client_ip": rng.choice((None, "192.0.2.0/24", "198.51.100.0/24")),
            "user_agent": rng.choice(("a", "b", f"made-up-{rng.randrange(50)}")),
            "org_id": call.key_id[-1],
        }
        out.append((time, msgspec.structs.replace(call, status=429 if refused else 200, **traits)))
    return out


def shard():
    return Shard(0, QUARTERS, partition_of=lambda key_id: 0, priors=PRIORS)


def told_by(log, cuts, crashes=()):
    """Everything that a shard tells, read in chunks that end at `cuts`; at some of them it is flushed and taken over.

    What comes of a chunk is written with the state behind it, or lost with it.
    """
    one, state, told = shard(), {}, []
    for cut in [*cuts, len(log) - 1]:
        step = one.observe([a for a in log if min(one.read_from, one.applied + 1) <= a[0] <= cut], cut)
        told += step.evidence
        state.update(one.changes())
        if cut in crashes:
            one = shard()
            told += one.load(state.items()).evidence
    return told


def whole(parts):
    """Evidence by bucket: how it is cut into pieces does not matter."""
    return [(part.bucket, part.complete, part.cells) for part in parts]


@pytest.mark.slow
@few
@given(seed=seeds, cuts=st.lists(st.integers(0, 400), max_size=12, unique=True), data=st.data())
def test_chunks_and_crashes_change_nothing_of_what_a_shard_tells(seed, cuts, data):
    log = log_of(shared(seed))
    cuts = sorted(cut for cut in cuts if cut < len(log) - 1)
    crashes = data.draw(st.sets(st.sampled_from(cuts))) if cuts else set()
    assert whole(told_by(log, cuts, crashes)) == whole(told_by(log, []))


@given(seed=seeds)
@settings(max_examples=20)
def test_evidence_comes_in_order_and_none_behind_the_word_that_a_bucket_is_complete(seed):
    done, last = -1, -1
    for part in told_by(log_of(shared(seed)), []):
        assert part.bucket > done
        assert part.bucket >= last
        last = part.bucket
        if part.complete:
            done = part.bucket
    assert done > 0


def test_a_key_whose_open_bucket_an_older_version_wrote_is_told_of_as_one_of_no_group():
    log = log_of(calls(3, days=6, keys=1))
    shard = new_shard()
    shard.observe(log[:200], log[199][0])
    (key,) = shard._keys.held.values()
    key.links = Links()
    for bucket in key.open.values():
        bucket.links = 0
    step = shard.observe(log[200:], log[-1][0])
    told = [cell for part in step.evidence for cell in part.cells]
    assert told[0].traits == [Traits()]
    assert {name for name, _ in evidence_records(step.evidence)} == {b"none:", b"shard:0"}


def test_a_step_hands_on_all_that_it_has_gathered():
    """What waits in memory between two flushes would be lost with a crash."""
    one = shard()
    for arrival in log_of(shared(4)):
        one.observe([arrival], arrival[0])
        assert one._gathering._words == {}


def test_a_shard_tells_that_it_has_no_record_and_then_where_it_begins():
    one = new_shard()
    (empty,) = one.tell_empty().evidence
    assert (empty.bucket, empty.complete, empty.cells) == (NEVER, True, [])
    time = START + 5.5 * HOUR
    (begins,) = one.observe([(0, time, Call(event_id="e", time=time, key_id="k"))], 0).evidence
    assert (begins.bucket, begins.complete) == (int(time // HOUR) - 1, True)
    assert one.tell_empty().evidence == []


def test_a_key_tells_each_hour_how_far_its_last_day_lay_above_the_weeks_before():
    """Nothing in its first week, nor after a day without a call."""
    one = of_traffic()
    stream = steady("k", days=30, every=600.0)
    calls_of = {day: [item for item in stream if item[0] // DAY == BEGIN // DAY + day] for day in range(30)}
    told: dict[int, set[tuple[float, float]]] = {}
    for day, its in calls_of.items():
        if day == 22:
            continue
        more = [call_at(time + 1, "k", input_tokens=c.input_tokens, output_tokens=c.output_tokens) for time, c in its]
        step = feed(one, merged(its, more[: len(more) // 2]) if day >= 26 else its)
        for part in step.evidence:
            for cell in part.cells:
                for member in cell.members:
                    told.setdefault(part.bucket * 300 // int(DAY) - int(BEGIN // DAY), set()).add(member[-2:])
    assert told[3] == {(0.0, 0.0)}
    assert told[23] == {(0.0, 0.0)}, "nobody knows what it would have used"
    assert all(len(its) == 1 for its in told.values()), "the same all day"
    ((usual, precision),) = told[25]
    ((more_then, _),) = told[27]
    assert usual == pytest.approx(0.0, abs=0.05)
    assert more_then == pytest.approx(0.4, abs=0.06)
    assert 1 / 0.4 < precision < 1 / 0.12, "steadier than its like, as far as three weeks can tell"


# ------------------------------------------------------------------ as bytes

PART = Evidence(
    3,
    42,
    [
        Cell(
            0,
            [Traits(org="o", asn=64_500)],
            [0.5] * COUNT,
            {"m": 0.5},
            [7, 2**62],
            [Member("k\n", 1.5, -3.0, 0.25, -1.0, 5, 0.75, 2.0)],
        )
    ],
)
GOLDEN = {
    version: f"0{version}" + f"94032a9196009196a16fc0cdfbf4c0c0c0dc00{count:02x}" + "cb3fe0000000000000" * count
    + f"81a16dcb3fe00000000000009207cf400000000000000091{begins}a26b0acb3ff8000000000000cbc008000000000000"
    f"cb3fd0000000000000cbbff000000000000005{of_day}c2"
    for version, count, begins, of_day in (
        (1, FIRST_COUNT, "96", ""),
        (2, SECOND_COUNT, "96", ""),
        (3, COUNT, "96", ""),
        (4, COUNT, "98", "cb3fe8000000000000cb4000000000000000"),
    )
}  # fmt: skip


def test_the_bytes_of_evidence_of_every_release_are_read():
    assert pack_evidence(PART).hex() == GOLDEN[4]
    assert unpack_evidence(bytes.fromhex(GOLDEN[4]), 8) == PART
    (told,) = PART.cells[0].members
    for version, known in ((1, PACE), (2, PACE_ONLY), (3, COUNT)):
        (cell,) = unpack_evidence(bytes.fromhex(GOLDEN[version]), 8).cells
        assert cell.sums == [0.5] * known + [0.0] * (COUNT - known)
        assert cell.members == [told._replace(departure=0.0, precision=0.0)]


def test_what_is_told_is_keyed_by_the_organisation_or_else_by_what_there_is():
    by_network = Cell(1, [Traits(network="192.0.2.0/24")], [0.0] * COUNT, {}, [1], [])
    whole = Evidence(3, 42, [*PART.cells, by_network], complete=True)
    found = [(key, unpack_evidence(value, 8)) for key, value in evidence_records([whole])]
    assert [key for key, _ in found] == [b"network:192.0.2.0/24", b"org:o", b"shard:3"]
    assert [part.complete for _, part in found] == [False, False, True]
    assert [cell for _, part in found for cell in part.cells] == [by_network, *PART.cells]


def test_what_is_too_large_for_a_record_is_told_in_several():
    cells = [Cell(n, [Traits(org="o", client=f"{n}" * 40)], [0.5] * COUNT, {}, [n], []) for n in range(2500)]
    records = list(evidence_records([Evidence(0, 5, cells)]))
    assert len(records) > 1
    assert all(len(value) <= RECORD_BYTES for _, value in records)
    assert [cell for _, value in records for cell in unpack_evidence(value, 8).cells] == cells


def packed(**changes):
    """A piece of evidence whose only cell is not as it should be."""
    good = {"number": 0, "traits": [Traits()], "sums": [0.0] * COUNT, "models": {}, "leaves": [], "members": []}
    return pack_evidence(Evidence(0, 5, [Cell(**{**good, **changes})]))


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "no version 0"),
        (b"", "no version 0"),
        (b"\x05\x94", "written by a newer Overdraw"),
        (b"\x01", "cannot be read"),
        (b"\x01\x93", "cannot be read"),
        (pack_evidence(PART)[:-9], "cannot be read"),
        (b"\x01" + b"\x91" * 100_000, "cannot be read"),
        (pack_evidence(Evidence(8, 5, [])), "no shard 8"),
        (pack_evidence(Evidence(-1, 5, [])), "no shard -1"),
        (pack_evidence(Evidence(0, 2**50, [], complete=True)), "no bucket"),
        (pack_evidence(Evidence(0, -7, [], complete=True)), "no bucket"),
        (pack_evidence(Evidence(0, NEVER, PART.cells)), "no bucket"),
        (packed(sums=[0.0] * (COUNT - 1)), "sums of a cell"),
        (packed(sums=[float("nan")] * COUNT), "sums of a cell"),
        (packed(models={"m": float("inf")}), "models of a cell"),
        (packed(traits=[]), "no traits"),
        (packed(leaves=[0] * 17), "too many keys"),
        (packed(members=[Member("k", float("inf"), 0, 0, 0, 0)]), "a member"),
        (packed(members=[Member("k", 0, 0, 0, 0, 0, float("nan"), 1)]), "a member"),
        (packed(members=[Member("k", 0, 0, 0, 0, 0, 1e9, 1)]), "a member"),
        (packed(members=[Member("k", 0, 0, 0, 0, 0, 1, 1e9)]), "a member"),
        (packed(members=[Member("k", 0, 0, 0, 0, 0, 1, -0.5)]), "a member"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(value, why):
    with pytest.raises(EvidenceError, match=why):
        unpack_evidence(value, 8)


@given(data=st.binary(max_size=300))
def test_no_bytes_do_more_than_be_refused(data):
    try:
        unpack_evidence(b"\x01" + data, 8)
    except EvidenceError:
        return


# ------------------------------------------------------------------ made-up traits


@pytest.mark.slow
def test_a_key_with_a_million_made_up_clients_remembers_few_and_belongs_to_no_client():
    """A caller chooses its user agent."""
    links, last = Links(), 0
    for number in range(1_000_000):
        traits = Traits(client=str(number))
        links.use(traits, last)
        last = links.bits[traits]
        if number % 100_000 == 99_999:
            assert len(links.known) == len(links.seen) == len(links.bits) == MAX_TRAITS
            assert groups_of(tuple(links.known), ()) == ()
