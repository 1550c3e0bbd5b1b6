"""The scope again, where the rows are.

A wrapper around every statement of every Django connection does two things:

- it refuses SQL that names a tenant-owned table while no scope is active: joins from other
  models, raw SQL and cursors have no manager to do so;
- on PostgreSQL it keeps the session setting `controlplane.scope` equal to the scope variable:
  a tenant's id, `*` for the platform, empty for none.

Row-level security policies on PostgreSQL compare that setting with each row's tenant, or with the
tenant of the row it hangs on. They are
FORCEd, so they hold for the tables' owner too; a superuser or a role with BYPASSRLS is not
bound by them (the check below says so). Connection poolers must keep a session together
(pgbouncer: `pool_mode = session`), because the setting belongs to the session.

`apply` finds the models by itself and is safe to call at any time: the migration calls it,
every `migrate` ends with it, a later migration may.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary

from django.apps import AppConfig, apps
from django.core import checks
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model

from tenants import scope
from tenants.errors import NoScope
from tenants.scope import TenantOwned

SETTING: Final = "controlplane.scope"
PLATFORM: Final = "*"
POLICY: Final = "tenant_scope"
# For models with `shows_platform_rows`: beside the first policy, for reading only.
PLATFORM_POLICY: Final = "platform_rows"

# The column stands alone on its side, so that an index on it still serves.
_CONDITION: Final = (
    f"current_setting('{SETTING}', true) = '{PLATFORM}' OR "
    f"tenant_id = nullif(nullif(current_setting('{SETTING}', true), '{PLATFORM}'), '')::uuid"
)
_PLATFORM_CONDITION: Final = f"tenant_id IS NULL AND current_setting('{SETTING}', true) <> ''"


def owned_models() -> Iterator[type[Model]]:
    """Every concrete tenant-owned model of every app."""
    for model in apps.get_models(include_auto_created=True):
        if issubclass(model, TenantOwned) and not model._meta.proxy and model._meta.managed:
            yield model


def child_models() -> Iterator[type[Model]]:
    """Every model without a tenant of its own, whose rows are those of its parent's tenant: it
    names the foreign key in `tenant_owned_through`."""
    for model in apps.get_models(include_auto_created=True):
        if hasattr(model, "tenant_owned_through"):
            yield model


def guarded_models() -> list[type[Model]]:
    return [*owned_models(), *child_models()]


def policies(model: type[Model]) -> dict[str, str]:
    """What a table needs, by name of the policy."""
    condition, platform_condition, owner = _CONDITION, _PLATFORM_CONDITION, model
    if not issubclass(model, TenantOwned):
        owner = _parent_of(model)
        condition = f"current_setting('{SETTING}', true) = '{PLATFORM}' OR " + _of_parent(
            model, owner, _CONDITION
        )
        platform_condition = _of_parent(model, owner, _PLATFORM_CONDITION)
    found = {POLICY: f"USING ({condition}) WITH CHECK ({condition})"}
    if getattr(owner, "shows_platform_rows", False):
        found[PLATFORM_POLICY] = f"FOR SELECT USING ({platform_condition})"
    return found


def _column_of(model: type[Model]) -> str:
    """The column that a policy looks at."""
    name = "tenant" if issubclass(model, TenantOwned) else model.tenant_owned_through  # type: ignore[attr-defined]  # see child_models
    return str(model._meta.get_field(name).column)  # type: ignore[union-attr]  # a foreign key


def _parent_of(model: type[Model]) -> type[Model]:
    field = model._meta.get_field(model.tenant_owned_through)  # type: ignore[attr-defined]  # see child_models
    parent = field.related_model
    if not (isinstance(parent, type) and issubclass(parent, TenantOwned)):
        raise TypeError(f"{model._meta.label}.{field.name} leads to nothing a tenant owns.")
    return parent


def _of_parent(model: type[Model], parent: type[Model], condition: str) -> str:
    """The parent's own policies let a tenant read the platform's rows, so the condition stands
    here once more: below those it writes nothing."""
    table, key = parent._meta.db_table, parent._meta.pk.column
    child = f"{model._meta.db_table}.{_column_of(model)}"
    # Names of our own models, nothing anybody sent.
    return f"EXISTS (SELECT 1 FROM {table} WHERE {table}.{key} = {child} AND ({condition}))"  # noqa: S608


def apply(connection: BaseDatabaseWrapper) -> list[str]:
    """Puts the policies on each tenant-owned table that exists and lacks them; names those."""
    if connection.vendor != "postgresql":
        return []
    models = guarded_models()
    by_table = {model._meta.db_table: policies(model) for model in models}
    done = []
    with connection.cursor() as cursor:
        # Looked up first: an ALTER TABLE on every `migrate` would wait for every open query.
        for table, present in sorted(_present(cursor, models).items()):
            wanted = by_table[table]
            if present == set(wanted):
                continue
            name = connection.ops.quote_name(table)
            cursor.execute(f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY")
            cursor.execute(f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY")
            for policy in (POLICY, PLATFORM_POLICY):
                cursor.execute(f"DROP POLICY IF EXISTS {policy} ON {name}")
            for policy, terms in wanted.items():
                cursor.execute(f"CREATE POLICY {policy} ON {name} {terms}")
            done.append(table)
    return done


def remove(connection: BaseDatabaseWrapper) -> None:
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        for table in sorted(_present(cursor, guarded_models())):
            name = connection.ops.quote_name(table)
            for policy in (POLICY, PLATFORM_POLICY):
                cursor.execute(f"DROP POLICY IF EXISTS {policy} ON {name}")
            cursor.execute(f"ALTER TABLE {name} NO FORCE ROW LEVEL SECURITY")
            cursor.execute(f"ALTER TABLE {name} DISABLE ROW LEVEL SECURITY")


def _present(cursor: Any, models: Sequence[type[Model]]) -> dict[str, set[str]]:
    """The tables of these models that exist, with the policies in force. While a migration runs, a
    model's table, or the column that says whose a row is, may not exist yet."""
    cursor.execute(
        """
        SELECT c.relname,
            CASE WHEN c.relrowsecurity AND c.relforcerowsecurity THEN
                ARRAY(SELECT p.polname::text FROM pg_policy p WHERE p.polrelid = c.oid)
            ELSE ARRAY[]::text[] END
        FROM unnest(%s::text[], %s::text[]) AS wanted (relname, attname)
        JOIN pg_class c ON c.relname = wanted.relname
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = wanted.attname
            AND NOT a.attisdropped
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
        """,
        [
            [model._meta.db_table for model in models],
            [_column_of(model) for model in models],
        ],
    )
    return {table: set(names) for table, names in cursor.fetchall()}


@functools.cache
def _owned_tables() -> re.Pattern[str]:
    names = "|".join(re.escape(model._meta.db_table) for model in guarded_models())
    return re.compile(rf"\b(?:{names})\b" if names else r"(?!)")


# Definitions hold no rows, and the tests and `migrate` make them without a scope.
_DEFINITION: Final = re.compile(r"\s*(?:CREATE|ALTER|DROP|COMMENT|PRAGMA)\b", re.IGNORECASE)
_ROLLBACK_TO: Final = re.compile(r"\s*ROLLBACK\s+TO\b", re.IGNORECASE)


@dataclass(slots=True)
class _Told:
    """What a PostgreSQL session knows. `for_transaction` hides `for_session` until the
    transaction ends; None = nothing was said there."""

    for_session: str = ""
    for_transaction: str | None = None


_UNKNOWN: Final = "?"

# By the driver's connection: a pool may hand it to another Django connection, value and all.
_told: WeakKeyDictionary[Any, _Told] = WeakKeyDictionary()

Execute = Callable[[str, Any, bool, dict[str, Any]], Any]


def guard(execute: Execute, sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
    active = scope.current()
    if active is None and apps.models_ready:
        text = sql if isinstance(sql, str) else str(sql)
        named = _owned_tables().search(text)
        if named and not _DEFINITION.match(text):
            raise NoScope(f"SQL touched {named[0]} outside a tenant scope.")
    connection = context["connection"]
    if connection.vendor == "postgresql":
        _tell(connection.connection, active)
        try:
            return execute(sql, params, many, context)
        finally:
            if isinstance(sql, str) and _ROLLBACK_TO.match(sql):
                # The savepoint took the setting back to a value we did not keep.
                _told.setdefault(connection.connection, _Told()).for_transaction = _UNKNOWN
    return execute(sql, params, many, context)


def _tell(driver: Any, active: scope.Scope | None) -> None:
    from psycopg.pq import TransactionStatus

    if active is None:
        value = ""
    elif active.tenant_id is None:
        value = PLATFORM
    else:
        value = str(active.tenant_id)
    status = driver.info.transaction_status
    if status is TransactionStatus.INERROR:
        return  # only a rollback can follow
    told = _told.setdefault(driver, _Told())
    # The driver begins a transaction with its first statement, so that one still sees IDLE.
    if status is TransactionStatus.IDLE:
        told.for_transaction = None
    known = told.for_session if told.for_transaction is None else told.for_transaction
    if known == value:
        return
    # A rollback undoes what was set inside a transaction, a commit would keep it: say it for
    # the transaction only, so that both forget it.
    is_local = not (driver.autocommit and status is TransactionStatus.IDLE)
    driver.execute("SELECT set_config(%s, %s, %s)", (SETTING, value, is_local))
    if is_local:
        told.for_transaction = value
    else:
        told.for_session = value


def watch(connection: BaseDatabaseWrapper, **_: Any) -> None:
    """Receives connection_created, which comes again after each reconnect."""
    if guard not in connection.execute_wrappers:
        connection.execute_wrappers.insert(0, guard)


def after_migrate(using: str, **_: Any) -> None:
    """Receives post_migrate: tables made since get their policy."""
    apply(connections[using])


@checks.register(checks.Tags.database)
def role_is_bound(
    app_configs: Sequence[AppConfig] | None,  # noqa: ARG001  (Django passes it by name)
    databases: Sequence[str] | None,
    **_: Any,
) -> list[checks.CheckMessage]:
    messages: list[checks.CheckMessage] = []
    for alias in databases or ():
        connection = connections[alias]
        if connection.vendor != "postgresql":
            continue
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT rolname, rolsuper OR rolbypassrls FROM pg_roles"
                " WHERE rolname = current_user"
            )
            role, is_free = cursor.fetchone()
        if is_free:
            messages.append(
                checks.Warning(
                    f"The database role {role!r} is not bound by row-level security.",
                    hint="Connect as a role without SUPERUSER and BYPASSRLS.",
                    id="tenants.W001",
                )
            )
    return messages
