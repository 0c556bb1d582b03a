"""`python -m stream.lab.training --servegen DIR`: make the priors that the package ships.

Two passes over labelled worlds, real and synthetic, with seeds that no report uses. The first, without attacks, gives
the laws of the daily maxima and the population's; the second, with these laws and with and without attacks, what the
rule is fitted to; its tails and the dial's table are made by cross-fitting. Takes about twenty minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from stream.core import priors as core_priors
from stream.core.channels import STANDARDISED, STATISTICS
from stream.core.priors import POPULATION, VERSION, Normal, Priors
from stream.core.rule import CONTEXT, TAIL_FEATURES, Head, Rule, Tail
from stream.lab.training.folds import HeldOut, daily_peaks, held_out, rule_of
from stream.lab.training.heads import Pair
from stream.lab.training.laws import Laws, laws_of, population_of
from stream.lab.training.record import LEVEL_OFFSET, KeyRecord, record
from stream.lab.training.samples import Numbers, Sample, sample_of
from stream.lab.training.tasks import fit_heads, joint_tail, newcomer_tail
from stream.lab.worlds.servegen import Clients, load_clients, real_world
from stream.lab.worlds.synthetic import synthetic_world
from stream.lab.worlds.world import World

REAL_SEEDS = (1, 2)
TUNING_HALF = 0
REAL_WEIGHT = 3.0
"""Of each real world in the tails: made-up keys never change their ways, real ones do."""
SYNTHETIC = (("A", 11), ("B", 12), ("B", 14), ("C", 15), ("C", 16))
"""Profile and seed."""
KEYS, DAYS = 250, 42
CALL_INPUT_TOKENS, CALL_OUTPUT_TOKENS = 500, 250
"""What a call takes before a key has shown it: about the medians of the population."""
IDENTITY = ((1.0, 0.1), (6.0, 1e-6))
"""Scores are decades by construction; `overdraw calibrate` says what they are elsewhere."""

MakeWorld = Callable[[bool], World]


def _real(clients: Clients, seed: int, attacks: bool) -> World:
    return real_world(clients, TUNING_HALF, seed, attacks=attacks)


def _synthetic(profile: str, seed: int, attacks: bool) -> World:
    return synthetic_world(seed, keys=KEYS, days=DAYS, profile=profile, attacks=attacks)


def worlds_of(folder: Path) -> list[tuple[str, str, MakeWorld]]:
    """Kind and name of every world of the training; each is made with attacks or without."""
    clients = load_clients(folder)
    worlds: list[tuple[str, str, MakeWorld]] = [
        ("real", f"real {seed}", partial(_real, clients, seed)) for seed in REAL_SEEDS
    ]
    worlds += [
        (f"synthetic {profile}", f"synthetic {profile} {seed}", partial(_synthetic, profile, seed))
        for profile, seed in SYNTHETIC
    ]
    return worlds


def priors_with(laws: Laws, population: dict[str, tuple[float, ...]]) -> Priors:
    """Priors whose rule never speaks: for recording."""
    tail = Tail(0.0, (0.0,) * len(TAIL_FEATURES), (0.0,) * len(TAIL_FEATURES))
    silent = Head("", 0.0, (), (0.0,) * len(CONTEXT), tail)
    return Priors(
        laws=laws,
        rule=Rule(silent, silent, silent),
        tail=IDENTITY,
        newcomer_tail=IDENTITY,
        population={name: Normal(*law) for name, law in population.items()},
        call_input_tokens=CALL_INPUT_TOKENS,
        call_output_tokens=CALL_OUTPUT_TOKENS,
        digest="",
    )


def head_document(head: Head) -> dict[str, Any]:
    """A head as it stands in the file."""
    return {
        "bias": head.bias,
        "weights": {STATISTICS[i]: weight for i, weight, _ in head.weights if weight > 0},
        "steady": {STATISTICS[i]: further for i, _, further in head.weights if further > 0},
        "context": dict(zip(CONTEXT, head.context, strict=True)),
        "tail": {
            "threshold": head.tail.threshold,
            "exceedance": dict(zip(TAIL_FEATURES, head.tail.exceedance, strict=True)),
            "excess": dict(zip(TAIL_FEATURES, head.tail.excess, strict=True)),
        },
    }


def document(
    laws: Laws,
    population: dict[str, tuple[float, ...]],
    rule: Rule,
    samples: Sequence[Sample],
    kinds: Sequence[tuple[Numbers, int]],
) -> dict[str, Any]:
    """The file; `samples` are the clean ones of all worlds, `kinds` are what `joint_tail` takes."""
    return {
        "version": VERSION,
        "source": "python -m stream.lab.training",
        "key_days": sum(sample.key_days for sample in samples),
        "laws": laws,
        "rule": {head.name: head_document(head) for head in (rule.quick, rule.volume, rule.joint)},
        "tail": joint_tail(kinds),
        "newcomer_tail": newcomer_tail(samples),
        "population": population,
        "call_input_tokens": CALL_INPUT_TOKENS,
        "call_output_tokens": CALL_OUTPUT_TOKENS,
    }


def make(worlds: Sequence[tuple[str, str, MakeWorld]], jobs: int, report: Callable[[str], None]) -> str:
    """The text of a new priors file."""
    blank = priors_with(dict.fromkeys(STANDARDISED, (0.0, 1.0)), dict.fromkeys(POPULATION, (0.0, 1.0, LEVEL_OFFSET)))
    first: dict[str, tuple[int, list[KeyRecord]]] = {}
    for kind, name, make_world in worlds:
        if kind not in first:
            world = make_world(False)
            first[kind] = (world.first_day, record(world, blank, jobs=jobs))
            report(f"{name}: its daily maxima")
    laws, population = laws_of(list(first.values())), population_of([records for _, records in first.values()])
    priors = priors_with(laws, population)
    pairs: list[Pair] = []
    for _, name, make_world in worlds:
        clean, attacked = (
            sample_of(world, record(world, priors, jobs=jobs)) for world in (make_world(False), make_world(True))
        )
        pairs.append(Pair(clean, attacked))
        report(f"{name}: {len(attacked.world.attacks)} attacks, {clean.key_days:,} clean key-days")
    weights = [REAL_WEIGHT if kind == "real" else 1.0 for kind, _, _ in worlds]
    held = held_out(pairs, weights)
    rule = rule_of(fit_heads(pairs), held)
    kinds: dict[str, list[HeldOut]] = {}
    for (kind, _, _), found in zip(worlds, held, strict=True):
        kinds.setdefault(kind, []).append(found)
    highest = [
        (np.concatenate([daily_peaks(rule, world) for world in part]), sum(world.clean.key_days for world in part))
        for part in kinds.values()
    ]
    samples = [pair.clean for pair in pairs]
    return json.dumps(document(laws, population, rule, samples, highest), indent=1) + "\n"


def main() -> None:
    """Make the file."""
    parser = argparse.ArgumentParser(prog="python -m stream.lab.training", description=__doc__)
    parser.add_argument("--servegen", type=Path, required=True, help="folder of ServeGen's archives")
    parser.add_argument("--out", type=Path, default=Path(core_priors.__file__).with_name("priors.json"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    wish = parser.parse_args()
    begun = time.monotonic()

    def report(line: str) -> None:
        sys.stderr.write(f"{time.monotonic() - begun:6.0f} s  {line}\n")

    text = make(worlds_of(wish.servegen), wish.jobs, report)
    Priors.from_json(text)
    wish.out.write_text(text, "utf-8")
    report(f"{wish.out} written")


if __name__ == "__main__":
    main()
