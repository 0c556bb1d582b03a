"""Groups: which hours of which keys make a campaign, and what looks like one and is none."""

from __future__ import annotations

import json
import math
import random
from functools import cache
from itertools import pairwise

import pytest

from stream.core.campaign import MOST_OWNERS, Campaign, grade
from stream.core.campaigns import MOST_JOINED, Campaigns
from stream.core.evidence import (
    ALL,
    COUNT,
    DEPARTURES,
    FIRST,
    HOT_Z,
    IS_YOUNG,
    KEYS,
    LEVEL,
    LEVEL_SQUARES,
    NEW,
    PACE,
    REFUSALS,
    REFUSED,
    USED,
    USUAL,
    WEIGHT,
    WEIGHTED_HOT,
    YOUNG,
    YOUNG_TOKENS,
    YOUNG_USUAL,
    Z_4H,
    Z_40M,
    Cell,
    Evidence,
    Member,
    leaf_of,
)  # fmt: skip
from stream.core.explain import WARNING, short
from stream.core.group import (
    DAYS,
    ELEVATED,
    LEVELS,
    MEASURED,
    OF_DAYS,
    SUSTAINED,
    YESTERDAY,
    GroupState,
    Judged,
)  # fmt: skip
from stream.core.grouppriors import VERSION, GroupPriors
from stream.core.grouprecord import Written, pack, unpack_group, unpack_written
from stream.core.groups import Groups
from stream.core.hours import Hour
from stream.core.linksrecord import Traits
from stream.core.overlap import Overlap
from stream.core.pace import CLIP_SD
from stream.core.priors import Normal
from stream.core.shardrecord import StateError
from stream.core.suspects import Suspect, named
from stream.settings import Settings

SETTINGS = Settings(partitions=1)
PER_HOUR = 12
START = 490_000
"""An hour of event time, in hours since 1970."""
HISTORY = 14 * 24
CALL_TOKENS = 2000.0
DEVIATION = 0.5
"""Of a key's departures."""
POPULATION = Normal(2.0, 1.5)
PRIORS = GroupPriors.from_json(
    json.dumps(
        {
            "version": VERSION,
            "laws": {name: [0.8, 0.6] for name in MEASURED} | {"respawn": [0.1, 0.3]},
            "tails": {name: [[0.0, 0.6], [3.0, 0.05], [7.0, 0.001]] for name in MEASURED}
            | {"days": [[0.4, 0.3], [1.3, 0.03], [2.6, 0.0005]], "sustained": [[0.1, 0.3], [0.9, 0.03], [1.7, 0.0005]]}
            | {"pivot": [[0.0, 0.6], [2.0, 0.05], [5.0, 0.001]], "respawn": [[1.0, 0.002], [8.0, 0.0001]]},
            "tail": [[0.5, 0.5], [2.0, 0.05], [3.0, 0.001]],
        }
    )
)


def key(number: int, **traits: str) -> Traits:
    return Traits(**{"org": f"org-{number}", "client": "sdk-1", **traits})


def said(key_id: str, traits: Traits, rng: random.Random, factor: float = 1.0, number: int = 0) -> Cell:
    """An established key's hour: three calls are due, more or less of them come."""
    sums = [0.0] * COUNT
    due = 3.0
    calls = sum(rng.random() < due * factor / 12 for _ in range(12))
    sums[KEYS] = sums[ALL] = 1.0
    sums[WEIGHT] = 1 / 8
    departure = rng.gauss(math.log(factor), DEVIATION)
    for place in range(PACE, COUNT, 2):
        sums[place] = sums[WEIGHT] / DEVIATION**2
        sums[place + 1] = sums[place] * departure
    sums[USED], sums[USUAL] = calls * CALL_TOKENS, due * CALL_TOKENS
    z = rng.gauss(0.8 if factor > 1 else 0.0, 1.0)
    sums[Z_40M] = sums[Z_4H] = z
    sums[WEIGHTED_HOT] = sums[WEIGHT] if z > HOT_Z else 0.0
    member = Member(key_id, z, sums[USED] - sums[USUAL], 0.5, 6.0, 0, departure, DEVIATION**-2)
    return Cell(number, [traits], sums, {"m": 1.0}, [leaf_of(key_id)], [member])


def young(key_id: str, traits: Traits, calls: int, *, first: bool, number: int = 0) -> Cell:
    """A new key's hour."""
    sums = [0.0] * COUNT
    tokens = calls * CALL_TOKENS
    sums[ALL] = sums[YOUNG] = 1.0
    sums[FIRST] = float(first)
    sums[USED] = sums[YOUNG_TOKENS] = tokens
    sums[USUAL] = sums[YOUNG_USUAL] = tokens
    sums[LEVEL], sums[LEVEL_SQUARES] = 3.0, 9.0
    member = Member(key_id, 0.0, 0.0, 3.0, 6.0, IS_YOUNG | (NEW if first else 0))
    return Cell(number, [traits], sums, {"m": 1.0}, [leaf_of(key_id)], [member])


def tell(groups: Groups, hour: int, cells: list[Cell]):
    """The cells of an hour, all in its first bucket, and that it is complete."""
    for number, cell in enumerate(cells):
        cell.number = number
    groups.take([Evidence(0, hour * PER_HOUR, cells), Evidence(0, (hour + 1) * PER_HOUR - 1, [], complete=True)])
    return groups.close().alerts


def crowd(rng: random.Random, factor: float = 1.0) -> list[Cell]:
    """A hundred keys of as many organisations; the first twenty share a prompt template."""
    return [
        said(f"key-{n}", key(n, template="shared") if n < 20 else key(n), rng, factor if n < 20 else 1.0)
        for n in range(100)
    ]


@cache
def history():
    groups = Groups(SETTINGS, PRIORS)
    rng = random.Random(1)
    for hour in range(HISTORY):
        assert tell(groups, START + hour, crowd(rng)) == []
    return tuple(groups.changes())


def experienced() -> Groups:
    groups = Groups(SETTINGS, PRIORS)
    groups.take_up(history())
    groups.taken_up()
    return groups


def after(hours: int, make):
    """The alerts of hours behind the history; `make` gives the cells of each."""
    groups, rng = experienced(), random.Random(2)
    alerts = []
    for hour in range(hours):
        alerts += tell(groups, START + HISTORY + hour, make(hour, rng))
    return alerts


def test_nothing_is_said_of_keys_that_go_on_as_usual():
    assert after(7 * 24, lambda hour, rng: crowd(rng)) == []


def test_many_keys_that_each_take_a_little_more_are_one_campaign():
    alerts = after(72, lambda hour, rng: crowd(rng, 1.6))
    opened = [alert for alert in alerts if alert.status == "opened"]
    assert [(alert.entity.type, alert.entity.id, alert.kind) for alert in opened] == [
        ("template", "shared", "campaign")
    ]
    last = alerts[-1]
    names = {member.key_id for member in last.members.top}
    assert names <= {f"key-{n}" for n in range(20)}
    assert len(names) >= 16, "of three days only one hour each counts here, and those are by chance"
    # 0.6 x 3 calls of 2,000 tokens an hour of each of twenty
    assert last.excess_tokens == pytest.approx(
        0.6 * 3 * 2000 * 20 * (last.window.end / 3600 - START - HISTORY), rel=0.3
    )
    assert "none of them would have been seen alone" in opened[0].summary


def test_a_campaigns_severity_has_the_reason_of_today():
    told = [alert for alert in after(48, lambda hour, rng: crowd(rng, 3.0)) if alert.severity == "high"]
    assert len(told) > 1
    assert told[-1].excess_tokens > 1.5 * told[0].excess_tokens
    for alert in told:
        assert alert.severity_reason.endswith(f"{short(alert.excess_tokens)} tokens above the baselines")


def test_a_rise_of_everybody_is_nobodys_campaign():
    def make(hour, rng):
        return [said(f"key-{n}", key(n, template="shared") if n < 20 else key(n), rng, 1.6) for n in range(100)]

    assert after(72, make) == []


def test_one_heavy_member_makes_no_campaign():
    def make(hour, rng):
        cells = crowd(rng)
        sums = cells[3].sums
        # what a key can say is bounded where it speaks (`pace.Pace`)
        for place in range(PACE, COUNT, 2):
            sums[place + 1] = sums[place] * CLIP_SD * DEVIATION
        sums[USED] *= 1000
        return cells

    assert after(12, make) == []


def test_a_campaign_that_shows_in_two_traits_is_told_once():
    def make(hour, rng):
        network = "192.0.2.0/24"
        return [
            said(
                f"key-{n}", key(n, template="shared", network=network) if n < 20 else key(n), rng, 1.8 if n < 20 else 1
            )
            for n in range(100)
        ]

    opened = [alert for alert in after(96, make) if alert.status == "opened"]
    assert len(opened) == 1


def test_a_part_that_stands_out_later_and_further_is_a_campaign_of_its_own():
    """A client of many that once was unusual must not swallow what happens to a few of its keys days later."""

    def make(hour, rng):
        cells = []
        for n in range(280):
            traits = key(n, client="many" if n < 130 else "sdk-1", network="192.0.2.0/24" if n < 10 else None)
            early, late = 10 <= n < 130 and hour < 30, n < 10 and hour >= 72
            factor = 3.5 if late else 1.45 if early else 1.0
            cells.append(said(f"key-{n}", traits, rng, factor))
        return cells

    opened = [alert for alert in after(108, make) if alert.status == "opened"]
    assert [(alert.entity.type, alert.entity.id) for alert in opened[:1]] == [("client", "many")]
    later = [alert for alert in opened if alert.started_at >= (START + HISTORY + 72) * 3600]
    assert [alert.entity.id for alert in later if alert.entity.type == "network"] == ["192.0.2.0/24"]
    assert {member.key_id for member in later[-1].members.top} == {f"key-{n}" for n in range(10)}


def test_its_members_are_those_of_the_group_that_shows_it_best():
    """A campaign that is first seen in a large group is named by the small one that shows it clearly since."""

    def make(hour, rng):
        cells = []
        for n in range(140):
            traits = key(n, client="many" if n < 40 else "sdk-1", network="192.0.2.0/24" if n < 24 else None)
            cells.append(said(f"key-{n}", traits, rng, 2.5 if n < 24 else 1.0))
        return cells

    alerts = after(60, make)
    opened = [alert for alert in alerts if alert.status == "opened"]
    assert len(opened) == 1
    assert alerts[-1].members.shared_traits.items() >= {"client": "many", "network": "192.0.2.0/24"}.items()
    assert next(iter(alerts[-1].members.shared_traits)) == "network"  # it shows it most clearly
    assert {member.key_id for member in alerts[-1].members.top} == {f"key-{n}" for n in range(24)}


def test_new_accounts_that_are_alike_are_a_campaign_though_none_has_a_past():
    def make(hour, rng):
        accounts = [
            young(f"new-{n}", Traits(org=f"fresh-{n}", template="farm"), 2, first=hour == n % 6)
            for n in range(30)
            if hour >= n % 6
        ]
        return [*crowd(rng), *accounts]

    alerts = after(48, make)
    opened = [alert for alert in alerts if alert.status == "opened"]
    assert [(alert.entity.type, alert.entity.id) for alert in opened] == [("template", "farm")]
    assert "are new and alike" in opened[0].summary
    assert {member.key_id for member in alerts[-1].members.top} == {f"new-{n}" for n in range(30)}


def test_new_accounts_of_one_client_on_several_networks_are_one_campaign():
    """Two networks have no key in common, but each has with the client."""

    def make(hour, rng):
        accounts = [
            young(
                f"new-{n}",
                Traits(org=f"fresh-{n}", client="farm", network=f"192.0.{n % 3}.0/24"),
                2,
                first=hour == n % 6,
            )
            for n in range(45)
            if hour >= n % 6
        ]
        return [*crowd(rng), *accounts]

    opened = [alert for alert in after(72, make) if alert.status == "opened"]
    assert len(opened) == 1


def test_old_keys_that_take_more_in_a_network_of_new_accounts_are_a_campaign_of_their_own():
    """New ones in a network are not why a template's old keys, all of it, use more for days."""

    def make(hour, rng):
        place = {"network": "192.0.2.0/24"}
        olds = [
            said(f"key-{n}", key(n, template="shared", **place), rng, 2.0 if hour >= 40 else 1.0) for n in range(20)
        ]
        others = [said(f"key-{n}", key(n), rng) for n in range(20, 100)]
        news = [young(f"new-{n}", Traits(org=f"new-{n}", **place), 2, first=hour == 0) for n in range(30)]
        return [*olds, *others, *news]

    opened = [alert for alert in after(90, make) if alert.status == "opened"]
    assert opened[0].entity.id == "192.0.2.0/24"
    assert "shared" in {alert.entity.id for alert in opened[1:]}
    named_last = {member.key_id for member in opened[-1].members.top}
    assert named_last <= {f"key-{n}" for n in range(20)}


def test_new_accounts_where_a_group_has_moved_between_models_are_a_campaign_of_their_own():
    """What is open for another reason, and stands out less, must not hide them."""

    def make(hour, rng):
        cells = crowd(rng)
        for cell in cells[:20]:
            cell.models = {"other": 1.0}
        if hour >= 48:
            cells += [
                young(f"new-{n}", Traits(org=f"fresh-{n}", client="sdk-1", template="shared"), 3, first=hour == 48)
                for n in range(30)
            ]
        return cells

    alerts = after(80, make)
    steps = [(alert.kind, alert.status) for alert in alerts if alert.status != "updated"]
    assert steps == [("pivot", "opened"), ("pivot", "resolved"), ("campaign", "opened")]
    resolved = next(alert for alert in alerts if alert.status == "resolved")
    assert resolved.status_reason == "it shows something else by now: newcomers"
    assert {member.key_id for member in alerts[-1].members.top} == {f"new-{n}" for n in range(30)}


def test_new_accounts_that_bring_another_model_along_are_one_campaign():
    """However far the move of models stands out: else the two would end and begin by turns."""

    def make(hour, rng):
        cells = crowd(rng)
        cells += [
            young(f"new-{n}", Traits(org=f"fresh-{n}", client="sdk-1", template="shared"), 3, first=hour == 0)
            for n in range(6)
        ]
        for cell in [*cells[:20], *cells[-6:]] if hour >= 30 else []:
            cell.models = {"other": 1.0}
        return cells

    alerts = after(60, make)
    moved = [name for alert in alerts for name in (one.name for one in alert.channels) if name == "pivot"]
    assert [alert.kind for alert in alerts if alert.status != "updated"] == ["campaign"]
    assert moved, "the move is told among what speaks"
    assert {member.key_id for member in alerts[-1].members.top} == {f"new-{n}" for n in range(6)}
    assert "are new and alike" in alerts[-1].summary


def test_new_accounts_that_are_used_no_more_are_over_within_days_and_do_not_come_again():
    def make(hour, rng):
        accounts = [
            young(f"new-{n}", Traits(org=f"fresh-{n}", client="sdk-1", template="shared"), 2, first=hour == 0)
            for n in range(30)
            if hour < 30
        ]
        return [*crowd(rng), *accounts]

    alerts = after(24 * 8, make)
    assert [alert.status for alert in alerts if alert.status != "updated"] == ["opened", "resolved"]
    assert alerts[-1].updated_at <= (START + HISTORY + 30 + 5 * 24) * 3600


def test_one_key_that_is_replaced_is_no_respawn():
    """A key is revoked and issued anew every day somewhere."""

    def make(hour, rng):
        cells = crowd(rng)
        if hour == 1:
            cells[0].members = [cells[0].members[0]._replace(notes=REFUSED)]
            cells[0].sums[REFUSALS] = 1.0
        if hour > 1:
            cells = cells[1:]
        if hour >= 4:
            again = Traits(org="o", client="sdk-1", template="shared")
            cells.append(young("again", again, 3, first=hour == 4))
        return cells

    assert after(72, make) == []


def narrowing(hour: int, rng: random.Random) -> list[Cell]:
    """Many keys of a client take a little more for hours, then ten of them, who share a network, far more."""
    cells = []
    for n in range(140):
        traits = key(n, client="many" if n < 60 else "sdk-1", network="192.0.2.0/24" if n < 10 else None)
        factor = (1.6 if n < 60 else 1.0) if hour < 8 else (4.0 if n < 10 and hour < 70 else 1.0)
        cells.append(said(f"key-{n}", traits, rng, factor))
    return cells


def test_the_group_that_shows_a_campaign_best_names_its_members_until_it_is_over():
    alerts = after(24 * 8, narrowing)
    assert [alert.entity.id for alert in alerts if alert.status == "opened"] == ["many"]
    ten = {f"key-{n}" for n in range(10)}
    late = [alert for alert in alerts if alert.updated_at > (START + HISTORY + 50) * 3600]
    assert late[-1].status == "resolved"
    for alert in late:
        assert {member.key_id for member in alert.members.top} == ten, alert.status
        assert "most clearly those of the network" in alert.summary
    assert late[-1].members.top == late[-2].members.top, "what calm hours show makes nobody innocent"


def judged(group: tuple[str, str], score: float, *, present: bool = True) -> Judged:
    state = GroupState(*group, START, START)
    state.begin(PRIORS.laws)
    sums = [0.0] * COUNT
    sums[ALL] = 20.0
    return Judged(state, Hour(sums, []), score, [("sustained", score)], present)


@pytest.mark.parametrize(("first", "same"), [(0, True), (8, True), (14, False)])
def test_a_group_that_would_name_mostly_the_same_keys_shows_the_same_campaign(first: int, same: bool):
    """Few keys in common, for most of the one are not in the other; but those that stand out in both are the same."""
    main, other = ("network", "n"), ("template", "t")
    high, low = Suspect(90.0, 40, 1e6, 0, START), Suspect(0.0, 40, 0.0, 0, START)
    suspects = {
        main: {f"key-{n}": high for n in range(16)} | {f"calm-{n}": low for n in range(16)},
        other: {f"key-{n}": high for n in range(first, first + 10)} | {"x": low, "y": low},
    }
    campaigns = {main: Campaign(main, "campaign", START - 3, 0.0, 0, suspects=suspects[main])}
    said_now = {main: judged(main, 4.0), other: judged(other, 4.0)}
    overlap = Overlap(START, said_now, [], campaigns, [other], suspects)
    assert overlap.same(other, hold=2.0) == (main if same else None)


@pytest.mark.parametrize(
    ("known", "others", "z", "score", "lead", "theirs", "explained"),
    [
        (0, 10, 2.0, 3.1, "sustained", 9.0, False),
        (2, 8, 2.0, 3.1, "sustained", 9.0, True),
        (2, 8, 2.0, 3.1, "sustained", 3.0, False),
        (2, 8, 2.0, 6.0, "sustained", 9.0, False),
        (4, 6, 2.0, 6.0, "sustained", 9.0, True),
        (4, 6, 2.0, 6.0, "newcomers", 9.0, False),
        (6, 60, 0.4, 9.0, "sustained", 10.0, False),  # many who take a little more each
        (6, 60, -1.0, 9.0, "sustained", 10.0, False),  # nobody's doing: it cannot be said whose
    ],
)
def test_a_group_that_a_campaigns_members_lift_over_the_line_is_not_told_of(
    known: int, others: int, z: float, score: float, lead: str, theirs: float, explained: bool
):
    """An open campaign that stands out further names so many of it, at 2; what the others bring has to be enough."""
    main, other = ("network", "n"), ("template", "t")
    high, low = Suspect(90.0, 40, 1e6, 0, START), Suspect(0.0, 40, 0.0, 0, START)
    suspects = {main: {f"key-{n}": high for n in range(20)} | {f"calm-{n}": low for n in range(16)}}
    campaigns = Campaigns(SETTINGS, PRIORS)
    campaigns.open_score, campaigns.hold_score = 2.9, 2.0
    campaigns.open[main] = Campaign(main, "campaign", START - 30, 0.0, 0, suspects=suspects[main])
    campaigns.suspects.update(suspects)
    one = judged(other, score)
    one.speaking = [(lead, score)]
    its = [Member(f"key-{n}", 2.0, 0.0, 1.5, 4.0, 0) for n in range(known)]
    its += [Member(f"other-{n}", z, 0.0, 1.5, 4.0, 0) for n in range(others)]
    one.said.cells.append(Cell(0, [key(1)], one.said.sums, {}, [], its))
    hour = {main: judged(main, theirs), other: one}
    overlap = Overlap(START, hour, [], campaigns.open, [other], suspects)
    assert overlap.explained(other, campaigns.hold_score, campaigns.open_score) == explained
    states = {group: each.state for group, each in hour.items()}
    alerts, _ = campaigns.follow(START, hour, [], states, groups=10, incomplete=False)
    told = [alert.entity.id for alert in alerts if alert.status == "opened"]
    assert told == ([] if explained else ["t"])
    assert not campaigns.open[main].joined, "it is no trait of it"


def test_a_campaign_is_graded_by_the_group_that_shows_it_best():
    """A vendor's accounts are of one organisation, those of the cloud that they come from of many."""
    campaigns, cloud, network = Campaigns(SETTINGS, PRIORS), ("asn", "1"), ("network", "n")
    wide, narrow = judged(cloud, 9.0), judged(network, 12.0)
    wide.state.orgs, narrow.state.orgs = [1, 2, 3, 4], [1]
    states = {cloud: wide.state, network: narrow.state}
    campaigns.follow(START, {cloud: wide}, [], states, groups=10, incomplete=False)
    campaigns.open[cloud].excess = campaigns.open[cloud].net = 1e9
    campaigns._join(cloud, network)
    campaigns.follow(START + 1, {cloud: wide, network: narrow}, [], states, groups=10, incomplete=False)
    assert campaigns.open[cloud].severity == WARNING
    assert campaigns.open[cloud].severity_reason == "its keys are of 1 organisation: mostly its own doing"
    narrow.state.orgs = [1, 2, 3]
    campaigns.follow(START + 2, {cloud: wide, network: narrow}, [], states, groups=10, incomplete=False)
    assert campaigns.open[cloud].severity > WARNING


def test_a_campaign_opens_in_an_hour_that_is_unusual_itself():
    """A window of days goes on to remember what is over."""
    campaigns, group = Campaigns(SETTINGS, PRIORS), ("network", "n")
    for present, opened in ((False, 0), (True, 1)):
        one = judged(group, 9.0, present=present)
        alerts, _ = campaigns.follow(START, {group: one}, [], {group: one.state}, groups=10, incomplete=False)
        assert len(alerts) == opened


def test_what_is_settled_begins_anew_with_what_is_usual():
    state = GroupState("template", "shared", START, START)
    state.begin(PRIORS.laws)
    sums = [0.0] * COUNT
    sums[WEIGHT] = sums[WEIGHTED_HOT] = 20.0
    sums[PACE::2] = [40.0] * len(sums[PACE::2])
    sums[PACE + 1 :: 2] = [30.0] * len(sums[PACE::2])
    everybody, calm = GroupState("all", "", START, START), Hour([0.0] * COUNT, [])
    everybody.begin(PRIORS.laws)
    everybody.take(START, Hour([5 * value for value in sums[:PACE]] + [500.0, 0.0] * (len(sums[PACE:]) // 2), []))
    state.take(START, Hour(sums, []))
    state.standardised([3.0] * len(MEASURED), START, PRIORS.laws, False)
    before = state.statistics(calm, state.levels(calm, everybody, calm), everybody, POPULATION)
    state.settle()
    after = state.statistics(calm, state.levels(calm, everybody, calm), everybody, POPULATION)
    assert min(before[2 : ELEVATED + 1]) > 2.0
    assert max(abs(value) for value in after) < 1.0
    assert state.sustained == [0.0, 0.0, 0.0]


def test_an_old_campaign_has_no_score_of_todays_scale():
    campaign = Campaign(("org", "o"), "campaign", 0, 0.0, 0, score=4.5, channels={"newcomers": 4.0, "calls_1d": 1.0})
    former = bytes([2]) + pack(Written(campaign, {}))[1:]
    read = unpack_written(former).campaign
    assert read is not None
    assert (read.score, read.is_of_new) == (0.0, True)


def test_of_many_groups_that_show_a_campaign_the_best_is_kept():
    campaigns = Campaigns(SETTINGS, PRIORS)
    main, best = ("org", "o"), ("network", "n0")
    campaigns.open[main] = Campaign(main, "campaign", 0, 0.0, 0, best=best)
    for n in range(40):
        campaigns._join(main, ("network", f"n{n}"))
    assert best in campaigns.open[main].joined
    assert campaigns.of(best) is campaigns.open[main]
    assert len(campaigns.open[main].joined) == MOST_JOINED


def test_what_is_mostly_one_organisations_wakes_nobody():
    def graded(orgs: dict[str, float]) -> tuple[int, str]:
        campaign = Campaign(("network", "n"), "campaign", 0, 0.0, 0, score=9.0, excess=1e9, orgs=orgs)
        state = GroupState("network", "n", 0, 0, orgs=[1, 2, 3, 4])
        return grade(campaign, 5.0, state, 5)

    severity, reason = graded({"launches": 7.0, "a": 1.0, "b": 1.0, "c": 1.0})
    assert (severity, reason) == (WARNING, "70% of it is one organisation's: mostly its own doing")
    assert graded({"a": 1.0, "b": 1.0, "c": 1.0})[0] > WARNING
    assert graded({})[0] > WARNING


def test_a_few_per_cent_more_of_a_large_group_wake_nobody():
    def graded(expected: float, **other: str) -> tuple[int, str]:
        campaign = Campaign(("client", "c"), "campaign", 0, 0.0, 0, score=9.0, excess=1e9, expected=expected, **other)
        return grade(campaign, 5.0, GroupState("client", "c", 0, 0, orgs=[1, 2, 3, 4]), 5)

    assert graded(2e10) == (WARNING, "excess is 5% of what its keys usually take, too little for a page")
    assert graded(0.9e10)[0] > WARNING
    assert graded(2e10, lead="newcomers")[0] > WARNING, "what old keys of the group take does not count"


def test_of_many_organisations_those_that_take_most_are_remembered():
    campaign = Campaign(("network", "n"), "campaign", 0, 0.0, 0)
    rng = random.Random(1)
    for hour in range(40):
        cells = [said(f"key-{n}", key(n + 10 * hour), rng, 1.0 if n else 50.0) for n in range(10)]
        campaign.count_owners(Hour([0.0] * COUNT, cells))
    assert len(campaign.orgs) == MOST_OWNERS
    assert 0 < campaign.own_share() < 0.5


def test_of_new_accounts_only_their_own_use_says_whose_doing_it_is():
    """A vendor's new accounts come from a cloud whose old keys of many organisations use more than usual, too."""
    rng = random.Random(1)
    vendor = [young(f"new-{n}", Traits(org="vendor"), 5, first=False) for n in range(20)]
    others = [said(f"key-{n}", key(n), rng, 4.0) for n in range(40)]
    hour = Hour([0.0] * COUNT, [*vendor, *others])
    of_new = Campaign(("asn", "1"), "campaign", 0, 0.0, 0, lead="newcomers")
    of_all = Campaign(("asn", "1"), "campaign", 0, 0.0, 0, lead="sustained")
    for campaign in (of_new, of_all):
        campaign.count_owners(hour)
    assert of_new.own_share() == 1.0
    assert of_all.own_share() < 0.5


def test_a_campaign_ends_three_days_after_its_last_hour():
    alerts = after(24 * 7, lambda hour, rng: crowd(rng, 2.0 if hour < 40 else 1.0))
    assert [alert.status for alert in alerts if alert.status != "updated"] == ["opened", "resolved"]
    assert alerts[-1].resolved_at is not None
    assert alerts[-1].status_reason == "nothing unusual for 3 d"


def test_what_goes_on_is_told_again_within_a_day_with_its_reason():
    """Whoever is told of it takes it for over else, in the calm days before it is resolved, too."""
    alerts = after(24 * 7, lambda hour, rng: crowd(rng, 1.5 if hour < 60 else 1.0))
    times = [alert.updated_at for alert in alerts]
    assert alerts[-1].status == "resolved"
    assert max(later - earlier for earlier, later in pairwise(times)) <= 20 * 3600
    assert alerts[0].status_reason.startswith("seen by ")
    assert any(alert.status_reason.startswith("still open after") for alert in alerts)
    went_on = [
        alert for alert in alerts if alert.status == "updated" and alert.window.end / 3600 <= START + HISTORY + 60
    ]
    assert went_on
    assert all(" still take " in alert.summary for alert in went_on)
    taken = [alert.excess_tokens for alert in alerts]
    assert taken == sorted(taken), "what is gone does not come back"
    assert alerts[-1].excess_output_tokens <= taken[-1]
    calm = [alert for alert in alerts if alert.status == "updated"][-1]
    assert " have shown nothing unusual for " in calm.summary


def test_the_new_keys_that_a_group_gains_beside_a_campaign_of_old_ones_are_not_it():
    """What shows it best says whether new keys are it: a group of many always gains some."""
    old = Suspect(z=90.0, times=40, excess=1e6, notes=0, seen=0)
    new = Suspect(z=0.0, times=40, excess=1e3, notes=IS_YOUNG, seen=0)
    suspects = {f"old-{n}": old for n in range(8)} | {f"calm-{n}": new for n in range(8)}
    by_level = Campaign(("org", "o"), "campaign", 0, 0.0, 0, lead="sustained")
    by_new = Campaign(("org", "o"), "campaign", 0, 0.0, 0, lead="newcomers")
    assert set(named(suspects, by_level.family)) == {f"old-{n}" for n in range(8)}
    assert set(named(suspects, by_new.family)) == {f"calm-{n}" for n in range(8)}


def test_a_group_may_be_forgotten_in_the_hour_in_which_its_campaign_ends():
    groups, rng = experienced(), random.Random(2)
    hour, alerts = 0, []
    while not any(alert.status == "resolved" for alert in alerts):
        if alerts:  # it is open: from now on there is room for no group but those with a campaign
            groups.settings = SETTINGS.model_copy(update={"max_groups": 0})
        alerts += tell(groups, START + HISTORY + hour, crowd(rng, 2.0 if hour < 40 else 1.0))
        hour += 1
    written = dict(groups.changes())
    assert any(name[:1] == b"g" and value is None for name, value in written.items())
    again = Groups(SETTINGS, PRIORS)
    again.take_up([*history(), *written.items()])
    again.taken_up()
    assert len(again) == len(groups)


def test_keys_that_take_up_what_blocked_ones_did_are_a_respawn():
    def make(hour, rng):
        cells = crowd(rng)
        if hour == 1:
            for cell in cells[:8]:
                member = cell.members[0]
                cell.members = [member._replace(notes=REFUSED)]
                cell.sums[REFUSALS] = 1.0
        if hour > 1:
            cells = cells[8:]
        if hour >= 4:
            cells += [
                young(f"again-{n}", Traits(org=f"o-{n}", client="sdk-1", template="shared"), 3, first=hour == 4)
                for n in range(8)
            ]
        return cells

    kinds = {alert.kind for alert in after(24, make)}
    assert "respawn" in kinds


def test_hours_wait_for_every_shard_that_is_expected():
    groups = Groups(SETTINGS, PRIORS)
    groups.expect([0, 1])
    rng = random.Random(1)
    tell(groups, START, crowd(rng))
    tell(groups, START + 1, crowd(rng))
    assert groups.next_hour == -1 or groups.next_hour == START
    assert groups.behind() == {1: 0}
    groups.take([Evidence(1, (START + 1) * PER_HOUR - 1, [], complete=True)])
    assert groups.close().hours == 1
    assert groups.next_hour == START + 1


def test_an_hour_that_is_closed_without_a_shard_says_so():
    groups, rng = experienced(), random.Random(2)
    groups.expect([1])
    alerts = []
    for hour in range(72):
        alerts += tell(groups, START + HISTORY + hour, crowd(rng, 1.8))
    assert alerts == []
    groups.announce(START + HISTORY + 72)
    alerts = groups.advance().alerts
    assert alerts
    assert all("a shard has been missing" in alert.severity_reason for alert in alerts)


@pytest.mark.parametrize(("version", "levels", "statistics"), [(1, 7, 11), (2, 5, 9), (3, 5, 9)])
def test_what_a_former_version_knew_of_a_group_is_kept_but_for_its_departures(version, levels, statistics):
    """It had other levels of days; the first one's 5th and 7th statistic there are no more."""
    state = GroupState("template", "shared", START, START)
    state.begin(PRIORS.laws)
    state.hot, state.judged, state.mix = 0.2, 77, {"m": [0.5, 0.5]}
    state.maxima = [[float(place), 1.0, 0.0, 9.0] for place in range(statistics)]
    state.usual, state.spread, state.windows = [0.1] * levels, [0.7] * levels, [3.0] * 6
    read = unpack_group(bytes([version]) + pack(state)[1:], PRIORS.laws)
    assert (read.hot, read.judged, read.mix) == (0.2, 77, {"m": [0.5, 0.5]})
    assert [law[0] for law in read.maxima[:2]] == [0.0, 1.0]
    assert [law[0] for law in read.maxima[LEVELS:]] == [statistics - place for place in (4.0, 3.0, 2.0, 1.0)]
    assert len(read.maxima) == len(MEASURED)
    assert len(read.usual) == len(read.spread) == LEVELS
    assert read.spread[:2] == [0.7, 0.7]
    assert read.windows == [0.0] * (2 * DEPARTURES)
    state.maxima = state.maxima[:1]
    with pytest.raises(StateError, match="damaged"):
        unpack_group(bytes([1]) + pack(state)[1:], PRIORS.laws)


def test_what_lasts_goes_on_while_yesterday_stands_out():
    state = GroupState("template", "shared", START, START)
    state.begin(PRIORS.laws)
    values = [0.0] * len(MEASURED)
    values[OF_DAYS] = [3.0, 3.0, 3.0]
    found = [state.standardised(values, START + hour, PRIORS.laws, False) for hour in range(100)]
    lasting = [one[SUSTAINED] for one in found]
    assert lasting == sorted(lasting)
    assert lasting[0] < 0.3 < 1.9 < lasting[-1] < 3.0
    assert all(one[DAYS] == 3.0 for one in found)
    assert state.is_present(SUSTAINED, found[-1])
    values[YESTERDAY] = 0.0
    over = state.standardised(values, START + 100, PRIORS.laws, False)
    assert over[SUSTAINED] > 1.8
    assert not state.is_present(SUSTAINED, over)
    assert not state.is_present(DAYS, over)
