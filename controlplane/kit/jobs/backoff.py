"""Pure: how long a failed job rests before its next attempt."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Final

FIRST_SECONDS: Final = 2.0
LONGEST_SECONDS: Final = 600.0


def rest(attempts: int, *, spread: float | None = None) -> timedelta:
    """The pause after attempt number `attempts` (1 = the first): doubles up to ten minutes.

    `spread` in 0…1 takes up to half of it away, so that jobs which failed together do not
    come back together; None draws it.
    """
    if spread is None:
        spread = random.random()  # noqa: S311  (a spread, not a secret)
    # The exponent is bounded first: 2.0 ** 2000 raises OverflowError.
    full = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(max(attempts, 1) - 1, 32))
    return timedelta(seconds=full * (1 - spread / 2))
