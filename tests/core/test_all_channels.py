"""One contract that every channel of evidence keeps; a new one in CHANNELS is taken up by itself."""

from __future__ import annotations

import math
import random

import pytest

from stream.core.calendar import Calendar
from stream.core.calibration import shipped_priors
from stream.core.channels import CHANNELS
from stream.core.channels.base import Gate
from stream.core.residuals import HORIZONS, Horizons, Residuals

BUCKET_SECONDS = 300
PER_DAY = 288
OPEN = Gate(excess_tokens=0.0, calls=0)
GATE = Gate(excess_tokens=100_000, calls=6)

pytestmark = pytest.mark.parametrize("name", CHANNELS)


def made(name):
    return CHANNELS[name](shipped_priors(), BUCKET_SECONDS)


def residuals(z=0.0, observed=0.0, expected=0.0, calls=100.0):
    """Residuals that say the same in every window."""
    values = Residuals(Horizons(Calendar(BUCKET_SECONDS)))
    for h in range(len(HORIZONS)):
        values.z[h], values.observed[h], values.expected[h], values.calls[h] = z, observed, expected, calls
    return values


def week(channel, seed=1, days=7):
    """A channel that has learned some days; the last day is half over."""
    rng = random.Random(seed)
    for bucket in range(days * PER_DAY + PER_DAY // 2):
        channel.learn(residuals(rng.gauss(0, 1)), bucket)
        if (bucket + 1) % PER_DAY == 0:
            channel.learn_day()
    return channel


def test_it_is_registered_under_its_name(name):
    assert CHANNELS[name].name == name
    assert set(CHANNELS[name].horizons) <= set(range(len(HORIZONS)))
    assert len(made(name).laws) == len(CHANNELS[name].horizons)


def test_scoring_does_not_change_the_state(name):
    channel = week(made(name))
    before = channel.pack()
    first = channel.score(residuals(9.0, 5e6), GATE)
    assert channel.score(residuals(9.0, 5e6), GATE) == first
    assert channel.pack() == before


def test_a_monstrous_residual_is_evidence(name):
    evidence = week(made(name)).score(residuals(9.0, 5e6, 1e5), GATE)
    assert evidence.channel == name
    assert evidence.z == 9.0
    assert evidence.score > 5
    assert evidence.horizon in CHANNELS[name].horizons
    assert evidence.excess_tokens >= GATE.excess_tokens


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"z": 9.0, "observed": 1000.0, "expected": 990.0}, "the excess is below the gate"),
        ({"z": 9.0, "observed": 5e6, "calls": 5.0}, "too few calls"),
        ({"z": 0.0, "observed": 5e6}, "nothing unusual"),
        ({"z": -9.0, "observed": 5e6}, "the quiet side"),
        ({"z": 9.0, "observed": 0.0, "expected": 5e6}, "less than expected"),
    ],
)
def test_there_is_no_evidence_below_the_gate(name, values, why):
    assert week(made(name)).score(residuals(**values), GATE) is None, why


def test_more_is_never_less_evidence(name):
    channel = week(made(name))
    scores = [channel.score(residuals(z, 5e6), OPEN) for z in (3.0, 4.0, 6.0, 9.0, 30.0)]
    values = [evidence.score for evidence in scores if evidence is not None]
    assert len(values) >= 4
    assert values == sorted(values)


def test_what_was_packed_goes_on_identically(name):
    channel, twin = week(made(name)), made(name)
    packed = channel.pack()
    rest = twin.unpack(memoryview(packed + b"rest"))
    assert bytes(rest) == b"rest"
    assert twin.pack() == packed
    rng = random.Random(2)
    for bucket in range(8 * PER_DAY, 12 * PER_DAY):
        values = residuals(rng.gauss(1, 1), 5e6)
        assert channel.score(values, OPEN) == twin.score(values, OPEN)
        for each in (channel, twin):
            each.learn(values, bucket)
            if (bucket + 1) % PER_DAY == 0:
                each.learn_day()
    assert twin.pack() == channel.pack()


def test_a_fresh_channel_packs_too(name):
    twin = made(name)
    twin.unpack(memoryview(made(name).pack()))
    assert twin.pack() == made(name).pack()


def test_a_packed_channel_is_small(name):
    assert len(week(made(name)).pack()) <= 200


@pytest.mark.parametrize("z", [-1e6, -1e-300, 0.0, 1e-300, 1e6, 3e38])
def test_no_residual_makes_a_number_that_is_none(name, z):
    channel = made(name)
    for bucket in range(3 * PER_DAY):
        channel.learn(residuals(z if bucket % 3 else 0.0), bucket)
        if (bucket + 1) % PER_DAY == 0:
            channel.learn_day()
    evidence = channel.score(residuals(z, 1e15), OPEN)
    assert evidence is None or math.isfinite(evidence.score)
    assert all(math.isfinite(law.mean) and law.variance > 0 for law in channel.laws)


def test_a_forgotten_day_teaches_nothing(name):
    channel, twin = week(made(name)), week(made(name))
    for each in (channel, twin):
        each.forget_day()
    for bucket in range(8 * PER_DAY, 8 * PER_DAY + 50):
        channel.learn(residuals(8.0, 5e6), bucket)
    channel.forget_day()
    for each in (channel, twin):
        each.learn_day()
    assert [(law.mean, law.variance, law.days) for law in channel.laws] == [
        (law.mean, law.variance, law.days) for law in twin.laws
    ]


def test_a_day_with_higher_residuals_raises_what_is_usual(name):
    calm, lively = made(name), made(name)
    for day in range(30):
        for each, z in ((calm, 1.0), (lively, 3.0)):
            each.learn(residuals(z), day * PER_DAY)
            each.learn_day()
    for quiet, loud in zip(calm.laws, lively.laws, strict=True):
        assert loud.raw(5.0) > quiet.raw(5.0)
