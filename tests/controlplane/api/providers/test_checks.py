"""How a registration fared, narrowed by what was found and when."""

from __future__ import annotations

from datetime import timedelta

import pytest

from controlplane.kit import clock
from providers.health.models import Finding, ProviderCheck
from tenants import scope as scopes
from tests.controlplane.api.conftest import V1, Api, Home, error_of

pytestmark = [pytest.mark.storage, pytest.mark.django_db]


def test_the_timeline(home: Home, admin: Api) -> None:
    now = clock.now()
    with scopes.tenant(home.tenant.id):
        ProviderCheck.objects.all().delete()
        for hours, finding in ((3, Finding.WORKS), (2, Finding.TLS), (1, Finding.WORKS)):
            ProviderCheck.objects.create(
                provider_id=home.registry["provider_id"],
                at=now - timedelta(hours=hours),
                is_ok=finding is Finding.WORKS,
                finding=finding,
                sentence=f"{hours} hours ago",
            )
    path = f"{V1}/providers/{home.registry['provider_id']}/checks"

    def said(query: str = "") -> list[str]:
        answer = admin("get", path + query)
        assert answer.status_code == 200, answer.content
        # Made within one millisecond, so their ids are in no order.
        return sorted(check["sentence"] for check in answer.json()["items"])

    assert said() == ["1 hours ago", "2 hours ago", "3 hours ago"]
    assert said("?is_ok=false") == said("?finding=tls") == ["2 hours ago"]
    middle = (now - timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert said(f"?since={middle}") == ["1 hours ago", "2 hours ago"]
    assert said(f"?until={middle}") == ["3 hours ago"]
    # What no filter offers cannot be asked about.
    for query in ("?provider__credentials__sealed=x", "?sentence=x", "?finding=nothing"):
        refused = admin("get", path + query)
        assert refused.status_code == 400
        assert error_of(refused)["param"]
