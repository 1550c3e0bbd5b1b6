"""For everybody's tests: does this change leave its audit event, and die without it?

with assert_audited("key.revoked", tenant_id=tenant.pk, target=key):
    revoke_key(key=key)

assert_change_dies_unaudited(lambda: revoke_key(key=key), ApiKey)
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
from django.db import connection, models

from tenants import scope
from tenants.audit.models import AuditEvent, AuditHead

_WRITE = re.compile(r'\s*(?:INSERT INTO|UPDATE|DELETE FROM)\s+"?(\w+)"?', re.IGNORECASE)
_ANY: Any = object()


@contextmanager
def assert_audited(
    *actions: str, tenant_id: uuid.UUID | None = _ANY, target: models.Model | None = _ANY
) -> Iterator[list[AuditEvent]]:
    """The block records exactly these actions, in this order (no action = none at all).

    The list it gives holds the events once the block has ended.
    """
    before = _newest()
    events: list[AuditEvent] = []
    with written_tables() as written:
        yield events
    events.extend(_since(before))
    assert [event.action for event in events] == list(actions), (
        f"recorded {[event.action for event in events]}, expected {list(actions)}; "
        f"tables written: {sorted(written)}"
    )
    for event in events:
        assert tenant_id is _ANY or event.tenant_id == tenant_id
        assert event.actor_label, f"{event.action} names nobody"
        assert event.hash == event.expected_hash()
    if target is not _ANY and target is not None:
        assert str(target.pk) in {event.target_id for event in events}


@contextmanager
def written_tables() -> Iterator[set[str]]:
    """The tables that statements on this connection write to."""
    tables: set[str] = set()

    def watch(execute: Callable[..., Any], sql: Any, *rest: Any) -> Any:
        if match := _WRITE.match(str(sql)):
            tables.add(match[1])
        return execute(sql, *rest)

    with connection.execute_wrapper(watch):
        yield tables


class AuditIsDown(Exception):
    """What record() raises inside assert_change_dies_unaudited."""


def assert_change_dies_unaudited(
    change: Callable[[], object], *changed: type[models.Model]
) -> None:
    """When its event cannot be written, the change is not made (bar A2): the models named keep
    every row as it was. Name all that the change writes to."""
    assert changed, "name the models that the change writes to"
    before = {model: _rows(model) for model in changed}
    events = _count()
    broken = mock.patch.object(AuditEvent, "save", side_effect=AuditIsDown)
    # In a test inside a transaction, `change` is its own savepoint or nothing undoes it: that
    # is what is asked.
    with pytest.raises(AuditIsDown), broken:
        change()
    for model in changed:
        assert _rows(model) == before[model], f"{model.__name__} changed without its audit event"
    assert _count() == events


def _rows(model: type[models.Model]) -> list[tuple[Any, ...]]:
    with scope.platform("tests"):
        return sorted(model._base_manager.values_list(), key=str)


def _newest() -> dict[str, int]:
    return dict(AuditHead.objects.values_list("chain", "sequence"))


def _since(before: dict[str, int]) -> list[AuditEvent]:
    with scope.platform("tests"):
        events = AuditEvent.objects.order_by("created_at", "sequence")
        return [event for event in events if event.sequence > before.get(event.chain, 0)]


def _count() -> int:
    with scope.platform("tests"):
        return int(AuditEvent.objects.count())
