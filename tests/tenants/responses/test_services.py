"""Kept answers: replaced, found while they last, swept when they do not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from controlplane.kit.jobs.registry import find as find_job
from tenants import scope as scopes
from tenants.members.models import Tenant
from tenants.responses.errors import ResponseNotFound
from tenants.responses.models import StoredResponse
from tenants.responses.services import Kept, find, forget, keep, sweep

pytestmark = [pytest.mark.storage, pytest.mark.django_db]

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def stored(tenant: Tenant, text: str, response_id: str = "resp_1") -> Kept:
    item = {"type": "message", "role": "user", "content": text}
    kept = Kept([item], {"id": response_id, "output": [{"type": "message", "content": "да"}]})
    keep(tenant_id=tenant.id, kept=kept, now=NOW, kept_for=DAY)
    return kept


def test_found_until_it_expires(tenant: Tenant, other_tenant: Tenant) -> None:
    kept = stored(tenant, "вопрос")
    assert find(tenant_id=tenant.id, response_id="resp_1", now=NOW) == kept
    assert kept.conversation()[-1]["content"] == "да"
    for owner, moment in ((other_tenant, NOW), (tenant, NOW + DAY)):
        with pytest.raises(ResponseNotFound):
            find(tenant_id=owner.id, response_id="resp_1", now=moment)


def test_each_tenant_has_its_own_of_one_name(tenant: Tenant, other_tenant: Tenant) -> None:
    mine, theirs = stored(tenant, "mine"), stored(other_tenant, "theirs")
    assert find(tenant_id=tenant.id, response_id="resp_1", now=NOW) == mine
    assert find(tenant_id=other_tenant.id, response_id="resp_1", now=NOW) == theirs
    assert stored(tenant, "again") == find(tenant_id=tenant.id, response_id="resp_1", now=NOW)


def test_forgotten_once(tenant: Tenant) -> None:
    stored(tenant, "x")
    forget(tenant_id=tenant.id, response_id="resp_1", now=NOW)
    with pytest.raises(ResponseNotFound):
        forget(tenant_id=tenant.id, response_id="resp_1", now=NOW)


def test_the_job_sweeps_what_expired(tenant: Tenant) -> None:
    stored(tenant, "old")
    assert sweep(now=NOW + DAY - timedelta(seconds=1)) == 0
    assert sweep(now=NOW + DAY) == 1
    with scopes.platform("test"):
        assert not StoredResponse.objects.exists()
    assert find_job("responses.sweep") is not None
