from __future__ import annotations

import pytest
from django.db import transaction

from tenants.audit.services import record
from tenants.members.models import Tenant
from tests.tenants.audit.asserts import assert_audited, assert_change_dies_unaudited

pytestmark = pytest.mark.storage


@transaction.atomic
def rename(tenant: Tenant) -> None:
    Tenant.objects.filter(pk=tenant.pk).update(name="New")
    record(tenant_id=tenant.pk, action="tenant.renamed", target=tenant)


def rename_unsafely(tenant: Tenant) -> None:
    Tenant.objects.filter(pk=tenant.pk).update(name="Newer")
    record(tenant_id=tenant.pk, action="tenant.renamed", target=tenant)


def rename_unseen(tenant: Tenant) -> None:
    Tenant.objects.filter(pk=tenant.pk).update(name="New")


def test_what_is_audited_passes(tenant: Tenant) -> None:
    with assert_audited("tenant.renamed", tenant_id=tenant.pk, target=tenant) as events:
        rename(tenant)
    assert [event.sequence for event in events] == [1]
    with assert_audited():
        Tenant.objects.get(pk=tenant.pk)
    assert_change_dies_unaudited(lambda: rename(tenant), Tenant)


def test_what_is_not_audited_fails(tenant: Tenant) -> None:
    with (
        pytest.raises(AssertionError, match=r"tables written: \['tenants_tenant'\]"),
        assert_audited("tenant.renamed"),
    ):
        rename_unseen(tenant)
    with pytest.raises(AssertionError, match="changed without its audit event"):
        assert_change_dies_unaudited(lambda: rename_unsafely(tenant), Tenant)
    with pytest.raises(AssertionError), assert_audited("another.action"):
        rename(tenant)
