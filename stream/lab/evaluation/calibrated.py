"""The dial of a world, set by a history of its own kind: what a user gets who has run `overdraw calibrate`.

The history has other keys, and no attacks. Its look-alikes are left out, as by `--exclude`, for they have a line of
their own in the scores, too; whoever counts a launch as a false alert gets a higher threshold from `calibrate`.
"""

from __future__ import annotations

from functools import partial

from stream.core.priors import Priors
from stream.core.rules import Rules
from stream.lab.calibration.incidents import Incidents
from stream.lab.calibration.peaks import Peaks
from stream.lab.calibration.run import Calibration, calibrate
from stream.lab.evaluation.detector import Progress, Task, alerts_of, each_of, tasks_of
from stream.lab.worlds.world import World
from stream.settings import Settings


def calibration_of(
    history: World, settings: Settings, *, jobs: int = 1, progress: Progress | None = None
) -> Calibration:
    """What `overdraw calibrate` makes of a world without attacks; the same for any number of jobs.

    Raises DialError if it is too short for the dial, TooFewError if too little happens in it.
    """
    peaks = Peaks()
    for heard in each_of(_heard, tasks_of(history, partial(Rules, settings)), jobs, progress):
        peaks.add(heard)
    spans: dict[str, list[tuple[float, float]]] = {}
    for episode in history.lookalikes:
        first, last = (
            float((history.first_bucket + row) * history.bucket_seconds) for row in (episode.first, episode.last)
        )
        spans.setdefault(history.key_ids[episode.key], []).append((first, last))
    return calibrate(settings, peaks, Incidents(spans, 0), history.first_day)


def calibrated(text: str, settings: Settings) -> Rules:
    """Rules by the priors that a calibration has written."""
    return Rules(settings, Priors.from_json(text))


def _heard(task: Task) -> Peaks:
    """The highest scores of a task's keys, day by day, where nothing opens an incident."""
    rules, peaks = task.rules(), Peaks()
    rules.listen(peaks.see)
    for traffic in task.traffic:
        alerts_of(traffic, rules, task.first, task.end, task.keys)
    return peaks
