"""Numbers from upstreams: hostile until proven otherwise."""

from __future__ import annotations

from typing import Final

# More tokens than any answer can hold; larger figures are lies or bugs.
MAX_COUNT: Final = 1_000_000_000


def count(value: object) -> int:
    """A token count: NaN, infinity, negatives, text and booleans are 0, huge values are clamped."""
    if type(value) is int:
        if 0 <= value <= MAX_COUNT:
            return value
        return 0 if value < 0 else MAX_COUNT
    if type(value) is float and value == value and 0 < value < float("inf"):
        return min(int(value), MAX_COUNT)
    return 0


def seconds(value: object) -> float | None:
    """A delay the upstream asks for; None when it is not a sane number."""
    try:
        number = float(value)  # type: ignore[arg-type]  # any object: the except is the check
    except (TypeError, ValueError, OverflowError):
        return None
    return number if 0 <= number <= 31 * 86400 else None
