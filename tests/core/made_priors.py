"""Priors made by hand: laws near those of real keys, and a rule that opens incidents in short streams."""

from __future__ import annotations

import math

from stream.core.channels import STANDARDISED, STATISTICS
from stream.core.priors import POPULATION, Normal, Priors
from stream.core.rule import CONTEXT, TAIL_FEATURES, Head, Rule, Tail

FLAT = (0.0,) * len(CONTEXT)
QUICK = ("level_10m", "level_40m")
SHAPES = ("shape_6h", "shape_1d", "ratio_record")
FLAT_TAIL = (0.0,) * (len(TAIL_FEATURES) - 1)
TAIL = Tail(0.0, (-math.log(99), *FLAT_TAIL), (-math.log(math.log(10)), *FLAT_TAIL))
"""Two decades at log odds of 0, none at -4, and one for each further unit, whatever the key."""


def head(name: str, weights: dict[str, float], context: tuple[float, ...] = FLAT) -> Head:
    """A head that says nothing without evidence."""
    places = tuple((i, weights[statistic], 0.0) for i, statistic in enumerate(STATISTICS) if statistic in weights)
    return Head(name, -4.0, places, context, TAIL)


def made_priors(
    tail: tuple[tuple[float, float], ...] = ((0.5, 0.2), (2.0, 0.01), (6.0, 1e-6)),
    law: tuple[float, float] = (1.0, 0.5),
) -> Priors:
    """`law` is that of all daily maxima.

    Every number counts: those of minutes the most, by `quick`; the shape's by `joint`, all others by `volume` too.
    """
    volume = {name: 0.4 for name in STATISTICS if name not in SHAPES and name != "newcomer"}
    return Priors(
        laws=dict.fromkeys(STANDARDISED, law),
        rule=Rule(
            head("quick", dict.fromkeys(QUICK, 4.0)),
            head("volume", volume),
            head("joint", volume | dict.fromkeys(SHAPES, 0.4)),
        ),
        tail=tail,
        newcomer_tail=((1.0, 0.2), (3.0, 0.01), (6.0, 1e-4)),
        population={name: Normal(0.0, 3.0, 0.003 if name == "level" else 0.0) for name in POPULATION},
        call_input_tokens=500.0,
        call_output_tokens=250.0,
        digest="made",
    )
