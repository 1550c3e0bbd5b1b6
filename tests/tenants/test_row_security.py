"""Bar T2 on PostgreSQL: the database itself hides other tenants' rows, even from raw SQL.

Policies do not bind superusers, so where the suite connects as one, these tests step down to a
role that is none, owner of the tables as a deployment's role is."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, connections, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.utils import DatabaseError

from tenants import row_security, scope
from tenants.keys.models import ApiKey
from tenants.members.models import Tenant
from tenants.vault.models import DataKey
from tests.tenants.test_scope import make_key

pytestmark = [pytest.mark.storage, pytest.mark.django_db]

on_postgresql = pytest.mark.skipif(
    "connection.vendor != 'postgresql'",
    reason="SQLite has no row-level security; its scope is held by tests/tenants/test_scope.py",
)


def rows(sql: str, *params: Any) -> list[Any]:
    """Straight to the driver: no queryset, no manager, no wrapper."""
    return list(connection.connection.execute(sql, params).fetchall())


def labels() -> list[str]:
    return [row[0] for row in rows("SELECT label FROM tenants_apikey ORDER BY label")]


def sync() -> None:
    """Any statement through Django tells the session the scope; this one reads nothing."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def is_free() -> bool:
    return bool(
        rows(
            "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user",
        )[0][0]
    )


@contextlib.contextmanager
def rolled_back() -> Iterator[None]:
    with contextlib.suppress(ZeroDivisionError), transaction.atomic():
        yield
        _ = 1 / 0


@pytest.fixture
def bound(db: None, tenant: Tenant, other_tenant: Tenant) -> Iterator[None]:
    """Rows on both sides, and a role that row-level security binds. Undone by the rollback."""
    sync()
    if is_free():
        role = f"bound_{uuid.uuid4().hex[:8]}"
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE ROLE {role}")
            cursor.execute(f"GRANT USAGE, CREATE ON SCHEMA public TO {role}")
            cursor.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
            cursor.execute(f"ALTER TABLE tenants_apikey OWNER TO {role}")
            cursor.execute(f"SET LOCAL ROLE {role}")
    assert not is_free()
    make_key(tenant, "mine")
    make_key(other_tenant, "theirs")
    yield
    with connection.cursor() as cursor:
        cursor.execute("RESET ROLE")


@on_postgresql
@pytest.mark.usefixtures("bound")
def test_raw_sql_sees_the_scopes_rows_and_without_a_scope_none(
    tenant: Tenant, other_tenant: Tenant
) -> None:
    sync()
    assert labels() == []
    with scope.tenant(tenant.id):
        sync()
        assert labels() == ["mine"]
        with scope.platform("test"):
            sync()
            assert labels() == ["mine", "theirs"]
        with scope.tenant(other_tenant.id):
            sync()
            assert labels() == ["theirs"]
    sync()
    assert labels() == []


@on_postgresql
@pytest.mark.usefixtures("bound")
def test_raw_sql_cannot_write_across(tenant: Tenant, other_tenant: Tenant) -> None:
    with scope.tenant(tenant.id):
        sync()
        changed = connection.connection.execute("UPDATE tenants_apikey SET label = 'changed'")
        assert changed.rowcount == 1
        gone = connection.connection.execute(
            "DELETE FROM tenants_apikey WHERE tenant_id = %s", [other_tenant.id]
        )
        assert gone.rowcount == 0
        with (
            pytest.raises(DatabaseError, match="row-level security"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute("UPDATE tenants_apikey SET tenant_id = %s", [other_tenant.id])
    with scope.platform("test"):
        sync()
        assert labels() == ["changed", "theirs"]


@on_postgresql
@pytest.mark.usefixtures("bound")
def test_the_setting_follows_through_savepoints_and_rollbacks(
    tenant: Tenant, other_tenant: Tenant
) -> None:
    """What a rollback takes back must be said again, or one tenant reads as another."""
    with scope.tenant(tenant.id):
        sync()
        with rolled_back(), scope.tenant(other_tenant.id):
            sync()
            assert labels() == ["theirs"]
        sync()
        assert labels() == ["mine"]
        with scope.tenant(other_tenant.id):
            with rolled_back(), scope.tenant(tenant.id):
                sync()
            sync()
            assert labels() == ["theirs"]
        sync()
        assert labels() == ["mine"]
        with (
            pytest.raises(DatabaseError),
            transaction.atomic(),
            scope.tenant(other_tenant.id),
            connection.cursor() as cursor,
        ):
            cursor.execute("SELECT 1 / 0")
        sync()
        assert labels() == ["mine"]
    sync()
    assert labels() == []


@on_postgresql
def test_rows_that_the_platform_shows_to_all_can_be_read_and_not_written(
    tenant: Tenant, other_tenant: Tenant, monkeypatch: pytest.MonkeyPatch, request: Any
) -> None:
    monkeypatch.setattr(DataKey, "shows_platform_rows", True)
    assert row_security.apply(connection) == ["tenants_datakey"]
    request.getfixturevalue("bound")
    with scope.platform("test"):
        for name, owner in (("platform", None), ("mine", tenant), ("theirs", other_tenant)):
            DataKey.objects.create(tenant=owner, wrapped=b"x", wrapped_by=name)

    def names() -> list[str]:
        return [r[0] for r in rows("SELECT wrapped_by FROM tenants_datakey ORDER BY wrapped_by")]

    sync()
    assert names() == []
    with scope.tenant(tenant.id):
        sync()
        assert names() == ["mine", "platform"]
        for sql in (
            "UPDATE tenants_datakey SET wrapped_by = 'mine'",
            "DELETE FROM tenants_datakey",
        ):
            assert connection.connection.execute(sql).rowcount == 1
    with scope.platform("test"):
        sync()
        assert names() == ["platform", "theirs"]


def setting() -> str:
    return rows("SELECT coalesce(current_setting('controlplane.scope', true), '')")[0][0]


@on_postgresql
@pytest.mark.django_db(transaction=True)
def test_the_setting_follows_through_commits_rollbacks_and_reconnects(
    tenant: Tenant, other_tenant: Tenant
) -> None:
    """The same with real transactions, where the session outlives them."""
    mine, theirs = str(tenant.id), str(other_tenant.id)
    with scope.tenant(tenant.id):
        sync()
        assert setting() == mine
        with transaction.atomic(), scope.tenant(other_tenant.id):
            sync()
            assert setting() == theirs
        sync()
        assert setting() == mine
        with rolled_back(), scope.platform("test"):
            sync()
            assert setting() == "*"
        sync()
        assert setting() == mine
    with rolled_back(), scope.tenant(other_tenant.id):
        sync()
    with scope.tenant(other_tenant.id):
        sync()
        assert setting() == theirs
        connection.close()
        sync()
        assert setting() == theirs
    with transaction.atomic():
        sync()
        assert setting() == ""
        with scope.tenant(tenant.id):
            sync()
            assert setting() == mine
    with transaction.atomic(), scope.tenant(tenant.id):
        sync()
        assert setting() == mine
    sync()
    assert setting() == ""


@on_postgresql
def test_a_statement_in_one_scope_costs_one_round_trip_more_at_most(tenant: Tenant) -> None:
    with scope.tenant(tenant.id):
        list(ApiKey.objects.all())
        said: list[str] = []
        driver = connection.connection
        execute = driver.execute
        driver.execute = lambda *args, **kwargs: said.append(args[0]) or execute(*args, **kwargs)
        try:
            for _ in range(5):
                list(ApiKey.objects.all())
            with scope.platform("test"):
                list(ApiKey.objects.all())
        finally:
            del driver.execute
    assert len(said) == 1, "only the change of scope is said"


@on_postgresql
def test_apply_is_idempotent_and_mends_what_is_missing() -> None:
    assert row_security.apply(connection) == []
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE tenants_membership NO FORCE ROW LEVEL SECURITY")
        cursor.execute("DROP POLICY tenant_scope ON tenants_apikey")
        cursor.execute("CREATE POLICY platform_rows ON tenants_invitation USING (true)")
    assert row_security.apply(connection) == [
        "tenants_apikey",
        "tenants_invitation",
        "tenants_membership",
    ]
    assert row_security.apply(connection) == []


@on_postgresql
@pytest.mark.django_db(transaction=True)
def test_the_migration_goes_back_and_forth() -> None:
    migration = import_module("tenants.migrations.0003_row_level_security")
    count = "SELECT count(*) FROM pg_policy"
    sync()
    before = rows(count)
    assert before != [(0,)]
    with connection.schema_editor() as editor:
        migration.disable(None, editor)
    sync()
    without = rows(count)
    with connection.schema_editor() as editor:
        migration.enable(None, editor)
    sync()
    assert without == [(0,)]
    assert rows(count) == before


@pytest.mark.soak
@pytest.mark.django_db(transaction=True)
def test_all_migrations_from_there_on_go_back_and_forth() -> None:
    executor = MigrationExecutor(connection)
    # Every app's: going back takes along what was built upon it.
    latest = executor.loader.graph.leaf_nodes()
    try:
        with scope.platform("test"):
            executor.migrate([("tenants", "0002_audit_append_only")])
        if connection.vendor == "postgresql":
            sync()
            assert rows("SELECT count(*) FROM pg_policy") == [(0,)]
    finally:
        with scope.platform("test"):
            MigrationExecutor(connection).migrate(latest)
            # Other apps' tables wait for the end of the `migrate` command, which no executor has.
            late = row_security.apply(connection)
    assert not [table for table in late if table.startswith("tenants_")]


def test_commands_that_touch_every_tenant_run_as_the_platform(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from django.core.management.commands import flush, migrate

    seen: list[Any] = []
    for command in (migrate.Command, flush.Command):
        monkeypatch.setattr(command, "handle", lambda self, **_: seen.append(scope.current()))
    call_command("migrate", verbosity=0)
    call_command("flush", verbosity=0, interactive=False)
    assert [(found.tenant_id, found.reason) for found in seen] == [
        (None, "migrate"),
        (None, "flush"),
    ]


def test_the_guard_is_there_once_after_reconnects() -> None:
    for alias in connections:
        connections[alias].ensure_connection()
        row_security.watch(connections[alias])
        assert connections[alias].execute_wrappers.count(row_security.guard) == 1


@on_postgresql
def test_a_role_that_is_not_bound_is_reported() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    found = [message.id for message in row_security.role_is_bound(None, ["default"])]
    assert found == (["tenants.W001"] if is_free() else [])
