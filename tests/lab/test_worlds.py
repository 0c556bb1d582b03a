"""Labelled worlds: the same arguments give the same arrays, attacks stay inside their windows, sums fit together."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from stream.core.bucket import LOG_SCALE
from stream.lab.worlds import clients as traces
from stream.lab.worlds.attacker import GAP
from stream.lab.worlds.clients import ARCHIVES, POINTS, SLOTS, WINDOWS, Clients, NoTracesError, load_clients
from stream.lab.worlds.draws import EXACT_CALLS, LognormalLengths, RequestShape, TableLengths, generator
from stream.lab.worlds.failures import retried
from stream.lab.worlds.kinds import KINDS, Habit, clock_of
from stream.lab.worlds.lookalikes import RESHAPINGS, SETTLING
from stream.lab.worlds.noise import tailed
from stream.lab.worlds.profiles import PROFILES, Zone
from stream.lab.worlds.reshaping import reshaping
from stream.lab.worlds.servegen import halves, real_world
from stream.lab.worlds.synthetic import FIRST_DAY, synthetic_world
from stream.lab.worlds.tally import PER_DAY
from stream.lab.worlds.world import Episode, World

pytestmark = pytest.mark.slow

# read on import: a test must not see the developer's other settings, and so has none by the time it runs
DATA = Path(os.environ.get("OVERDRAW_TEST_DATA") or Path(__file__).parents[2].parent / "shared" / "data")
FAMILIES = {"surge", "drift", "ramp", "newcomer", "quiet_hours", "shape", "hidden_usage"}
ARRAYS = [field.name for field in fields(World) if field.name not in
          {"name", "start", "bucket_seconds", "key_ids", "attacks", "lookalikes", "first_day"}]  # fmt: skip


def made_up_clients() -> Clients:
    """Ten clients of two weeks that sleep at night, and two of one day; every third has no lengths."""
    rng = np.random.default_rng(1)
    size = 12
    hour = np.arange(WINDOWS) % 144 / 6
    rates = np.where((hour > 6) | (rng.random((size, 1)) < 0.3), rng.lognormal(0, 1, (size, WINDOWS)), 0.0)
    rates[10:, 144:] = 0
    lengths = np.sort(rng.lognormal(5, 1, (2, size, SLOTS, POINTS)), axis=-1).round()
    has_lengths = np.arange(size) % 3 != 0
    lengths[:, ~has_lengths] = 0
    return Clients(
        names=np.array([f"made/up/{row}" for row in range(size)]),
        windows=np.where(np.arange(size) < 10, WINDOWS, 144),
        rates=rates.astype(np.float32),
        cvs=rng.uniform(0.7, 3, (size, WINDOWS)).astype(np.float32),
        has_lengths=has_lengths,
        inputs=lengths[0].astype(np.float32),
        outputs=lengths[1].astype(np.float32),
        limits=lengths[1].max(axis=(1, 2)).astype(np.float32),
    )


def small(profile: str) -> Callable[..., World]:
    def make(attacks: bool = True, seed: int = 5) -> World:
        return synthetic_world(seed, keys=90, days=36, profile=profile, attacks=attacks)

    return make


def made_up_real(attacks: bool = True, seed: int = 5) -> World:
    return real_world(made_up_clients(), half=1, seed=seed, attacks=attacks, new_share=0.4)


MAKERS = {"A": small("A"), "B": small("B"), "C": small("C"), "D": small("D"), "clients": made_up_real}


@pytest.fixture(scope="module", params=list(MAKERS))
def make(request: pytest.FixtureRequest) -> Callable[..., World]:
    return MAKERS[request.param]


@pytest.fixture(scope="module")
def world(make: Callable[..., World]) -> World:
    return make()


@pytest.fixture(scope="module")
def pair() -> tuple[World, World]:
    """A synthetic world of a size that has several attacks of each intensity, and the same one without them."""
    attacked, clean = (synthetic_world(4, keys=300, days=36, attacks=attacks) for attacks in (True, False))
    return attacked, clean


def inside_attacks(world: World) -> np.ndarray:
    inside = np.zeros(world.calls.shape, np.bool_)
    for attack in world.attacks:
        inside[attack.first : attack.last, attack.key] = True
    return inside


def assert_sums_fit_together(world: World) -> None:
    for name in ARRAYS:
        assert (getattr(world, name) >= 0).all(), name
    calls, known = world.calls, world.known_calls
    assert (known <= calls).all()
    assert (world.saturated <= known).all()
    assert (world.reasoning_tokens <= world.output_tokens).all()
    assert (world.same_model <= calls * (calls - 1)).all()
    # of n calls to four models, no split has fewer pairs than the even one
    assert (4 * world.same_model >= calls * (calls - 4)).all()
    assert (world.log_output_squares * known * LOG_SCALE >= world.log_output**2).all()
    for name in ("input_tokens", "output_tokens", "log_output", "log_output_squares"):
        assert not getattr(world, name)[known == 0].any(), name
    for name in set(ARRAYS) - {"lost", "attack_tokens"}:
        assert not getattr(world, name)[world.lost].any(), name


def assert_attacks_stay_inside_their_windows(attacked: World, clean: World) -> None:
    outside = ~inside_attacks(attacked)
    assert not clean.attacks
    assert not clean.attack_tokens.any()
    reshaped = np.zeros(attacked.calls.shape, np.bool_)
    for attack in attacked.attacks:
        if attack.family == "shape":
            reshaped[attack.first : attack.last, attack.key] = True
    for name in ARRAYS:
        before, after = getattr(clean, name).astype(np.int64), getattr(attacked, name).astype(np.int64)
        assert np.array_equal(before[outside], after[outside]), name
        assert (after >= before)[~reshaped].all(), name
    assert np.array_equal(attacked.calls[reshaped], clean.calls[reshaped])
    assert clean.lookalikes == attacked.lookalikes


def test_the_same_arguments_give_the_same_world(make: Callable[..., World], world: World) -> None:
    again = make()
    for name in ARRAYS:
        assert np.array_equal(getattr(world, name), getattr(again, name)), name
    assert (world.attacks, world.lookalikes, world.key_ids) == (again.attacks, again.lookalikes, again.key_ids)


def test_another_seed_gives_another_world(make: Callable[..., World], world: World) -> None:
    assert not np.array_equal(world.calls, make(seed=6).calls)


def test_attacks_only_add_and_only_inside_their_windows(make: Callable[..., World], world: World) -> None:
    assert_attacks_stay_inside_their_windows(world, make(attacks=False))


def test_sums_fit_together(world: World) -> None:
    assert_sums_fit_together(world)


def test_every_family_attacks_in_the_counted_days_with_and_without_the_keys_own_shape(world: World) -> None:
    assert {attack.family for attack in world.attacks} == FAMILIES
    assert all(world.first_day * PER_DAY <= a.first < a.last <= len(world.calls) for a in world.attacks)
    by_shape = defaultdict(set)
    for attack in world.attacks:
        by_shape[attack.family != "shape"].add(attack.mimic)
    assert by_shape == {True: {True, False}, False: {False}}


def test_the_tokens_of_an_attack_are_those_in_its_window(world: World) -> None:
    for attack in world.attacks:
        assert attack.tokens == world.attack_tokens[attack.first : attack.last, attack.key].sum() > 0
    assert world.attack_tokens.sum() == sum(attack.tokens for attack in world.attacks)


def test_attacks_on_one_key_leave_it_three_days_between() -> None:
    world = real_world(made_up_clients(), half=0, seed=5, attacks=True, repeats=1)
    by_key = defaultdict(list)
    for attack in world.attacks:
        by_key[attack.key].append((attack.first, attack.last))
    assert any(len(windows) > 1 for windows in by_key.values()), "no key was attacked twice: nothing is tested"
    for windows in by_key.values():
        windows.sort()
        assert all(b[0] - a[1] >= GAP for a, b in pairwise(windows))


def test_nobody_who_holds_a_lookalike_is_attacked(world: World) -> None:
    assert not {a.key for a in world.lookalikes} & {a.key for a in world.attacks}


def test_hidden_usage_shows_in_calls_alone(make: Callable[..., World], world: World) -> None:
    clean = make(attacks=False)
    hidden = [attack for attack in world.attacks if attack.family == "hidden_usage"]
    for attack in hidden:
        window = (slice(attack.first, attack.last), attack.key)
        seen = ~world.lost[window]
        added = (world.calls - clean.calls)[window][seen].sum()
        assert added > 0
        assert (world.calls - world.known_calls)[window][seen].sum() >= added
        assert np.array_equal(world.output_tokens[window], clean.output_tokens[window])
        assert np.array_equal(world.input_tokens[window], clean.input_tokens[window])


def test_a_shape_attack_keeps_calls_and_tokens_and_moves_output_saturation_and_model(
    pair: tuple[World, World],
) -> None:
    attacked, clean = pair
    shapes = [a for a in attacked.attacks if a.family == "shape" and a.intensity == "90% of calls"]
    assert len(shapes) >= 3

    def total(world: World, name: str) -> float:
        return float(sum(getattr(world, name)[a.first : a.last, a.key].sum() for a in shapes))

    def tokens(world: World) -> float:
        return total(world, "input_tokens") + total(world, "output_tokens")

    assert total(attacked, "calls") == total(clean, "calls")
    assert tokens(attacked) == pytest.approx(tokens(clean), rel=0.1)
    assert total(attacked, "output_tokens") / tokens(attacked) > 0.6
    assert total(attacked, "saturated") / total(attacked, "known_calls") == pytest.approx(0.9 * 0.5, abs=0.05)
    assert total(attacked, "same_model") > total(clean, "same_model")


@pytest.mark.parametrize(
    ("family", "intensity", "least", "most"),
    [("surge", "x10", 5.0, 20.0), ("drift", "+100%", 1.5, 3.0), ("drift", "+300%", 3.0, 6.0)],
)
def test_an_attack_is_as_large_as_its_intensity_says(
    family: str, intensity: str, least: float, most: float, pair: tuple[World, World]
) -> None:
    attacked, clean = pair
    ratios = []
    for attack in attacked.attacks:
        if (attack.family, attack.intensity) == (family, intensity):
            before = clean.calls[attack.first - 7 * PER_DAY : attack.first, attack.key].mean()
            added = (attacked.calls - clean.calls)[attack.first : attack.last, attack.key].mean()
            ratios.append(1 + added / before)
    assert len(ratios) >= 3
    assert least < np.median(ratios) < most


def test_a_retry_storm_is_many_calls_with_hardly_any_tokens(pair: tuple[World, World]) -> None:
    world = pair[1]
    storms = [episode for episode in world.lookalikes if episode.family == "retry_storm"]
    assert storms
    for storm in storms:
        window = (slice(storm.first, storm.last), storm.key)
        if world.lost[window].any():
            continue
        before = world.calls[storm.first - 7 * PER_DAY : storm.first, storm.key].mean()
        assert world.calls[window].mean() > 3 * before
        usual = world.output_tokens[: storm.first, storm.key].sum() / world.calls[: storm.first, storm.key].sum()
        assert world.output_tokens[window].sum() / world.calls[window].sum() < usual / 2


def test_every_lookalike_is_there_and_lies_in_the_counted_days(pair: tuple[World, World]) -> None:
    world = pair[0]
    assert {a.family for a in world.lookalikes} == {"launch", "bulk", "labelling", "long_batch", "retry_storm"}
    for episode in world.lookalikes:
        assert FIRST_DAY * PER_DAY <= episode.first < episode.last <= len(world.calls)
        assert episode.tokens == 0


def test_profile_c_is_another_population() -> None:
    kinds = {name: {kind for kind, _ in profile.kinds} for name, profile in PROFILES.items()}
    assert kinds["C"] - kinds["A"] == {"consumer", "agents", "monthly"}
    for profile in PROFILES.values():
        assert set(profile.customs) <= {kind for kind, _ in profile.kinds} <= set(KINDS)
        assert sum(share for _, share in profile.kinds) == pytest.approx(1)
        assert sum(zone.share for zone in profile.zones) == pytest.approx(1)
        assert profile.start % (7 * 86_400) == 4 * 86_400, "the epoch began on a Thursday, a run begins on a Monday"


def test_profile_d_shares_no_kind_of_traffic_with_what_was_tuned_on() -> None:
    kinds = {name: {kind for kind, _ in profile.kinds} for name, profile in PROFILES.items()}
    assert not kinds["D"] & (kinds["A"] | kinds["B"] | kinds["C"])


def calls_of(kind: str, days: int = 42) -> np.ndarray:
    """Expected calls of forty keys of one kind without noise, in UTC: keys x buckets."""
    clock = clock_of(PROFILES["D"].start, days, Zone(1.0, 0.0))
    noise = np.ones(len(clock.hour))
    habit = Habit(rate=10.0, peak=13.5, swing=1.0, weekend=0.5, noise=noise, first_day=FIRST_DAY)
    return np.array([KINDS[kind](habit, clock, generator(key, kind))[0] for key in range(40)])


@pytest.mark.parametrize("kind", [kind for kind, _ in PROFILES["D"].kinds])
def test_every_kind_of_profile_d_is_about_its_rate_and_never_below_zero(kind: str) -> None:
    level = calls_of(kind)
    assert (level >= 0).all()
    assert 0.2 * 10 < level.mean() < 2 * 10


def test_chat_is_for_evenings_and_weekends_and_a_copilot_for_work() -> None:
    hour, day = np.arange(42 * PER_DAY) % PER_DAY // 12, np.arange(42 * PER_DAY) // PER_DAY % 7
    chat, copilot = calls_of("chat").mean(axis=0), calls_of("copilot")
    assert chat[hour == 20].mean() > 5 * chat[hour == 4].mean()
    assert chat[day >= 5].mean() > 1.2 * chat[day < 4].mean()
    monday = day == 0
    assert copilot[:, day >= 5].mean() < 0.2 * copilot[:, day < 5].mean()
    assert (copilot[:, monday & (hour == 10)].mean(axis=1) > 5 * copilot[:, monday & (hour == 7)].mean(axis=1)).all()
    assert copilot[:, monday & (hour == 12)].mean() < 0.85 * copilot[:, monday & (hour == 14)].mean()


def test_a_scheduled_agent_calls_every_5_15_or_60_minutes() -> None:
    gaps = set()
    for row in calls_of("cron"):
        gaps.add(int(np.median(np.diff(np.flatnonzero(row)))))
    assert gaps == {1, 3, 12}


def test_a_roll_out_grows_in_steps_of_a_tenth_to_two_fifths() -> None:
    at_noon = calls_of("rollout", 84)[:, PER_DAY // 2 :: 7 * PER_DAY]
    weekly = at_noon[:, 1:] / at_noon[:, :-1]
    stepped = weekly[weekly > 1 + 1e-9]
    assert 0.2 < len(stepped) / weekly.size < 0.6
    assert (weekly > 1 - 1e-9).all()
    assert 1.1 - 1e-9 < stepped.min() < stepped.max() < 1.4 + 1e-9


def test_sizes_of_calls_differ_from_kind_to_kind_in_profile_d(platform: World) -> None:
    def per_call(kind: str) -> tuple[float, float]:
        keys = [k for k, name in enumerate(platform.key_ids) if name.startswith(kind) and platform.calls[:, k].any()]
        known = platform.known_calls[:, keys].sum(axis=0)
        sides = (platform.input_tokens, platform.output_tokens)
        return tuple(float(np.median(side[:, keys].sum(axis=0) / known)) for side in sides)  # type: ignore[return-value]

    rag, coding, chat = per_call("rag"), per_call("coding"), per_call("chat")
    assert rag[0] > 20 * rag[1]
    assert coding[0] > 2 * rag[0]
    assert chat[0] < 10 * chat[1]


def test_day_noise_with_tails_keeps_its_variance() -> None:
    noise = np.random.default_rng(1).standard_normal(200_000)
    assert np.array_equal(tailed(noise, 0.0), noise), "the other profiles stay what they are"
    heavy = tailed(noise, 0.07)
    assert heavy.std() == pytest.approx(1, abs=0.02)
    assert np.quantile(heavy, 0.999) > 1.15 * np.quantile(noise, 0.999)


def test_days_of_profile_d_vary_more_than_those_of_a_and_less_than_those_of_c() -> None:
    noise = np.random.default_rng(1).standard_normal(200_000)
    spread = np.random.default_rng(2).random(200_000)
    worst = {}
    for name in "ACD":
        law = PROFILES[name]
        low, high = law.daily_sd
        worst[name] = np.quantile(tailed(noise, law.day_tail) * (low + (high - low) * spread), 0.999)
    assert worst["A"] < worst["D"] < worst["C"]


@pytest.fixture(scope="module")
def platform() -> World:
    """Profile D at a size that has several of each look-alike."""
    return synthetic_world(7, keys=200, days=40, profile="D", attacks=False)


@pytest.mark.parametrize("family", sorted(RESHAPINGS))
def test_a_migration_or_a_new_prompt_changes_the_calls_for_good_and_not_their_number(
    family: str, platform: World
) -> None:
    episodes = [a for a in platform.lookalikes if a.family == family]
    assert len(episodes) == 6
    assert len({a.key for a in platform.lookalikes if a.family in RESHAPINGS}) == 12
    inputs, outputs, calls = [], [], []
    for episode in episodes:
        assert FIRST_DAY * PER_DAY <= episode.first < episode.last - SETTLING < episode.last <= len(platform.calls)
        spans = slice(episode.first - 14 * PER_DAY, episode.first), slice(episode.last - SETTLING, episode.last)

        def ratio(name: str, of: str | None, key: int = episode.key, spans: tuple[slice, slice] = spans) -> float:
            before, after = (
                float(getattr(platform, name)[span, key].sum() / (getattr(platform, of)[span, key].sum() if of else 1))
                for span in spans
            )
            return after / before if before else np.nan

        if platform.known_calls[spans[0], episode.key].sum() < 500:
            continue
        inputs.append(abs(np.log(ratio("input_tokens", "known_calls"))))
        outputs.append(abs(np.log(ratio("output_tokens", "known_calls"))))
        calls.append(ratio("calls", None) * 14 / 5)
    assert len(calls) >= 3
    assert np.median(outputs) > 0.08
    if family == "prompt_change":
        assert np.median(inputs) > 0.08
    assert 0.4 < np.median(calls) < 2


def test_a_migrated_key_ends_with_one_model_it_hardly_used_before() -> None:
    mix = np.array([[0.7, 0.3, 0.0, 0.0]])
    lengths = LognormalLengths(6.0, 0.5, 5.0, 0.5, np.zeros(1), PER_DAY)
    before = RequestShape(lengths, 500.0, 0.0, mix, PER_DAY)
    buckets = 20 * PER_DAY
    first, last = 5 * PER_DAY, 7 * PER_DAY + SETTLING
    change = reshaping(Episode(0, first, last, "model_migration", "", False, 0), before, buckets, generator(1, "m"))
    calls = np.full(buckets, 20)
    by_model, usage = change.draw(generator(2, "d"), before, calls, calls - 5)
    assert np.array_equal(by_model.sum(axis=0), calls)
    target = int(np.argmax(change.after.mix[0]))
    assert target in (2, 3)
    assert not by_model[target, :first].any()
    assert (by_model[target, 7 * PER_DAY :] == 20).all()
    assert 5 < by_model[target, 6 * PER_DAY] < 15, "half way"
    assert (usage.output_tokens > 0).all()


def test_attempts_that_fail_are_few_but_for_bad_stretches() -> None:
    calls = np.full(42 * PER_DAY, 200)
    shares = [retried(generator(key, "r"), calls).reshape(-1, 6).mean(axis=1) / 200 for key in range(50)]
    assert np.median([np.median(share) for share in shares]) < 0.03
    assert 0.1 < np.median([share.max() for share in shares]) < 1.2
    assert not retried(generator(1, "r"), np.zeros(100, np.int64)).any()


def test_when_summer_time_ends_the_clock_of_a_zone_falls_back_an_hour_while_event_time_goes_on() -> None:
    start = PROFILES["C"].start
    switch = start + 27 * 86_400 + 3_600
    clock = clock_of(start, 30, Zone(1.0, 2.0, switch))
    at = int(switch - start) // 300
    assert clock.hour[at - 1] == pytest.approx(3 - 5 / 60)
    assert clock.hour[at] == pytest.approx(2)
    assert clock.month_day[0] == 29
    assert clock.month_day[3 * PER_DAY] == 2, "October's second day has begun at 02:00 in this zone"


@pytest.mark.parametrize("arguments", [{"profile": "E"}, {"days": 20}])
def test_what_makes_no_world_is_an_error(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"no profile 'E'|20 days"):
        synthetic_world(1, keys=50, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("law", ["lognormal", "table"])
def test_sums_drawn_at_once_have_the_mean_and_spread_of_calls_drawn_one_by_one(
    law: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = np.sort(np.random.default_rng(1).lognormal(5, 1, (1, 257)), axis=1)
    lengths = (
        LognormalLengths(6.0, 1.0, 5.0, 0.8, np.zeros(1), PER_DAY)
        if law == "lognormal"
        else TableLengths(points, points, np.zeros(4000, np.int64))
    )
    shape = RequestShape(lengths, limit=400.0, reasoning=0.4, mix=np.eye(4)[:1], per_day=PER_DAY)
    counts = np.full(4000, 2 * EXACT_CALLS)
    at_once = shape.draw(generator(1, "a"), counts, 0)
    monkeypatch.setattr("stream.lab.worlds.draws.EXACT_CALLS", 4 * EXACT_CALLS)
    one_by_one = shape.draw(generator(2, "b"), counts, 0)
    for field in fields(at_once):
        drawn, exact = getattr(at_once, field.name), getattr(one_by_one, field.name)
        assert drawn.mean() == pytest.approx(exact.mean(), rel=0.02), field.name
        # reasoning follows the output in both, log squares their mean: looser
        assert drawn.std() == pytest.approx(exact.std(), rel=0.25), field.name


def write_archives(folder: Path, dataset: dict[str, object]) -> None:
    """One client in each archive, the first with lengths."""
    folder.mkdir(exist_ok=True)
    trace = "0,0,0,,0,0\n600,2.5,1.5,Gamma,1,1\n" + "".join(f"{600 * w},1,1,Weibull,1,1\n" for w in range(2, WINDOWS))
    one_day = "".join(f"{600 * w},1,1,Gamma,1,1\n" for w in range(144))
    members = (
        {"data/language/m-large/chunk-4-trace.csv": trace,
         "data/language/m-large/chunk-4-dataset.json": json.dumps(dataset)},
        {"data/language/m-small/chunk-0-trace.csv": trace},
        {"data/multimodal/mm-image/chunk-9-trace.csv": one_day},
    )  # fmt: skip
    for name, files in zip(ARCHIVES, members, strict=True):
        with tarfile.open(folder / name, "w:gz") as archive:
            for path, text in files.items():
                info = tarfile.TarInfo(path)
                info.size = len(text)
                archive.addfile(info, io.BytesIO(text.encode()))


LENGTHS = {
    "0": {"input_tokens": "{}", "output_tokens": "{}"},
    "21600": {"input_tokens": "{10: 0.5, 4: 0.5}", "output_tokens": "{7: 0.9, 1000: 0.099, 1500: 0.001}"},
    "43200": {"input_tokens": "{30: 1.0}", "output_tokens": "{2: 1.0}"},
}


def test_archives_are_read_as_they_are(tmp_path: Path) -> None:
    write_archives(tmp_path / "in", LENGTHS)
    clients = load_clients(tmp_path / "in", tmp_path / "cache")
    assert clients.names.tolist() == ["language/m-large/4", "language/m-small/0", "multimodal/mm-image/9"]
    assert clients.windows.tolist() == [WINDOWS, WINDOWS, 144]
    assert clients.rates[0, :3].tolist() == [0, 2.5, 1], "a window without a pattern is idle"
    assert clients.has_lengths.tolist() == [True, False, False]
    assert set(clients.inputs[0, 1].tolist()) == {4.0, 10.0}
    assert np.array_equal(clients.inputs[0, 0], clients.inputs[0, 1]), "an empty slot is like the nearest"
    assert set(clients.inputs[0, -1].tolist()) == {30.0}
    assert clients.limits[0] == 1000, "many answers end at 1000; 1500 is one of a thousand"


def test_quantiles_are_read_from_the_cache_until_the_archives_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_archives(tmp_path / "in", LENGTHS)
    first = load_clients(tmp_path / "in", tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.delattr(traces, "_read")
        again = load_clients(tmp_path / "in", tmp_path / "cache")
    for field in fields(Clients):
        assert np.array_equal(getattr(first, field.name), getattr(again, field.name)), field.name
    write_archives(tmp_path / "in", {"0": {"input_tokens": "{5: 1}", "output_tokens": "{5: 1}"}})
    changed = load_clients(tmp_path / "in", tmp_path / "cache")
    assert set(changed.inputs[0].ravel().tolist()) == {5.0}


def test_without_the_archives_the_error_says_where_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(NoTracesError, match=r"lacks .*m-small.*github.com/alibaba/ServeGen"):
        load_clients(tmp_path, tmp_path)


def test_a_client_without_lengths_borrows_them_from_its_own_half() -> None:
    clients = made_up_clients()
    mine = halves(clients)[1]
    strangers = replace(clients, inputs=clients.inputs.copy(), outputs=clients.outputs.copy())
    for row in halves(clients)[0]:
        strangers.inputs[row] *= 1000
    assert any(not clients.has_lengths[row] for row in mine)
    before = real_world(clients, 1, 3, attacks=False, new_share=0)
    after = real_world(strangers, 1, 3, attacks=False, new_share=0)
    assert np.array_equal(before.input_tokens, after.input_tokens)
    per_call = before.input_tokens.sum(axis=0) / before.calls.sum(axis=0)
    assert (per_call > 20).all(), "every key has lengths: an empty table would give one token a call"


# ------------------------------------------------------------------------------------------- ServeGen's own traces


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Clients:
    folder = DATA / "servegen"
    if not folder.exists():
        pytest.skip("needs servegen/ in ../shared/data, or in the folder that OVERDRAW_TEST_DATA names")
    return load_clients(folder, tmp_path_factory.mktemp("servegen"))


def test_the_halves_of_the_recorded_clients_are_disjoint_and_stay_what_they_are(recorded: Clients) -> None:
    tune, report = halves(recorded)
    assert not set(tune) & set(report)
    # whoever moves a client from one half to the other reports on what was tuned on
    digests = [hashlib.sha256(" ".join(recorded.names[half]).encode()).hexdigest()[:16] for half in (tune, report)]
    assert digests == ["fe56b00b1fe8ef97", "cabb1f305333233a"]


def test_a_world_of_recorded_clients_holds_what_every_world_holds(recorded: Clients) -> None:
    attacked, clean, again = (real_world(recorded, 0, 1, attacks=a, repeats=1) for a in (True, False, True))
    assert_sums_fit_together(attacked)
    assert_attacks_stay_inside_their_windows(attacked, clean)
    assert {attack.family for attack in attacked.attacks} == FAMILIES
    for name in ARRAYS:
        assert np.array_equal(getattr(attacked, name), getattr(again, name)), name
    # 62 clients in two directions, and a fifth as many new keys
    assert attacked.calls.shape == (28 * PER_DAY, 124 + 24)
