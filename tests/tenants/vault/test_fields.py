from __future__ import annotations

import pytest
from django.core.exceptions import FieldError

from tenants import scope
from tenants.vault.fields import sealed_columns
from tests.tenants.vault.samples.models import TenantSecret

pytestmark = pytest.mark.usefixtures("samples")


def test_sealed_columns_are_found_by_themselves() -> None:
    assert [str(column) for column in sealed_columns()] == [
        "vault_samples.platformsecret.sealed",
        "vault_samples.tenantsecret.other",
        "vault_samples.tenantsecret.sealed",
    ]
    assert [column.has_tenant for column in sealed_columns()] == [False, True, True]


@pytest.mark.parametrize(
    "lookup",
    ["contains", "startswith", "iexact", "gt", "lt", "range", "in", "regex", "endswith"],
)
def test_nothing_asks_about_contents(lookup: str) -> None:
    with scope.platform("tests"), pytest.raises(FieldError):
        list(TenantSecret.objects.filter(**{f"sealed__{lookup}": b"x"}))


def test_whether_there_is_one_may_be_asked() -> None:
    with scope.platform("tests"):
        assert TenantSecret.objects.filter(sealed__isnull=True, other=None).count() == 0
