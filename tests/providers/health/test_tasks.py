"""Checks on a schedule: one job per registration, spread out, kept for some days."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from controlplane.kit import clock
from controlplane.kit.jobs.models import Job
from controlplane.kit.jobs.runner import run_due
from providers.catalog.models import Provider
from providers.catalog.services import register, set_enabled
from providers.health import tasks
from providers.health.models import Finding, ProviderCheck
from providers.health.services import prune_checks, timeline, with_latest_check
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.members.models import Tenant

pytestmark = [pytest.mark.storage, pytest.mark.django_db]


@pytest.fixture(autouse=True)
def operator(db: None) -> Iterator[None]:
    with acting_as("command", None, "tests"), scope.platform("tests"):
        yield


def make(slug: str, **values: Any) -> Provider:
    return register(
        slug=slug, protocol="openai-completions", base_url="https://llm.example.com", **values
    )


def test_every_enabled_registration_gets_one_job_somewhere_in_the_round(
    settings: Any, tenant: Tenant
) -> None:
    settings.PROVIDER_HEALTH_MINUTES = 10
    wanted = {str(make(f"p{number}").pk) for number in range(8)}
    wanted.add(str(make("own", tenant_id=tenant.id).pk))
    set_enabled(make("off"), is_enabled=False)
    before = clock.now()
    again = tasks.health()
    jobs = Job.objects.filter(kind="provider.health.check")
    assert {job.key for job in jobs} == wanted
    round_ = timedelta(minutes=10)
    assert all(before <= job.due_at <= clock.now() + round_ for job in jobs)
    assert len({job.due_at for job in jobs}) == len(wanted)
    assert again - before >= round_
    tasks.health()
    assert jobs.count() == len(wanted)


def test_checks_can_be_switched_off(settings: Any) -> None:
    settings.PROVIDER_HEALTH_MINUTES = 0
    make("acme")
    assert tasks.health() > clock.now()
    assert not Job.objects.exists()


def test_a_job_checks_its_registration_and_survives_its_removal() -> None:
    provider = make("acme")
    tasks.health()
    Job.objects.update(due_at=clock.now())
    assert run_due(budget_seconds=20) == 1
    assert Job.objects.get().state == Job.State.DONE
    assert ProviderCheck.objects.get().finding == Finding.NO_CREDENTIAL
    Provider.objects.filter(pk=provider.pk).update(is_enabled=False)
    tasks.check(provider_id=str(provider.pk))
    tasks.check(provider_id="00000000-0000-0000-0000-000000000000")
    assert ProviderCheck.objects.count() == 1


def note(provider: Provider, finding: Finding, *, hours: float) -> None:
    ProviderCheck.objects.create(
        provider=provider,
        at=clock.now() - timedelta(hours=hours),
        is_ok=finding is Finding.WORKS,
        finding=finding,
        sentence=finding.label,
    )


def test_the_latest_is_shown_and_the_timeline_goes_forward(
    django_assert_num_queries: Any,
) -> None:
    acme, other = make("acme"), make("other")
    note(acme, Finding.WORKS, hours=2)
    note(acme, Finding.TLS, hours=1)
    with django_assert_num_queries(1):
        found = {row.slug: row.health_finding for row in with_latest_check(Provider.objects.all())}
    assert found == {"acme": "tls", "other": None}
    assert [row.finding for row in timeline(acme)] == ["works", "tls"]
    assert timeline(acme, limit=1)[0].finding == "tls"
    assert timeline(other) == []


def test_old_results_are_forgotten(settings: Any) -> None:
    settings.PROVIDER_HEALTH_KEEP_DAYS = 2
    acme = make("acme")
    note(acme, Finding.WORKS, hours=47)
    note(acme, Finding.TLS, hours=49)
    assert tasks.prune() is None
    assert [row.finding for row in ProviderCheck.objects.all()] == ["works"]
    assert prune_checks(now=clock.now()) == 0
