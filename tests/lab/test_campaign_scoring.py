"""How alerts of groups are counted against labelled campaigns, on days and alerts made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from click.testing import CliRunner

from stream.alerts import Alert, DataQuality, Entity, Member, Members, Window, alert_id_of, fingerprint_of
from stream.cli.evaluate import command
from stream.lab.evaluation.campaign_oracle import Attained
from stream.lab.evaluation.campaign_rows import campaign_rows, campaign_scores_json
from stream.lab.evaluation.campaign_run import CampaignResult, campaign_cases
from stream.lab.evaluation.campaign_table import campaign_tables
from stream.lab.evaluation.campaigns import DAY, CampaignScores, GroupLine, said, score_branch
from stream.lab.evaluation.run import Seen
from stream.lab.evaluation.suites import SuiteError, Wish
from stream.lab.worlds.campaigns.labels import Campaign, Extra, Link
from stream.lab.worlds.campaigns.world import Branch

START = 1_777_852_800.0
HOUR = 3600.0
MEMBERS = tuple(f"m{number}" for number in range(4))
INNOCENTS = tuple(f"i{number}" for number in range(6))
LINK: Link = ("client", "evil")
PLACE: Link = ("network", "198.18.0.0/24")
ELSEWHERE: Link = ("org", "acme")
ALL: Link = ("model", "m")


@dataclass(frozen=True)
class MadeDay:
    """A day of which only the groups are known."""

    number: int
    groups: dict[Link, frozenset[str]]

    def members(self, composites: Sequence[tuple[str, ...]] = ()) -> dict[Link, frozenset[str]]:
        return self.groups


GROUPS = {
    LINK: frozenset(MEMBERS),
    PLACE: frozenset({*MEMBERS[:2], *INNOCENTS[:2]}),
    ELSEWHERE: frozenset(INNOCENTS[2:]),
    ("org", "pair"): frozenset(INNOCENTS[:2]),
}


def campaign(**changes: object) -> Campaign:
    """Four members, 100 tokens each in each of four buckets of the second day's first hours."""
    member, bucket = np.meshgrid(np.arange(4), 288 + 12 * np.arange(4))
    extra = Extra(member.ravel(), bucket.ravel(), np.full(16, 100))
    made = Campaign(
        family="uplift", row="uplift: some", benign=False, members=MEMBERS, links=(LINK,), start=START + DAY,
        end=START + DAY + 4 * HOUR, world_start=START, curve="flat", fresh=True, heavy=False, extra=extra,
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def branch(*campaigns: Campaign, days: int = 6) -> Branch:
    return Branch(START, tuple(MadeDay(number, GROUPS) for number in range(days)), campaigns)  # type: ignore[arg-type]


def alert(
    link: Link, hours: float, named: Sequence[str] = (), status: str = "opened", severity: str = "warning",
    sequence: int = 0, opened: float | None = None, clearest: Link | None = None,
) -> Alert:  # fmt: skip
    kind, value = link
    entity = Entity(type="composite" if "+" in kind else kind, id=f"{kind} {value}" if "+" in kind else value)  # type: ignore[arg-type]
    at = START + (hours if opened is None else opened) * HOUR
    return Alert(
        alert_id=alert_id_of(entity, at),
        fingerprint=fingerprint_of(entity),
        sequence=sequence,
        status=status,  # type: ignore[arg-type]
        severity=severity,  # type: ignore[arg-type]
        severity_reason="",
        kind="campaign",
        entity=entity,
        started_at=at,
        detected_at=at,
        updated_at=START + hours * HOUR,
        window=Window(start=at, end=at, horizon_seconds=0.0),
        observed=0.0,
        expected=0.0,
        upper=0.0,
        ratio=None,
        z=0.0,
        score=0.5,
        false_alarm_probability=0.1,
        excess_tokens=0.0,
        excess_output_tokens=0.0,
        excess_per_hour=0.0,
        members=Members(
            count=len(named),
            top=[Member(key_id=name, z=1.0, excess_tokens=1.0) for name in named],
            shared_traits=dict([link if clearest is None else clearest, link]),
        ),
        data_quality=DataQuality(missing_usage=0.0, late=0.0, duplicates=0.0, lag_seconds=0.0),
        summary="",
        suggested_action="",
        config_digest="",
    )


def test_an_alert_of_the_linking_group_in_time_finds_the_campaign() -> None:
    scores = score_branch(branch(campaign()), [alert(LINK, 25.5, MEMBERS[:3])])
    (found,) = scores.campaigns
    assert (found.found, found.delay_seconds, found.alerts, found.kind) == (True, 1.5 * HOUR, 1, "campaign")
    assert (found.tokens, found.gone) == (1600, 800)
    assert (found.named, found.innocents) == (0.75, 0.0)
    assert scores.line.alerts == scores.line.astray == 0


@pytest.mark.parametrize(
    ("link", "named", "found", "why"),
    [
        (PLACE, MEMBERS[:2], True, "all that it names are members"),
        (PLACE, (*MEMBERS[:2], *INNOCENTS[:2]), True, "half of them are"),
        (PLACE, (*MEMBERS[:2], *INNOCENTS[:3]), False, "most of them are not"),
        (PLACE, MEMBERS[:1], False, "one key is no campaign"),
        (PLACE, (), False, "it names nobody, and the network links nobody"),
        (LINK, (), True, "its group is what links them"),
        (("network+client", "198.18.0.0/24 evil"), (), True, "a part of it is what links them"),
    ],
)
def test_what_an_alert_names_decides_whether_it_is_about_a_campaign(
    link: Link, named: tuple[str, ...], found: bool, why: str
) -> None:
    (one,) = score_branch(branch(campaign()), [alert(link, 26, named)]).campaigns
    assert one.found == found, why


@pytest.mark.parametrize(("hours", "found"), [(23.9, False), (24.0, True), (29.9, True), (30.1, False)])
def test_only_an_alert_between_its_start_and_two_hours_after_its_end_finds_it(hours: float, found: bool) -> None:
    (one,) = score_branch(branch(campaign()), [alert(LINK, hours, MEMBERS)]).campaigns
    assert one.found == found
    assert one.gone == (1600 if not found or hours > 28 else 0)


def test_the_last_step_before_the_end_says_whom_an_incident_names() -> None:
    steps = [
        alert(LINK, 25, MEMBERS[:1]),
        alert(LINK, 27, (*MEMBERS[:3], INNOCENTS[0]), "updated", "high", 1, opened=25),
        alert(LINK, 80, MEMBERS, "updated", "high", 2, opened=25),
    ]
    (one,) = score_branch(branch(campaign()), steps).campaigns
    assert (one.named, one.innocents, one.alerts, one.paged) == (0.75, 0.25, 1, True)


def test_a_campaign_that_is_told_twice_counts_twice() -> None:
    alerts = [alert(LINK, 25, MEMBERS), alert(PLACE, 26, (MEMBERS[0], *INNOCENTS[:2]))]
    (one,) = score_branch(branch(campaign()), alerts).campaigns
    assert one.alerts == 2


def test_alerts_of_the_members_own_are_beside_it() -> None:
    alerts = [
        alert(("key", "m0"), 26),
        alert(("key", "m1"), 24),
        alert(("key", "m2"), 10),
        alert(("key", "i0"), 26),
    ]
    scores = score_branch(branch(campaign()), alerts)
    (one,) = scores.campaigns
    assert (one.found, one.alone) == (False, 2)
    assert one.alone_gone == 200 + 0 + 400 + 400
    assert scores.line.alerts == 0, "a key's alert is no group's"


def test_an_alert_far_from_all_that_happened_is_false_and_those_of_a_day_are_one() -> None:
    alerts = [alert(ELSEWHERE, hours) for hours in (30, 40, 50, 100)]
    scores = score_branch(branch(campaign()), alerts)
    assert (scores.line.alerts, scores.line.pages, scores.line.astray) == (2, 0, 0)


def test_an_alert_of_a_group_with_members_in_it_that_names_none_is_astray() -> None:
    line = score_branch(branch(campaign()), [alert(PLACE, 26, INNOCENTS[:2])]).line
    assert (line.alerts, line.astray) == (0, 1)


def test_what_is_said_without_the_campaign_too_is_not_about_it_and_counts_once() -> None:
    alerts = [alert(LINK, 26, MEMBERS), alert(ELSEWHERE, 30), alert(("org", "pair"), 50)]
    scores = score_branch(branch(campaign()), alerts, calm=said([alert(LINK, 26), alert(ELSEWHERE, 30)]))
    assert not scores.campaigns[0].found
    assert scores.line == GroupLine(astray=1)


@pytest.mark.parametrize(("sooner", "astray"), [(-20, 0), (20, 0), (25, 1)])
def test_what_is_said_anyway_may_come_some_hours_sooner_or_later(sooner: int, astray: int) -> None:
    """A campaign is a part of what everybody does, to which each group is compared."""
    scores = score_branch(branch(campaign()), [alert(ELSEWHERE, 60)], calm=said([alert(ELSEWHERE, 60 - sooner)]))
    assert scores.line == GroupLine(astray=astray)


def test_a_campaign_that_the_background_speaks_of_some_hours_later_is_found_and_a_twin_is_met() -> None:
    later = said([alert(LINK, 40), alert(ELSEWHERE, 40)])
    assert score_branch(branch(campaign()), [alert(LINK, 26, MEMBERS)], calm=later).campaigns[0].found
    twin = campaign(family="launch", benign=True, members=INNOCENTS[2:], links=(ELSEWHERE,))
    assert score_branch(branch(twin), [alert(ELSEWHERE, 26)], calm=later).twins[0].alerts == 1


@pytest.mark.parametrize(
    ("told", "found"),
    [(23, None), (26, 2.0), (29.5, 5.5), (31, None)],
)
def test_an_alert_is_about_a_campaign_from_when_it_says_that_its_link_shows_it_most(
    told: float, found: float | None
) -> None:
    """Whatever group it was opened for, and though the background has it open anyway."""
    before = [alert(ELSEWHERE, 20)]
    now = alert(ELSEWHERE, told, status="updated", sequence=1, opened=20, clearest=LINK)
    (one,) = score_branch(branch(campaign()), [*before, now], calm=said(before)).campaigns
    assert (None if one.delay_seconds is None else one.delay_seconds / HOUR) == found
    always = [*before, alert(ELSEWHERE, 22, status="updated", sequence=1, opened=20, clearest=LINK)]
    assert not score_branch(branch(campaign()), [*always, now], calm=said(always)).campaigns[0].found


def test_group_days_are_of_three_keys_at_least_and_not_near_what_happened() -> None:
    assert score_branch(branch(days=6), []).line.group_days == 18
    # second day, and the two after it: neither the client's nor the network's
    assert score_branch(branch(campaign(), days=6), []).line.group_days == 18 - 2 * 3


def test_a_twins_alerts_are_its_own() -> None:
    twin = campaign(family="launch", benign=True, members=INNOCENTS[2:], links=(ELSEWHERE,))
    scores = score_branch(branch(twin), [alert(ELSEWHERE, 26), alert(ELSEWHERE, 100, severity="high")])
    (one,) = scores.twins
    assert (one.family, one.alerts, one.paged) == ("launch", 1, False)
    assert (scores.line.alerts, scores.line.pages) == (1, 1), "two days later it is over"
    assert scores.campaigns == ()


def test_what_happens_to_everybody_leaves_no_clean_group() -> None:
    crowd = campaign(family="flash crowd", benign=True, members=(), links=())
    scores = score_branch(branch(crowd), [alert(ELSEWHERE, 25, severity="critical")])
    assert scores.line == GroupLine(group_days=18 - 3 * 3)
    assert [(one.alerts, one.paged) for one in scores.twins] == [(1, True)]


@pytest.mark.parametrize(
    ("links", "others", "mixed"),
    [
        ((LINK,), (), "pure"),
        ((PLACE,), INNOCENTS[:2], "mixed up to 1:2"),
        ((PLACE, LINK), (), "pure"),  # of the link that the fewest others share
        ((PLACE, ELSEWHERE), INNOCENTS[:2], "mixed up to 1:2"),
        ((("org", "nobody's"),), (), "pure"),
    ],
)
def test_the_others_are_those_who_share_what_links_a_campaign(
    links: tuple[Link, ...], others: Sequence[str], mixed: str
) -> None:
    (found,) = score_branch(branch(campaign(links=links)), [alert(links[0], 25.5, MEMBERS)]).campaigns
    assert found.others == {*others}
    assert [row.name for row in campaign_rows([found]) if row.group == "innocents"] == [mixed]


def test_rows_are_families_and_what_is_in_them_and_all_of_it_can_be_shown() -> None:
    scores = score_branch(branch(campaign(), campaign(row="uplift: others")), [alert(LINK, 25.5, MEMBERS)])
    scores += score_branch(branch(campaign(family="pivot", row="pivot: half")), [])
    rows = campaign_rows(scores.campaigns)
    assert [(row.group, row.name, row.campaigns, row.found) for row in rows] == [
        ("family", "pivot", 1, 0),
        ("family", "uplift", 2, 2),
        ("row", "uplift: others", 1, 1),
        ("row", "uplift: some", 1, 1),
        ("link", "by a new trait", 2, 2),
        ("innocents", "pure", 2, 2),
    ]
    assert rows[0].median_gone == 1.0
    assert (rows[0].oracle, rows[0].oracle_gone, rows[0].oracle_innocents) == (None, None, None)
    assert campaign_scores_json(scores)["clean"]["alerts_per_1000_group_days"] == 0.0
    assert len(list(campaign_tables(CampaignResult(("B 1",), Seen.TUNED, scores)))) == 3
    assert campaign_rows(CampaignScores().campaigns) == []


def test_beside_a_row_stands_what_an_oracle_attains_on_those_that_it_knows_of() -> None:
    attained = [Attained(1.0, 0.04, 0.1), Attained(0.5, 0.3, 0.3), None]
    found = score_branch(branch(*(campaign() for _ in attained)), []).campaigns
    family = campaign_rows([replace(one, oracle=its) for one, its in zip(found, attained, strict=True)])[0]
    assert (family.campaigns, family.oracle) == (3, 0.75)
    assert family.oracle_gone == pytest.approx(0.17)
    assert family.oracle_innocents == pytest.approx(0.2)


def test_worlds_take_profiles_by_turns_and_tuning_never_sees_those_of_a_report() -> None:
    assert [(case.profile, case.seed) for case in campaign_cases(Wish(), 4)] == [
        ("B", 2001), ("C", 2001), ("D", 2001), ("B", 2002),
    ]  # fmt: skip
    assert {case.profile for case in campaign_cases(Wish(tuning=True), 6)} == {"B", "C"}
    with pytest.raises(SuiteError, match="tune on a lower one"):
        campaign_cases(Wish(seed=999, tuning=True), 6)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--suite", "campaigns", "--seed", "7"], "seeds below 1,000 are for tuning"),
        (["--suite", "campaigns", "--against", "static"], "for the suites synthetic, servegen, ci"),
        (["--suite", "campaigns", "--dial", "3"], "--set false_alerts_per_1000_group_days=X"),
        (["--suite", "campaigns", "--set", "bucket_seconds=60"], "buckets of 300 s"),
        (["--worlds", "3"], "--worlds is for the suite campaigns"),
    ],
)
def test_what_makes_no_sense_is_refused_with_advice(words: list[str], what: str) -> None:
    done = CliRunner().invoke(command, words)
    assert done.exit_code == 2
    assert what in done.output
