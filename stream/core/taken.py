"""What an incident has taken, part by part: input, output, reasoning, and through which models."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from stream.core.bucket import MAX_MODELS, OTHER_MODELS, OpenBucket


class Taken(msgspec.Struct, array_like=True):
    """Tokens above the baseline by their parts, each at least 0, and all calls since the incident's first bucket.

    input_share, reasoning_share: of the key's usual tokens the share of input, of its usual output that of reasoning;
    as of the opening, for an attack must not become its own yardstick
    models: tokens above the baseline by class of model, of calls whose usage is known; at most MAX_MODELS of them and
    OTHER_MODELS
    """

    input_share: float
    reasoning_share: float
    calls: int = 0
    input: float = 0.0
    output: float = 0.0
    cached_input: float = 0.0
    reasoning: float = 0.0
    models: dict[int, float] = {}

    def add(self, sums: OpenBucket | None, expected: float, more: float) -> None:
        """Take a closed bucket up, which was expected to hold so many tokens.

        more: by how many of its tokens the excess has grown, 0 where they only make up for what was lacking before.
        Each part grows by as much of what the bucket holds of it above what was expected; what it lacks is taken off.
        """
        if sums is None:
            return
        self.calls += sums.calls
        excess = sums.input_tokens + sums.output_tokens - expected
        if more <= 0 or excess <= 0:
            return
        share = min(more / excess, 1.0)
        usual_input = expected * self.input_share
        usual_output = expected - usual_input
        before = self.input
        self.input = max(0.0, before + share * (sums.input_tokens - usual_input))
        self.output = max(0.0, self.output + share * (sums.output_tokens - usual_output))
        reasoning = sums.reasoning_tokens - usual_output * self.reasoning_share
        self.reasoning = max(0.0, self.reasoning + share * reasoning)
        if self.input < before:
            self.cached_input *= self.input / before
        elif sums.known_input:
            self.cached_input += (self.input - before) * min(1.0, sums.cached_input_tokens / sums.known_input)
        self._share_out(sums, more)

    def begin_with(self, window: Window, sums: OpenBucket | None) -> None:
        """What a slow window had gathered before its incident opened; `sums`: the bucket that tipped it.

        The window's calls are gone: which models they went to, and what of them was cached, is told by the last bucket.
        """
        usual_output = window.expected * (1 - self.input_share)
        self.input = max(0.0, window.input - window.expected * self.input_share)
        self.output = max(0.0, window.output - usual_output)
        self.reasoning = max(0.0, window.reasoning - usual_output * self.reasoning_share)
        self.cached_input, self.models = 0.0, {}
        if sums is not None:
            if sums.known_input:
                self.cached_input = self.input * min(1.0, sums.cached_input_tokens / sums.known_input)
            self._share_out(sums, max(0.0, window.input + window.output - window.expected))

    def shares(self) -> list[tuple[int, float]]:
        """Class of each model and its share of the tokens above the baseline, the largest first."""
        total = sum(self.models.values())
        if total <= 0:
            return []
        return sorted(((kind, tokens / total) for kind, tokens in self.models.items()), key=lambda m: (-m[1], m[0]))

    def _share_out(self, sums: OpenBucket, excess: float) -> None:
        """Share the bucket's excess among the models of its calls."""
        known = sum(sums.models.values())
        if excess <= 0 or not known:
            return
        models = dict(self.models)
        for kind, calls in sums.models.items():
            models[kind] = models.get(kind, 0.0) + excess * calls / known
        while len(models) - (OTHER_MODELS in models) > MAX_MODELS:
            least = min((kind for kind in models if kind != OTHER_MODELS), key=lambda kind: (models[kind], kind))
            models[OTHER_MODELS] = models.get(OTHER_MODELS, 0.0) + models.pop(least)
        self.models = models


class Window(NamedTuple):
    """Tokens that a slow window held, by the shape of its known calls, and how many were expected."""

    input: float
    output: float
    reasoning: float
    expected: float
