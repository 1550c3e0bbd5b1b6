"""Soft thresholds and short budgets: each once per period."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from tenants import scope
from tenants.alerts.models import Alert
from tenants.members.models import Tenant
from tenants.quotas.models import Counter, Limit
from tenants.quotas.snapshot import rule_of
from tenants.usage import alerts

pytestmark = [pytest.mark.storage, pytest.mark.django_db]

DAY = 86_400


def limit(tenant: Tenant, **values: object) -> Limit:
    with scope.platform("tests"):
        made: Limit = Limit.objects.create(
            **{
                "tenant": tenant,
                "scope_kind": "tenant",
                "kind": "tokens",
                "period": "month",
                "amount": 1_000,
                **values,
            }
        )
    return made


def use(limit: Limit, amount: int, now: float) -> None:
    slot = rule_of(limit, "UTC").slot(now)
    key = f"{limit.id.hex}::{slot.bucket}"
    Counter.objects.update_or_create(key=key, defaults={"settled": amount, "ends_at": slot.ends_at})


def raised(kind: str) -> list[Alert]:
    with scope.platform("tests"):
        return list(Alert.objects.filter(kind=kind).order_by("pk"))


def test_each_threshold_alerts_once_per_period(tenant: Tenant) -> None:
    tokens = limit(tenant)
    now = time.time()
    use(tokens, 499, now)
    assert alerts.find_crossed(now=now) == 0
    use(tokens, 810, now)
    assert alerts.find_crossed(now=now) == 2
    assert alerts.find_crossed(now=now) == 0
    use(tokens, 1_000, now)
    assert alerts.find_crossed(now=now) == 1
    assert sorted(one.facts["percent"] for one in raised("quota")) == [50, 80, 100]
    later = now + 40 * DAY
    assert alerts.find_crossed(now=later) == 0
    use(tokens, 500, later)
    assert alerts.find_crossed(now=later) == 1
    assert raised("quota")[0].title == "50 % used: Tokens per month for the tenant"


def test_a_budget_that_will_not_last_is_told_once_per_period(tenant: Tenant) -> None:
    budget = limit(tenant, kind="money", amount=1_000_000)
    fifth = datetime(2026, 3, 5, tzinfo=UTC).timestamp()
    # A quarter in four days: twelve more days, nobody is woken for that.
    use(budget, 250_000, fifth)
    assert alerts.find_crossed(now=fifth) == 0
    # Two thirds: two more days.
    use(budget, 660_000, fifth)
    alerts.find_crossed(now=fifth)
    alerts.find_crossed(now=fifth + 3_600)
    (told,) = raised("runway")
    assert told.facts["lasts_until"].startswith("2026-03-07T01")
    assert "Lasts until 2026-03-07 01:" in told.title
    assert "starts anew on 2026-04-01" in told.text


def test_what_lasts_until_its_period_ends_is_not_told(tenant: Tenant) -> None:
    budget = limit(tenant, kind="money", amount=1_000_000)
    last_days = datetime(2026, 3, 30, tzinfo=UTC).timestamp()
    use(budget, 900_000, last_days)
    alerts.find_crossed(now=last_days)
    assert raised("runway") == []
