"""Pure: when a delivery that failed is tried again, and when that ends."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

# After the first failure, the second, …; the last goes on until the end.
_RESTS: Final = (
    timedelta(seconds=10),
    timedelta(seconds=30),
    timedelta(minutes=2),
    timedelta(minutes=10),
    timedelta(minutes=30),
    timedelta(hours=1),
    timedelta(hours=2),
)
GIVEN_UP_AFTER: Final = timedelta(hours=24)
# A webhook that took nothing for so long is switched off.
SWITCHED_OFF_AFTER: Final = timedelta(days=5)


def next_try(*, attempts: int, since: datetime, now: datetime) -> datetime | None:
    """After `attempts` failures (1 = the first) of what is due since then. None: given up."""
    due = now + _RESTS[min(max(attempts, 1), len(_RESTS)) - 1]
    return due if due - since <= GIVEN_UP_AFTER else None
