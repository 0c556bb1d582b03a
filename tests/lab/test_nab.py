"""NAB's arithmetic against small cases worked by hand, and the floor on its real series."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from stream.lab.nab import (
    NEVER,
    PROFILES,
    STANDARD,
    InputError,
    best_threshold,
    counts_at,
    labelled,
    nab_report,
    nab_table,
    report_of,
    scaled_sigmoid,
)

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "nab"
FLOOR = 62.0


def series(detected=(), windows=(), rows=100, name="folder/series.csv", score=0.9):
    """Row i is at time i; rows 0 to 14 are the probation of a hundred."""
    scores = [score if i in detected else 0.0 for i in range(rows)]
    return labelled(name, range(rows), scores, windows)


def standard(*all_series, threshold=0.5):
    return counts_at(all_series, STANDARD, threshold)


@pytest.mark.parametrize(
    ("position", "worth"), [(-1.0, 0.98661), (-0.5, 0.84828), (0.0, 0.0), (1.0, -0.98661), (2.99, -1.0), (3.0, -1.0)]
)
def test_the_sigmoid_is_the_published_one(position, worth) -> None:
    assert scaled_sigmoid(position) == pytest.approx(worth, abs=1e-5)


def test_a_detection_at_the_left_edge_of_the_only_window_is_perfect() -> None:
    counts = standard(series({40}, [(40, 49)]))
    assert counts.score == pytest.approx(100)
    assert (counts.found, counts.windows, counts.false_alarms) == (1, 1, 0)


def test_silence_is_worth_0_and_a_window_is_earned_once() -> None:
    assert standard(series((), [(40, 49)])).score == 0
    assert standard(series({40, 41, 49}, [(40, 49)])).score == pytest.approx(100)


def test_a_late_detection_is_worth_less() -> None:
    """Row 49, the last of ten: position -(49 - 49 + 1) / 10 = -0.1."""
    worth = (2 / (1 + math.exp(-0.5)) - 1) / (2 / (1 + math.exp(-5)) - 1)
    assert standard(series({49}, [(40, 49)])).score == pytest.approx(100 * (worth + 1) / 2)


def test_false_alarms_cost_their_weight_and_less_just_behind_a_window() -> None:
    window = [(40, 49)]
    early = standard(series({20, 40}, window))
    assert early.score == pytest.approx(100 * (2 - 0.11) / 2)
    behind = standard(series({40, 50}, window))
    # one row behind a window of ten: position 1 / (10 - 1)
    assert behind.score == pytest.approx(100 * (2 + 0.11 * (2 / (1 + math.exp(5 / 9)) - 1)) / 2)
    far = standard(series({40, 95}, window))
    assert far.score == pytest.approx(early.score)
    assert (early.false_alarms, behind.false_alarms) == (1, 1)


def test_the_profiles_weigh_false_alarms_and_misses() -> None:
    two = series({20, 40}, [(40, 49), (80, 89)])
    by_name = {profile.name: counts_at([two], profile, 0.5).score for profile in PROFILES}
    assert by_name["standard"] == pytest.approx(100 * (1 - 1 - 0.11 + 2) / 4)
    assert by_name["reward_low_FP"] == pytest.approx(100 * (1 - 1 - 0.22 + 2) / 4)
    assert by_name["reward_low_FN"] == pytest.approx(100 * (1 - 2 - 0.11 + 4) / 6)


def test_the_probation_counts_neither_way() -> None:
    assert standard(series({3, 14, 40}, [(40, 49)])).score == pytest.approx(100)
    inside = series({5}, [(2, 9), (40, 49)])
    assert (inside.windows, inside.windows_left) == (2, 1)
    # a window that lies in the probation cannot be found, yet a perfect detector has it
    assert standard(series({5, 40}, [(2, 9), (40, 49)])).score == pytest.approx(100 * 2 / 3)
    long = series((), [], rows=20_000)
    assert len(long.points) == 20_000 - 750


def test_a_window_begins_and_ends_at_rows() -> None:
    with pytest.raises(ValueError, match="does not begin and end at rows"):
        series((), [(40.5, 49)])


def test_one_threshold_serves_all_series_and_is_the_best_one() -> None:
    good = series({40}, [(40, 49)], score=0.6)
    noisy = series(set(range(15, 100)), (), score=0.5)
    assert best_threshold([good, noisy], STANDARD) == 0.6
    assert best_threshold([noisy], STANDARD) == NEVER
    late = series(set(range(15, 40)), [(40, 49), (60, 69)], score=0.9)
    assert best_threshold([late], STANDARD) == NEVER
    for profile in PROFILES:
        found = best_threshold([good, noisy, late], profile)
        others = [counts_at([good, noisy, late], profile, other).score for other in (0.0, 0.5, 0.55, 0.6, 0.9, NEVER)]
        assert counts_at([good, noisy, late], profile, found).score == pytest.approx(max(others))


def test_a_folder_is_held_out_at_the_threshold_of_the_others() -> None:
    low = series({40}, [(40, 49)], name="low/a.csv", score=0.3)
    high = labelled("high/b.csv", range(100), [0.7 if i == 40 else 0.4 for i in range(100)], [(40, 49)])
    report = report_of([low, high])
    by_name = {folder.name: folder for folder in report.folders}
    assert by_name["low"].held_out == 0.0  # 0.7 finds nothing there
    assert by_name["high"].held_out == pytest.approx(100 * (2 - 0.11 * _beyond(high)) / 2)
    assert report.held_out == pytest.approx((by_name["low"].held_out + by_name["high"].held_out) / 2)


def _beyond(one) -> float:
    """What all false alarms of a series cost, in units of the weight."""
    return -sum(point.worth for point in one.points if point.window is None)


def test_a_folder_is_read_and_told(tmp_path) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "data" / "made").mkdir(parents=True)
    lines = [f"2026-03-01 {i // 60:02}:{i % 60:02}:00,{100 if i == 600 else i % 7}" for i in range(1_000)]
    (tmp_path / "data" / "made" / "a.csv").write_text("timestamp,value\n" + "\n".join(lines))
    windows = {
        "made/a.csv": [["2026-03-01 09:50:00.000000", "2026-03-01 10:10:00.000000"]],
        "made/absent.csv": [],
    }
    (tmp_path / "labels" / "combined_windows.json").write_text(json.dumps(windows))
    report = nab_report(tmp_path)
    assert (report.series, report.windows, report.profiles[0].counts.found) == (1, 1, 1)
    assert report.standard > 80
    assert report.alerts.found == 1
    text = nab_table(report)
    assert "| standard | " in text
    assert "| made | 1 | " in text


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "is not there: name a copy of github.com/numenta/NAB"),
        ("[1, 2]", "is not a table of windows"),
        ('{"made/a.csv": []}', "has none of the series"),
    ],
)
def test_what_is_no_nab_says_so(tmp_path, labels, message) -> None:
    if labels is not None:
        (tmp_path / "labels").mkdir()
        (tmp_path / "labels" / "combined_windows.json").write_text(labels)
    with pytest.raises(InputError, match=message):
        nab_report(tmp_path)


@pytest.mark.slow
def test_the_real_series_reach_the_floor_with_one_threshold() -> None:
    if not DATA.exists():
        pytest.skip("needs half of NAB in ../shared/data/nab")
    report = nab_report(DATA)
    assert report.standard >= FLOOR
    assert report.held_out >= FLOOR
    assert report.alerts.score >= FLOOR
