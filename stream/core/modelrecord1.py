"""The loader of models as version 1 wrote them, with two channels and without presence, shape or records.

What was learned is carried over: the seasons, the level, the windows, their scales and the laws of daily maxima. What
version 1 did not know begins as in a new key.
"""

from __future__ import annotations

import math
import struct
from array import array

import msgspec

from stream.core.baseline import LEVEL, SLOTS, WEEK_HOURS, YOUNG_HOURS, coded_tokens
from stream.core.calibration import DailyMaximum
from stream.core.channels.drift import Drift
from stream.core.channels.surge import Surge, coded_variance
from stream.core.incidents import Incident
from stream.core.key import EXPECTED, SCORE, TOKENS, UPPER, KeyState
from stream.core.modelrecord import take_means
from stream.core.presence import DAY_SHARE, LONG_SHARE, SEEN

_MODEL = struct.Struct("<BiiIIIdddddddddH")
_SEASONS = struct.Struct(f"<{SLOTS}f{SLOTS}f{SLOTS}B{WEEK_HOURS}H")
_WINDOWS = struct.Struct("<5f5f5f5f5f")
_SLOTS = struct.Struct(f"<{SLOTS}f")
_LAW = struct.Struct("<2dHd")
_PAGE_HINKLEY = 37
"""Bytes of the state of a test on another residual: it begins anew."""
_COUNT = struct.Struct("<H")
_PLAN = struct.Struct("<i5f")
_MOST_VISITS = 255
_WEEK_RATIO = 200
"""Last week's hours were held as 16 bit of log(1 + tokens) × 2000, today as 8 bit of the same × 10."""


def model_1(data: memoryview, key: KeyState) -> None:
    """Take up a model into a new key; raises ValueError, OverflowError, struct.error or msgspec.MsgspecError."""
    baseline, rules = key.baseline, key.rules
    (
        _, key.next_bucket, key.last_active_day, key.active_days, baseline.age, baseline.active, level, call_tokens,
        call_input, _, _, score, tokens, expected, upper, length,
    ) = _MODEL.unpack_from(data)  # fmt: skip
    key.incident = _incident_at(data, length)
    key.judged_step = key.next_bucket // rules.horizons.per_step
    shown = key.shown
    shown[SCORE], shown[TOKENS], shown[EXPECTED], shown[UPPER] = score, tokens, expected, upper
    take_means(baseline, level, call_tokens, call_input)
    baseline.hour[LEVEL] = level
    data = _take_seasons(data[_MODEL.size + length :], key)
    data = _take_windows(data, key)
    if baseline.age:
        # of a day's share nothing was known: the mean of the key's life is the best guess
        state, steps = key.presence.state, baseline.age // rules.horizons.per_step
        state[DAY_SHARE] = state[LONG_SHARE] = min(baseline.active / baseline.age, 1.0)
        state[SEEN] = steps
    (plans,) = _COUNT.unpack_from(data)
    if len(data) != _COUNT.size + plans * _PLAN.size:
        raise ValueError("the length is wrong")
    key.plans = {index: array("f", plan) for index, *plan in _PLAN.iter_unpack(data[_COUNT.size :])}
    key.stale = False


def _take_seasons(data: memoryview, key: KeyState) -> memoryview:
    baseline, per_hour = key.baseline, key.rules.calendar.per_hour
    values = _SEASONS.unpack_from(data)
    baseline.fast = array("H", map(coded_tokens, values[:SLOTS]))
    baseline.slow = array("H", map(coded_tokens, values[SLOTS : 2 * SLOTS]))
    visits = values[2 * SLOTS : 3 * SLOTS]
    # they were counted in buckets, up to 12 hours or 255
    grown = min(YOUNG_HOURS * per_hour, _MOST_VISITS)
    baseline.visits = array("B", [YOUNG_HOURS if seen >= grown else -(-seen // per_hour) for seen in visits])
    baseline.week = array(
        "B", [round(code / _WEEK_RATIO) if code < 255 * _WEEK_RATIO else 255 for code in values[3 * SLOTS :]]
    )
    baseline.forget_cache()
    return data[_SEASONS.size :]


def _take_windows(data: memoryview, key: KeyState) -> memoryview:
    residuals, surge, drift = key.residuals, key.channels[0], key.channels[1]
    assert isinstance(surge, Surge)
    assert isinstance(drift, Drift)
    values = _WINDOWS.unpack_from(data)
    residuals.observed, residuals.expected, residuals.calls = (array("f", values[i : i + 5]) for i in (0, 5, 10))
    mean, variance = values[15:20], values[20:]
    for scales, part in ((surge.scales, slice(2)), (drift.scales, slice(2, 5))):
        scales.mean, scales.variance = array("f", mean[part]), array("f", variance[part])
    data = data[_WINDOWS.size :]
    surge.slots = array("B", map(coded_variance, _SLOTS.unpack_from(data)))
    data = data[_SLOTS.size :]
    for law in (*surge.laws.laws, *drift.laws.laws):
        _take_law(law, *_LAW.unpack_from(data))
        data = data[_LAW.size :]
    return data[_PAGE_HINKLEY:]


def _take_law(law: DailyMaximum, mean: float, variance: float, days: int, peak: float) -> None:
    if not (math.isfinite(mean) and math.isfinite(variance)):
        raise ValueError("a law of daily maxima is no number")
    law.begin(mean, variance, days)
    if peak > -math.inf:
        law.see(peak)


def _incident_at(data: memoryview | bytes, length: int) -> Incident | None:
    return msgspec.msgpack.decode(data[_MODEL.size : _MODEL.size + length], type=Incident | None)


def incident_1(data: bytes) -> Incident | None:
    """The incident without the rest."""
    return _incident_at(data, _MODEL.unpack_from(data)[-1])
