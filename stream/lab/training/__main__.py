"""`python -m stream.lab.training --servegen DIR`: make the priors that the package ships.

Two passes over labelled worlds, real and synthetic, with seeds that no report uses. The first, without attacks, gives
the laws of the daily maxima and the population's; the second, with these laws and with and without attacks, what the
rule is fitted to. Takes about twenty minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from stream.core import priors as core_priors
from stream.core.channels import STANDARDISED, STATISTICS
from stream.core.priors import POPULATION, VERSION, Normal, Priors
from stream.core.rule import CONTEXT, TAIL_FEATURES, Decades, Head, Rule, Tail
from stream.lab.training.heads import Pair
from stream.lab.training.joint import fit_rule, newcomer_tail
from stream.lab.training.laws import Laws, laws_of, population_of
from stream.lab.training.record import LEVEL_OFFSET, record
from stream.lab.training.samples import Sample, sample_of
from stream.lab.worlds.servegen import Clients, load_clients, real_world
from stream.lab.worlds.synthetic import synthetic_world
from stream.lab.worlds.world import World

REAL_SEEDS = (1, 2)
TUNING_HALF = 0
SYNTHETIC = (("A", 11), ("A", 13), ("B", 12), ("B", 14))
"""Profile and seed."""
KEYS, DAYS = 400, 42
CALL_INPUT_TOKENS, CALL_OUTPUT_TOKENS = 500, 250
"""What a call takes before a key has shown it: about the medians of the population."""
IDENTITY = ((1.0, 0.1), (6.0, 1e-6))
"""Scores are decades by construction; `overdraw calibrate` says what they are elsewhere."""

MakeWorld = Callable[[bool], World]


def _real(clients: Clients, seed: int, attacks: bool) -> World:
    return real_world(clients, TUNING_HALF, seed, attacks=attacks)


def _synthetic(profile: str, seed: int, attacks: bool) -> World:
    return synthetic_world(seed, keys=KEYS, days=DAYS, profile=profile, attacks=attacks)


def worlds_of(folder: Path) -> dict[str, MakeWorld]:
    """Every world of the training, by name; each is made with attacks or without."""
    clients = load_clients(folder)
    worlds: dict[str, MakeWorld] = {}
    for seed in REAL_SEEDS:
        worlds[f"real {seed}"] = partial(_real, clients, seed)
    for profile, seed in SYNTHETIC:
        worlds[f"synthetic {profile} {seed}"] = partial(_synthetic, profile, seed)
    return worlds


def priors_with(laws: Laws, population: dict[str, tuple[float, ...]]) -> Priors:
    """Priors whose rule never speaks: for recording."""
    silent = Head("", 0.0, (), (0.0,) * len(CONTEXT), Decades((0.0, 1.0), (0.0, 1.0)))
    tail = Tail(1.0, (0.0,) * len(TAIL_FEATURES), (0.0,) * len(TAIL_FEATURES))
    return Priors(
        laws=laws,
        rule=Rule(silent, silent, silent, tail),
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
        "decades": list(zip(head.decades.odds, head.decades.decades, strict=True)),
    }


def document(laws: Laws, population: dict[str, tuple[float, ...]], rule: Rule, samples: list[Sample]) -> dict[str, Any]:
    """The file."""
    tail = rule.tail
    return {
        "version": VERSION,
        "source": "python -m stream.lab.training",
        "key_days": sum(sample.key_days for sample in samples),
        "laws": laws,
        "rule": {
            **{head.name: head_document(head) for head in (rule.quick, rule.volume, rule.shape)},
            "tail": {
                "threshold": tail.threshold,
                "exceedance": dict(zip(TAIL_FEATURES, tail.exceedance, strict=True)),
                "excess": dict(zip(TAIL_FEATURES, tail.excess, strict=True)),
            },
        },
        "tail": IDENTITY,
        "newcomer_tail": newcomer_tail(samples),
        "population": population,
        "call_input_tokens": CALL_INPUT_TOKENS,
        "call_output_tokens": CALL_OUTPUT_TOKENS,
    }


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

    worlds = worlds_of(wish.servegen)
    blank = priors_with(dict.fromkeys(STANDARDISED, (0.0, 1.0)), dict.fromkeys(POPULATION, (0.0, 1.0, LEVEL_OFFSET)))
    first = []
    for name in (
        "real 1",
        f"synthetic {SYNTHETIC[0][0]} {SYNTHETIC[0][1]}",
        f"synthetic {SYNTHETIC[2][0]} {SYNTHETIC[2][1]}",
    ):
        world = worlds[name](False)
        first.append((world.first_day, record(world, blank, jobs=wish.jobs, report=report)))
    laws, population = laws_of(first), population_of([records for _, records in first])
    priors = priors_with(laws, population)
    pairs = []
    for name, make in worlds.items():
        samples = []
        for attacks in (False, True):
            world = make(attacks)
            samples.append(sample_of(world, record(world, priors, jobs=wish.jobs)))
        pairs.append(Pair(*samples))
        report(f"{name}: {len(world.attacks)} attacks, {pairs[-1].clean.key_days:,} clean key-days")
    rule = fit_rule(pairs)
    text = json.dumps(document(laws, population, rule, [pair.clean for pair in pairs]), indent=1) + "\n"
    Priors.from_json(text)
    wish.out.write_text(text, "utf-8")
    report(f"{wish.out} written")


if __name__ == "__main__":
    main()
