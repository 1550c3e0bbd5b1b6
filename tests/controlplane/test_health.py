from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client

from controlplane import health
from controlplane.celery import HEARTBEAT
from controlplane.kit import clock
from controlplane.kit.jobs import services
from tenants.vault.errors import KeyRingProblem

TOKEN = "a-token-of-forty-random-characters-000001"
DETAILS = {"HTTP_AUTHORIZATION": f"Bearer {TOKEN}"}


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """Nothing looked at yet; every request looks again; the key ring is in order."""
    monkeypatch.setattr(health, "_readiness", health.Readiness())
    monkeypatch.setattr(health, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr("tenants.vault.services.verify_key_ring", lambda: None)
    settings.METRICS_TOKEN = TOKEN


def test_health_says_only_ok_and_asks_nobody(
    client: Client, django_assert_num_queries: Any, db: None
) -> None:
    with django_assert_num_queries(0):
        response = client.get("/health")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert "no-store" in response["Cache-Control"]


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_only_reading_is_allowed(client: Client, path: str) -> None:
    assert client.post(path).status_code == 405


def test_ready_when_everything_answers(client: Client, db: None) -> None:
    services.heartbeat(HEARTBEAT, now=clock.now())
    response = client.get("/ready", **DETAILS)
    assert response.status_code == 200
    assert response.json() == {
        "status": "ok",
        "checks": {"database": "ok", "migrations": "ok", "key_ring": "ok", "background": "ok"},
    }


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"HTTP_AUTHORIZATION": "Bearer wrong"},
        {"HTTP_AUTHORIZATION": "Bearer "},
        {"HTTP_AUTHORIZATION": TOKEN},
        {"HTTP_AUTHORIZATION": f"Basic {TOKEN}"},
        {"HTTP_AUTHORIZATION": "Bearer schlüssel"},
    ],
)
def test_strangers_see_one_word(client: Client, db: None, headers: dict[str, str]) -> None:
    response = client.get("/ready", **headers)
    assert (response.status_code, response.json()) == (503, {"status": "not ready"})


def test_without_a_configured_token_nobody_sees_more(
    client: Client, db: None, settings: Any
) -> None:
    settings.METRICS_TOKEN = ""
    for value in ("Bearer ", "Bearer", ""):
        response = client.get("/ready", HTTP_AUTHORIZATION=value)
        assert response.json() == {"status": "not ready"}


@pytest.mark.parametrize(
    ("age_seconds", "words"),
    [(None, "has not been heard yet"), (31, "silent for 31 s"), (29, "ok")],
)
def test_the_background_process_is_heard_or_not(
    client: Client, db: None, age_seconds: int | None, words: str
) -> None:
    if age_seconds is not None:
        services.heartbeat(HEARTBEAT, now=clock.now() - timedelta(seconds=age_seconds))
    assert client.get("/ready", **DETAILS).json()["checks"]["background"] == words


def test_a_key_ring_that_does_not_open(
    client: Client, db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise KeyRingProblem("The vault key file is missing.")

    monkeypatch.setattr("tenants.vault.services.verify_key_ring", fail)
    services.heartbeat(HEARTBEAT, now=clock.now())
    response = client.get("/ready", **DETAILS)
    assert response.status_code == 503
    assert response.json()["checks"]["key_ring"] == "The vault key file is missing."
    assert client.get("/ready").json() == {"status": "not ready"}


def test_missing_migrations(client: Client, db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "unapplied_migrations", lambda: ["jobs.0002_more", "jobs.0003"])
    checks = client.get("/ready", **DETAILS).json()["checks"]
    assert checks["migrations"] == "2 not applied, the first is jobs.0002_more"


def test_an_absent_database_costs_one_time_out(
    client: Client, db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> str:
        raise OperationalError("connection to me:hunter2@db refused")

    monkeypatch.setattr(health, "_look_at_database", fail)
    response = client.get("/ready", **DETAILS)
    assert response.status_code == 503
    assert response.json()["checks"] == {
        "database": "does not answer (OperationalError)",
        "migrations": "unknown",
        "key_ring": "unknown",
        "background": "unknown",
    }


def test_asking_often_costs_one_look(
    client: Client, db: None, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    monkeypatch.setattr(health, "LOOK_SECONDS", 60.0)
    monkeypatch.setattr(health, "_readiness", health.Readiness())
    client.get("/ready")
    with django_assert_num_queries(0):
        for _ in range(5):
            client.get("/ready")
