"""Many branches of one world, each run by the keys that differ from the world in which nothing happens.

A key is judged by nothing but its own calls, so what the others say, and the alerts of single ones, is the same in all
branches: it is worked out once. Only groups, which hear them all, are judged anew.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np

from stream.alerts import Alert
from stream.core.evidence import Evidence, Word
from stream.core.gathering import evidence_of
from stream.core.groups import Groups
from stream.lab.evaluation.installation import Installation
from stream.lab.worlds.campaigns.world import Branch

DAY = 86_400.0

Words = dict[int, list[Word]]
"""What keys said, by bucket."""


def listen(installation: Installation) -> list[Words]:
    """From now on take down what its keys say: one book for each shard."""
    books: list[Words] = []
    for shard in installation.shards:
        book: Words = {}
        gathering = shard.rules.gathering
        assert gathering is not None
        gathering.watch = partial(_note, book)
        books.append(book)
    return books


def _note(book: Words, bucket: int, word: Word) -> None:
    book.setdefault(bucket, []).append(word)


def run(installation: Installation, branch: Branch) -> list[Alert]:
    """The alerts of a branch, of keys and of groups; the installation is used up."""
    alerts: list[Alert] = []
    for day in branch.days:
        alerts += installation.observe(day.calls())
    return alerts + installation.finish(branch.end)


class Ran(NamedTuple):
    """What came of a branch: alerts of its groups and of the keys that differ, what those keys said, the groups."""

    alerts: list[Alert]
    said: list[Words]
    groups: Groups


class Calm:
    """A world in which nothing happens after its history: its alerts, and what each key says.

    `past` is an installation that has known the history; it stays as it is.
    """

    def __init__(self, past: Installation, branch: Branch) -> None:
        whole = past.copy()
        self._past, self._branch = past, branch
        self.words = listen(whole)
        self.alerts = run(whole, branch)

    def run(self, branch: Branch) -> Ran:
        """Another branch, no longer than this one."""
        differs = branch.differing(self._branch)
        key_ids = branch.days[-1].book.key_ids
        changed = frozenset(key_ids[key] for key in np.flatnonzero(differs).tolist())
        part = self._past.copy(changed)
        said = listen(part)
        others = [
            {bucket: [word for word in words if word.key_id not in changed] for bucket, words in book.items()}
            for book in self.words
        ]
        groups, part.groups = part.groups, None
        assert groups is not None
        alerts: list[Alert] = []
        begin = 0  # what the history's last bucket holds is said in the branch
        for number, day in enumerate(branch.days, 1):
            alerts += part.observe(day.calls(differs))
            last = number == len(branch.days)
            until = branch.start + number * DAY - (0.0 if last else part.settings.allowed_lateness_seconds)
            alerts += part.finish(until)
            end = int(until // part.settings.bucket_seconds)
            for shard, (mine, theirs) in enumerate(zip(said, others, strict=True)):
                words = {
                    bucket: [*mine.get(bucket, ()), *theirs.get(bucket, ())]
                    for bucket in {*mine, *theirs}
                    if begin <= bucket < end
                }
                groups.take([*evidence_of(shard, words), Evidence(shard, end - 1, [], complete=True)])
            begin = end
            alerts += groups.close().alerts
        return Ran(alerts, said, groups)
