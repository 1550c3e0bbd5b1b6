"""Bar K2, below the routes: none of the bad credentials names a caller, none costs a query."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from controlplane.kit import clock
from tenants.errors import InvalidKey
from tenants.keys.presented import presented_key
from tenants.keys.snapshot import KeySnapshot
from tenants.members.models import Tenant
from tests.tenants.keys.bad_credentials import BAD, NAMES, Keys, bearer

pytestmark = [pytest.mark.storage, pytest.mark.django_db]


@pytest.fixture
def keys(tenant: Tenant, other_tenant: Tenant) -> Keys:
    return Keys.make(tenant=tenant, other_tenant=other_tenant)


@pytest.fixture
def snapshot(keys: Keys) -> KeySnapshot:
    snapshot = KeySnapshot()
    snapshot.reload()
    return snapshot


@pytest.mark.parametrize("name", NAMES)
def test_a_bad_credential_names_nobody(
    name: str, keys: Keys, snapshot: KeySnapshot, tenant: Tenant, other_tenant: Tenant
) -> None:
    bad = BAD[name](keys)
    with CaptureQueriesContext(connection) as queries:
        if bad.is_known_elsewhere:
            token = presented_key(bad.headers, bad.query, allow_query=True)
            assert snapshot.find(token, "", clock.now()).tenant_id == other_tenant.id
        else:
            with pytest.raises(InvalidKey) as refused:
                snapshot.find(
                    presented_key(bad.headers, bad.query, allow_query=True), "", clock.now()
                )
            assert keys.good not in str(refused.value)
    assert len(queries) == 0


def test_the_good_one_is_good(keys: Keys, snapshot: KeySnapshot, tenant: Tenant) -> None:
    """Or the test above would pass for everything."""
    token = presented_key([bearer(keys.good)], b"", allow_query=False)
    assert snapshot.find(token, "", clock.now()).tenant_id == tenant.id
