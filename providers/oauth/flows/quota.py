"""What vendors say of a subscription's quota, in one form. Pure.

None = the vendor did not say, which is not 0; a window that says nothing at all is left out, so
that nobody ever reads "0 of 0". Unused windows have no end yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal
from urllib.parse import quote

from controlplane.kit.json import JSONDict
from providers.oauth.flows.login import Login
from providers.oauth.flows.tokens import Tokens
from providers.oauth.flows.wire import Ask, Reply, bearer, get, inner, items, number, post, text

Unit = Literal["requests", "credits", "usd", "percent", "tokens"]
# Dates further away are a misread unit (one client divides seconds by 1000 and shows 1970).
_FARTHEST_SECONDS: Final = 20 * 365 * 86_400.0


@dataclass(frozen=True, slots=True)
class Window:
    name: str
    unit: Unit
    covers: Literal["account", "model", "family"] = "account"
    # Of a model: its id; of a family: what the vendor calls it. Empty = nobody knows which.
    models: str = ""
    used: float | None = None
    limit: float | None = None
    percent_used: float | None = None
    is_unlimited: bool = False
    allows_overage: bool = False
    resets_at: datetime | None = None


def quota_ask(login: Login, tokens: Tokens, endpoint: dict[str, str]) -> Ask | None:
    """None = this login has no such address."""
    url = login.oauth.quota_url
    if not url:
        return None
    headers = {**login.headers, **bearer(tokens.base_token or tokens.access_token)}
    match login.dialect:
        case "codex":
            return get(
                url, headers={**headers, "ChatGPT-Account-Id": endpoint.get("account_id", "")}
            )
        case "aws" | "kiro":
            # A Builder ID has no profile, and is refused with one.
            arn = endpoint.get("profile_arn", "")
            return get(url + (f"&profileArn={quote(arn, safe='')}" if arn else ""), headers=headers)
        case "google":
            return post(url, {"project": endpoint.get("project", "")}, body="json", headers=headers)
    return get(url, headers=headers)


def read_quota(login: Login, reply: Reply, now: datetime) -> list[Window] | None:
    """None = this is no answer to it: what was known stays."""
    answer = reply.object()
    if reply.status != 200 or not answer:
        return None
    match login.dialect:
        case "github":
            found = _copilot(answer, now)
        case "aws" | "kiro":
            found = _kiro(answer, now)
        case "codex":
            found = _codex(answer, now)
        case "claude":
            found = _claude(answer, now)
        case "google":
            found = _google(answer, now)
        case _:
            return None
    return [window for window in found if _says_something(window)]


def _says_something(window: Window) -> bool:
    return (
        window.is_unlimited
        or bool(window.limit)
        or (window.percent_used is not None and window.limit != 0)
    )


def moment(value: object, now: datetime) -> datetime | None:
    """Seconds, milliseconds or ISO text; None for anything that cannot be meant."""
    seconds = number(value)
    if seconds is None and isinstance(value, str):
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            return None
        seconds = (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    if seconds is None or seconds <= 0:
        return None
    if seconds > 1e12:
        seconds /= 1000
    if abs(seconds - now.timestamp()) > _FARTHEST_SECONDS:
        return None
    return datetime.fromtimestamp(seconds, UTC)


def _percent(used: float | None, limit: float | None) -> float | None:
    if used is None or not limit:
        return None
    return _bounded(100 * used / limit)


def _bounded(percent: float | None) -> float | None:
    return None if percent is None else min(max(percent, 0.0), 100.0)


def _copilot(answer: JSONDict, now: datetime) -> list[Window]:
    resets = [
        answer.get(name)
        for name in ("quota_reset_date_utc", "quota_reset_date", "limited_user_reset_date")
    ]
    found = []
    for name, value in inner(answer.get("quota_snapshots")).items():
        one = inner(value)
        entitlement = number(one.get("entitlement"))
        remaining = number(one.get("quota_remaining", one.get("remaining")))
        percent_left = number(one.get("percent_remaining"))
        is_unlimited = one.get("unlimited") is True
        limit = entitlement if entitlement is not None and entitlement >= 0 else None
        # −1 = used up and more: the billing page may show credit all the same.
        used = None if limit is None or remaining is None else min(limit - remaining, limit)
        ends = [one.get("quota_reset_at"), *resets]
        found.append(
            Window(
                name=text(name)[:120],
                unit="credits" if one.get("token_based_billing") is True else "requests",
                used=None if is_unlimited else used,
                limit=None if is_unlimited else limit,
                percent_used=None
                if is_unlimited or percent_left is None
                else _bounded(100 - percent_left),
                is_unlimited=is_unlimited,
                allows_overage=one.get("overage_permitted") is True,
                resets_at=next((at for end in ends if (at := moment(end, now))), None),
            )
        )
    # The older shape of free plans: what is left, and what there is in a month.
    left, monthly = inner(answer.get("limited_user_quotas")), inner(answer.get("monthly_quotas"))
    for name, value in monthly.items():
        limit, rest = number(value), number(left.get(name))
        used = None if limit is None or rest is None else limit - rest
        found.append(
            Window(
                name=text(name)[:120],
                unit="requests",
                used=used,
                limit=limit,
                percent_used=_percent(used, limit),
                resets_at=next((at for end in resets if (at := moment(end, now))), None),
            )
        )
    return found


def _kiro(answer: JSONDict, now: datetime) -> list[Window]:
    """Base, an active trial and active bonuses add up; fractions are in `…WithPrecision`."""
    older = inner(answer.get("usageBreakdown"))
    listed = items(answer.get("usageBreakdownList")) or ([older] if older else [])
    allows_overage = inner(answer.get("overageConfiguration")).get("overageStatus") == "ENABLED"
    found = []
    for value in listed:
        one = inner(value)
        parts = [one]
        trial = inner(one.get("freeTrialInfo"))
        if trial.get("freeTrialStatus") == "ACTIVE":
            parts.append(trial)
        parts += [
            bonus
            for bonus in map(inner, items(one.get("bonuses")))
            if bonus.get("status") == "ACTIVE"
        ]
        used = _sum(parts, "currentUsage")
        limit = _sum(parts, "usageLimit")
        name = (text(one.get("displayNamePlural")) or text(one.get("resourceType"))).lower()
        found.append(
            Window(
                name=name[:120] or "credits",
                unit="credits" if text(one.get("resourceType")) == "CREDIT" else "requests",
                used=used,
                limit=limit,
                percent_used=_percent(used, limit),
                allows_overage=allows_overage,
                resets_at=moment(one.get("nextDateReset"), now)
                or moment(answer.get("nextDateReset"), now),
            )
        )
    return found


def _sum(parts: list[JSONDict], name: str) -> float | None:
    values = [number(part.get(f"{name}WithPrecision", part.get(name))) for part in parts]
    known = [value for value in values if value is not None]
    return round(sum(known), 6) if known else None


def _codex(answer: JSONDict, now: datetime) -> list[Window]:
    limits, found = inner(answer.get("rate_limit")), []
    for name in ("primary", "secondary"):
        one = inner(limits.get(f"{name}_window"))
        if one:
            found.append(
                Window(
                    name=name,
                    unit="percent",
                    percent_used=_bounded(number(one.get("used_percent"))),
                    resets_at=moment(one.get("reset_at"), now),
                )
            )
    credits_ = inner(answer.get("credits"))
    if credits_.get("unlimited") is True:
        found.append(Window(name="credits", unit="credits", is_unlimited=True))
    return found


def _claude(answer: JSONDict, now: datetime) -> list[Window]:
    """Every key that holds such an object: new names come without notice."""
    found = []
    for name, value in answer.items():
        one = inner(value)
        percent = number(one.get("utilization"))
        if name == "extra_usage" or percent is None:
            continue
        found.append(
            Window(
                name=text(name)[:120],
                unit="percent",
                covers="account" if name in ("five_hour", "seven_day") else "family",
                # seven_day_opus: the week's share of all models of that name.
                models=name.partition("_day_")[2].replace("_", " "),
                percent_used=_bounded(percent),
                resets_at=moment(one.get("resets_at"), now),
            )
        )
    extra = inner(answer.get("extra_usage"))
    if extra.get("is_enabled") is True:
        used, limit = number(extra.get("used_credits")), number(extra.get("monthly_limit"))
        found.append(
            Window(
                name="extra_usage",
                unit="credits",
                used=used,
                limit=limit,
                percent_used=_bounded(number(extra.get("utilization"))),
                allows_overage=True,
            )
        )
    return found


def _google(answer: JSONDict, now: datetime) -> list[Window]:
    listed = [("", inner(bucket)) for bucket in items(answer.get("buckets"))]
    for group in map(inner, items(answer.get("groups"))):
        family = text(group.get("displayName"))
        listed += [(family, inner(bucket)) for bucket in items(group.get("buckets"))]
    found = []
    for family, one in listed:
        left = number(one.get("remainingFraction"))
        resets_at = moment(one.get("resetTime"), now)
        if left is None and resets_at is None:
            continue
        model = text(one.get("modelId"))
        name = model or text(one.get("displayName")) or text(one.get("bucketId"))
        found.append(
            Window(
                name=" ".join(filter(None, [name, text(one.get("window"))]))[:120],
                unit="percent",
                covers="model" if model else "family",
                models=model or family,
                # A missing fraction beside a reset means that nothing is left.
                percent_used=_bounded(100 * (1 - (left or 0.0))),
                resets_at=resets_at,
            )
        )
    return found
