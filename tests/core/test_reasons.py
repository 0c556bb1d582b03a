"""The words of an explanation: nothing that decides is left without its reason."""

from __future__ import annotations

import pytest

from stream.core.channels import CHANNELS, STATISTICS
from stream.core.channels.shape import ASPECTS, Shape
from stream.core.priors import shipped_priors
from stream.core.reasons import (
    ASPECT_WORDS,
    CONTEXT_REASONS,
    REASONS,
    activity_in_words,
    aspects_in_words,
    reason_of,
    season_in_words,
    times_of,
    unpredictability_in_words,
    volatility_in_words,
)
from stream.core.rule import CONTEXT
from stream.core.rules import Rules
from stream.settings import Settings


def shape() -> Shape:
    """One that has seen a few calls."""
    made = CHANNELS["shape"](shipped_priors(), Rules(Settings()).horizons)
    assert isinstance(made, Shape)
    for window in made.windows:
        window[:] = type(window)("f", [40.0, 2.0, 120.0, 400.0, 9_000.0, 12_000.0, 0.0, 1_560.0, 1_560.0])
    return made


def test_every_statistic_every_aspect_and_every_context_has_its_words() -> None:
    assert tuple(REASONS) == STATISTICS
    assert tuple(ASPECT_WORDS) == ASPECTS
    assert tuple(CONTEXT_REASONS) == CONTEXT


@pytest.mark.parametrize("statistic", STATISTICS)
def test_a_reason_is_one_whole_sentence_of_its_own(statistic: str) -> None:
    text = reason_of(statistic, 2.4, shape())
    assert "{" not in text
    assert not text.endswith(".")
    assert [name for name in STATISTICS if reason_of(name, 2.4, shape()) == text] == [statistic]


def test_a_reason_gives_its_number() -> None:
    assert "is 2.4 of its own standard deviations" in reason_of("level_1d", 2.4, shape())
    assert "hold 10.0 × the most" in reason_of("record_4h", 2.302585, shape())


def test_a_number_without_a_reason_is_an_error() -> None:
    with pytest.raises(KeyError, match="level_9d"):
        reason_of("level_9d", 1.0, shape())


def test_a_shape_names_what_stands_out_the_most_first_and_leaves_the_rest() -> None:
    text = aspects_in_words([0.4, 5.0, -3.0, 0.6, 0.0, 0.0])
    assert text == "answers more alike in length (z 5.0), more answers cut at the caller's limit (z 0.6)"
    assert aspects_in_words([0.0] * 6) == "a little of everything"


@pytest.mark.parametrize(
    ("words", "low", "high"),
    [
        (unpredictability_in_words, -3.0, 3.0),
        (volatility_in_words, -2.0, 2.0),
        (activity_in_words, 0.0, 1.0),
        (season_in_words, 0.0, 1.0),
    ],
)
def test_habits_have_different_words_at_both_ends(words, low: float, high: float) -> None:
    assert words(low) != words((low + high) / 2) or words(high) != words((low + high) / 2)
    assert words(low) != words(high)


def test_a_ratio_beyond_all_numbers_is_still_a_number() -> None:
    assert times_of(1e9).endswith(" ×")
