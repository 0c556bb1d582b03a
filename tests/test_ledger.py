"""The extraction ledger: each incident as its last alert tells it, each token once, each at its price."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_alerts import HOUR, LARGE, SMALL, T0, alert, group

from stream.alerts import Member, Members, ModelShare
from stream.ledger import Ledger, LedgerFullError, models_of, rows_of, total_of
from stream.prices import Prices

PRICES = Prices("""
[[prices]]
models = ["m-large"]
input = 2.0
cached_input = 0.2
output = 10.0
reasoning = 20.0
""")
NO_PARTS = dict.fromkeys(
    (
        "excess_input_tokens",
        "excess_cached_input_tokens",
        "excess_reasoning_tokens",
        "excess_low",
        "excess_high",
        "calls",
    )
) | {"models": []}


def ledger_of(*alerts):
    ledger = Ledger()
    for each in alerts:
        ledger.take(each)
    return ledger


def lives():
    """Incidents of some keys, each with its steps in order."""
    step = st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 5_000_000))
    return st.lists(step, min_size=1, max_size=6).map(
        lambda steps: [
            alert(f"key-{k}", n, start=10.0 * begin, excess_tokens=float(tokens), status="updated")
            for n, (k, begin, tokens) in enumerate(steps)
        ]
    )


@given(alerts=lives(), data=st.data())
def test_neither_order_nor_repeats_of_alerts_matter(alerts, data):
    again = data.draw(st.lists(st.sampled_from(alerts), max_size=4))
    mixed = data.draw(st.permutations([*alerts, *again]))
    assert ledger_of(*mixed).entries() == ledger_of(*alerts).entries()


@given(alerts=lives())
def test_the_highest_sequence_of_each_incident_is_what_counts(alerts):
    last = {}
    for each in alerts:
        last[each.alert_id] = each
    entries = {entry.alert_id: entry for entry in ledger_of(*alerts).entries()}
    assert {key: entry.sums.excess for key, entry in entries.items()} == {k: a.excess_tokens for k, a in last.items()}


def test_two_different_alerts_of_one_sequence_give_the_same_in_either_order():
    one, other = alert(excess_tokens=1.0), alert(excess_tokens=2.0)
    assert ledger_of(one, other).entries() == ledger_of(other, one).entries()


def test_what_the_detector_says_of_itself_is_no_extraction():
    assert ledger_of(alert("3", type="partition", kind="feed")).entries() == []


def test_a_ledger_is_bounded_and_goes_on_with_what_it_knows():
    ledger = Ledger(most=1)
    ledger.take(alert())
    ledger.take(alert(sequence=1))
    with pytest.raises(LedgerFullError, match="more than 1 incidents"):
        ledger.take(alert("key-2"))


@pytest.mark.parametrize(
    ("since", "until", "found", "why"),
    [
        (-math.inf, math.inf, 2, "all"),
        (T0 + 2 * HOUR, math.inf, 1, "what had ended by then is out; what is open goes on"),
        (T0 + 90 * 60, math.inf, 2, "what reaches beyond counts whole"),
        (-math.inf, T0 + HOUR, 1, "the other one began later"),
        (-math.inf, T0, 0, "nothing had begun"),
        (T0 + 99 * HOUR, math.inf, 1, "an open incident may have taken more since it was last told"),
    ],
)
def test_incidents_are_chosen_by_when_they_lasted(since, until, found, why):
    ledger = ledger_of(alert(), alert("key-2", start=5.0, status="opened"))
    assert len(ledger.entries(since=since, until=until)) == found, why


def test_incidents_of_a_key_are_one_row_with_its_times_and_sums():
    (row,) = rows_of(ledger_of(alert(), alert(start=10.0)).entries())
    assert (row.entity.id, len(row.entries), row.since, row.until) == ("key-1", 2, T0, T0 + 12 * HOUR)
    sums = row.sums
    assert (sums.calls, sums.excess, sums.input, sums.output, sums.reasoning) == (500, 2e6, 8e5, 12e5, 4e5)
    assert (sums.low, sums.high) == (18e5, 21e5), "a key's baseline errs on the same side: ends add up"
    assert len(rows_of(ledger_of(alert(), alert(start=10.0)).entries(), by_entity=False)) == 2


def test_what_an_older_alert_does_not_say_is_not_known_rather_than_zero():
    (row,) = rows_of(ledger_of(alert(), alert(start=10.0, **NO_PARTS)).entries())
    sums = row.sums
    assert (sums.calls, sums.input, sums.cached_input, sums.reasoning, sums.low, sums.high) == (None,) * 6
    assert (sums.excess, sums.output) == (2e6, 12e5)


# ------------------------------------------------------------------ each token once


def counted(*alerts):
    """Tokens of each entity that enter totals."""
    return {row.entity.id: round(row.counted) for row in rows_of(ledger_of(*alerts).entries())}


def test_a_members_own_incident_counts_within_its_group():
    assert counted(group(), alert(excess_tokens=300_000)) == {"acme": 1_000_000, "key-1": 0}
    (row,) = [row for row in rows_of(ledger_of(group(), alert()).entries()) if row.entity.id == "key-1"]
    assert row.entries[0].within == group().alert_id


@pytest.mark.parametrize(
    ("alerts", "shares", "why"),
    [
        ([group(), alert()], {"acme": 1_000_000, "key-1": 600_000}, "its own says 1 M, of which the group has 0.4 M"),
        ([group(), alert(start=2.0)], {"acme": 1_000_000, "key-1": 1_000_000}, "one after the other"),
        ([group(), alert("key-9")], {"acme": 1_000_000, "key-9": 1_000_000}, "no member"),
        (
            [group(), alert(start=0.0, hours=1.0), alert(start=1.0, hours=1.0)],
            {"acme": 1_000_000, "key-1": 1_600_000},
            "two incidents of a member share what the group says of it",
        ),
        (
            [group(), group("big", {"key-1": 5e6}, excess_tokens=5e6)],
            {"big": 5_000_000, "acme": 600_000},
            "two groups with one member in common: the larger one has it",
        ),
        (
            [alert(status="updated", hours=9.0), alert(start=1.0, hours=9.0, excess_tokens=1.5e6)],
            {"key-1": 1_500_000},
            "an incident that was never resolved, for its state was made anew, and the one that follows it",
        ),
        (
            [alert(hours=30.0), alert(start=40.0, excess_since=T0)],
            {"key-1": 2_000_000},
            "a slow window reaches over the incident before, whose end has cleared it",
        ),
    ],
)
def test_a_token_that_two_incidents_hold_counts_once(alerts, shares, why):
    assert counted(*alerts) == shares, why
    assert total_of(rows_of(ledger_of(*alerts).entries())).excess == pytest.approx(sum(shares.values())), why


members = st.dictionaries(st.sampled_from(["key-1", "key-2", "key-3"]), st.floats(0, 1e6), min_size=1)
starts = st.floats(0, 4)
own = st.tuples(st.sampled_from(["key-1", "key-2", "key-4"]), starts, st.floats(0, 1e6)).map(
    lambda made: alert(made[0], start=made[1], excess_tokens=made[2])
)
grouped = st.tuples(st.sampled_from(["acme", "umbrella"]), members, starts).map(
    lambda made: group(made[0], made[1], start=made[2], excess_tokens=sum(made[1].values()))
)


@given(alerts=st.lists(own | grouped, max_size=5), data=st.data())
def test_totals_are_neither_less_than_the_largest_nor_more_than_all(alerts, data):
    rows = rows_of(ledger_of(*alerts).entries())
    total = total_of(rows).excess
    assert total <= sum(row.sums.excess for row in rows) * (1 + 1e-9)
    assert total >= max((entry.sums.excess for row in rows for entry in row.entries), default=0.0) * (1 - 1e-9)
    mixed = rows_of(ledger_of(*data.draw(st.permutations(alerts))).entries())
    assert total_of(mixed) == total_of(rows)


def test_errors_of_keys_add_up_as_squares():
    total = total_of(rows_of(ledger_of(alert(), alert("key-2")).entries()))
    assert total.low == pytest.approx(2e6 - math.hypot(1e5, 1e5))
    assert total.high == pytest.approx(2e6 + math.hypot(5e4, 5e4))


# ------------------------------------------------------------------ of whom


def test_a_key_is_told_its_part_of_the_groups_that_name_it():
    entries = ledger_of(group(), alert(excess_tokens=300_000), alert("key-2")).entries(key="key-1")
    assert sorted((e.kind, e.entity.id, e.sums.excess, e.sums.output) for e in entries) == [
        ("campaign", "key-1", 400_000, 240_000),
        ("surge", "key-1", 300_000, 600_000),
    ]
    assert total_of(rows_of(entries)).excess == pytest.approx(400_000)


def test_a_members_output_is_its_own_where_the_group_tells_it():
    top = [Member(key_id="key-1", z=2.0, excess_tokens=400_000, excess_output_tokens=390_000)]
    (entry,) = ledger_of(group(members=Members(count=40, top=top))).entries(key="key-1")
    assert (entry.sums.output, entry.sums.input) == (390_000, 10_000)


def test_an_organisation_is_its_groups_and_the_keys_that_they_name():
    client = group("f00d", {"key-7": 1e6}, type="client", start=50.0)
    theirs = client.model_copy(update={"members": client.members.model_copy(update={"shared_traits": {"org": "acme"}})})
    ledger = ledger_of(group(), theirs, alert(), alert("key-7"), alert("key-9"), group("other", {"key-9": 1.0}))
    found = ledger.entries(org="acme")
    assert {e.entity.id for e in found} == {"acme", "f00d", "key-1", "key-7"}


# ------------------------------------------------------------------ money


def cost_of(prices, **changes):
    (row,) = rows_of(ledger_of(alert(**changes)).entries(), prices)
    return row.sums


def test_each_part_has_its_price_and_the_interval_follows_the_tokens():
    sums = cost_of(PRICES)
    assert sums.cost == pytest.approx(0.3 * 2 + 0.1 * 0.2 + 0.4 * 10 + 0.2 * 20)
    assert (sums.cost_low, sums.cost_high) == (pytest.approx(sums.cost * 0.9), pytest.approx(sums.cost * 1.05))
    assert sums.unpriced == 0


def test_what_the_gateway_says_it_costs_goes_before_a_price_file():
    assert cost_of(PRICES, excess_cost_usd=7.5).cost == 7.5
    assert cost_of(None, excess_cost_usd=7.5).cost == 7.5


def test_dollars_are_never_added_to_another_currency():
    euros = Prices('currency = "EUR"\n[[prices]]\nmodels = ["*"]\ninput = 1.0\noutput = 1.0\n')
    assert cost_of(euros, excess_cost_usd=7.5).cost == pytest.approx(1.0)


def test_what_has_no_price_is_said():
    mixed = [ModelShare(id=LARGE, share=0.75), ModelShare(id=SMALL, share=0.25)]
    sums = cost_of(PRICES, models=mixed)
    assert sums.cost == pytest.approx(0.75 * cost_of(PRICES).cost)
    assert sums.unpriced == pytest.approx(250_000)
    assert (cost_of(PRICES, models=mixed[1:]).cost, cost_of(None).cost) == (None, None)
    assert cost_of(None).unpriced == 1_000_000


def test_without_parts_all_but_the_output_is_input():
    assert cost_of(PRICES, **{**NO_PARTS, "models": [ModelShare(id=LARGE, share=1.0)]}).cost == pytest.approx(
        0.4 * 2 + 0.6 * 10
    )


def test_models_are_named_by_the_price_file():
    mixed = [ModelShare(id=LARGE, share=0.75), ModelShare(id=SMALL, share=0.25)]
    entries = ledger_of(alert(models=mixed), alert("key-2", excess_tokens=3e6)).entries()
    assert models_of(entries, PRICES) == {"m-large": pytest.approx(0.9375), SMALL: pytest.approx(0.0625)}
