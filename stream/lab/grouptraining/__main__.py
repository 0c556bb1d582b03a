"""`python -m stream.lab.grouptraining`: make the priors of groups that the package ships.

Over campaign worlds of tuning seeds in which nothing happens, once their history of three weeks is known: three weeks
more. What their keys tell is recorded once; with `--evidence DIR` it lies there, and is only read if it does already.
Groups read it once; the laws of the daily maxima, how often each statistic is exceeded, and how often the score that
they give together begins to exceed a value are worked out from what they showed. Then groups read it again at some
dials, for what opens a campaign also changes what is learned and what opens next: how many they do open, by what the
worlds of the other fold taught, is what the dial is marked by. Recording takes some minutes a world, all else as long.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryDirectory

from stream.core import grouppriors
from stream.lab.grouptraining.dial import mark
from stream.lab.grouptraining.fit import train
from stream.lab.grouptraining.readings import read
from stream.lab.grouptraining.records import record

WORLDS = tuple(("BC"[(seed + 1) % 2], seed) for seed in range(11, 21))
"""Profile and seed; D is never tuned on."""


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shipped = Path(grouppriors.__file__).parent / "group_priors.json"
    parser.add_argument("--out", type=Path, default=shipped, help="the file to write (default: the package's own)")
    parser.add_argument("--evidence", type=Path, metavar="DIR", help="where evidence lies, or is put")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    arguments = parser.parse_args()
    with TemporaryDirectory() as scratch:
        folder = arguments.evidence or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        with ProcessPoolExecutor(arguments.jobs, multiprocessing.get_context("spawn")) as pool:
            records = list(pool.map(record, *zip(*WORLDS, strict=True), repeat(folder)))
            parts = list(pool.map(read, records))
            document = mark(train(parts), parts, records, pool)
    arguments.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    score, share = document["tail"][-1]
    sys.stdout.write(f"{arguments.out}: {share} openings beyond a score of {score} for a clean group-day\n")


if __name__ == "__main__":
    main()
