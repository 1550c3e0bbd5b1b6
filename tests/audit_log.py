"""Tests that commit empty the tables afterwards; the audit log lets nobody do that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any
from unittest import mock

from django.core.management.commands import flush
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

_migration = import_module("tenants.migrations.0002_audit_append_only")


@contextmanager
def changes_allowed(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """What somebody with the database's own password can do. Not inside a transaction that
    has rows of the audit log waiting."""
    editor = mock.Mock(connection=connection)
    _migration.allow_changes(None, editor)
    try:
        yield
    finally:
        _migration.refuse_changes(None, editor)


@contextmanager
def emptied_by_flush() -> Iterator[None]:
    really_flush = flush.Command.handle

    def handle(self: flush.Command, **options: Any) -> Any:
        connection = connections[options["database"]]
        if "tenants_auditevent" not in connection.introspection.table_names():
            return really_flush(self, **options)
        with changes_allowed(connection):
            return really_flush(self, **options)

    with mock.patch.object(flush.Command, "handle", handle):
        yield
