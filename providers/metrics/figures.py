"""Counts and quantiles of requests, cheap to add to and to add up. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

# Seconds, each half as long again as the one before: a quantile read from them is off by a fifth
# at most, whatever the scale.
BOUNDS: Final[tuple[float, ...]] = tuple(round(0.01 * 1.5**step, 4) for step in range(27))
BUCKETS: Final = len(BOUNDS) + 1


@dataclass(slots=True)
class Figures:
    """What happened to some requests. `failures` maps an outcome to how often it was."""

    requests: int = 0
    succeeded: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    latencies: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    first_tokens: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    input_tokens: int = 0
    output_tokens: int = 0
    cost_nanos: int = 0

    def answered(self, seconds: float, first_token_seconds: float) -> None:
        self.requests += 1
        self.succeeded += 1
        self.latencies[bisect_left(BOUNDS, seconds)] += 1
        self.first_tokens[bisect_left(BOUNDS, first_token_seconds)] += 1

    def failed(self, outcome: str) -> None:
        self.requests += 1
        self.failures[outcome] = self.failures.get(outcome, 0) + 1

    def used(self, input_tokens: int, output_tokens: int, cost_nanos: int) -> None:
        """What an upstream reports may be a lie: nothing below 0 counts."""
        self.input_tokens += max(0, input_tokens)
        self.output_tokens += max(0, output_tokens)
        self.cost_nanos += max(0, cost_nanos)

    def add(self, other: Figures) -> None:
        self.requests += other.requests
        self.succeeded += other.succeeded
        for outcome, count in other.failures.items():
            self.failures[outcome] = self.failures.get(outcome, 0) + count
        self.latencies = [a + b for a, b in zip(self.latencies, other.latencies, strict=True)]
        self.first_tokens = [
            a + b for a, b in zip(self.first_tokens, other.first_tokens, strict=True)
        ]
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.cost_nanos += other.cost_nanos

    @property
    def success_ratio(self) -> float | None:
        """None = nobody asked. Callers who left say nothing of the provider."""
        judged = self.requests - self.failures.get("cancelled", 0)
        return self.succeeded / judged if judged > 0 else None


def quantile(counts: Iterable[int], share: float) -> float | None:
    """Seconds below which this share of the requests lay. None = there were none."""
    found = list(counts)
    total = sum(found)
    if not total:
        return None
    rank, below = share * total, 0
    for place, count in enumerate(found):
        if count and below + count >= rank:
            low = BOUNDS[place - 1] if place else 0.0
            high = BOUNDS[place] if place < len(BOUNDS) else BOUNDS[-1] * 1.5
            return low + (high - low) * (rank - below) / count
        below += count
    return BOUNDS[-1]
