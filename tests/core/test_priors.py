"""The priors' file: what it must hold, and what is said of one that does not."""

from __future__ import annotations

import json
import math

import pytest

from stream.core.channels import STANDARDISED, STATISTICS
from stream.core.priors import POPULATION, VERSION, Normal, Priors
from stream.core.rule import CONTEXT, TAIL_FEATURES

TAIL = {"threshold": -1.0, "exceedance": {"one": -4.0}, "excess": {"one": -0.5, "seldom": 0.25}}
HEAD = {
    "bias": -4.0,
    "weights": {"level_10m": 1.5, "shape_6h": 0.0},
    "steady": {"level_10m": 0.5},
    "context": {"size": 0.25},
    "tail": TAIL,
}
GOOD = {
    "version": VERSION,
    "laws": {name: [0.5, 0.3] for name in STANDARDISED},
    "rule": {"quick": HEAD, "volume": HEAD, "joint": HEAD},
    "tail": [[1.0, 0.5], [2.0, 0.01]],
    "newcomer_tail": [[1.0, 0.5], [2.0, 0.01]],
    "population": {name: [0.0, 1.0, 0.5] for name in POPULATION},
    "call_input_tokens": 500,
    "call_output_tokens": 250,
}


def read(**changes):
    return Priors.from_json(json.dumps(GOOD | changes))


def with_head(**changes):
    return {"rule": GOOD["rule"] | {"volume": HEAD | changes}}


def test_a_good_file_is_read():
    priors = read()
    assert priors.law("level_4h") == (0.5, 0.3)
    quick = priors.rule.quick
    assert quick.weights == ((STATISTICS.index("level_10m"), 1.5, 0.5),), "those of 0 are left out"
    assert quick.context == tuple(0.25 if name == "size" else 0.0 for name in CONTEXT)
    assert quick.tail.threshold == -1.0
    assert quick.tail.excess == tuple({"one": -0.5, "seldom": 0.25}.get(name, 0.0) for name in TAIL_FEATURES)
    assert priors.tail == ((1.0, 0.5), (2.0, 0.01))
    assert priors.population["level"] == Normal(0.0, 1.0, 0.5)
    assert (priors.call_input_tokens, priors.call_output_tokens) == (500, 250)


def test_the_digest_names_the_file():
    assert read() == read()
    assert read().digest != read(call_input_tokens=501).digest
    assert len(read().digest) == 16


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"version": 1}, "an older format"),
        ({"tail": [[1.0, 0.5]]}, "one point has no slope"),
        ({"tail": [[2.0, 0.5], [1.0, 0.01]]}, "falls in score"),
        ({"newcomer_tail": [[1.0, 0.01], [2.0, 0.5]]}, "rises in share"),
        ({"tail": [[1.0, 0.5], [1.0, 0.01]]}, "the same score twice"),
        ({"tail": None}, "no table"),
        ({"tail": [[1.0, 0.5], [2.0, 0.0]]}, "a share of zero has no logarithm"),
        ({"tail": [[1.0, 2.0], [2.0, 0.5]]}, "more than all of them"),
        ({"tail": [[1.0, 0.5], [math.inf, 0.1]]}, "an infinite score"),
        ({"laws": GOOD["laws"] | {"level_4h": [1.0]}}, "a law without a scale"),
        ({"laws": GOOD["laws"] | {"level_4h": [1.0, 0.0]}}, "a scale of zero divides by it"),
        ({"laws": GOOD["laws"] | {"level_4h": [math.nan, 1.0]}}, "not a number"),
        ({"laws": {name: GOOD["laws"][name] for name in STANDARDISED[1:]}}, "a statistic without a law"),
        ({"call_input_tokens": "many"}, "a word for a number"),
        ({"call_input_tokens": -1}, "less than nothing"),
        ({"population": {}}, "no population"),
        ({"population": GOOD["population"] | {"level": [0.0, 0.0]}}, "an sd of zero divides by it"),
        (with_head(weights={"horoscope": 1.0}), "what is not measured"),
        (with_head(weights={"cusum": -1.0}), "evidence against"),
        (with_head(bias=math.nan), "no bias"),
        (with_head(context={"size": math.inf}), "an infinite weight"),
        (with_head(steady={"cusum": -1.0}), "evidence against"),
        (with_head(steady={"horoscope": 1.0}), "what is not measured"),
        (with_head(tail=TAIL | {"threshold": math.nan}), "a tail that begins nowhere"),
        (with_head(tail=TAIL | {"excess": {"one": math.inf}}), "an infinite excess"),
        (with_head(tail={"threshold": 1.0}), "a tail without coefficients"),
        ({"rule": {"quick": HEAD, "volume": HEAD}}, "a head is missing"),
    ],
)
def test_a_bad_priors_file_is_refused(change, why):
    with pytest.raises(ValueError, match="priors file"):
        read(**change)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"laws": 1}'])
def test_what_is_no_priors_file_is_refused(text):
    with pytest.raises(ValueError, match="not a priors file"):
        Priors.from_json(text)
