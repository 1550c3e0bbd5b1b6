"""Rate-limit headers of an answer, in OpenAI's and in Anthropic's words. Pure.

Both vendors tell the tightest limit on requests and the tightest on tokens, with what is left and
when it starts anew: https://platform.openai.com/docs/guides/rate-limits and
https://docs.anthropic.com/en/api/rate-limits (read 2026-11-21).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from tenants.quotas.policy import NEVER, Kind, Rule

Header = tuple[bytes, bytes]
_WHAT: Final = (b"limit", b"remaining", b"reset")
# Ours by kind; what counts input or output apart, OpenAI has no name for.
_ANTHROPIC: Final = {
    kind: tuple(b"anthropic-ratelimit-%s-%s" % (name, what) for what in _WHAT)
    for kind, name in (
        (Kind.REQUESTS, b"requests"),
        (Kind.TOKENS, b"tokens"),
        (Kind.INPUT_TOKENS, b"input-tokens"),
        (Kind.OUTPUT_TOKENS, b"output-tokens"),
    )
}
_OPENAI: Final = {
    kind: tuple(b"x-ratelimit-%s-%s" % (what, name) for what in _WHAT)
    for kind, name in ((Kind.REQUESTS, b"requests"), (Kind.TOKENS, b"tokens"))
}


class Standing:
    """How one limit stands after a request took its part."""

    __slots__ = ("left", "resets_at", "rule")

    def __init__(self, rule: Rule, left: int, now: float) -> None:
        self.rule = rule
        self.left = left
        self.resets_at = rule.slot(now).resets_at


def rate_limit_headers(standings: Iterable[Standing], now: float) -> list[Header]:
    tightest: dict[Kind, Standing] = {}
    for standing in standings:
        kind = standing.rule.kind
        if kind not in _ANTHROPIC or not standing.rule.is_enforced:
            continue
        known = tightest.get(kind)
        if known is None or standing.left < known.left:
            tightest[kind] = standing
    headers: list[Header] = []
    for kind, standing in tightest.items():
        limit = b"%d" % standing.rule.amount
        left = b"%d" % standing.left
        # A limit in total never starts anew.
        ends = standing.resets_at < NEVER
        openai = _OPENAI.get(kind)
        if openai is not None:
            headers.append((openai[0], limit))
            headers.append((openai[1], left))
            if ends:
                wait = max(0, math.ceil(standing.resets_at - now))
                headers.append((openai[2], _seconds(wait)))
        anthropic = _ANTHROPIC[kind]
        headers.append((anthropic[0], limit))
        headers.append((anthropic[1], left))
        if ends:
            headers.append((anthropic[2], _moment(standing.resets_at)))
    return headers


@lru_cache(maxsize=1024)
def _seconds(seconds: int) -> bytes:
    """As OpenAI spells it: 6m0s, 30s."""
    minutes, rest = divmod(seconds, 60)
    if minutes < 1:
        return b"%ds" % rest
    hours, minutes = divmod(minutes, 60)
    return (b"%dh" % hours if hours else b"") + b"%dm%ds" % (minutes, rest)


@lru_cache(maxsize=1024)
def _moment(epoch: int) -> bytes:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode()
