"""Benign changes of what a key's calls are like, for good: another model, another prompt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from stream.lab.worlds.draws import MODELS, Floats, LognormalLengths, RequestShape, Usage
from stream.lab.worlds.lookalikes import SETTLING
from stream.lab.worlds.world import Episode, Sums

REASONS = 0.3
"""Part of the migrations of a key without reasoning that lead to a model with it."""


@dataclass(frozen=True, slots=True)
class Reshaping:
    """Calls are like `after` with a probability of `share` (per bucket of the run), else as they were."""

    share: Floats
    after: RequestShape

    def draw(self, rng: np.random.Generator, before: RequestShape, calls: Sums, known: Sums) -> tuple[Sums, Usage]:
        """Calls by model (MODELS x buckets), and usage of the `known` of them, over the whole run."""
        new = rng.binomial(known, self.share)
        unknown = rng.binomial(calls - known, self.share)
        by_model = before.split(rng, calls - new - unknown, 0) + self.after.split(rng, new + unknown, 0)
        old_usage, usage = before.draw(rng, known - new, 0), self.after.draw(rng, new, 0)
        sums = {name: getattr(old_usage, name) + getattr(usage, name) for name in Usage.__slots__}
        return by_model, Usage(**sums)


def reshaping(episode: Episode, before: RequestShape, buckets: int, rng: np.random.Generator) -> Reshaping:
    """The change that an episode of `lookalikes.RESHAPINGS` stands for."""
    moving = episode.last - SETTLING - episode.first
    share = np.clip((np.arange(buckets) - episode.first + 1) / moving, 0.0, 1.0)
    return Reshaping(share, _AFTER[episode.family](before, rng))


def _another_model(before: RequestShape, rng: np.random.Generator) -> RequestShape:
    """One model, seldom used until now: answers are of another length, and the limit is raised if they are longer."""
    model = int(np.argmin(before.mix.mean(axis=0) + 1e-6 * rng.random(MODELS)))
    longer = _sign(rng) * rng.uniform(0.1, 0.6)
    reasoning = before.reasoning
    if not reasoning and rng.random() < REASONS:
        reasoning = float(rng.uniform(0.2, 0.6))
    return replace(
        before,
        # another tokenizer gives the same prompts a little more or less
        lengths=_shifted(before, rng.normal(0, 0.08), longer),
        limit=max(before.limit, float(round(before.limit * np.exp(longer)))),
        reasoning=reasoning,
        mix=np.eye(MODELS)[[model]],
    )


def _another_prompt(before: RequestShape, rng: np.random.Generator) -> RequestShape:
    """More or fewer instructions, and answers that are longer or shorter for it."""
    return replace(
        before, lengths=_shifted(before, _sign(rng) * rng.uniform(0.1, 0.5), _sign(rng) * rng.uniform(0.1, 0.4))
    )


def _sign(rng: np.random.Generator) -> float:
    return 1.0 if rng.random() < 0.5 else -1.0


def _shifted(before: RequestShape, inputs: float, outputs: float) -> LognormalLengths:
    """A key's lengths with so much added to the means of their logarithms."""
    lengths = before.lengths
    assert isinstance(lengths, LognormalLengths), "synthetic keys have lognormal lengths"
    return replace(lengths, input_mu=lengths.input_mu + float(inputs), output_mu=lengths.output_mu + float(outputs))


_AFTER: dict[str, Callable[[RequestShape, np.random.Generator], RequestShape]] = {
    "model_migration": _another_model,
    "prompt_change": _another_prompt,
}
