"""Figures of several processes, as rows, as JSON for a tenant and as Prometheus text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from controlplane.kit import clock
from providers.metrics.models import TrafficMinute
from providers.metrics.shown import MOST_SERIES, prometheus_text, tenant_view
from providers.metrics.traffic import MOST_PLACES, Traffic, by_model, prune_traffic
from tenants import scope
from tenants.members.models import Tenant

pytestmark = [pytest.mark.storage, pytest.mark.django_db]
NOW = datetime(2026, 11, 21, 12, 30, 30, tzinfo=UTC)


def test_processes_add_up_and_writing_twice_changes_nothing(tenant: Tenant) -> None:
    one, other = Traffic(), Traffic()
    for traffic in (one, other):
        traffic.place(tenant.id, "p", "m", NOW).answered(0.5, 0.1)
        traffic.place(tenant.id, "p", "m", NOW).failed("rate")
        assert traffic.flush(NOW) == 1
        assert not traffic.has_changed()
    one.place(tenant.id, "p", "m", NOW).answered(0.5, 0.1)
    one.flush(NOW)
    one.flush(NOW)
    with scope.tenant(tenant.id):
        found = by_model(now=NOW, minutes=5)[("p", "m")]
    assert (found.requests, found.succeeded, found.failures) == (5, 3, {"rate": 2})


def test_windows(tenant: Tenant) -> None:
    traffic = Traffic()
    for minutes_ago, count in ((0, 1), (3, 10), (30, 100), (90, 1_000)):
        at = NOW - timedelta(minutes=minutes_ago)
        for _ in range(count):
            traffic.place(tenant.id, "p", "m", at).answered(0.5, 0.1)
        traffic.flush(NOW)
    shown = tenant_view(tenant.id, {}, NOW)
    (entry,) = shown["data"]
    assert {name: each["requests"] for name, each in entry["windows"].items()} == {
        "1m": 1,
        "5m": 11,
        "60m": 111,
    }
    assert entry["windows"]["5m"]["latency_seconds"]["p50"] == pytest.approx(0.5, rel=0.3)
    assert prune_traffic(now=NOW + timedelta(minutes=45)) == 1


def test_a_tenant_sees_its_own_alone(tenant: Tenant, other_tenant: Tenant) -> None:
    traffic = Traffic()
    traffic.place(tenant.id, "p", "mine", NOW).answered(1, 1)
    traffic.place(other_tenant.id, "p", "theirs", NOW).answered(1, 1)
    traffic.flush(NOW)
    assert [entry["model"] for entry in tenant_view(tenant.id, {}, NOW)["data"]] == ["mine"]


def test_ten_thousand_names_make_few_series_and_few_rows(tenant: Tenant) -> None:
    """Bar T5."""
    now = clock.now()
    traffic = Traffic()
    for number in range(10_000):
        figures = traffic.place(tenant.id, f"p{number % 200}", f"random-{number}", now)
        figures.answered(number % 7, 0.1)
        figures.failed(f"outcome{number % 15}")
    traffic.flush(now)
    assert TrafficMinute.objects.model is TrafficMinute
    with scope.platform("tests"):
        assert TrafficMinute.objects.count() <= MOST_PLACES + 200
    text = prometheus_text(now)
    series = [line for line in text.splitlines() if not line.startswith("#")]
    print(f"T5: {len(series)} series")
    assert 100 < len(series) <= MOST_SERIES
    assert "random-" not in text
    assert 'provider="other"' in text
    assert str(tenant.slug) not in text


def test_the_page_needs_its_token(settings: Any, client: Client) -> None:
    settings.METRICS_TOKEN = ""
    assert client.get("/metrics").status_code == 404
    settings.METRICS_TOKEN = "a token of the operator's"
    for wrong in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "a token"}):
        assert client.get("/metrics", headers=wrong).status_code == 404
    right = {"Authorization": f"Bearer {settings.METRICS_TOKEN}"}
    answer = client.get("/metrics", headers=right)
    assert answer.status_code == 200
    assert answer["content-type"].startswith("text/plain")
    assert "gateway_provider_requests_5m" in answer.content.decode()
