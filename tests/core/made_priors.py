"""Priors made by hand: laws near those of real keys, and a rule that opens incidents in short streams."""

from __future__ import annotations

from stream.core.channels import STANDARDISED, STATISTICS
from stream.core.priors import POPULATION, Normal, Priors
from stream.core.rule import CONTEXT, Decades, Head, Rule

FLAT = (0.0,) * len(CONTEXT)
QUICK = ("level_10m", "level_40m")
SHAPES = ("shape_6h", "shape_1d", "ratio_record")
DECADES = Decades((-4.0, 0.0, 4.0), (0.0, 2.0, 6.0))


def head(name: str, weights: dict[str, float], context: tuple[float, ...] = FLAT) -> Head:
    """A head that says nothing without evidence."""
    places = tuple((i, weights[statistic]) for i, statistic in enumerate(STATISTICS) if statistic in weights)
    return Head(name, -4.0, places, context, DECADES)


def made_priors(
    tail: tuple[tuple[float, float], ...] = ((0.5, 0.2), (2.0, 0.01), (6.0, 1e-6)), weight: float = 2.0
) -> Priors:
    """Every number counts, those of minutes by `quick`, the shape's by `shape`, all others by `volume`."""
    volume = {name: weight for name in STATISTICS if name not in SHAPES and name != "newcomer"}
    return Priors(
        laws=dict.fromkeys(STANDARDISED, (1.0, 0.5)),
        rule=Rule(
            head("quick", dict.fromkeys(QUICK, weight)),
            head("volume", volume),
            head("shape", dict.fromkeys(SHAPES, weight)),
        ),
        tail=tail,
        newcomer_tail=((1.0, 0.2), (3.0, 0.01), (6.0, 1e-4)),
        population={name: Normal(0.0, 1.0, 0.003 if name == "level" else 0.0) for name in POPULATION},
        call_input_tokens=500.0,
        call_output_tokens=250.0,
        digest="made",
    )
