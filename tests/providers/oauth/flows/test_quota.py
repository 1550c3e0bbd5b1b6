"""Vendors' quotas in one form: the shapes that were seen, with invented values."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from controlplane.kit import json
from providers.catalog.schema import OAuth
from providers.oauth.flows.login import Login
from providers.oauth.flows.quota import Window, moment, quota_ask, read_quota
from providers.oauth.flows.tokens import Tokens
from providers.oauth.flows.wire import Reply

NOW = datetime(2029, 12, 31, tzinfo=UTC)
NEW_YEAR_8 = datetime(2030, 1, 1, 8, tzinfo=UTC)


def login(dialect: Any) -> Login:
    oauth = OAuth(flow="device_code", dialect=dialect, quota_url="https://quota.test/x?y=z")
    return Login(name="device", oauth=oauth)


def read(dialect: str, answer: Any) -> dict[str, Window]:
    found = read_quota(login(dialect), Reply(200, {}, json.dumps(answer)), NOW)
    assert found is not None
    return {window.name: window for window in found}


KIRO: dict[str, Any] = {
    "nextDateReset": 1.8934848e9,
    "overageConfiguration": {"overageStatus": "DISABLED"},
    "usageBreakdownList": [
        {
            "resourceType": "CREDIT",
            "displayNamePlural": "Credits",
            "currentUsage": 312,
            "currentUsageWithPrecision": 312.4,
            "usageLimit": 1000,
            "usageLimitWithPrecision": 1000.0,
            "freeTrialInfo": {
                "freeTrialStatus": "EXPIRED",
                "currentUsageWithPrecision": 0.0,
                "usageLimitWithPrecision": 500.0,
            },
            "bonuses": [{"status": "ACTIVE", "currentUsage": 5.0, "usageLimit": 50.0}],
        }
    ],
}


def test_kiro_adds_what_is_active() -> None:
    window = read("aws", KIRO)["credits"]
    assert (window.limit, window.used, window.unit) == (1050.0, 317.4, "credits")
    assert window.percent_used == pytest.approx(30.23, abs=0.01)
    assert window.resets_at == NEW_YEAR_8


def test_kiros_older_shape_and_no_number_is_unknown_not_zero() -> None:
    one = {"resourceType": "VIBE", "displayNamePlural": "Requests", "usageLimit": 50}
    window = read("kiro", {"usageBreakdown": one})["requests"]
    assert (window.used, window.limit, window.percent_used) == (None, 50.0, None)


COPILOT: dict[str, Any] = {
    "quota_reset_date": "2030-02-01",
    "quota_reset_date_utc": "2030-02-01T00:00:00.000Z",
    "quota_snapshots": {
        "premium_interactions": {
            "entitlement": 1500, "quota_remaining": 469.5, "remaining": 469.5,
            "percent_remaining": 31.3, "unlimited": False, "overage_permitted": False,
            "quota_reset_at": 0, "token_based_billing": True,
        },
        "chat": {"entitlement": -1, "remaining": 0, "percent_remaining": 100, "unlimited": True},
        "completions": {"entitlement": 0, "remaining": 0, "percent_remaining": 0,
                        "unlimited": False},
    },
}  # fmt: skip


def test_copilot_credits() -> None:
    found = read("github", COPILOT)
    premium = found["premium_interactions"]
    assert (premium.used, premium.limit, premium.unit) == (1030.5, 1500.0, "credits")
    assert premium.percent_used == pytest.approx(68.7)
    assert premium.resets_at == datetime(2030, 2, 1, tzinfo=UTC)
    assert found["chat"].is_unlimited
    assert found["chat"].used is None
    # Nobody reads "0 of 0".
    assert "completions" not in found


def test_copilot_used_up_and_more_is_all_of_it() -> None:
    one = {**COPILOT["quota_snapshots"]["premium_interactions"], "quota_remaining": -1}
    window = read("github", {"quota_snapshots": {"p": one}})["p"]
    assert (window.used, window.limit) == (1500.0, 1500.0)


def test_copilots_free_plans() -> None:
    found = read(
        "github",
        {
            "monthly_quotas": {"chat": 500, "completions": 4000},
            "limited_user_quotas": {"chat": 410, "completions": 3990},
            "limited_user_reset_date": "2030-02-01",
        },
    )
    assert (found["chat"].used, found["chat"].limit, found["chat"].unit) == (90, 500, "requests")
    assert found["completions"].percent_used == pytest.approx(0.25)


def test_codex_windows() -> None:
    found = read(
        "codex",
        {
            "rate_limit": {
                "primary_window": {"used_percent": 42, "reset_at": 1893459600},
                "secondary_window": {"used_percent": 107, "reset_at": 1893656000},
            },
            "credits": {"has_credits": False, "unlimited": False, "balance": "0"},
        },
    )
    assert found["primary"].percent_used == 42
    assert found["secondary"].percent_used == 100
    assert "credits" not in found


def test_claude_reads_every_window_also_new_ones_and_those_unused() -> None:
    found = read(
        "claude",
        {
            "five_hour": {"utilization": 22.0, "resets_at": "2030-01-01T08:00:00.000000+00:00"},
            "seven_day": {"utilization": 0.0, "resets_at": None},
            "seven_day_opus": None,
            "seven_day_tangerine": {"utilization": 3},
            "extra_usage": {"is_enabled": False, "utilization": None},
            "limits": [{"kind": "session", "percent": 22}],
        },
    )
    assert set(found) == {"five_hour", "seven_day", "seven_day_tangerine"}
    assert found["five_hour"].resets_at == NEW_YEAR_8
    assert found["seven_day"].percent_used == 0
    assert found["seven_day"].resets_at is None
    assert found["seven_day_tangerine"].covers == "family"
    assert found["seven_day_tangerine"].models == "tangerine"
    assert found["seven_day"].models == ""


def test_google_says_what_is_left() -> None:
    found = read(
        "google",
        {
            "buckets": [
                {"modelId": "a", "remainingFraction": 0.74, "resetTime": "2030-01-01T08:00:00Z"},
                {"modelId": "b", "resetTime": "2030-01-01T08:00:00Z"},
                {"modelId": "c"},
            ]
        },
    )
    assert found["a"].percent_used == pytest.approx(26)
    assert found["b"].percent_used == 100
    assert "c" not in found
    assert (found["a"].covers, found["a"].models) == ("model", "a")


def test_googles_groups_name_their_family() -> None:
    bucket = {"bucketId": "g-5h", "window": "5h", "remainingFraction": 0.5}
    found = read("google", {"groups": [{"displayName": "Gemini 3 Pro", "buckets": [bucket]}]})
    assert (found["g-5h 5h"].covers, found["g-5h 5h"].models) == ("family", "Gemini 3 Pro")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1893484800, NEW_YEAR_8),
        (1.8934848e9, NEW_YEAR_8),
        ("1893484800", NEW_YEAR_8),
        (1893484800000, NEW_YEAR_8),
        ("2030-01-01T08:00:00.000Z", NEW_YEAR_8),
        (1893484.8, None),
        (0, None),
        (-1, None),
        (None, None),
        ("soon", None),
        (True, None),
        ([], None),
        (1e300, None),
    ],
    ids=str,
)
def test_moments(value: object, expected: datetime | None) -> None:
    assert moment(value, NOW) == expected


@pytest.mark.parametrize("dialect", ["github", "aws", "kiro", "codex", "claude", "google"])
@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"quota_snapshots": []}', b'{"buckets": [null, 5]}',
             b'{"usageBreakdownList": {"a": 1}}', b'{"rate_limit": "x", "five_hour": [1]}'],
)  # fmt: skip
def test_nonsense_is_nothing_and_never_an_error(dialect: str, body: bytes) -> None:
    assert not read_quota(login(dialect), Reply(200, {}, body), NOW)
    assert read_quota(login(dialect), Reply(500, {}, body), NOW) is None


def test_what_is_asked() -> None:
    tokens = Tokens(access_token="short", base_token="lasting")
    asked = quota_ask(login("github"), tokens, {})
    assert asked is not None
    assert asked.headers["Authorization"] == "Bearer lasting"
    kiro = quota_ask(login("kiro"), tokens, {"profile_arn": "arn:a/b"})
    assert kiro is not None
    assert kiro.url == "https://quota.test/x?y=z&profileArn=arn%3Aa%2Fb"
    assert "short" not in repr(kiro)
    assert "lasting" not in repr(tokens)
