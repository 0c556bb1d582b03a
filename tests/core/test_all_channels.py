"""One contract that every channel of evidence keeps; a new one in CHANNELS is taken up by itself."""

from __future__ import annotations

import math
import random
import struct
from array import array

import pytest
from made_priors import made_priors

from stream.core.adaptivemean import AdaptiveMean
from stream.core.baseline import CALL_RATE, Baseline
from stream.core.bucket import LOG_SCALE, OpenBucket
from stream.core.calendar import Calendar
from stream.core.channels import CHANNELS, STANDARDISED, STATISTICS
from stream.core.channels.base import Laws, Moment, Step
from stream.core.channels.level import Level
from stream.core.presence import Presence
from stream.core.residuals import HORIZONS, Horizons, Residuals
from stream.settings import Settings

BUCKET_SECONDS = 900
HORIZON = Horizons(Calendar(BUCKET_SECONDS))
PER_DAY = HORIZON.steps_per_day
FIRST = 20_515 * PER_DAY
USUAL_CALLS, CALL_TOKENS = 10, 1000.0
LEVEL = USUAL_CALLS * CALL_TOKENS
SETTINGS = Settings(min_excess_tokens=50_000, min_calls=6)
PRIORS = made_priors()
KINDS = {"surge", "drift", "ramp", "quiet_hours", "shape", "newcomer"}
LEVELS = [name for name, channel in CHANNELS.items() if issubclass(channel, Level)]
every_channel = pytest.mark.parametrize("name", CHANNELS)


class Scene:
    """A key of one bucket a step, and one channel that watches it; the tokens of each bucket are said."""

    def __init__(self, name, level=LEVEL):
        self.channel = CHANNELS[name](PRIORS, HORIZON)
        self.residuals = Residuals(HORIZON)
        self.presence = Presence(PER_DAY)
        self.baseline = Baseline(HORIZON.calendar)
        self.baseline.level = AdaptiveMean(level, self.baseline.level.fading_factor)
        self.baseline.call_tokens = AdaptiveMean(CALL_TOKENS, CALL_RATE)
        self.level = level
        self.bucket = FIRST
        for h in range(len(HORIZONS)):
            self.residuals.observed[h] = self.residuals.expected[h] = level

    def moment(self, age_days=10.0):
        residuals = self.residuals
        moment = Moment(self.baseline, residuals, self.presence, SETTINGS)
        moment.begin(self.bucket, math.ceil(age_days))
        moment.hourly = True
        moment.ratios = [residuals.log_ratio(h, CALL_TOKENS, self.level) for h in range(len(HORIZONS))]
        moment.day_z = moment.ratios[3] / 0.3
        moment.warm, moment.learning, moment.age_days = age_days > 3, age_days > 1, age_days
        self.baseline.age = round(age_days * PER_DAY)
        moment.excess = max(residuals.excess(h) for h in range(len(HORIZONS)))
        return moment

    @property
    def awake(self):
        return 7 <= self.bucket % PER_DAY // 4 < 22

    @property
    def due(self):
        """Expected by both seasons."""
        return self.level * (1.5 if self.awake else 0.1)

    def bucket_of(self, calls, tokens, milked):
        """Answers are short and of many lengths; `milked`: long, alike, and cut at the limit."""
        sums = OpenBucket(self.bucket, array("f", (math.inf, 0.0, 0.0, 0.0, 0.0)))
        sums.calls = calls
        sums.input_tokens = int(tokens * (0.1 if milked else 0.7))
        sums.output_tokens = int(tokens) - sums.input_tokens
        log = math.log1p(sums.output_tokens / calls)
        square = log * log + (0.0 if milked else 0.5)
        sums.log_output, sums.log_output_squares = int(calls * log * LOG_SCALE), int(calls * square * LOG_SCALE)
        sums.saturated, sums.models = (calls if milked else 0), {7: calls}
        return sums

    def close(self, calls, tokens, *, age_days=10.0, learn=True, milked=False):
        """One bucket as KeyState closes it, without `learn` as in an incident; returns the moment."""
        channel = self.channel
        sums = self.bucket_of(calls, tokens, milked) if calls else None
        if sums is not None:
            channel.add(sums)
        ended = self.residuals.update(self.bucket, float(tokens), calls, self.due, self.due)
        assert ended is not None, "a bucket is a step"
        channel.step(Step(self.bucket, *ended, self.level), not learn)
        self.presence.step(1.0 if calls else 0.0)
        moment = self.moment(age_days)
        channel.score(moment)
        if learn:
            channel.learn(moment)
        self.bucket += 1
        if self.bucket % PER_DAY == 0:
            channel.learn_day()
        return moment

    def days(self, days, seed=1, factor=1.0):
        """Some days of a lively key that is used at daytime."""
        rng = random.Random(seed)
        for _ in range(int(days * PER_DAY)):
            calls = round(factor * rng.randrange(4, 18)) if self.awake else 0
            self.close(calls, calls * CALL_TOKENS * rng.uniform(0.5, 1.5))
        return self


@pytest.fixture(scope="module")
def learned():
    """What each channel has learned in a week and a half, packed."""
    return {name: Scene(name).days(10.5).channel.pack() for name in CHANNELS}


def grown(name, learned):
    """The same week and a half, with the windows of the key."""
    scene = Scene(name)
    scene.channel.unpack(memoryview(learned[name]))
    scene.bucket += int(10.5 * PER_DAY)
    for h in range(len(HORIZONS)):
        scene.residuals.calls[h] = USUAL_CALLS * HORIZON.buckets[h]
    return scene


@every_channel
def test_it_is_registered_under_its_name_with_a_kind_and_a_window_for_each_number(name):
    channel = CHANNELS[name]
    assert channel.name == name
    count = len(channel.statistics)
    assert len(channel.kinds) == len(channel.horizons) == count > 0
    assert set(channel.kinds) <= KINDS
    assert set(channel.horizons) <= set(range(len(HORIZONS)))
    assert set(channel.standardised) <= set(channel.statistics)
    made = channel(PRIORS, HORIZON)
    assert len(made.values) == len(made.z) == count
    laws = getattr(made, "laws", None)
    assert len(laws.laws if isinstance(laws, Laws) else ()) == len(channel.standardised)


def test_no_two_numbers_have_the_same_name():
    assert len(set(STATISTICS)) == len(STATISTICS)
    assert set(STANDARDISED) <= set(STATISTICS)


@every_channel
def test_scoring_does_not_change_the_state(name, learned):
    scene = grown(name, learned)
    moment = scene.close(60, 600_000.0)
    channel = scene.channel
    before = channel.pack()
    channel.score(moment)
    first = list(channel.values), list(channel.z)
    channel.score(moment)
    assert (channel.values, channel.z) == first
    assert channel.pack() == before


@every_channel
def test_what_was_packed_goes_on_identically(name, learned):
    scene, twin = grown(name, learned), grown(name, learned)
    packed = scene.channel.pack()
    rest = twin.channel.unpack(memoryview(packed + b"rest"))
    assert bytes(rest) == b"rest"
    assert twin.channel.pack() == packed
    for each in (scene, twin):
        each.days(1.3, seed=2, factor=1.5)
    assert twin.channel.pack() == scene.channel.pack()
    assert twin.channel.values == scene.channel.values


@every_channel
def test_a_fresh_channel_packs_too(name):
    made, twin = (CHANNELS[name](PRIORS, HORIZON) for _ in range(2))
    assert len(twin.unpack(memoryview(made.pack()))) == 0
    assert twin.pack() == made.pack()


@every_channel
def test_a_packed_channel_is_small_and_cut_it_is_an_error(name, learned):
    packed = learned[name]
    assert len(packed) <= 190
    for size in range(len(packed)):
        with pytest.raises((ValueError, struct.error)):
            CHANNELS[name](PRIORS, HORIZON).unpack(memoryview(packed[:size]))


def attacked(name, scene, **gates):
    """The highest of each number in the day that the channel is for: a flood round the clock, or what suits it more."""
    most = [0.0] * len(CHANNELS[name].statistics)
    for _ in range(PER_DAY):
        if name == "shape":
            moment = scene.close(USUAL_CALLS, 2 * LEVEL, learn=False, milked=True)
        elif name == "newcomer":
            moment = scene.close(20 * USUAL_CALLS, 20 * LEVEL, learn=False, age_days=1.0)
        else:
            moment = scene.close(20 * USUAL_CALLS, 20 * LEVEL, learn=False)
        for gate, value in gates.items():
            setattr(moment, gate, value)
        scene.channel.score(moment)
        most = list(map(max, most, scene.channel.values))
    return most


@every_channel
def test_an_attack_of_its_kind_is_evidence(name, learned):
    assert max(attacked(name, grown(name, learned))) > 1.0


@every_channel
def test_what_is_too_little_to_matter_to_anybody_is_no_evidence(name, learned):
    assert attacked(name, grown(name, learned), min_excess=1e18) == [0.0] * len(CHANNELS[name].statistics)


@pytest.mark.parametrize("name", [name for name in CHANNELS if name not in ("shape", "newcomer", "quiet")])
def test_a_few_calls_are_no_evidence(name, learned):
    assert attacked(name, grown(name, learned), min_calls=1e9) == [0.0] * len(CHANNELS[name].statistics)


@pytest.mark.parametrize("name", LEVELS)
def test_more_is_never_less_evidence(name, learned):
    scene = grown(name, learned)
    before = None
    for factor in (0.0, 0.5, 1.0, 1.5, 3.0, 10.0, 100.0, 1e6):
        for h in range(len(HORIZONS)):
            scene.residuals.observed[h] = factor * LEVEL
        scene.channel.score(scene.moment())
        values, z = list(scene.channel.values), list(scene.channel.z)
        if before is not None:
            assert all(a <= b for a, b in zip(before[0], values, strict=True)), factor
            assert all(a <= b for a, b in zip(before[1], z, strict=True)), factor
        before = values, z
        if factor <= 1.0:
            assert not any(values), "no more than expected"
    assert min(values[: len(CHANNELS[name].windows)]) > 1.0


@every_channel
@pytest.mark.parametrize("level", [0.0, 1e-300, LEVEL, 1e15])
def test_no_extreme_makes_a_number_that_is_none(name, level):
    scene = Scene(name, level)
    extremes = [(0, 0.0), (1, 0.0), (1, 1.0), (10**6, 1e15), (1, 1e15), (10**6, 1.0), (10**6, 0.0), (7, 7000.0)]
    rng = random.Random(3)
    for bucket in range(4 * PER_DAY):
        calls, tokens = rng.choice(extremes) if bucket < 2 * PER_DAY else extremes[bucket // 20 % len(extremes)]
        scene.close(calls, tokens, age_days=0.5 + bucket / PER_DAY * 4)
        assert all(map(math.isfinite, scene.channel.values)), bucket
        assert all(map(math.isfinite, scene.channel.z)), bucket
        assert min(scene.channel.values) >= 0.0
    laws = getattr(scene.channel, "laws", None)
    for law in laws.laws if laws is not None else ():
        assert math.isfinite(law.mean)
        assert 0 < law.variance < math.inf
    twin = Scene(name, level)
    twin.channel.unpack(memoryview(scene.channel.pack()))
    assert twin.channel.pack() == scene.channel.pack()


@every_channel
def test_a_forgotten_day_teaches_nothing(name, learned):
    """The same day twice; in one of them the channel notes it, and then an incident is found to have been open."""
    packed = []
    for noted in (True, False):
        scene = grown(name, learned)
        scene.channel.forget_day()
        for _ in range(PER_DAY // 4):
            moment = scene.close(3 * USUAL_CALLS, 3 * LEVEL, learn=False)
            moment.learning = False
            if noted:
                scene.channel.learn(moment)
        scene.channel.forget_day()
        scene.channel.learn_day()
        if name == "drift":
            scene.channel.settle()  # the test that gathers over days is no matter of a day
            scene.channel.last_hour = -1
        packed.append(scene.channel.pack())
    assert packed[0] == packed[1]


@every_channel
def test_a_noted_day_teaches(name, learned):
    if name == "newcomer":
        pytest.skip("it learns nothing: it compares with the population alone")
    scene, twin = grown(name, learned), grown(name, learned)
    for _ in range(PER_DAY):
        scene.close(USUAL_CALLS if scene.awake else 0, LEVEL if scene.awake else 0.0)
        twin.close(2 * USUAL_CALLS, 2 * LEVEL)
    assert scene.channel.pack() != twin.channel.pack()


@every_channel
def test_what_an_incident_left_behind_opens_no_other_one(name, learned):
    scene = grown(name, learned)
    attacked(name, scene)
    scene.residuals.settle()
    scene.channel.settle()
    scene.close(USUAL_CALLS, 0.9 * LEVEL, learn=False)
    assert not any(scene.channel.values)
