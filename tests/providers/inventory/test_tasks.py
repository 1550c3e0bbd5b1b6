"""Refreshing on a schedule: off until switched on, one job per registration, spread out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from controlplane.kit import clock
from controlplane.kit.jobs.models import Job
from controlplane.kit.jobs.runner import run_due
from providers.catalog.listings import FoundModel
from providers.catalog.models import Provider, ProviderModel
from providers.catalog.services import register, set_enabled
from providers.inventory import services, tasks
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.audit.models import AuditEvent

pytestmark = [pytest.mark.storage, pytest.mark.django_db]


@pytest.fixture(autouse=True)
def operator(db: None) -> Iterator[None]:
    tasks._facts.cache_clear()
    with acting_as("command", None, "tests"), scope.platform("tests"):
        yield
    tasks._facts.cache_clear()


def test_it_is_off_until_it_is_switched_on(settings: Any) -> None:
    assert settings.CATALOG_REFRESH_HOURS == 0
    register(slug="openai", catalog_id="openai")
    assert tasks.refresh() > clock.now()
    assert not Job.objects.exists()


def test_every_enabled_registration_gets_one_job_somewhere_in_the_round(settings: Any) -> None:
    settings.CATALOG_REFRESH_HOURS = 6
    wanted = {str(register(slug=f"p{number}", catalog_id="openai").pk) for number in range(5)}
    set_enabled(register(slug="off", catalog_id="openai"), is_enabled=False)
    before = clock.now()
    again = tasks.refresh()
    tasks.refresh()
    jobs = Job.objects.filter(kind="catalog.refresh.one")
    assert {job.key for job in jobs} == wanted
    assert all(before <= job.due_at <= clock.now() + timedelta(hours=6) for job in jobs)
    assert again - before >= timedelta(hours=6)


def test_a_job_writes_what_the_listing_and_the_facts_say(
    settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    facts = tmp_path / "facts.json"
    facts.write_text(json.dumps({"openai": {"models": {"gpt-4o": {"limit": {"context": 9}}}}}))
    settings.CATALOG_REFRESH_HOURS = 1
    settings.CATALOG_FACTS_SOURCE = str(facts)
    monkeypatch.setattr(
        services, "models_of", lambda _: [FoundModel(id="gpt-4o"), FoundModel(id="brand-new")]
    )
    provider = register(slug="openai", catalog_id="openai")
    tasks.refresh()
    Job.objects.update(due_at=clock.now())
    assert run_due(budget_seconds=20) == 1
    assert Job.objects.get().state == Job.State.DONE
    rows = {row.upstream_id: row for row in ProviderModel.objects.filter(provider=provider)}
    assert rows["gpt-4o"].facts["context_window"] == 9
    assert not rows["brand-new"].is_enabled
    event = AuditEvent.objects.get(action="provider.models_refreshed")
    assert (event.actor_kind, event.actor_label) == ("system", "catalog refresh")


def test_a_facts_file_that_is_away_stops_nothing(
    settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings.CATALOG_FACTS_SOURCE = str(tmp_path / "none.json")
    monkeypatch.setattr(services, "models_of", lambda _: [FoundModel(id="brand-new")])
    provider = register(slug="openai", catalog_id="openai")
    tasks.refresh_one(provider_id=str(provider.pk))
    assert ProviderModel.objects.get().upstream_id == "brand-new"


def test_a_registration_that_is_gone_is_no_error() -> None:
    provider = register(slug="openai", catalog_id="openai")
    Provider.objects.update(is_enabled=False)
    tasks.refresh_one(provider_id=str(provider.pk))
    tasks.refresh_one(provider_id="00000000-0000-0000-0000-000000000000")
    assert not ProviderModel.objects.exists()
