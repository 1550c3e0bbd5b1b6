"""How long tests wait, and what a promise in seconds means on a machine that others use too.

A wait ends when its condition holds, so a long limit costs nothing; it only has to end some day.
A promise such as "revoked within a second" is held to the letter by `make soak`, which has the
machine to itself. `make test` gives ten times as much: it finds what waits for something that
does not come, and no neighbour's build makes it fail. Such tests are marked `timed`.
"""

from __future__ import annotations

import os
from typing import Final

# Until something that is sure to come is here.
LONG_SECONDS: Final = 60.0
_ROOM: Final = 1 if os.environ.get("PCP_TO_THE_LETTER") else 10


def allowed(seconds: float) -> float:
    """What a promise of so many seconds allows in this run."""
    return seconds * _ROOM
