"""The dial of a world, set by a history of its own kind: what a user gets who has run `overdraw calibrate`.

The history has other keys, and no attacks. Its look-alikes are left out, as by `--exclude`, for they have a line of
their own in the scores, too; whoever counts a launch as a false alert gets a higher threshold from `calibrate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from stream.core.priors import Priors
from stream.core.rules import Rules
from stream.lab.calibration.incidents import Incidents
from stream.lab.calibration.peaks import AFTER_INCIDENT_DAYS, DAY_SECONDS, Peaks
from stream.lab.calibration.run import Calibration, DialError, calibrate
from stream.lab.calibration.tail import TooFewError
from stream.lab.evaluation.detector import Progress, Task, alerts_of, each_of, tasks_of
from stream.lab.evaluation.keydays import AFTER_LOOKALIKE_DAYS
from stream.lab.worlds.world import World
from stream.settings import Settings


class HistoryError(ValueError):
    """A history that cannot set a dial; the message says why, and what can be done."""


def calibrations(
    history: World, settings: Settings, dials: Sequence[float], *, jobs: int = 1, progress: Progress | None = None
) -> dict[float, Calibration]:
    """What `overdraw calibrate` makes of a world without attacks for each dial; the same for any number of jobs.

    Raises HistoryError if there is too little in it.
    """
    peaks = Peaks()
    for heard in each_of(_heard, tasks_of(history, partial(Rules, settings)), jobs, progress):
        peaks.add(heard)
    lookalikes = _lookalikes(history)
    found: dict[float, Calibration] = {}
    for dial in dials:
        at_dial = settings.model_copy(update={"false_alerts_per_1000_key_days": dial})
        try:
            found[dial] = calibrate(at_dial, peaks, lookalikes, history.first_day)
        except DialError as error:
            raise HistoryError(
                f"{history.name}, the history, has {error.key_days:,} clean key-days: too few for dial {dial:g}, "
                f"enough for {error.least:.3f} and more"
            ) from error
        except TooFewError as error:
            raise HistoryError(f"{history.name}, the history: {error}") from error
    return found


def calibrated(text: str, settings: Settings) -> Rules:
    """Rules by the priors that a calibration has written."""
    return Rules(settings, Priors.from_json(text))


def _lookalikes(history: World) -> Incidents:
    """A history's look-alikes, so that the days left out are those that are no clean ones in a report."""
    spans: dict[str, list[tuple[float, float]]] = {}
    for episode in history.lookalikes:
        start, end = (
            float((history.first_bucket + row) * history.bucket_seconds) for row in (episode.first, episode.last)
        )
        end -= (AFTER_INCIDENT_DAYS - AFTER_LOOKALIKE_DAYS) * DAY_SECONDS
        spans.setdefault(history.key_ids[episode.key], []).append((start, end))
    return Incidents(spans, 0)


def _heard(task: Task) -> Peaks:
    """The highest scores of a task's keys, day by day, where nothing opens an incident."""
    rules, peaks = task.rules(), Peaks()
    rules.listen(peaks.see)
    for traffic in task.traffic:
        alerts_of(traffic, rules, task.first, task.end, task.keys)
    return peaks
