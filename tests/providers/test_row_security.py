"""Bar T2 for rows without a tenant of their own (models, mappings, checks, pools): on PostgreSQL
they are seen and changed exactly where the row they hang on may be."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator

import pytest
from django.db import connection, models, transaction
from django.db.utils import DatabaseError

from providers.catalog.model_services import add_mapping, add_model
from providers.catalog.models import ModelMapping, ProviderModel
from providers.catalog.services import register
from providers.health.models import Finding, ProviderCheck
from providers.routing.aliases import PoolEntry, create_alias
from providers.routing.models import AliasTarget
from tenants import row_security, scope
from tenants.audit.actor import acting_as
from tenants.errors import NoScope
from tenants.members.models import Tenant
from tests.tenants.test_row_security import is_free, sync

pytestmark = [pytest.mark.storage, pytest.mark.django_db]

CHILDREN = (ProviderModel, ModelMapping, ProviderCheck, AliasTarget)
on_postgresql = pytest.mark.skipif(
    "connection.vendor != 'postgresql'", reason="SQLite has no row-level security."
)


@pytest.fixture
def furnished(tenant: Tenant, other_tenant: Tenant) -> None:
    """A row of each kind for the platform and for two tenants."""
    with acting_as("command", None, "tests"), scope.platform("test"):
        for owner in (None, tenant, other_tenant):
            name = owner.slug if owner is not None else "platform"
            where = contextlib.nullcontext() if owner is None else scope.tenant(owner.pk)
            with where:
                provider = register(
                    slug="own",
                    tenant_id=owner.pk if owner is not None else None,
                    protocol="openai-completions",
                    base_url="https://own.example.com",
                )
                add_model(provider=provider, upstream_id=name)
                add_mapping(provider, client_model=name, upstream_model=name)
                ProviderCheck.objects.create(
                    provider=provider, is_ok=True, finding=Finding.WORKS, sentence=name
                )
                create_alias(
                    name="own",
                    tenant_id=owner.pk if owner is not None else None,
                    targets=[PoolEntry(name, provider)],
                )


@pytest.fixture
def bound(furnished: None) -> Iterator[None]:
    """A role that the policies bind, where the suite connects as a superuser."""
    sync()
    if is_free():
        role = f"bound_{uuid.uuid4().hex[:8]}"
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE ROLE {role}")
            cursor.execute(f"GRANT USAGE ON SCHEMA public TO {role}")
            cursor.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
            cursor.execute(f"SET LOCAL ROLE {role}")
    assert not is_free()
    yield
    with connection.cursor() as cursor:
        cursor.execute("RESET ROLE")


def column(model: type[models.Model]) -> str:
    return {
        "ModelMapping": "client_model",
        "ProviderCheck": "sentence",
        "AliasTarget": "model",
    }.get(model.__name__, "upstream_id")


def seen(model: type[models.Model]) -> list[str]:
    """Raw SQL: no queryset, no manager."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {column(model)} FROM {model._meta.db_table} ORDER BY 1")
        return [row[0] for row in cursor.fetchall()]


def changed(sql: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return int(cursor.rowcount)


@pytest.mark.parametrize("model", CHILDREN, ids=lambda model: model.__name__)
def test_without_a_scope_nothing_is_asked(model: type[models.Model], furnished: None) -> None:
    with pytest.raises(NoScope):
        seen(model)


@on_postgresql
@pytest.mark.usefixtures("bound")
@pytest.mark.parametrize("model", CHILDREN, ids=lambda model: model.__name__)
def test_raw_sql_sees_ones_own_and_the_platforms(
    model: type[models.Model], tenant: Tenant, other_tenant: Tenant
) -> None:
    with scope.platform("test"):
        assert seen(model) == ["acme", "globex", "platform"]
    with scope.tenant(tenant.pk):
        assert seen(model) == ["acme", "platform"]
    with scope.tenant(other_tenant.pk):
        assert seen(model) == ["globex", "platform"]


@on_postgresql
@pytest.mark.usefixtures("bound")
@pytest.mark.parametrize("model", CHILDREN, ids=lambda model: model.__name__)
def test_raw_sql_writes_ones_own_alone(model: type[models.Model], tenant: Tenant) -> None:
    table, name = model._meta.db_table, column(model)
    parent = "alias_id" if model is AliasTarget else "provider_id"
    with scope.platform("test"), connection.cursor() as cursor:
        cursor.execute(f"SELECT {parent} FROM {table} WHERE {name} = 'globex'")
        [(foreign,)] = cursor.fetchall()
    with scope.tenant(tenant.pk):
        assert changed(f"UPDATE {table} SET {name} = 'mine'") == 1
        with pytest.raises(DatabaseError, match="row-level security"), transaction.atomic():
            changed(f"UPDATE {table} SET {parent} = '{foreign}'")
        assert changed(f"DELETE FROM {table}") == 1
    with scope.platform("test"):
        assert seen(model) == ["globex", "platform"]


@on_postgresql
def test_a_missing_policy_comes_back_with_the_next_migrate() -> None:
    assert row_security.apply(connection) == []
    with connection.cursor() as cursor:
        cursor.execute("DROP POLICY tenant_scope ON providers_providermodel")
    assert row_security.apply(connection) == ["providers_providermodel"]
