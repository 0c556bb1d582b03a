"""The Numenta Anomaly Benchmark: its own arithmetic, over what `overdraw score` says of its series.

A folder is laid out as theirs: `data/<folder>/<series>.csv` (gzip or not) and `labels/combined_windows.json`. A
detection in a window of an anomaly earns up to 1, the more the earlier, once a window; any other costs up to 0.11, less
soon after a window; a window without one costs 1. The first 15 % of a series, 750 rows at most, do not count. Scores
are 0 for a detector that never says anything and 100 for a perfect one. After Lavin and Ahmad, "Evaluating real-time
anomaly detection algorithms", 2015, and the sweeper of github.com/numenta/NAB 1.1.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stream.gateways.errors import InputError
from stream.lab.score import Scorer, read_time

PROBATION = 0.15
PROBATION_ROWS = 5_000
"""Longer series do not get a longer probation than one of so many rows."""
FAR_BEHIND = 3.0
"""Window widths behind a window from which on a false alarm costs all of its weight."""
NEVER = 1.1
"""A threshold that no score reaches."""
ALERT_THRESHOLD = 0.5

Window = tuple[float, float]
"""First and last time of an anomaly's window, epoch seconds; both are times of rows."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What a detection, a false alarm and a miss weigh."""

    name: str
    true_positive: float
    false_positive: float
    false_negative: float


PROFILES = (
    Profile("standard", 1.0, 0.11, 1.0),
    Profile("reward_low_FP", 1.0, 0.22, 1.0),
    Profile("reward_low_FN", 1.0, 0.11, 2.0),
)
STANDARD = PROFILES[0]


@dataclass(frozen=True, slots=True)
class Point:
    """A row after the probation: its score, the number of the window it lies in (or None), and its unit worth.

    `worth` is in [0, 1] within a window, to be had once, and in [-1, 0] outside.
    """

    score: float
    window: int | None
    worth: float


@dataclass(frozen=True, slots=True)
class Labelled:
    """A scored series: its points after the probation, all its windows, and those that are left after the probation."""

    name: str
    points: tuple[Point, ...]
    windows: int
    windows_left: int

    @property
    def folder(self) -> str:
        """The folder the series lies in."""
        return self.name.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Counts:
    """What a threshold gives: the score of 0 to 100 (below 0 if silence is better), windows found, false alarms.

    Without any window the score is 100 less what the false alarms cost, which NAB leaves undefined.
    """

    score: float
    found: int
    windows: int
    false_alarms: int


@dataclass(frozen=True, slots=True)
class ProfileResult:
    """A profile with the one threshold that is best for it over all series, as NAB publishes it."""

    profile: Profile
    threshold: float
    counts: Counts


@dataclass(frozen=True, slots=True)
class FolderResult:
    """A folder at the standard threshold, and its score at the threshold that is best for the other folders."""

    name: str
    series: int
    counts: Counts
    held_out: float


@dataclass(frozen=True, slots=True)
class NabReport:
    """All of it. `threshold` is the one that maximises the standard score over all series.

    `at_threshold` has every profile at that one threshold, `profiles` each at its own. `held_out` is the standard
    score with each folder judged at the threshold that is best for the others, `alerts` that of the alert column.
    """

    series: int
    rows: int
    windows: int
    threshold: float
    profiles: tuple[ProfileResult, ...]
    at_threshold: tuple[ProfileResult, ...]
    held_out: float
    alerts: Counts
    folders: tuple[FolderResult, ...]

    @property
    def standard(self) -> float:
        """The standard score."""
        return self.profiles[0].counts.score


def scaled_sigmoid(position: float) -> float:
    """Worth at a position in window widths from the right edge of a window: -1 is its left edge, above 0 is behind it.

    >>> round(scaled_sigmoid(-1.0), 5), scaled_sigmoid(0.0), scaled_sigmoid(3.0)
    (0.98661, 0.0, -1.0)
    """
    return -1.0 if position >= FAR_BEHIND else 2 / (1 + math.exp(5 * position)) - 1


def labelled(name: str, times: Sequence[float], scores: Sequence[float], windows: Sequence[Window]) -> Labelled:
    """A series with what each of its rows is worth; raises ValueError if a window's ends are not times of rows."""
    index: dict[float, int] = {}
    for i, time in enumerate(times):
        index.setdefault(time, i)
    for begin, end in windows:
        if begin not in index or end not in index:
            raise ValueError(f"{name}: the window from {begin:.0f} to {end:.0f} does not begin and end at rows")
    probation = min(math.floor(PROBATION * len(times)), PROBATION * PROBATION_ROWS)
    spans = [(index[begin], index[end]) for begin, end in windows]
    best = scaled_sigmoid(-1.0)
    points = []
    number = 0  # of the window that is next, or that the row is in
    for i, score in enumerate(scores):
        while number < len(spans) and i > spans[number][1]:
            number += 1
        if number < len(spans) and i >= spans[number][0]:
            left, right = spans[number]
            point = Point(score, number, scaled_sigmoid(-(right - i + 1) / (right - left + 1)) / best)
        elif number:
            left, right = spans[number - 1]
            point = Point(score, None, scaled_sigmoid((i - right) / (right - left) if right > left else FAR_BEHIND))
        else:
            point = Point(score, None, -1.0)
        if i >= probation:
            points.append(point)
    return Labelled(name, tuple(points), len(windows), len({p.window for p in points} - {None}))


def best_threshold(all_series: Iterable[Labelled], profile: Profile) -> float:
    """The threshold (a point is detected from it on) that gives the highest score; NEVER if nothing beats silence."""
    points = [(point.score, i, point) for i, series in enumerate(all_series) for point in series.points]
    points.sort(key=lambda entry: -entry[0])
    earned: dict[tuple[int, int], float] = {}
    raw = highest = 0.0  # beyond what a detector gets that never says anything
    threshold = NEVER
    for k, (score, i, point) in enumerate(points):
        if point.window is None:
            raw += profile.false_positive * point.worth
        else:
            worth = profile.true_positive * point.worth
            before = earned.get((i, point.window), -profile.false_negative)
            earned[i, point.window] = max(before, worth)
            raw += max(before, worth) - before
        if (k + 1 == len(points) or points[k + 1][0] != score) and raw > highest:
            highest, threshold = raw, score
    return threshold


def counts_at(
    all_series: Iterable[Labelled], profile: Profile, threshold: Callable[[Labelled], float] | float
) -> Counts:
    """Score and counts over some series at a threshold, or at one of each series' own."""
    raw = least = perfect = 0.0
    found = windows = false_alarms = 0
    for series in all_series:
        bar = threshold(series) if callable(threshold) else threshold
        earned: dict[int, float] = {}
        for point in series.points:
            if point.score < bar:
                continue
            if point.window is None:
                raw += profile.false_positive * point.worth
                false_alarms += 1
            else:
                earned[point.window] = max(earned.get(point.window, -math.inf), profile.true_positive * point.worth)
        raw += sum(max(worth, -profile.false_negative) for worth in earned.values())
        raw -= profile.false_negative * (series.windows_left - len(earned))
        least -= profile.false_negative * series.windows_left
        perfect += profile.true_positive * series.windows
        found += len(earned)
        windows += series.windows
    score = 100 * (raw - least) / (perfect - least) if perfect > least else 100 + raw
    return Counts(score, found, windows, false_alarms)


def load_series(folder: Path) -> list[Labelled]:
    """All series of a folder, scored; raises InputError if it is not laid out as NAB."""
    labels = folder / "labels" / "combined_windows.json"
    try:
        document: Mapping[str, list[list[str]]] = json.loads(labels.read_text("utf-8"))
        windows = {name: [(read_time(begin), read_time(end)) for begin, end in ends] for name, ends in document.items()}
    except FileNotFoundError:
        hint = "name a copy of github.com/numenta/NAB, with its data and labels folders"
        raise InputError(f"{labels} is not there: {hint}") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{labels} is not a table of windows: {error}") from error
    found = []
    for name, ends in sorted(windows.items()):
        path = folder / "data" / name
        packed = path.with_name(path.name + ".gz")
        if not path.exists() and not packed.exists():
            continue  # a part of the benchmark is a benchmark
        rows = [row for chunk in Scorer().chunks(path if path.exists() else packed) for row in chunk]
        times = [read_time(row.timestamp) for row in rows]
        scores = [row.said.score if row.said else 0.0 for row in rows]
        try:
            found.append(labelled(name, times, scores, ends))
        except ValueError as error:
            raise InputError(str(error)) from error
    if not found:
        raise InputError(f"{folder / 'data'} has none of the series that {labels} names")
    return found


def nab_report(folder: Path) -> NabReport:
    """Score all series under `folder` and judge the scores; raises InputError if it is not laid out as NAB."""
    return report_of(load_series(folder))


def report_of(all_series: Sequence[Labelled]) -> NabReport:
    """The report on scored series."""
    thresholds = {profile.name: best_threshold(all_series, profile) for profile in PROFILES}
    standard = thresholds[STANDARD.name]
    folders = sorted({series.folder for series in all_series})
    elsewhere = {
        name: best_threshold([series for series in all_series if series.folder != name], STANDARD) for name in folders
    }

    def folder_result(name: str) -> FolderResult:
        inside = [series for series in all_series if series.folder == name]
        held_out = counts_at(inside, STANDARD, elsewhere[name]).score
        return FolderResult(name, len(inside), counts_at(inside, STANDARD, standard), held_out)

    def result(profile: Profile, threshold: float) -> ProfileResult:
        return ProfileResult(profile, threshold, counts_at(all_series, profile, threshold))

    return NabReport(
        series=len(all_series),
        rows=sum(len(series.points) for series in all_series),
        windows=sum(series.windows for series in all_series),
        threshold=standard,
        profiles=tuple(result(profile, thresholds[profile.name]) for profile in PROFILES),
        at_threshold=tuple(result(profile, standard) for profile in PROFILES),
        held_out=counts_at(all_series, STANDARD, lambda series: elsewhere[series.folder]).score,
        alerts=counts_at(all_series, STANDARD, ALERT_THRESHOLD),
        folders=tuple(folder_result(name) for name in folders),
    )


def nab_table(report: NabReport) -> str:
    """The report as Markdown tables."""
    lines = [
        "| profile | threshold | score | windows found | false alarms |",
        "|---|---|---|---|---|",
    ]
    lines += [_line(r.profile.name, f"{r.threshold:.3f}", r.counts) for r in report.profiles]
    lines += [
        _line(f"{r.profile.name}, standard threshold", f"{r.threshold:.3f}", r.counts) for r in report.at_threshold[1:]
    ]
    lines.append(_line("standard, of the alert column", f"{ALERT_THRESHOLD:.3f}", report.alerts))
    lines.append(f"| standard, each folder at the others' threshold | | {report.held_out:.1f} | | |")
    lines += ["", "| folder | series | score | held out | windows found | false alarms |", "|---|---|---|---|---|---|"]
    for folder in report.folders:
        counts = folder.counts
        found = f"{counts.found} of {counts.windows}"
        numbers = f"{folder.series} | {counts.score:.1f} | {folder.held_out:.1f} | {found} | {counts.false_alarms}"
        lines.append(f"| {folder.name} | {numbers} |")
    return "\n".join(lines)


def _line(name: str, threshold: str, counts: Counts) -> str:
    found = f"{counts.found} of {counts.windows}"
    return f"| {name} | {threshold} | {counts.score:.1f} | {found} | {counts.false_alarms} |"
