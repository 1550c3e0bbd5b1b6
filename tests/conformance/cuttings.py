"""Bytes in random pieces: what networks do to a stream."""

from __future__ import annotations

import random
from collections.abc import Iterator


def pieces(data: bytes, source: random.Random) -> Iterator[bytes]:
    """One cutting: few large pieces, many small ones, or single bytes around one place."""
    how = source.random()
    if how < 0.2:
        cuts = {source.randrange(len(data) + 1)}
    elif how < 0.4:
        middle = source.randrange(len(data) + 1)
        cuts = {min(max(middle + step, 0), len(data)) for step in range(-8, 9)}
    else:
        count = source.randint(1, max(1, len(data) // source.choice((3, 10, 40, 200))))
        cuts = {source.randrange(len(data) + 1) for _ in range(count)}
    start = 0
    for end in (*sorted(cuts), len(data)):
        yield data[start:end]
        start = end
