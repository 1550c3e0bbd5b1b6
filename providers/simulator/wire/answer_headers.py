"""What vendors say in headers beside every answer: limits, request ids (wire-protocols 1.5)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from providers.simulator.http import Request
from providers.simulator.wire import Refused
from providers.simulator.world import World

REQUESTS_PER_MINUTE: Final = 10_000
TOKENS_PER_MINUTE: Final = 2_000_000
_MAX_CALLERS: Final = 10_000


@dataclass(slots=True)
class _Minute:
    """What one caller used since `begins_at`."""

    begins_at: int
    requests: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class _Limits:
    requests_left: int
    tokens_left: int
    seconds_left: float
    resets_at: float  # epoch seconds
    request_id: str
    is_subscription: bool


def answer_headers(
    slug: str, request: Request, refused: Refused | None, world: World, request_id: str
) -> dict[str, str]:
    """The headers of one answer; empty for vendors that send none."""
    render = _RENDERERS.get(slug)
    if render is None:
        return {}
    return render(_limits(slug, request, refused, world, request_id), refused)


def _limits(
    slug: str, request: Request, refused: Refused | None, world: World, request_id: str
) -> _Limits:
    """Counts this request against its caller's minute. The limits are shown, not enforced: a
    script says when a 429 comes, and then nothing is left."""
    minutes: dict[int, _Minute] = world.parts.setdefault("limits", {})
    if len(minutes) > _MAX_CALLERS:
        minutes.clear()
    headers = request.headers
    key = headers.get("authorization") or headers.get("x-api-key") or headers.get("api-key")
    second = world.now().timestamp()
    whose = hash((slug, key))
    minute = minutes.get(whose)
    if minute is None or second - minute.begins_at >= 60 or second < minute.begins_at:
        minute = minutes[whose] = _Minute(int(second))
    minute.requests += 1
    minute.tokens += len(request.body) // 4
    seconds_left = minute.begins_at + 60 - second
    resets_at = float(minute.begins_at + 60)
    is_over = refused is not None and refused.status == 429
    if refused is not None and is_over:
        if (wait := seconds(refused.retry_after)) is not None:
            seconds_left, resets_at = wait, second + wait
        if refused.resets_at:
            resets_at = float(refused.resets_at)
            seconds_left = refused.resets_at - second
    return _Limits(
        requests_left=0 if is_over else max(0, REQUESTS_PER_MINUTE - minute.requests),
        tokens_left=max(0, TOKENS_PER_MINUTE - minute.tokens),
        seconds_left=max(0.0, seconds_left),
        resets_at=resets_at,
        request_id=request_id,
        is_subscription="sk-ant-oat" in (key or ""),
    )


def seconds(retry_after: str) -> float | None:
    """None for a date, and for nothing."""
    try:
        wait = float(retry_after)
    except ValueError:
        return None
    return wait if 0 <= wait <= 10**9 else None


def go_duration(wait: float) -> str:
    """As the vendor writes it: 12ms, 1.5s, 6m0s, 2h3m0s."""
    if wait < 1:
        return f"{round(wait * 1000)}ms"
    if wait < 60:
        return f"{wait:.3f}".rstrip("0").rstrip(".") + "s"
    minutes, rest = divmod(math.ceil(wait), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s"


def _openai(limits: _Limits, refused: Refused | None) -> dict[str, str]:
    reset = go_duration(limits.seconds_left)
    headers = {
        "x-request-id": f"req_{limits.request_id}",
        "openai-version": "2020-10-01",
        "openai-processing-ms": "7",
        "x-ratelimit-limit-requests": str(REQUESTS_PER_MINUTE),
        "x-ratelimit-limit-tokens": str(TOKENS_PER_MINUTE),
        "x-ratelimit-remaining-requests": str(limits.requests_left),
        "x-ratelimit-remaining-tokens": str(limits.tokens_left),
        "x-ratelimit-reset-requests": reset,
        "x-ratelimit-reset-tokens": reset,
    }
    return headers | _milliseconds(refused)


def _milliseconds(refused: Refused | None) -> dict[str, str]:
    """The vendor says the wait twice: exactly, and rounded up to whole seconds."""
    wait = seconds(refused.retry_after) if refused is not None else None
    if refused is None or wait is None:
        return {}
    found = {"retry-after-ms": str(math.ceil(wait * 1000)), "retry-after": str(math.ceil(wait))}
    if refused.code == "insufficient_quota":
        found["x-should-retry"] = "false"
    return found


def _azure(limits: _Limits, refused: Refused | None) -> dict[str, str]:
    headers = _openai(limits, refused)
    return {
        **headers,
        "x-request-id": limits.request_id,
        "apim-request-id": limits.request_id,
        "x-ms-region": "Simulated",
    }


def _codex(limits: _Limits, refused: Refused | None) -> dict[str, str]:
    resets_at = str(int(limits.resets_at))
    used = 100 if refused is not None and refused.status == 429 else 12
    return {
        "x-request-id": limits.request_id,
        "x-codex-primary-used-percent": str(used),
        "x-codex-primary-window-minutes": "300",
        "x-codex-primary-reset-at": resets_at,
        "x-codex-secondary-used-percent": str(max(4, used // 2)),
        "x-codex-secondary-window-minutes": "10080",
        "x-codex-secondary-reset-at": resets_at,
    }


def _anthropic(limits: _Limits, refused: Refused | None) -> dict[str, str]:
    reset = f"{datetime.fromtimestamp(limits.resets_at, UTC):%Y-%m-%dT%H:%M:%SZ}"
    headers = {
        "request-id": f"req_{limits.request_id[:24]}",
        "anthropic-organization-id": "00000000-0000-4000-8000-000000000000",
    }
    if limits.is_subscription:
        return headers | _unified(limits, refused)
    left = {
        "requests": (REQUESTS_PER_MINUTE, limits.requests_left),
        "tokens": (TOKENS_PER_MINUTE, limits.tokens_left),
        "input-tokens": (TOKENS_PER_MINUTE * 4 // 5, limits.tokens_left * 4 // 5),
        "output-tokens": (TOKENS_PER_MINUTE // 5, limits.tokens_left // 5),
    }
    for name, (limit, remaining) in left.items():
        headers[f"anthropic-ratelimit-{name}-limit"] = str(limit)
        headers[f"anthropic-ratelimit-{name}-remaining"] = str(remaining)
        headers[f"anthropic-ratelimit-{name}-reset"] = reset
    return headers


def _unified(limits: _Limits, refused: Refused | None) -> dict[str, str]:
    """A subscription has windows instead of a rate."""
    status = "rejected" if refused is not None and refused.status == 429 else "allowed"
    reset = str(int(limits.resets_at))
    name = "anthropic-ratelimit-unified"
    return {
        f"{name}-status": status,
        f"{name}-reset": reset,
        f"{name}-5h-status": status,
        f"{name}-5h-reset": reset,
        f"{name}-7d-status": "allowed",
        f"{name}-7d-reset": reset,
        f"{name}-representative-claim": "five_hour",
    }


def _mistral(limits: _Limits, _refused: Refused | None) -> dict[str, str]:
    return {
        "ratelimitbysize-limit": str(TOKENS_PER_MINUTE),
        "ratelimitbysize-remaining": str(limits.tokens_left),
        "ratelimitbysize-reset": str(math.ceil(limits.seconds_left)),
        "x-kong-request-id": limits.request_id,
    }


def _aws(limits: _Limits, _refused: Refused | None) -> dict[str, str]:
    raw = limits.request_id
    groups = (raw[:8], raw[8:12], raw[12:16], raw[16:20], raw[20:32])
    return {"x-amzn-requestid": "-".join(groups)}


_RENDERERS: Final[dict[str, Callable[[_Limits, Refused | None], dict[str, str]]]] = {
    "openai-completions": _openai,
    "openai-responses": _openai,
    "openai-media": _openai,
    "azure-openai-responses": _azure,
    "openai-codex-responses": _codex,
    "anthropic-messages": _anthropic,
    "mistral-conversations": _mistral,
    "bedrock-converse-stream": _aws,
    "kiro-generate-assistant": _aws,
}
