"""Campaign worlds: the same calls for the same seed, labels that are true to the token, and twins that take nothing."""

from __future__ import annotations

from collections import Counter
from functools import cache

import msgspec
import numpy as np
import pytest

from stream.events import Call
from stream.gateways.traits import reduce_traits
from stream.lab.worlds.campaigns.established import PIVOT_SHARE
from stream.lab.worlds.campaigns.families import (
    CALM_ROUNDS,
    CAMPAIGNS,
    ROUNDS,
    SHORT_ROUNDS,
    campaign_families,
    twin_families,
)
from stream.lab.worlds.campaigns.labels import Campaign
from stream.lab.worlds.campaigns.newcomers import BURST_CALLS
from stream.lab.worlds.campaigns.sharing import NEW_MODEL, SHARINGS
from stream.lab.worlds.campaigns.twins import TWINS
from stream.lab.worlds.campaigns.world import HISTORY_DAYS, Branch, CampaignWorld, Day
from stream.lab.worlds.tally import BUCKET_SECONDS

SEED, KEYS, DAYS = 5, 150, 4


@cache
def world(profile: str = "B") -> CampaignWorld:
    return CampaignWorld(SEED, profile, keys=KEYS, days=DAYS)


@cache
def branch(row: str) -> Branch:
    families = campaign_families((row,), most_new=40) if row in CAMPAIGNS else twin_families((row,))
    return world().branch(7, families)


@cache
def calm() -> Branch:
    return world().branch(7, ())


def calls_of(days: tuple[Day, ...]) -> list[Call]:
    return [call for day in days for call in day.calls()]


@cache
def calm_sums() -> Counter[tuple[str, int]]:
    return sums(calls_of(calm().days))


def label(row: str) -> Campaign:
    (found,) = branch(row).campaigns
    return found


def sums(calls: list[Call]) -> Counter[tuple[str, int]]:
    found: Counter[tuple[str, int]] = Counter()
    for call in calls:
        tokens = (call.input_tokens or 0) + (call.output_tokens or 0)
        found[call.key_id, int((float(call.time) - world().start) // BUCKET_SECONDS)] += tokens
    return +found


def test_the_same_arguments_give_the_same_calls_and_another_seed_others() -> None:
    def bytes_of(seed: int) -> bytes:
        made = CampaignWorld(seed, "C", keys=40, days=3).branch(2, campaign_families(("burst: 12,000 calls",)))
        return msgspec.json.encode(calls_of(made.days))

    assert bytes_of(1) == bytes_of(1)
    assert bytes_of(1) != bytes_of(2)


@pytest.mark.parametrize("profile", SHARINGS)
def test_calls_come_in_order_with_ids_of_their_own_and_traits_as_a_shard_gets_them(profile: str) -> None:
    here = world(profile)
    days = [next(here.history()), *here.branch(1, campaign_families(("new accounts: >= 20",), most_new=30)).days]
    calls = calls_of(tuple(days))
    times = [float(call.time) for call in calls]
    assert times == sorted(times)
    assert here.start <= times[0]
    assert times[-1] < here.branch_start + DAYS * 86_400
    assert len({call.event_id for call in calls}) == len(calls)
    for call in calls[::50]:
        before = msgspec.structs.asdict(call)
        reduce_traits(call)
        assert msgspec.structs.asdict(call) == before
    assert sum(call.calls for call in calls) > len(calls)


def test_an_unknown_profile_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="there are B, C, D"):
        CampaignWorld(1, "A")


def test_keys_share_as_customers_do() -> None:
    members = next(CampaignWorld(1, "B").history()).members()
    sizes = {
        kind: sorted((len(keys) for (of, _), keys in members.items() if of == kind), reverse=True)
        for kind in ("org", "network", "asn", "client", "template", "model")
    }
    assert np.median(sizes["org"]) <= 3
    assert sizes["org"][0] >= 30
    assert sizes["client"][0] > 60
    assert len(sizes["client"]) <= 16
    assert np.median(sizes["template"]) <= 2
    assert len(sizes["model"]) == NEW_MODEL


@pytest.mark.parametrize("row", [row for row in CAMPAIGNS if not row.startswith(("pivot", "respawn"))])
def test_a_campaign_takes_what_its_label_says_bucket_by_bucket_and_nothing_else_changes(row: str) -> None:
    found = label(row)
    more = sums(calls_of(branch(row).days))
    more.subtract(calm_sums())
    extra = found.extra
    said = {
        (found.members[member], bucket): tokens
        for member, bucket, tokens in zip(
            extra.member.tolist(), extra.bucket.tolist(), extra.tokens.tolist(), strict=True
        )
    }
    assert {cell: tokens for cell, tokens in more.items() if tokens} == said
    assert found.tokens > 0
    times = world().start + extra.bucket * BUCKET_SECONDS
    assert found.start - BUCKET_SECONDS < times.min()
    assert times.max() < found.end
    assert not found.benign


@pytest.mark.parametrize("row", CAMPAIGNS)
def test_members_show_what_links_them(row: str) -> None:
    found = label(row)
    seen: dict[tuple[str, str], set[str]] = {}
    for day in branch(row).days:
        if (day.number + 1) * 86_400 + world().start > found.start:
            for link, keys in day.members().items():
                seen.setdefault(link, set()).update(keys)
    linked = set().union(*(seen.get(link, set()) for link in found.links))
    active = set().union(*seen.values()) & set(found.members)
    assert len(active & linked) >= 0.9 * len(active)
    if found.fresh:
        assert linked <= set(found.members)


def test_a_pivot_moves_half_of_the_calls_and_takes_nothing() -> None:
    row = "pivot: half within a day"
    found, members = label(row), set(label(row).members)
    assert sums(calls_of(branch(row).days)) == calm_sums()
    late = found.start + 86_400

    def mix(calls: list[Call]) -> Counter[str]:
        return Counter(call.model or "" for call in calls if call.key_id in members and float(call.time) > late)

    before, after = mix(calls_of(calm().days)), mix(calls_of(branch(row).days))
    after.subtract(before)
    target, moved = after.most_common(1)[0]
    assert moved == pytest.approx(PIVOT_SHARE * (before.total() - before[target]), rel=0.2)


def test_after_a_block_the_old_keys_are_refused_and_silent_and_others_go_on_with_their_templates() -> None:
    row = "respawn: after a block"
    found = label(row)
    calls = calls_of(branch(row).days)
    blocked = [call for call in calls if call.key_id in found.also]
    refused = [call for call in blocked if call.status in (401, 403)]
    assert refused
    assert all(call.input_tokens == call.output_tokens == 0 for call in refused)
    assert max(float(call.time) for call in blocked) == max(float(call.time) for call in refused) < found.start
    old = {call.prompt_fingerprint for call in blocked}
    new = {call.prompt_fingerprint for call in calls if call.key_id in found.members}
    assert new <= old
    assert not set(found.members) & set(world().background.book.key_ids)


def test_a_burst_is_of_as_many_calls_as_was_published() -> None:
    row = "burst: 12,000 calls"
    calls = sum(call.calls for call in calls_of(branch(row).days)) - sum(call.calls for call in calls_of(calm().days))
    assert calls == pytest.approx(BURST_CALLS, rel=0.05)


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_is_no_campaign_and_takes_nothing(name: str) -> None:
    found = label(name)
    assert found.benign
    assert found.tokens == 0
    assert calls_of(branch(name).days) != calls_of(calm().days)


def test_every_family_and_every_twin_is_in_a_round() -> None:
    assert {row for rows in (*ROUNDS, *SHORT_ROUNDS) for row in rows} == set(CAMPAIGNS)
    assert {name for names in CALM_ROUNDS for name in names} == set(TWINS)


def test_campaigns_of_a_branch_have_no_members_and_no_links_in_common() -> None:
    families = campaign_families(("own curve: >= 10 at +50 %", "few: 3 to 9 at +50 %", "relay: among honest calls"))
    campaigns = world().branch(3, families).campaigns
    assert len(campaigns) > 1
    members = [key for campaign in campaigns for key in campaign.members]
    links = [link for campaign in campaigns for link in campaign.links]
    assert len(set(members)) == len(members)
    assert len(set(links)) == len(links)


def test_the_background_of_a_day_is_the_same_in_every_branch() -> None:
    days = world().branch(9, campaign_families(("few: 3 to 9 at +50 %",))).days
    assert days[0].number == HISTORY_DAYS
    plain = {msgspec.json.encode({**msgspec.structs.asdict(call), "event_id": ""}) for call in calls_of(calm().days)}
    with_campaign = {msgspec.json.encode({**msgspec.structs.asdict(call), "event_id": ""}) for call in calls_of(days)}
    assert plain <= with_campaign
