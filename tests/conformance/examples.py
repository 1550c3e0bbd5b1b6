"""How many examples a property is tried with."""

from __future__ import annotations

import os

FACTOR = int(os.environ.get("PCP_EXAMPLES", "1"))


def examples(count: int) -> int:
    """`count` in each run of the suite; `make soak` multiplies it by PCP_EXAMPLES."""
    return count * FACTOR
