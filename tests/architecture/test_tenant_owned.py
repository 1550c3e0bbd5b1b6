"""Every model that names a tenant is TenantOwned, is read through the scope alone, and has its
policy on PostgreSQL. A new model that forgets one of these fails here."""

from __future__ import annotations

import uuid

import pytest
from django.apps import apps
from django.db import connection, models

from tenants import scope
from tenants.members.models import Tenant
from tenants.row_security import child_models, guarded_models, owned_models, policies
from tenants.scope import InScope, TenantOwned, TenantOwnedManager, TenantOwnedQuerySet

OURS = {"controlplane", "providers", "tenants"}


def names_a_tenant(model: type[models.Model]) -> bool:
    return any(
        (field.is_relation and field.related_model is Tenant) or field.attname == "tenant_id"
        for field in model._meta.concrete_fields
    )


def the_models() -> list[type[models.Model]]:
    return [model for model in apps.get_models(include_auto_created=True) if names_a_tenant(model)]


def test_there_are_tenant_owned_models() -> None:
    """A walk that finds nothing passes for ever."""
    found = {model._meta.label for model in owned_models()}
    assert {"tenants.Membership", "tenants.ApiKey", "tenants.Invitation"} <= found


@pytest.mark.parametrize("model", the_models(), ids=lambda model: model._meta.label)
def test_a_model_that_names_a_tenant_is_tenant_owned(model: type[models.Model]) -> None:
    label = model._meta.label
    assert issubclass(model, TenantOwned), f"{label} has a tenant: derive it from TenantOwned."
    assert model._meta.get_field("tenant").related_model is Tenant
    managers = [*model._meta.managers, model._base_manager, model._default_manager]
    for manager in managers:
        assert isinstance(manager, TenantOwnedManager), (
            f"{label}.{manager.name} is no TenantOwnedManager."
        )
        with scope.tenant(uuid.uuid4()):
            queryset = manager.all()
        assert isinstance(queryset, TenantOwnedQuerySet), (
            f"{label}.{manager.name} hands out querysets that are no TenantOwnedQuerySet."
        )
        assert any(_is_scope(child) for child in queryset.query.where.children), (
            f"{label}.{manager.name} does not filter by the scope."
        )


def _is_scope(condition: object) -> bool:
    return isinstance(condition, InScope) or isinstance(getattr(condition, "lhs", None), InScope)


@pytest.mark.parametrize("model", the_models(), ids=lambda model: model._meta.label)
def test_many_to_many_tables_of_tenants_are_owned_too(model: type[models.Model]) -> None:
    """An automatic join table has no tenant column, so nothing would guard it."""
    for field in model._meta.local_many_to_many:
        through = field.remote_field.through
        assert issubclass(through, TenantOwned), f"{field} needs a TenantOwned model as `through`."


@pytest.mark.storage
@pytest.mark.django_db
def test_every_tenant_owned_table_has_its_policy() -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no row-level security.")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname, p.polname::text FROM pg_class c"
            " JOIN pg_policy p ON p.polrelid = c.oid"
            " WHERE c.relrowsecurity AND c.relforcerowsecurity"
        )
        found = set(cursor.fetchall())
        cursor.execute(
            "SELECT count(*) FROM pg_policy WHERE polname = 'tenant_scope'"
            " AND NOT (polcmd = '*' AND polwithcheck IS NOT NULL)"
            " OR polname = 'platform_rows' AND polcmd <> 'r'"
        )
        assert cursor.fetchone() == (0,), "A policy guards less than reading and writing."
    # A further policy is permissive: it would open what the first shuts.
    assert found == {
        (model._meta.db_table, name) for model in guarded_models() for name in policies(model)
    }


# They name rows of the platform alone, and are no tenant's.
OF_THE_PLATFORM = {"providers.LoginSettings"}


def test_a_model_that_hangs_on_a_tenants_row_says_on_which() -> None:
    """Such rows have no tenant of their own: without a word nothing on the database guards them."""
    children = set(child_models())
    for model in apps.get_models(include_auto_created=True):
        if issubclass(model, TenantOwned) or model._meta.app_label not in OURS:
            continue
        if model._meta.label in OF_THE_PLATFORM:
            continue
        parents = [
            field.name
            for field in model._meta.concrete_fields
            if isinstance(field.related_model, type)
            and issubclass(field.related_model, TenantOwned)
        ]
        assert bool(parents) == (model in children), (
            f"{model._meta.label} belongs to {parents}: name one in `tenant_owned_through`."
        )
