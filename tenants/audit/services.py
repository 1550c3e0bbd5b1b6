"""Recording a change, in the transaction that makes it.

    with transaction.atomic():
        key.revoked_at = now
        key.save(update_fields=["revoked_at"])
        record(tenant_id=key.tenant_id, action="key.revoked", target=key,
               before={"revoked_at": None}, after={"revoked_at": now})

Record last: until the transaction ends, the tenant's other writers wait for the chain's head.
A transaction that writes to both chains writes the tenant's first, the platform's second;
one that writes to several tenants' goes by tenant id. So no two wait for each other.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from django.db import models, transaction

from controlplane.kit import clock
from tenants import scope
from tenants.audit.actor import current_actor
from tenants.audit.chain import chain_of, genesis
from tenants.audit.errors import ChainBusy, NoTransaction
from tenants.audit.models import AuditEvent, AuditHead
from tenants.audit.values import as_json, line
from tenants.members.models import Tenant

__all__ = ["record"]

_TRIES: Final = 50


def record(
    *,
    tenant_id: uuid.UUID | None,
    action: str,
    target: models.Model | None,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> AuditEvent:
    """Appends one event to the tenant's chain (None = the platform's). Who acts comes from
    tenants.audit.actor. A Secret in before or after becomes its fingerprint.

    Raises NoTransaction, NoActor, ChainBusy, and NoScope in another tenant's scope.
    """
    if not transaction.get_connection().in_atomic_block:
        raise NoTransaction(
            f"{action} was recorded outside a transaction: its change could survive without it."
        )
    who = current_actor()
    event = AuditEvent(
        tenant_id=tenant_id,
        chain=chain_of(tenant_id),
        actor_kind=who.kind.value,
        actor_id=line(who.id, 64),
        actor_label=line(who.label, 200),
        address=line(who.address, 64),
        action=action,
        target_model="" if target is None else target._meta.label_lower,
        target_id="" if target is None or target.pk is None else line(str(target.pk), 64),
        target_label="" if target is None else line(str(target), 200),
        before_json=as_json(before),
        after_json=as_json(after),
    )
    with _scope_of(tenant_id):
        if tenant_id is not None:
            slugs = Tenant.objects.filter(pk=tenant_id).values_list("slug", flat=True)
            event.tenant_slug = slugs.first() or ""
        _append(event)
    return event


def _append(event: AuditEvent) -> None:
    heads = AuditHead.objects.filter(chain=event.chain)
    for _ in range(_TRIES):
        # The lock only saves retries; the conditional UPDATE decides.
        head = heads.select_for_update().first()
        if head is None:
            AuditHead.objects.bulk_create(
                [AuditHead(chain=event.chain, sequence=0, hash=genesis(event.chain))],
                ignore_conflicts=True,
            )
            continue
        event.sequence = head.sequence + 1
        event.previous_hash = head.hash
        # Under the lock, so that the dates of a chain go up as its numbers do.
        event.created_at = clock.now()
        event.hash = event.expected_hash()
        if heads.filter(sequence=head.sequence, hash=head.hash).update(
            sequence=event.sequence, hash=event.hash
        ):
            event.save(force_insert=True)
            return
    raise ChainBusy(f"The audit chain {event.chain} is too busy. Try again.", retry_after_seconds=1)


def _scope_of(tenant_id: uuid.UUID | None) -> AbstractContextManager[None]:
    if tenant_id is None:
        return scope.platform("the platform's audit chain")
    if scope.current() is None:
        return scope.tenant(tenant_id)
    # Another tenant's scope stays, and the insert below raises.
    return nullcontext()
