"""The scoreboard on worlds so small that every count can be done by hand."""

from __future__ import annotations

from array import array
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from steady_world import DAY, INPUT, OUTPUT, steady

from stream.core.bucket import OpenBucket
from stream.core.key import KeyState
from stream.core.rules import Rules
from stream.lab.evaluation import detector
from stream.lab.evaluation.attainable import attainable, chance_of, statistic
from stream.lab.evaluation.calibrated import HistoryError, calibrated, calibrations
from stream.lab.evaluation.detector import Alarm, detect, summed, told_early
from stream.lab.evaluation.intervals import poisson, wilson
from stream.lab.evaluation.keydays import Kind, key_days
from stream.lab.evaluation.notifications import told, told_words
from stream.lab.evaluation.rivals import RIVALS, alarms_over, match, threshold_for
from stream.lab.evaluation.rows import rows_of
from stream.lab.evaluation.scoring import Line, Scores, score
from stream.lab.worlds.synthetic import synthetic_world
from stream.lab.worlds.world import Episode, World
from stream.notify.hold import HOLD_HOURS
from stream.settings import Settings

HOUR = 12
RULES = partial(Rules, Settings())


def surge(key: int, first: int, last: int, *, mimic: bool = False) -> Episode:
    return Episode(key, first, last, "surge", "x10", mimic, 0)


def alarm(key: int, row: int, paged: int | None = None, resolved: int | None = None) -> Alarm:
    return Alarm(key, row, row, "surge", paged, resolved)


# ---------------------------------------------------------------------- intervals


@pytest.mark.parametrize(
    ("count", "low", "high"),
    [(0, 0.0, 3.689), (1, 0.0253, 5.572), (10, 4.795, 18.390), (100, 81.364, 121.627)],
)
def test_the_poisson_interval_is_the_published_one(count: int, low: float, high: float) -> None:
    assert poisson(count) == pytest.approx((low, high), abs=5e-4)


def test_wilsons_interval_is_the_published_one() -> None:
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=5e-4)
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-4)  # Newcombe 1998


# ---------------------------------------------------------------------- key-days


def test_a_key_day_needs_a_call_a_week_of_age_and_no_episode_near() -> None:
    attack, launch = surge(0, 10 * DAY + 5, 10 * DAY + 9), surge(1, 12 * DAY, 13 * DAY)
    world = steady(attacks=(attack,), lookalikes=(launch,))
    world.calls[15 * DAY : 16 * DAY, 0] = 0
    days = key_days(world)
    # key 0: days 7 to 19 but 10, 11, 12 (two days behind an end on day 10) and 15 (silent); key 1: but 12, 13
    assert days.count(Kind.CLEAN) == (13 - 3 - 1) + (13 - 2)
    assert days.count(Kind.YOUNG) == 14
    assert [days.kind(row * DAY, 0) for row in (6, 7, 10, 12, 13)] == [
        Kind.YOUNG, Kind.CLEAN, Kind.ATTACK, Kind.ATTACK, Kind.CLEAN
    ]  # fmt: skip


def test_a_keys_age_begins_with_its_first_call_and_warm_up_counts_for_nothing() -> None:
    world = steady(first_day=9)
    world.calls[: 8 * DAY, 1] = 0
    days = key_days(world)
    assert days.count(Kind.YOUNG) == 6  # key 1's days 9 to 14, of which 8 to 14 are its first week
    assert days.count(Kind.CLEAN) == 11 + 5


# ---------------------------------------------------------------------- false alerts


def test_alerts_within_six_hours_of_the_last_are_one() -> None:
    at = 8 * DAY
    rows = (at, at + 71, at + 143, at + 216)  # each within six hours of the one before, but for the last
    scores = score(steady(), [alarm(0, row) for row in rows])
    assert scores.clean == Line(key_days=26, alerts=2, pages=0)


def test_alerts_of_two_keys_are_two_and_pages_count_where_they_happen() -> None:
    scores = score(steady(), [alarm(0, 8 * DAY, paged=8 * DAY + 3), alarm(1, 8 * DAY)])
    assert (scores.clean.alerts, scores.clean.pages) == (2, 1)


def test_an_alert_near_an_attack_a_look_alike_or_a_keys_birth_is_no_false_alert() -> None:
    world = steady(attacks=(surge(0, 10 * DAY, 10 * DAY + 9),), lookalikes=(surge(1, 10 * DAY, 10 * DAY + 9),))
    near = [alarm(0, 12 * DAY + 200), alarm(1, 11 * DAY + 200), alarm(0, 3 * DAY)]
    scores = score(world, near)
    assert (scores.clean.alerts, scores.young.alerts) == (0, 1)
    assert [(one.alerts, one.paged) for one in scores.lookalikes] == [(0, False)]  # a day after its end is too late
    assert score(world, [alarm(0, 13 * DAY + 1), alarm(1, 12 * DAY + 1)]).clean.alerts == 2


def test_a_look_alike_that_pages_is_counted_as_such() -> None:
    world = steady(lookalikes=(surge(1, 10 * DAY, 10 * DAY + 9), surge(0, 10 * DAY, 10 * DAY + 9)))
    scores = score(world, [alarm(1, 10 * DAY + 2, paged=10 * DAY + 4)])
    assert [(one.alerts, one.paged) for one in scores.lookalikes] == [(1, True), (0, False)]


# ---------------------------------------------------------------------- attacks


def test_an_attack_is_found_by_an_incident_that_opens_during_it() -> None:
    first, last = 10 * DAY, 10 * DAY + 2 * HOUR
    world = steady(attacks=(surge(0, first, last),), times=2.0)
    (found,) = score(world, [alarm(0, first + 5), alarm(0, first + 9)]).attacks
    assert found.tokens == 24 * 15_000
    assert found.gone == 6 * 15_000  # up to the close of the bucket that brought the alert
    assert (found.delay_seconds, found.alerts, found.covered) == (1800.0, 2, False)


@pytest.mark.parametrize(
    ("row", "found"),
    [(-1, False), (0, True), (2 * HOUR + 11, True), (2 * HOUR + 12, False)],
    ids=["before it", "in its first bucket", "in the last bucket of the hour after", "behind that"],
)
def test_an_alert_counts_from_an_attacks_start_to_an_hour_after_its_end(row: int, found: bool) -> None:
    first = 10 * DAY
    world = steady(attacks=(surge(0, first, first + 2 * HOUR),))
    (outcome,) = score(world, [alarm(0, first + row)]).attacks
    assert outcome.found == found
    assert found or outcome.gone == outcome.tokens


def test_an_incident_that_was_open_before_finds_nothing_and_is_told() -> None:
    first = 10 * DAY
    world = steady(attacks=(surge(0, first, first + 2 * HOUR),))
    (covered,) = score(world, [alarm(0, first - 3, resolved=first + 30)]).attacks
    (gone,) = score(world, [alarm(0, first - 30, resolved=first - 1)]).attacks
    assert (covered.found, covered.covered, gone.covered) == (False, True, False)


def test_an_attack_of_the_warm_up_does_not_count() -> None:
    assert score(steady(attacks=(surge(0, 3 * DAY, 3 * DAY + 9),), first_day=9), []).attacks == ()


def test_chance_is_what_the_twin_would_have_hit() -> None:
    first = 10 * DAY
    world = steady(attacks=(surge(0, first, first + 9), surge(1, first, first + 9)))
    scores = score(world, [], [alarm(1, first + 3)])
    assert [one.chance for one in scores.attacks] == [False, True]


def test_rows_are_of_all_of_mimicry_of_families_and_of_their_intensities() -> None:
    first = 10 * DAY
    attacks = (
        surge(0, first, first + 10),
        surge(1, first, first + 10, mimic=True),
        replace(surge(0, 16 * DAY, 17 * DAY), family="drift", intensity="+50%"),
    )
    scores = score(steady(attacks=attacks), [alarm(0, first), alarm(0, first + 4, paged=first + 5)])
    rows = {row.name: row for row in rows_of(scores.attacks)}
    assert list(rows) == ["all attacks", "mimic", "not mimic", "drift", "drift +50%", "surge", "surge x10"]
    assert (rows["surge"].found, rows["surge"].attacks, rows["surge"].alerts) == (1, 2, 2.0)
    assert rows["surge"].share_gone == pytest.approx((1 + 10) / 20)
    assert rows["surge"].median_gone == 7_500 * 5.5
    assert rows["surge"].paged == 0.5
    assert (rows["mimic"].recall, rows["mimic"].delay_seconds, rows["mimic"].alerts) == (0.0, None, None)
    assert rows["all attacks"].low == pytest.approx(wilson(1, 3)[0])


def test_scores_of_several_worlds_add_up() -> None:
    one = score(steady(attacks=(surge(0, 10 * DAY, 10 * DAY + 9),)), [alarm(1, 8 * DAY)])
    both: Scores = one + one
    assert both.clean == Line(2 * one.clean.key_days, 2, 0)
    assert len(both.attacks) == 2


# ---------------------------------------------------------------------- the detector


def noisy(world: World, deviation: float = 0.3) -> World:
    """The same, with tokens that vary by so much."""
    noise = np.random.default_rng(1).lognormal(0.0, deviation, world.calls.shape)
    for sums in (world.input_tokens, world.output_tokens):
        sums[:] = np.rint(sums * noise)
    return world


def restless() -> World:
    """Three keys with some noise, one of which is drained for two hours at the end."""
    return noisy(steady(3, 16, attacks=(surge(2, 14 * DAY + 100, 14 * DAY + 124),), times=30.0))


@pytest.mark.slow
def test_the_detector_finds_a_surge_and_nothing_else_whatever_the_number_of_jobs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(detector, "KEYS_A_TASK", 2)
    world = restless()
    told: list[tuple[int, int]] = []
    alone = detect(world, RULES, jobs=1, progress=lambda done, of: told.append((done, of)))
    assert told == [(2, 3), (3, 3)]
    assert alone == detect(world, RULES, jobs=2)
    (found,) = [one for one in alone if one.key == 2]
    assert 14 * DAY + 100 <= found.detected < 14 * DAY + 124
    assert found.resolved is not None
    assert found.resolved >= found.detected
    assert alone == [found]


def test_some_keys_alone_say_what_they_say_among_all() -> None:
    world = restless()
    assert detect(world, RULES, columns=[2]) == detect(world, RULES)


def test_people_are_told_of_an_incident_once_and_a_channel_without_a_pager_again_when_it_is_a_page_late() -> None:
    world = restless()
    (found,) = detect(world, RULES, columns=[2])
    opened = found.steps[0]
    assert (opened.status, found.steps[-1].status) == ("opened", "resolved")
    ticket = opened.model_copy(update={"severity": "warning", "excess_tokens": 1e6})
    for hours, alone in ((HOLD_HOURS - 1, 1.0), (HOLD_HOURS + 1, 2.0)):
        at = opened.updated_at + hours * 3600
        pages = [
            opened.model_copy(update={"severity": name, "status": "updated", "updated_at": at})
            for name in ("high", "critical")
        ]
        over = found.steps[-1].model_copy(update={"updated_at": at})
        rising = replace(found, steps=(ticket, *pages, over))
        by_name = {one.notifier: one.tally.per_incident for one in told(world, [rising])}
        assert by_name == {"pagerduty": 1.0, "alertmanager": 1.0, "slack": 1.0, "slack alone": alone}
    assert told_words(told(world, [rising])).endswith("slack 1.00 of 1, slack alone 2.00 of 1")
    late = replace(world, first_day=15)
    assert told_words(told(late, [rising])).startswith("pagerduty of none")


def test_what_opens_inside_its_bucket_is_a_ticket_first() -> None:
    world = restless()
    (found,) = detect(world, RULES, columns=[2])
    page = found.steps[0].model_copy(update={"severity": "high"})
    ticket = page.model_copy(update={"severity": "warning"})
    assert told_early([ticket]) == [ticket]
    assert told_early([]) == []
    assert [(one.status, one.severity) for one in told_early([page])] == [("opened", "warning"), ("updated", "high")]


def test_lost_telemetry_is_not_learned_as_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """After eight days without a call, what is expected of the key is what it was before only if they were lost."""
    made: list[KeyState] = []

    def remembered(key_id: str, rules: Rules) -> KeyState:
        made.append(KeyState(key_id, rules))
        return made[-1]

    monkeypatch.setattr(detector, "KeyState", remembered)
    world = steady(1, 21)
    gap = slice(12 * DAY, 20 * DAY)
    for sums in (world.calls, world.known_calls, world.input_tokens, world.output_tokens):
        sums[gap] = 0
        sums[20 * DAY + 1 :] = 0
    lost = world.lost.copy()
    lost[gap] = True
    detect(replace(world, lost=lost), RULES)
    detect(world, RULES)
    knowing, unknowing = (key.last_expected for key in made)
    assert knowing == pytest.approx(INPUT + OUTPUT, rel=0.1)
    assert unknowing < knowing / 1.5


def test_an_incident_ends_though_its_key_is_never_seen_again() -> None:
    world = restless()
    for sums in (world.calls, world.known_calls, world.input_tokens, world.output_tokens):
        sums[14 * DAY + 124 :, 2] = 0
    (found,) = detect(world, RULES, columns=[2])
    assert found.resolved is not None
    assert found.resolved >= 14 * DAY + 124


def test_usage_that_was_not_given_is_estimated_and_kept_apart() -> None:
    plan = array("f", (np.inf, 0.0, 500.0, 250.0, 0.0))
    bucket = summed(OpenBucket(7, plan), [10, 6, 3_000, 1_200, 100, 2, 4_000, 9_000, 18])
    assert (bucket.index, bucket.calls, bucket.known_calls) == (7, 10, 6)
    assert (bucket.input_tokens, bucket.output_tokens) == (3_000 + 4 * 500, 1_200 + 4 * 250)
    assert (bucket.known_input, bucket.known_output) == (3_000, 1_200)
    assert (bucket.reasoning_tokens, bucket.saturated, bucket.log_output, bucket.log_output_squares) == (
        100, 2, 4_000, 9_000
    )  # fmt: skip
    assert bucket.same_model() == 18


@pytest.mark.slow
def test_what_sets_the_dial_is_the_same_for_any_number_of_jobs_and_decides() -> None:
    history = synthetic_world(3, keys=24, days=42, attacks=False)
    settings = Settings(false_alerts_per_1000_key_days=60)
    alone = calibrations(history, settings, [60.0])[60.0]
    assert alone.text == calibrations(history, settings, [60.0], jobs=2)[60.0].text
    assert alone.incidents == len(history.lookalikes) > 0
    assert alone.counted_from == alone.first_day + history.first_day
    threshold = alone.alerts.threshold(alone.alerts.new)
    assert calibrated(alone.text, settings).open_score == pytest.approx(threshold)
    assert Rules(settings).open_score != pytest.approx(threshold)
    clean = int(key_days(history).of_keys(Kind.CLEAN).sum())
    assert len(alone.alerts.days) == pytest.approx(clean, rel=0.01), "what a report counts"
    with pytest.raises(HistoryError, match="too few for dial 1, enough for"):
        calibrations(history, settings, [60.0, 1.0])


def test_rules_for_other_buckets_are_refused() -> None:
    with pytest.raises(ValueError, match="rules for 60 s"):
        detect(steady(), partial(Rules, Settings(bucket_seconds=60)))


# ---------------------------------------------------------------------- what else there is


@pytest.mark.parametrize("name", sorted(RIVALS))
def test_a_rival_says_nothing_of_constants(name: str) -> None:
    scores = RIVALS[name].scores(steady(days=10))
    after = scores[8 * DAY :]
    # the static limit and its kin give a level, the others evidence: none of them tells one hour from another
    assert set(after[after > 0].round(6).tolist()) <= {after.max().round(6)}


@pytest.mark.parametrize("name", sorted(RIVALS))
def test_a_rival_finds_an_obvious_surge(name: str) -> None:
    """Without a false alert; but ADWIN, blind to a few hours, needs a day of it."""
    first = 14 * DAY
    attack = surge(1, first, first + (DAY if name == "adwin" else 6 * HOUR))
    world = noisy(steady(keys=3, days=16, attacks=(attack,), times=50.0), 0.1)
    found = match(name, world, false_alerts=0)
    assert found.scores.clean.alerts == 0
    assert [one.found for one in found.scores.attacks] == [True]


def test_a_threshold_gives_just_the_false_alerts_that_are_allowed() -> None:
    world = steady(keys=1)
    scores = np.zeros((20 * DAY, 1))
    for day, height in ((3, 9.0), (8, 5.0), (10, 4.0), (12, 3.0), (14, 2.0)):
        scores[day * DAY : day * DAY + 3, 0] = height
    for allowed in range(5):
        threshold = threshold_for(world, scores, allowed)
        assert score(world, alarms_over(world, scores, threshold)).clean.alerts == allowed
    assert threshold_for(world, scores, 0) > 5.0


def test_a_rivals_incident_ends_after_an_hour_of_calm() -> None:
    world = steady(keys=1)
    scores = np.zeros((20 * DAY, 1))
    scores[[100, 105, 117, 130], 0] = 1.0
    assert [(one.detected, one.resolved) for one in alarms_over(world, scores, 1.0)] == [(100, 129), (130, 142)]


# ---------------------------------------------------------------------- what is attainable


def test_the_oracles_evidence_is_that_of_the_best_start() -> None:
    white, shape = np.array([0.0, 3.0, 2.0]), np.array([1.0, 2.0])
    # of one that began here: x - 1/2; of one that began a reading ago: that of then plus 2 x - 2
    assert statistic(white, shape).tolist() == [-0.5, -0.5 + 4.0, 2.5 + 2.0]


def test_the_oracle_finds_what_stands_out_and_not_what_does_not() -> None:
    rng = np.random.default_rng(2)
    large, small = (chance_of(np.full(5, size), 1e-3, rng) for size in (4.0, 0.2))
    assert large > 0.99
    assert small < 0.05


def test_the_oracle_agrees_with_a_cusum_worked_out_before() -> None:
    """+100 % at a daily noise of .2 with lag-1 .7, one false alert per 1,000 days: found within 5 days with p = .97."""
    step, deviation, lag1 = np.log(2.0), 0.2, 0.7
    shape = np.full(5, step * (1 - lag1))
    shape[0] = step
    chance = chance_of(shape / (deviation * np.sqrt(1 - lag1**2)), 1e-3, np.random.default_rng(3))
    assert chance == pytest.approx(0.97, abs=0.04)


def test_the_oracle_knows_of_drifts_and_surges_and_of_nothing_else() -> None:
    first = 30 * DAY
    attacks = (
        replace(surge(0, first, first + 10 * DAY), family="drift"),
        replace(surge(1, first, first + 10 * DAY), family="shape"),
    )
    twin = steady(days=42)
    twin.input_tokens[:] = np.rint(twin.input_tokens * np.random.default_rng(4).lognormal(0, 0.3, twin.calls.shape))
    strong, unknown = attainable(steady(days=42, attacks=attacks, times=2.0), twin, 1.0)
    assert strong == pytest.approx(1.0)
    assert unknown is None
